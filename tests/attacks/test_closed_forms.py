"""C&W, EAD and I-FGSM's search on models of which the closest fooling image is known: linear ones and spheres."""

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
        label. By halving a multiplier, and in l1 by filling value after value."""
        logits = self(images)
        away = torch.full_like(logits, torch.inf)
        for row, (image, label) in enumerate(zip(images.flatten(1), labels.tolist(), strict=True)):
            for wrong in range(len(self.weight)):
                if wrong != label:
                    need = float(logits[row, label] - logits[row, wrong]) + confidence
                    away[row, wrong] = _nearest(image, self.weight[wrong] - self.weight[label], need, norm)
        return away


def _nearest(image: Tensor, normal: Tensor, need: float, norm: Norm) -> float:
    size = normal.abs()
    room = torch.where(normal > 0, 1 - image, image)
    if float((size * room).sum()) < need:
        return float("inf")
    if norm == "l1":
        left, spent = need, 0.0
        for value in size.argsort(descending=True).tolist():
            step = min(float(room[value]), left / float(size[value]))
            left, spent = left - step * float(size[value]), spent + step
        return spent
    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        moved = room.clamp_max(middle) if norm == "linf" else (middle * size).minimum(room)
        low, high = (middle, high) if float((size * moved).sum()) < need else (low, middle)
    moved = room.clamp_max(high) if norm == "linf" else (high * size).minimum(room)
    return float(moved.amax() if norm == "linf" else moved.square().sum().sqrt())


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
@pytest.mark.parametrize("classes", [2, 4])
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
@pytest.mark.parametrize("classes", [2, 4])
def test_ead_finds_the_closest_image_of_the_class_that_it_reaches(classes: int, edge: bool) -> None:
    """In l1 that is the closest of all for nearly all images: the elastic net decides which class is reached."""
    model, images = Linear(classes), images_of(16, edge=edge)
    labels = model(images).argmax(1)
    exact = model.distances(images, labels, "l1")
    found = elastic_net(model, images, labels, steps=100, searches=6)
    reached = model(found).argmax(1)
    assert bool((reached != labels).all())
    away = norms.distance(found, images, "l1")
    assert float((away / exact.gather(1, reached[:, None])[:, 0]).max()) <= CLOSE
    ratio = away / exact.amin(1)
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.max()) <= (CLOSE if classes == 2 else 1.2)
    assert float((ratio <= CLOSE).double().mean()) >= 0.75


@at_the_edge
def test_ifgsm_finds_the_smallest_eps_of_a_linear_model(edge: bool) -> None:
    """Of two classes, each run goes straight to the boundary; nine runs have halved what is open six times or more."""
    model, images = Linear(2), images_of(40, edge=edge)
    labels = model(images).argmax(1)
    exact = model.distances(images, labels, "linf").amin(1)
    for runs, most in ((9, 1 + 2**-6), (16, CLOSE)):
        found = ifgsm_search(model, images, labels, loss="margin", runs=runs)
        assert bool((model(found).argmax(1) != labels).all())
        ratio = norms.distance(found, images, "linf") / exact
        assert float(ratio.min()) >= 1 - 1e-9
        assert float(ratio.max()) <= most


def test_of_several_classes_ifgsm_reaches_its_target() -> None:
    """A loss that is the target's lead over the label has one direction on a linear model, as with two classes."""
    model, images = Linear(3), images_of(40, edge=False)
    labels = model(images).argmax(1)
    targets = (labels + 1 + torch.arange(40) % 2) % 3
    found = ifgsm_search(model, images, labels, loss="margin", runs=16, targets=targets)
    exact = model.distances(images, labels, "linf").gather(1, targets[:, None])[:, 0]
    ratio = norms.distance(found, images, "linf") / exact
    assert torch.equal(model(found).argmax(1), targets)
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.median()) <= CLOSE


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


def test_targets_are_reached_at_the_distance_of_their_class() -> None:
    """Where the nearest point of the target's half-space is the target's, no other class stands in between."""
    model, images = Linear(4), images_of(24, edge=False)
    labels = model(images).argmax(1)
    targets = (labels + 1 + torch.arange(24) % 3) % 4
    for attack, norm in ((carlini_wagner, "l2"), (elastic_net, "l1")):
        found = attack(model, images, labels, targets=targets, steps=100, searches=6)
        assert torch.equal(model(found).argmax(1), targets)
        least = model.distances(images, labels, norm).gather(1, targets[:, None])[:, 0]  # type: ignore[arg-type]
        ratio = norms.distance(found, images, norm) / least
        assert float(ratio.min()) >= 1 - 1e-9
        assert float(ratio.median()) <= CLOSE
