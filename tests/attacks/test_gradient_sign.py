"""On a linear model the best perturbation is known in closed form: FGSM, I-FGSM and PGD find it, in every norm."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import optimize
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import fgsm, ifgsm, pgd
from atodds.attacks.losses import LossName
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat

Array = npt.NDArray[np.float64]
every_norm = pytest.mark.parametrize("norm", NORMS)

D = 24
RADII: dict[Norm, float] = {"l1": 2.0, "l2": 0.6, "linf": 0.2}


def linear(classes: int, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A linear model in float64, and its weights (classes, D)."""
    layer = nn.Linear(D, classes).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, D, generator=draw))
        layer.bias.copy_(torch.randn(classes, generator=draw) / 4)
    return nn.Sequential(nn.Flatten(), layer), layer.weight.detach()


def pool(model: nn.Module, count: int, *, edge: bool) -> tuple[Tensor, Tensor]:
    """Images and the model's own predictions. With `edge`, half of all values lie on the edge of the box."""
    draw = torch.Generator().manual_seed(3)
    images = torch.rand(count, D, generator=draw, dtype=torch.float64)
    images = (images * 3 - 1).clamp(0, 1) if edge else images * 0.1 + 0.45
    return images, model(images).argmax(1).detach()


def largest_rise(slope: Array, origin: Array, eps: float, norm: Norm) -> float:
    """max of slope·delta with origin + delta in the box and |delta| <= eps."""
    room = np.where(slope > 0, 1 - origin, origin)
    gain = abs(slope)
    if norm == "linf":
        return float(gain @ np.minimum(room, eps))
    if norm == "l1":  # the steepest coordinates are filled first
        order = np.argsort(-gain)
        given = np.clip(eps - (np.cumsum(room[order]) - room[order]), 0, room[order])
        return float(gain[order] @ given)

    def at(scale: float) -> Array:
        return np.minimum(scale * gain, room)

    if np.linalg.norm(at(1e9)) <= eps:
        return float(gain @ at(1e9))
    return float(gain @ at(optimize.brentq(lambda s: np.linalg.norm(at(s)) - eps, 0, 1e9, xtol=1e-14)))


def length(delta: Tensor, norm: Norm) -> Array:
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    return np.asarray(np.linalg.norm(delta.flatten(1).numpy(), order, axis=1))


# --- closed forms ------------------------------------------------------------------------------------------------


@every_norm
@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_pgd_finds_the_best_point_of_a_linear_model_with_two_classes(norm: Norm, edge: bool, loss: LossName) -> None:
    model, weight = linear(2)
    images, labels = pool(model, 12, edge=edge)
    eps = RADII[norm]
    found = pgd(model, images, labels, Threat(norm, eps), steps=150, stop=False, loss=loss, step_size=eps / 15)
    for row in range(12):
        slope = (weight[1 - labels[row]] - weight[labels[row]]).numpy()
        risen = float(slope @ (found[row] - images[row]).numpy())
        assert risen == pytest.approx(largest_rise(slope, images[row].numpy(), eps, norm), rel=1e-4)


@every_norm
@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_finds_every_fooling_image_that_a_linear_model_has(norm: Norm, targeted: bool) -> None:
    """With many classes, image x can be fooled exactly if for one class k the rise of z_k - z_y reaches the gap."""
    model, weight = linear(2 if targeted else 5)
    classes = len(weight)
    images, labels = pool(model, 60, edge=True)
    logits = model(images).detach()
    eps = RADII[norm] * (0.7 if targeted else 0.35)
    targets = 1 - labels if targeted else None
    gaps = torch.full((60, classes), torch.inf, dtype=torch.float64)
    for row in range(60):
        for k in set(range(classes)) - {int(labels[row])}:
            slope = (weight[k] - weight[labels[row]]).numpy()
            gap = float(logits[row, labels[row]] - logits[row, k])
            gaps[row, k] = gap - largest_rise(slope, images[row].numpy(), eps, norm)
    can = gaps.amin(1) < -1e-3
    cannot = gaps.amin(1) > 1e-9
    assert 10 < int(can.sum()) < 50
    found = pgd(
        model,
        images,
        labels,
        Threat(norm, eps),
        targets=targets,
        steps=60,
        step_size=eps / 8,
        restarts=4,
        loss="margin",
    )
    fooled = model(found).argmax(1) != labels
    assert not (fooled & cannot).any()
    assert bool((fooled | ~can).all()) if classes == 2 else float((fooled | ~can).double().mean()) > 0.97


