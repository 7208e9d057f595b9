"""Attacks in turn: each sees what none before it has fooled, and what is fooled once stays so."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import auto_pgd, ensemble, fab, fgsm
from atodds.attacks.pool import Balls
from atodds.attacks.registry import parse
from atodds.errors import ArgumentError, EmptyDataError, UnknownNameError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat

SHAPE, SIZE = (3, 4, 4), 48
RADII: dict[Norm, float] = {"linf": 0.04, "l2": 0.35, "l1": 2.0}
QUICK = "random_noise(queries=3),fgsm,auto_pgd(steps=8),auto_pgd_targeted(classes=2,steps=8),square(queries=10)"
every_norm = pytest.mark.parametrize("norm", NORMS)


def random(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draw, dtype=torch.float64) * (high - low) + low


def curved(classes: int = 5) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 24), nn.Tanh(), nn.Linear(24, classes)).double()
    with torch.no_grad():
        for number, value in enumerate(model.parameters()):
            value.copy_(random(*value.shape, seed=number + 3, low=-1))
    return model.requires_grad_(False).eval()


def labelled(model: nn.Module, count: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Images, predictions, ids."""
    images = random(count, *SHAPE, seed=1, low=-0.25, high=1.25).clamp(0, 1)
    return images, model(images).argmax(1), torch.arange(count) * 3 + 7


@every_norm
def test_it_is_the_attacks_in_turn_on_those_that_are_left(norm: Norm) -> None:
    model = curved()
    images, labels, ids = labelled(model, 48)
    threat = Threat(norm, RADII[norm])
    found = ensemble(model, images, labels, threat, attacks=QUICK, ids=ids, seed=2)
    expected, left, each = images.clone(), torch.arange(48), []
    for spec in parse(QUICK, norm):
        points = spec.run(Oracle(model), images[left], labels[left], threat, ids=ids[left], seed=2)
        expected[left] = points
        before, left = left, left[model(points).argmax(1) == labels[left]]
        each.append(len(before) - len(left))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert sum(each) >= 6
    assert sum(count > 0 for count in each) >= 2  # one is not enough
    assert len(left)  # and all are not enough for all


@every_norm
def test_it_fools_whatever_one_of_its_attacks_fools(norm: Norm) -> None:
    model = curved()
    images, labels, ids = labelled(model, 60)
    threat = Threat(norm, RADII[norm] / 2)
    together = model(ensemble(model, images, labels, threat, attacks="fgsm,auto_pgd", ids=ids)).argmax(1) != labels
    for attack in (fgsm, auto_pgd):
        alone = model(attack(model, images, labels, threat, ids=ids)).argmax(1) != labels
        assert bool((together | ~alone).all())
    away = norms.distance(ensemble(model, images, labels, threat, attacks="fgsm,auto_pgd"), images, norm)
    assert float(away.max()) <= threat.eps


@every_norm
def test_each_image_has_its_own_ball(norm: Norm) -> None:
    model = curved()
    images, labels, ids = labelled(model)
    eps = torch.tensor([0.0, RADII[norm] / 2, RADII[norm] * 2], dtype=torch.float64).repeat(8)
    found = ensemble(model, images, labels, Balls(norm, eps), attacks=QUICK, ids=ids)
    assert bool((norms.distance(found, images, norm) <= eps).all())
    for value in eps[:3].tolist():
        rows = (eps == value).nonzero()[:, 0]
        alone = ensemble(model, images[rows], labels[rows], Threat(norm, value), attacks=QUICK, ids=ids[rows])
        torch.testing.assert_close(found[rows], alone, rtol=0, atol=1e-12)


def test_no_pass_is_made_for_an_image_that_is_done() -> None:
    model = curved()
    images, labels, ids = labelled(model)
    oracle = Oracle(model)
    ensemble(oracle, images, (labels + 1) % 5, Threat("linf", 0.1), attacks="standard", ids=ids)
    passes = oracle.passes()
    assert set(passes.forwards.tolist()) == {1}  # all are wrong from the start
    assert not passes.backwards.any()


