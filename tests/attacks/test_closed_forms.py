"""C&W, EAD and I-FGSM's search on models of which the closest fooling image is known: linear ones and spheres."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import carlini_wagner, elastic_net, ifgsm_search
from atodds.threat import Norm

SHAPE = (3, 4, 4)
SIZE = 48


def random(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform values, float64."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draw, dtype=torch.float64) * (high - low) + low


class Linear(nn.Module):
    """Classes whose boundaries pass near the grey image."""

    def __init__(self, classes: int, seed: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(random(classes, SIZE, seed=seed, low=-1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, classes)"""
        return (images.flatten(1) - 0.5) @ self.weight.T

    def distances(self, images: Tensor, labels: Tensor, norm: Norm, confidence: float = 0.0) -> Tensor:
        """(N, K) from each image to where each class leads the label by `confidence`, within the box; infinite for the
        label."""
        away = torch.full((len(images), len(self.weight)), torch.inf, dtype=images.dtype)
        for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            for wrong in range(len(self.weight)):
                moved = None if wrong == label else self.nearest(image, label, wrong, norm, confidence)
                if moved is not None:
                    away[row, wrong] = norms.length(moved[None], norm)[0]
        return away

    def nearest(self, image: Tensor, label: int, wrong: int, norm: Norm, confidence: float = 0.0) -> Tensor | None:
        """(D,) the way from an image to where a class leads the label by `confidence`; None where the box ends before.
        By halving a multiplier, and in l1 by filling value after value."""
        logits, normal = self(image[None])[0], self.weight[wrong] - self.weight[label]
        need = float(logits[label] - logits[wrong]) + confidence
        size, flat = normal.abs(), image.flatten()
        room = torch.where(normal > 0, 1 - flat, flat)
        if float((size * room).sum()) < need:
            return None
        if norm == "l1":
            left, moved = need, torch.zeros_like(room)
            for value in size.argsort(descending=True).tolist():
                moved[value] = min(float(room[value]), left / float(size[value]))
                left -= float(moved[value] * size[value])
            return moved * normal.sign()
        low, high = 0.0, 1e3
        for _ in range(100):
            middle = (low + high) / 2
            moved = room.clamp_max(middle) if norm == "linf" else (middle * size).minimum(room)
            low, high = (middle, high) if float((size * moved).sum()) < need else (low, middle)
        moved = room.clamp_max(high) if norm == "linf" else (high * size).minimum(room)
        return moved * normal.sign()


class Sphere(nn.Module):
    """Class 0 within a radius of the grey image, class 1 outside."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2)"""
        inside = self.radius**2 - (images - 0.5).flatten(1).square().sum(1)
        return torch.stack([inside, torch.zeros_like(inside)], 1)

    def distances(self, images: Tensor, norm: Norm) -> Tensor:
        """(N,) from images inside to the sphere, the box apart. In l1 the furthest point of a ball is a corner: the
        value that is furthest out moves on; in linf all values move by as much."""
        offsets = (images - 0.5).flatten(1).abs()
        square, size = offsets.square().sum(1), offsets.shape[1]
        if norm == "l2":
            return self.radius - square.sqrt()
        if norm == "l1":
            most = offsets.amax(1)
            return (self.radius**2 - square + most.square()).sqrt() - most
        total = offsets.sum(1)
        return ((total.square() + size * (self.radius**2 - square)).sqrt() - total) / size


def images_of(count: int, *, edge: bool) -> Tensor:
    """Images, a third of whose values are at the edge of the box or all of which are far from it."""
    if edge:
        return random(count, *SHAPE, low=-0.25, high=1.25).clamp(0, 1)
    return random(count, *SHAPE, low=0.4, high=0.6)


at_the_edge = pytest.mark.parametrize("edge", [False, True])
CLOSE = 1.001


@at_the_edge
@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_cw_finds_the_closest_image_of_a_linear_model(classes: int, edge: bool, confidence: float) -> None:
    """With confidence, the closest of the class that it reaches: close to all boundaries another may be closer."""
    model, images = Linear(classes), images_of(12, edge=edge)
    labels = model(images).argmax(1)
    exact = model.distances(images, labels, "l2", confidence)
    found = carlini_wagner(model, images, labels, steps=100, searches=6, confidence=confidence)
    others, reached = model(found).scatter(1, labels[:, None], -torch.inf).max(1)
    margins = others - model(found).gather(1, labels[:, None])[:, 0]
    assert float(margins.min()) > 0
    assert float(margins.min()) >= confidence
    closest = exact.gather(1, reached[:, None])[:, 0] if confidence else exact.amin(1)
    ratio = norms.distance(found, images, "l2") / closest
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.max()) <= CLOSE