def test_fgsm_is_eps_times_the_sign() -> None:
    model, weight = linear(2)
    images, labels = pool(model, 10, edge=False)
    found = fgsm(model, images, labels, Threat("linf", 0.1))
    expected = images + 0.1 * (weight[1 - labels] - weight[labels]).sign()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    toward = fgsm(model, images, labels, Threat("linf", 0.1), targets=1 - labels)
    torch.testing.assert_close(toward, expected, rtol=0, atol=1e-12)
    cut = fgsm(model, images, labels, Threat("linf", 0.7))
    torch.testing.assert_close(cut, (images + 0.7 * (weight[1 - labels] - weight[labels]).sign()).clamp(0, 1))


def test_fgsm_in_l2_goes_along_the_gradient_and_in_l1_along_its_largest_values() -> None:
    model, weight = linear(2)
    images, labels = pool(model, 10, edge=False)
    slope = weight[1 - labels] - weight[labels]
    found = fgsm(model, images, labels, Threat("l2", 0.3)) - images
    torch.testing.assert_close(found, 0.3 * slope / slope.norm(dim=1, keepdim=True), rtol=0, atol=1e-12)
    found = fgsm(model, images, labels, Threat("l1", 0.3)) - images  # 1 % of 24 values: one of them
    largest = slope.abs().argmax(1)
    expected = torch.zeros_like(images).scatter_(1, largest[:, None], 0.3) * slope.sign()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@every_norm
@pytest.mark.parametrize("steps", [1, 4])
def test_ifgsm_takes_steps_of_eps_over_steps_from_the_image_itself(norm: Norm, steps: int) -> None:
    """After k of T steps on a linear model the image has moved by k/T of the way."""
    model, weight = linear(2)
    images, labels = pool(model, 10, edge=False)
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    found = ifgsm(Oracle(model, batch_size=10), images, labels, Threat(norm, 0.04), steps=steps, stop=False)
    assert len(seen) == steps + 1
    slope = -weight[labels]  # the loss is minus the label's logit
    for k, points in enumerate(seen):
        moved = points - images
        np.testing.assert_allclose(length(moved, norm), 0.04 * k / steps, atol=1e-12)
        torch.testing.assert_close(moved, norms.steepest(slope, norm) * 0.04 * k / steps, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, seen[-1], rtol=0, atol=1e-12)


def test_ifgsm_on_the_label_and_on_the_target_follow_their_logits() -> None:
    model, weight = linear(4)
    images, labels = pool(model, 10, edge=False)
    targets = (labels + 1) % 4
    found = ifgsm(model, images, labels, Threat("linf", 0.01), targets=targets, steps=3, stop=False)
    torch.testing.assert_close(found, images + 0.01 * weight[targets].sign(), rtol=0, atol=1e-12)


def test_steps_are_two_and_a_half_radii_in_all_unless_said_otherwise() -> None:
    model, weight = linear(2)
    images, labels = pool(model, 10, edge=False)
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    oracle = Oracle(model, batch_size=10)
    for given, expected in ((None, 2.5 * 0.04 / 5), (0.003, 0.003)):
        seen.clear()
        pgd(oracle, images, labels, Threat("linf", 0.04), steps=5, step_size=given, random_start=False, stop=False)
        slope = (weight[1 - labels] - weight[labels]).sign()
        torch.testing.assert_close(seen[1] - seen[0], expected * slope, rtol=0, atol=1e-12)
        torch.testing.assert_close(seen[0], images, rtol=0, atol=0)


# --- what is done for whom ---------------------------------------------------------------------------------------


class Threshold(nn.Module):
    """Fooled where the mean pixel exceeds a limit. The slope is the same for every pixel."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1).mean(1) - self.limit
        return torch.stack([torch.zeros_like(score), score], 1)


def spread_out(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images of one grey each, from dark to light, label 0, and ids."""
    images = torch.linspace(0.3, 0.6, count)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    return images, torch.zeros(count, dtype=torch.int64), torch.arange(count) + 5


