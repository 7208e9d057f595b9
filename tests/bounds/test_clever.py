"""CLEVER against closed forms, SciPy's fit of the same gradients, and ART."""

import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from atodds import norms
from atodds.bounds import beside, clever
from atodds.bounds.draws import keys
from atodds.errors import ArgumentError, ThreatError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm

SHAPE, SIZE, SMALL = (3, 4, 4), 48, (1, 2, 2)
DUAL: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": np.inf}
every_norm = pytest.mark.parametrize("norm", NORMS)


def random(*shape: int, seed: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draw, dtype=torch.float64) * (high - low) + low


def filled(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for number, value in enumerate(model.parameters()):
            value.copy_(random(*value.shape, seed=number + 3))
    return model.requires_grad_(False)


def linear(classes: int = 5) -> nn.Module:
    return filled(nn.Sequential(nn.Flatten(), nn.Linear(SIZE, classes)).double())


def curved(classes: int = 4) -> nn.Module:
    """On four pixels, where samples come near to the largest gradient."""
    return filled(nn.Sequential(nn.Flatten(), nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, classes)).double())


def labelled(model: nn.Module, count: int, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    images = random(count, *shape, seed=1, low=0.0)
    return images, model(images).argmax(1)


def closed(model: nn.Module, images: Tensor, labels: Tensor, norm: Norm) -> Tensor:
    """(N, K) distances of a linear model's images to its boundaries, without the box; NaN at the label."""
    weight, logits = next(model.parameters()), model(images)
    gaps = logits.gather(1, labels[:, None]) - logits
    lengths: Tensor = torch.linalg.vector_norm(weight[labels][:, None] - weight[None], DUAL[norm], dim=2)
    away: Tensor = gaps / lengths
    return away


@every_norm
def test_on_linear_models_it_is_the_distance(norm: Norm) -> None:
    model = linear()
    images, labels = labelled(model, 6)
    away = closed(model, images, labels, norm)
    found = clever(model, images, labels, norm, batches=10, samples=4, radius=1e3)
    nearest, target = away.nan_to_num(torch.inf).min(1)
    torch.testing.assert_close(found.score, nearest, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.low, found.high, rtol=1e-9, atol=0)
    assert (found.target == target).all()
    assert not found.reached.any()
    targets = (labels + 2) % 5
    aimed = clever(model, images, labels, norm, targets=targets, batches=10, samples=4, radius=1e3)
    torch.testing.assert_close(aimed.score, away.gather(1, targets[:, None])[:, 0], rtol=1e-9, atol=0)


def test_it_equals_the_closed_form_in_float32_too() -> None:
    model = linear().float()
    images, labels = labelled(linear(), 6)
    found = clever(model, images.float(), labels, "l2", batches=10, samples=4, radius=1e3)
    torch.testing.assert_close(
        found.score, closed(linear(), images, labels, "l2").nan_to_num(torch.inf).amin(1), rtol=1e-5, atol=0
    )


def test_the_score_is_at_most_the_radius_and_says_where_it_is() -> None:
    model = linear()
    images, labels = labelled(model, 4)
    away = closed(model, images, labels, "l2").nan_to_num(torch.inf).amin(1)
    radius = away * torch.tensor([0.5, 0.9, 1.1, 2.0])
    found = clever(model, images, labels, "l2", batches=10, samples=2, radius=radius)
    torch.testing.assert_close(found.score, torch.minimum(away, radius))
    assert found.reached.tolist() == [True, True, False, False]


def test_a_misclassified_image_has_distance_0_and_costs_one_pass() -> None:
    oracle = Oracle(linear())
    images, labels = labelled(linear(), 3)
    found = clever(oracle, images, (labels + 1) % 5, "linf", batches=10, samples=2)
    assert found.score.tolist() == [0, 0, 0]
    assert found.location.isnan().all()
    assert oracle.passes().backwards.tolist() == [0, 0, 0]
    aimed = clever(linear(), images, (labels + 1) % 5, "linf", targets=labels, batches=10, samples=2)
    assert aimed.score.tolist() == [0, 0, 0]


class Sphere(nn.Module):
    """Class 0 inside a sphere of radius 1/2 around grey: its gradient is twice the distance to the centre."""

    def forward(self, images: Tensor) -> Tensor:
        inside = 0.25 - (images.flatten(1) - 0.5).square().sum(1)
        return torch.stack([inside, -inside], 1)


def test_on_a_sphere_it_is_the_margin_over_the_largest_gradient_of_the_ball() -> None:
    """In a ball that ends at the sphere gradients reach 2 * 2 * 1/2, and the score is margin / 2 below the distance."""
    images = torch.full((3, 1, 1, 2), 0.5, dtype=torch.float64)
    images[:, 0, 0, 0] += torch.tensor([0.05, 0.15, 0.3])
    from_centre = (images - 0.5).flatten(1).norm(dim=1)
    away = 0.5 - from_centre
    found = clever(
        Sphere(), images, torch.zeros(3, dtype=torch.int64), "l2", radius=away, batches=100, samples=50, classes=1
    )
    expected = 2 * (0.25 - from_centre.square()) / 2
    torch.testing.assert_close(found.score, expected, rtol=0.02, atol=0)
    assert (found.score <= away).all()
    assert (found.low <= expected).all()
    assert (expected <= found.high).all()


def gradients(model: nn.Module, points: Tensor, label: int, target: int) -> Tensor:
    leaf = points.clone().requires_grad_(True)
    logits = model(leaf)
    return torch.autograd.grad((logits[:, label] - logits[:, target]).sum(), leaf)[0].flatten(1)


def sampled(images: Tensor, row: int, norm: Norm, radius: float, count: int, seed: int) -> Tensor:
    """The points at which gradients are taken for one image."""
    draws = keys(torch.tensor([row]), range(count))
    return norms.random_point(images[row].expand(count, *images.shape[1:]), radius, norm, draws, seed=seed)


@every_norm
def test_it_agrees_with_scipys_fit_of_the_same_gradients(norm: Norm) -> None:
    model, batches, samples, radius = curved(), 60, 20, {"linf": 0.3, "l2": 0.4, "l1": 0.8}[norm]
    images, labels = labelled(model, 2, SMALL)
    found = clever(
        model, images, labels, norm, radius=radius, batches=batches, samples=samples, seed=4, penalty=0
    )  # fmt: skip
    for row, (label, target) in enumerate(zip(labels.tolist(), found.target.tolist(), strict=True)):
        points = sampled(images, row, norm, radius, batches * samples, 4)
        assert (norms.distance(points, images[row][None], norm) <= radius * (1 + 1e-9)).all()
        sizes = torch.linalg.vector_norm(gradients(model, points, label, target), DUAL[norm], dim=1)
        maxima = sizes.view(batches, samples).amax(1).numpy()
        start = float(found.shape[row])
        _, place, _ = stats.weibull_min.fit(-maxima, start, loc=-float(found.location[row]))
        assert float(found.location[row]) == pytest.approx(-place, rel=2e-3)
        assert float(found.score[row]) == pytest.approx(float(found.margin[row]) / -place, rel=2e-3)


def library() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ModuleType = pytest.importorskip(
            "art.metrics.metrics", reason="adversarial-robustness-toolbox is optional: make benchmarks-setup"
        )
    return found


@every_norm
def test_it_agrees_with_art_on_the_same_samples(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = library()
    from art.estimators.classification import PyTorchClassifier

    model, batches, samples, radius = curved().float(), 50, 20, {"linf": 0.3, "l2": 0.4, "l1": 0.8}[norm]
    images, labels = labelled(curved(), 2, SMALL)
    images = images.float()
    targets = (labels + 1) % 4
    ours = clever(
        model, images, labels, norm, targets=targets, radius=radius, batches=batches, samples=samples, penalty=0
    )
    wrapped = PyTorchClassifier(model, nn.CrossEntropyLoss(), SMALL, 4, clip_values=(0, 1), device_type="cpu")
    for row, target in enumerate(targets.tolist()):
        points = sampled(images, row, norm, radius, batches * samples, 0)
        offsets = (points - images[row]).flatten(1).numpy()
        turns = iter(range(batches))

        def in_order(_count: int, size: int, turns: Any = turns) -> Any:
            return np.arange(size) + size * next(turns)

        monkeypatch.setattr(metrics, "random_sphere", lambda *_, offsets=offsets, **__: offsets.copy())
        monkeypatch.setattr(metrics.np.random, "choice", in_order)
        monkeypatch.setattr(metrics, "scipy_optimizer", quiet)
        theirs = metrics.clever_t(
            wrapped, images[row].numpy(), target, batches, samples, radius, norm=DUAL_OF_ART[norm], pool_factor=batches
        )
        assert float(ours.score[row]) == pytest.approx(float(theirs), rel=5e-3)


DUAL_OF_ART: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}
"""ART takes the norm of the distance, and the dual itself."""


def quiet(*args: Any, **settings: Any) -> Any:
    """SciPy's simplex search as ART calls it, for as long as it takes."""
    return optimize.fmin(*args, **(settings | {"disp": 0, "maxiter": 10_000, "maxfun": 10_000, "xtol": 1e-8}))


def test_an_image_does_not_depend_on_the_batch_size_or_on_the_others() -> None:
    model = curved()
    images, labels = labelled(model, 5, SMALL)
    ids = torch.tensor([7, 3, 100, 12, 5])
    whole = clever(Oracle(model, batch_size=64), images, labels, "l2", ids=ids, batches=10, samples=6)
    turn = torch.tensor([3, 1, 4])
    some = clever(
        Oracle(model, batch_size=3), images[turn], labels[turn], "l2", ids=ids[turn], batches=10, samples=6
    )  # fmt: skip
    for name in ("score", "low", "high", "location"):
        torch.testing.assert_close(getattr(some, name), getattr(whole, name)[turn], rtol=1e-6, atol=0)


def test_another_seed_draws_other_samples() -> None:
    model = curved()
    images, labels = labelled(model, 2, SMALL)
    one, other = (clever(model, images, labels, "l2", batches=10, samples=5, seed=seed).score for seed in (0, 1))
    assert (one != other).all()


def test_passes_are_counted_and_no_class_is_looked_at_that_is_not_asked_for() -> None:
    oracle = Oracle(curved())
    images, labels = labelled(curved(), 2, SMALL)
    found = clever(oracle, images, labels, "l2", batches=10, samples=3, classes=2)
    passes = oracle.passes()
    assert passes.forwards.tolist() == [1 + 60, 1 + 60]
    assert passes.backwards.tolist() == [60, 60]
    likely = curved()(images).topk(3, 1).indices[:, 1:]
    assert (found.target[:, None] == likely).any(1).all()


class Rounded(nn.Module):
    """A linear model that reads images of 8 bits, and so has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((255 * images).round() / 255)
        return logits


def test_masked_gradients_make_it_too_high_and_it_is_said() -> None:
    """What Goodfellow (2018) warns of: where no gradient is seen, every distance seems possible."""
    images, labels = labelled(linear(), 4)
    away = closed(linear(), images, labels, "l2").nan_to_num(torch.inf).amin(1)
    found = clever(Rounded(), images, labels, "l2", batches=10, samples=2, radius=50.0)
    assert found.reached.all()
    assert (found.score > away).all()
    seen = beside(
        range(4), found.score, 1.5 * away, method="clever", certified=False, low=found.low, radius=found.radius
    )  # fmt: skip
    assert len(seen.crossings) == 4
    assert "as if masked" in str(seen.crossings[0])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"batches": 9}, "batches"),
        ({"samples": 0}, "samples"),
        ({"batches": 2000, "samples": 1024}, "samples"),
        ({"classes": 0}, "classes"),
        ({"radius": -1.0}, "radius"),
        ({"radius": torch.ones(3)}, "radius"),
        ({"radius": float("inf")}, "radius"),
        ({"level": 1.0}, "level"),
        ({"penalty": -1.0}, "penalty"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], named: str) -> None:
    images, labels = labelled(linear(), 2)
    with pytest.raises(ArgumentError, match=named):
        clever(linear(), images, labels, "l2", **settings)


def test_images_labels_and_norm_are_checked() -> None:
    images, labels = labelled(linear(), 2)
    with pytest.raises(ArgumentError, match="Divide by 255"):
        clever(linear(), 255 * images, labels, "l2")
    with pytest.raises(ArgumentError, match="no such class"):
        clever(linear(), images, labels + 9, "l2")
    with pytest.raises(ThreatError, match="norm"):
        clever(linear(), images, labels, "l3")