@at_the_edge
@pytest.mark.parametrize("classes", [2, 4, 10])
def test_ead_finds_the_closest_image_of_a_linear_model(classes: int, edge: bool) -> None:
    """The elastic net decides which class is reached first; refinement goes on to the nearest."""
    model, images = Linear(classes), images_of(16, edge=edge)
    labels = model(images).argmax(1)
    found = elastic_net(model, images, labels, steps=100, searches=6)
    assert bool((model(found).argmax(1) != labels).all())
    ratio = norms.distance(found, images, "l1") / model.distances(images, labels, "l1").amin(1)
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.max()) <= CLOSE


@at_the_edge
@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("stop", [True, False])
def test_ifgsm_finds_the_smallest_eps_of_a_linear_model(classes: int, edge: bool, stop: bool) -> None:
    model, images = Linear(classes), images_of(40, edge=edge)
    labels = model(images).argmax(1)
    found = ifgsm_search(model, images, labels, stop=stop)
    assert bool((model(found).argmax(1) != labels).all())
    ratio = norms.distance(found, images, "linf") / model.distances(images, labels, "linf").amin(1)
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.max()) <= CLOSE


@at_the_edge
def test_without_refinement_the_search_for_eps_has_halved_what_is_open(edge: bool) -> None:
    """Of two classes, each run goes straight to the boundary; nine runs have halved what is open six times or more."""
    model, images = Linear(2), images_of(40, edge=edge)
    labels = model(images).argmax(1)
    exact = model.distances(images, labels, "linf").amin(1)
    for runs, most in ((9, 1 + 2**-6), (16, CLOSE)):
        found = ifgsm_search(model, images, labels, loss="margin", runs=runs, refine=0)
        assert bool((model(found).argmax(1) != labels).all())
        ratio = norms.distance(found, images, "linf") / exact
        assert float(ratio.min()) >= 1 - 1e-9
        assert float(ratio.max()) <= most


def test_each_finds_the_closest_point_of_a_sphere() -> None:
    model = Sphere(1.5)
    images = random(12, *SHAPE, low=0.4, high=0.6)
    labels = torch.zeros(12, dtype=torch.int64)
    found = {
        "l2": carlini_wagner(model, images, labels, steps=100, searches=6),
        "linf": ifgsm_search(model, images, labels, loss="margin", runs=16),
    }
    for norm in ("l2", "linf"):
        assert bool((model(found[norm]).argmax(1) == 1).all())
        ratio = norms.distance(found[norm], images, norm) / model.distances(images, norm)
        assert float(ratio.min()) >= 1 - 1e-9
        assert float(ratio.max()) <= CLOSE


def test_ead_finds_the_closest_point_of_a_sphere_along_an_axis() -> None:
    """From an image that is off the centre in one value, that value moves on, and no other."""
    model = Sphere(0.4)
    images = torch.full((6, *SHAPE), 0.5, dtype=torch.float64)
    images.view(6, -1)[torch.arange(6), torch.arange(6) * 7] += torch.tensor([0.1, -0.1, 0.2, -0.2, 0.05, 0.3])
    found = elastic_net(model, images, torch.zeros(6, dtype=torch.int64), steps=100, searches=6)
    assert bool((model(found).argmax(1) == 1).all())
    ratio = norms.distance(found, images, "l1") / model.distances(images, "l1")
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.max()) <= CLOSE


@pytest.mark.parametrize(("attack", "norm"), [(carlini_wagner, "l2"), (elastic_net, "l1"), (ifgsm_search, "linf")])
def test_targets_are_reached_at_the_distance_of_their_class(attack: Callable[..., Tensor], norm: Norm) -> None:
    """Where the nearest point at which the target leads the label is the target's: no other class stands in between."""
    model, images = Linear(4), images_of(24, edge=False)
    labels = model(images).argmax(1)
    targets = (labels + 1 + torch.arange(24) % 3) % 4
    found = attack(model, images, labels, targets=targets)
    assert torch.equal(model(found).argmax(1), targets)
    ways = [
        model.nearest(image, label, target, norm)
        for image, label, target in zip(images, labels.tolist(), targets.tolist(), strict=True)
    ]
    moved = torch.stack([way for way in ways if way is not None])
    assert len(moved) == len(images)
    ratio = norms.distance(found, images, norm) / norms.length(moved, norm)
    clear = model(images + 1.0001 * moved.view_as(images)).argmax(1) == targets
    assert int(clear.sum()) >= 10
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio[clear].max()) <= CLOSE