def test_an_image_leaves_as_soon_as_it_is_fooled_and_takes_no_pass_more() -> None:
    images, labels, ids = spread_out(31)  # steps of 0.01
    oracle = Oracle(Threshold(0.505), batch_size=8)
    threat = Threat("linf", 0.1)
    found = pgd(oracle, images, labels, threat, ids=ids, steps=10, step_size=0.01, random_start=False)
    away = (0.505 - images[:, 0, 0, 0]) / 0.01  # steps to go
    needed = torch.ceil(away - 1e-4).clamp_min(0).long()
    forwards, backwards = oracle.passes().of(ids)
    fooled = needed <= 10
    # step k is seen to fool in the gradient pass after it; the last one in a forward pass
    assert forwards.tolist() == torch.where(fooled, needed + 1, 11).tolist()
    assert backwards.tolist() == torch.where(fooled, (needed + 1).clamp_max(10), 10).tolist()
    expected = images + 0.01 * needed.clamp_max(10)[:, None, None, None]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_without_stopping_every_step_is_taken_and_the_last_point_that_fools_is_proposed() -> None:
    images, labels, ids = spread_out(31)
    oracle = Oracle(Threshold(0.505), batch_size=8)
    threat = Threat("linf", 0.1)
    found = pgd(oracle, images, labels, threat, ids=ids, steps=12, step_size=0.01, random_start=False, stop=False)
    torch.testing.assert_close(found, images + 0.1, rtol=0, atol=1e-6)
    assert oracle.passes().forwards.tolist() == [13] * 31
    assert oracle.passes().backwards.tolist() == [12] * 31