def test_the_presets_work_with_few_classes() -> None:
    for classes in (2, 3):
        model = curved(classes)
        images, labels, _ = labelled(model, 12)
        for preset in ("standard", "plus", "rand", "quick"):
            found = ensemble(model, images, labels, Threat("linf", 0.3), attacks=preset)
            assert bool((model(found).argmax(1) != labels).all())
        with pytest.raises(ArgumentError, match=r"the DLR loss needs \d classes.*loss=margin"):
            ensemble(model, images, labels, Threat("linf", 0.3), attacks="auto_pgd_targeted(loss=dlr)")


class Shaky(nn.Module):
    """A linear model whose logits tremble from pass to pass."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.layer, self.noise = nn.Linear(SIZE, 4).double(), noise
        with torch.no_grad():
            self.layer.weight.copy_(random(4, SIZE, seed=3, low=-1))
        self.draw = torch.Generator().manual_seed(0)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits + self.noise * torch.randn(logits.shape, generator=self.draw, dtype=logits.dtype)


def test_a_random_model_is_attacked_on_average() -> None:
    model = Shaky(0.3).requires_grad_(False)
    images = random(20, *SHAPE, seed=1, low=0.4, high=0.6)
    labels = model.layer(images.flatten(1)).argmax(1)
    oracle = Oracle(model, eot=10)
    found = ensemble(oracle, images, labels, Threat("linf", 0.08), attacks="rand")
    fooled = model.layer(found.flatten(1)).argmax(1) != labels
    assert float(fooled.double().mean()) > 0.7
    surely = torch.stack([model(found[fooled]).argmax(1) != labels[fooled] for _ in range(50)]).double().mean(0)
    assert float(surely.mean()) > 0.9  # not once by accident: time and again
    assert int(oracle.passes().backwards.max()) % 10 == 0


@pytest.mark.parametrize(
    ("attacks", "error"),
    [
        ("", ArgumentError),
        ([], ArgumentError),
        ("pgd,pgd", ArgumentError),
        ("autoattack", UnknownNameError),
        ("pgd(steps=0)", ArgumentError),
        (7, ArgumentError),
    ],
)
def test_attacks_that_cannot_be_read_are_refused(attacks: str | Sequence[str], error: type[Exception]) -> None:
    model = curved()
    images, labels, _ = labelled(model, 4)
    with pytest.raises(error):
        ensemble(model, images, labels, Threat("l2", 0.1), attacks=attacks)


def test_bad_images_are_refused_like_anywhere() -> None:
    model = curved()
    images, labels, _ = labelled(model, 4)
    with pytest.raises(ArgumentError, match=r"Divide by 255"):
        ensemble(model, images * 255, labels, Threat("l2", 0.1), attacks="fgsm")
    with pytest.raises(EmptyDataError):
        ensemble(model, images[:0], labels[:0], Threat("l2", 0.1), attacks="fgsm")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_types_come_back_and_nothing_given_is_changed(dtype: torch.dtype) -> None:
    model = curved().to(torch.float64 if dtype == torch.float64 else torch.float32)
    images, _, _ = labelled(curved(), 6)
    images = images.to(dtype).requires_grad_(True)
    labels = model(images.to(next(model.parameters()).dtype)).argmax(1)
    before = images.detach().clone()
    found = ensemble(model, images, labels, Threat("l2", 0.3), attacks="fgsm,auto_pgd(steps=5)")
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(images.detach(), before)
    assert not found.requires_grad


def test_the_closest_search_finds_what_an_eps_would_need() -> None:
    """An image that FAB fools without a limit at a distance is fooled by the ensemble in a ball a little wider."""
    model = curved()
    images, labels, ids = labelled(model)
    closest = fab(model, images, labels, "l2", ids=ids, steps=10, classes=1)
    away = norms.distance(closest, images, "l2")
    known = away > 0
    found = ensemble(model, images[known], labels[known], Balls("l2", away[known] * 1.05), attacks="auto_pgd,fab")
    assert float((model(found).argmax(1) != labels[known]).double().mean()) > 0.95