class Window(nn.Module):
    """Fooled only in a window of the mean pixel, which steps pass through; the slope points upwards for ever."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        inside = ((mean > 0.52) & (mean < 0.54)).to(mean)
        score = (mean - mean.detach()) + inside - 0.5
        return torch.stack([torch.zeros_like(score), score], 1)


def test_a_point_that_fooled_on_the_way_is_kept_when_the_last_does_not() -> None:
    images = torch.full((3, 1, 2, 2), 0.5)
    labels = torch.zeros(3, dtype=torch.int64)
    for stop in (True, False):
        found = pgd(
            Window(), images, labels, Threat("linf", 0.1), steps=10, step_size=0.01, random_start=False, stop=stop,
            loss="margin",
        )  # fmt: skip
        assert Window()(found).argmax(1).tolist() == [1, 1, 1]


def test_restarts_go_on_with_those_that_are_left_and_each_from_another_start() -> None:
    class Noted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Tensor] = []

        def forward(self, images: Tensor) -> Tensor:
            self.seen.append(images.detach().clone())
            score = images.flatten(1)[:, 0] * 0 + (images.flatten(1)[:, 0] > 0.55).to(images) - 0.5
            return torch.stack([torch.zeros_like(score), score], 1)

    images, labels = torch.full((200, 1, 2, 2), 0.5), torch.zeros(200, dtype=torch.int64)
    model, threat = Noted(), Threat("linf", 0.1)
    found = pgd(Oracle(model, batch_size=200), images, labels, threat, steps=1, restarts=4)
    # without a slope only the start decides: a quarter of the starts fools
    sizes = [len(points) for points in model.seen]
    assert sizes[0] == 200
    for now, following in zip(sizes[::2], sizes[2::2], strict=False):
        assert 0.5 * now < following < 0.95 * now
    left = 1 - 0.75**4
    fooled = float((found[:, 0, 0, 0] > 0.55).double().mean())
    assert fooled == pytest.approx(left, abs=4 * math.sqrt(left * (1 - left) / 200))


@pytest.mark.parametrize("stop", [False, True])
def test_the_ball_and_then_the_box_is_the_walk_of_most_programs(stop: bool) -> None:
    """Written out for all images at once; in linf it is the same as the exact projection, in l1 there is none."""
    model, _ = linear(3)
    images, labels = pool(model, 20, edge=True)
    eps, size, points = 0.4, 0.12, images.clone()
    for _ in range(6):
        points.requires_grad_(True)
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(points), labels, reduction="sum"), points)
        delta = points.detach() + size * slope / slope.norm(dim=1, keepdim=True) - images
        delta = delta * (eps / delta.norm(dim=1, keepdim=True)).clamp_max(1)
        points = (images + delta).clamp(0, 1)
    settings: dict[str, Any] = {"steps": 6, "step_size": size, "random_start": False, "projection": "ball-then-box"}
    found = pgd(model, images, labels, Threat("l2", eps), stop=stop, **settings)
    kept = model(found).argmax(1) == labels if stop else torch.ones(20, dtype=torch.bool)
    assert int(kept.sum()) >= 5
    torch.testing.assert_close(found[kept], points[kept], rtol=0, atol=1e-12)
    exact = pgd(model, images, labels, Threat("l2", eps), stop=stop, **settings | {"projection": "exact"})
    assert not torch.allclose(exact[kept], points[kept], rtol=0, atol=1e-3)
    flat = [pgd(model, images, labels, Threat("linf", 0.1), **settings | {"projection": way}) for way in WAYS]
    assert torch.equal(*flat)
    with pytest.raises(ArgumentError, match=r"^projection="):
        pgd(model, images, labels, Threat("l1", 1.0), **settings)


WAYS = ("exact", "ball-then-box")


@every_norm
def test_pgd_begins_at_the_points_that_it_is_given(norm: Norm) -> None:
    model, _ = linear(3)
    images, labels = pool(model, 12, edge=True)
    threat = Threat(norm, RADII[norm])
    far = torch.rand(images.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 3 - 1
    before = far.clone()
    stayed = pgd(model, images, labels, threat, steps=1, step_size=0.0, stop=False, starting_points=far)
    if norm != "l1":  # a step of length 0 stays where it is; in l1 it takes back what exceeds the ball by rounding
        assert torch.allclose(stayed, norms.project(far, images, RADII[norm], norm), rtol=0, atol=1e-12)
    assert torch.equal(far, before)
    from_images = pgd(model, images, labels, threat, steps=7, starting_points=images)
    assert torch.equal(from_images, pgd(model, images, labels, threat, steps=7, random_start=False))


@pytest.mark.parametrize(
    "given", [torch.zeros(3, D), torch.zeros(12, D, dtype=torch.int64), torch.full((12, D), torch.nan)]
)
def test_starting_points_that_are_none_are_refused(given: Tensor) -> None:
    model, _ = linear(3)
    images, labels = pool(model, 12, edge=False)
    with pytest.raises(ArgumentError, match="starting_points"):
        pgd(model, images, labels, Threat("linf", 0.1), starting_points=given)


def test_the_loss_decides_where_pgd_goes() -> None:
    """Three classes: the label's logit falls fastest along one pixel, the margin along another."""
    weight = torch.tensor([[-2.0, 0.0, 0.5], [0.0, 3.0, -1.0], [0.0, -3.0, -0.5]], dtype=torch.float64)

    model = nn.Linear(3, 3).double()
    with torch.no_grad():
        model.weight.copy_(weight)
        model.bias.copy_(torch.tensor([4.0, 0.1, 0.0]))
    images, labels = torch.full((1, 3), 0.5, dtype=torch.float64), torch.tensor([0])
    threat = Threat("l2", 0.1)
    found: dict[str, Tensor] = {}
    losses: list[LossName] = ["logit", "margin", "cross-entropy"]
    for loss in losses:
        found[loss] = (
            pgd(model, images, labels, threat, steps=1, step_size=0.1, random_start=False, loss=loss, stop=False)
            - images
        )
    torch.testing.assert_close(found["logit"][0] / 0.1, -weight[0] / weight[0].norm())
    towards = weight[1] - weight[0]
    torch.testing.assert_close(found["margin"][0] / 0.1, towards / towards.norm())
    probability = model(images).softmax(1)[0].detach()
    slope = probability @ weight - weight[0]
    torch.testing.assert_close(found["cross-entropy"][0] / 0.1, slope / slope.norm())


@pytest.mark.parametrize(
    ("named", "argument"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"restarts": 0}, "restarts"),
        ({"step_size": -1.0}, "step_size"),
        ({"step_size": math.nan}, "step_size"),
        ({"step_size": math.inf}, "step_size"),
        ({"loss": "hinge"}, "loss"),
        ({"projection": "none"}, "projection"),
    ],
)
def test_settings_that_cannot_work_are_refused(named: dict[str, int], argument: str) -> None:
    images, labels, _ = spread_out(3)
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        pgd(Threshold(0.5), images, labels, Threat("linf", 0.1), **named)  # type: ignore[arg-type]
    if argument in ("steps", "loss"):
        with pytest.raises(ArgumentError, match=f"^{argument}="):
            ifgsm(Threshold(0.5), images, labels, Threat("linf", 0.1), **named)  # type: ignore[arg-type]
