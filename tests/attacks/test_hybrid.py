"""The hybrid goes on from where it is, and finds what neither of its halves finds in the same number of passes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atodds.attacks import auto_pgd, hybrid, losses, square
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat

RADII: dict[Norm, float] = {"linf": 0.1, "l2": 0.8, "l1": 6.0}
COUNT, SHAPE = 24, (1, 8, 8)


class Stairs(nn.Module):
    """Two classes apart by a linear function of the pixels, of which gradients see a random half and the wrong way."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.weights = nn.Parameter(torch.randn(64, generator=draw, dtype=torch.float64))
        self.shown = nn.Parameter(torch.where(torch.rand(64, generator=draw) < 0.5, 1.0, -1.0).double())

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1) - 0.5
        seen = (values * self.weights * self.shown).sum(1)
        true = (values * self.weights).sum(1)
        lead = 2.2 + true.detach() + seen - seen.detach()
        return torch.stack([lead, torch.zeros_like(lead)], 1)


def pool() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(4)
    images = torch.rand((COUNT, *SHAPE), generator=draw, dtype=torch.float64) * 0.4 + 0.3
    return images, torch.zeros(COUNT, dtype=torch.int64), torch.arange(COUNT)


def margins(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return losses.margin(model(images), labels)


def curved() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 5)).double()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("times", [((1, 1), (2, 1), (4, 1)), ((2, 1), (2, 2), (2, 4))], ids=["rounds", "restarts"])
def test_more_rounds_and_restarts_never_end_further_from_fooling(
    norm: Norm, times: tuple[tuple[int, int], ...]
) -> None:
    model, (images, labels, ids) = Stairs(), pool()
    threat = Threat(norm, RADII[norm] / 5)
    before = torch.full((COUNT,), -torch.inf, dtype=torch.float64)
    for rounds, restarts in times:
        found = hybrid(
            model, images, labels, threat, ids=ids, rounds=rounds, restarts=restarts, steps=6, queries=8, worth=0.0,
            near=1.0,
        )  # fmt: skip
        after = margins(model, found, labels)
        assert bool((after >= before - 1e-9).all())
        assert bool((after > before + 1e-6).any())
        before = after


def test_it_fools_where_gradients_mislead_and_windows_alone_take_longer() -> None:
    model, (images, labels, ids), threat = Stairs(), pool(), Threat("linf", RADII["linf"])
    oracle = Oracle(model)
    fooled = margins(model, hybrid(oracle, images, labels, threat, ids=ids), labels) > 0
    passes = oracle.passes()
    most = int((passes.forwards + passes.backwards).max())
    slopes = (
        margins(model, auto_pgd(model, images, labels, threat, ids=ids, steps=most // 2, loss="margin"), labels) > 0
    )
    windows = margins(model, square(model, images, labels, threat, ids=ids, queries=most), labels) > 0
    assert int(fooled.sum()) > max(int(slopes.sum()), int(windows.sum()))


@pytest.mark.parametrize(("norm", "more"), [("linf", 2), ("l2", 2), ("l1", 4)])
def test_passes_are_as_many_as_promised(norm: Norm, more: int) -> None:
    model, (images, labels, ids) = Stairs(), pool()
    oracle, threat = Oracle(model), Threat(norm, RADII[norm] / 9)  # fools none
    hybrid(
        oracle, images, labels, threat, ids=ids, rounds=3, restarts=2, steps=10, queries=7, worth=0.0, near=1.0,
        class_steps=5,
    )  # fmt: skip
    assert int(oracle.passes().backwards.max()) == 2 * 3 * 10
    assert int(oracle.passes().forwards.max()) == 1 + 2 * 3 * (10 + 7 + more) - 5  # two windows in the first round


def test_where_gradients_lead_there_is_one_round_and_then_other_classes() -> None:
    """On a linear model Auto-PGD ends in the best corner of the ball, which no window moves."""
    draw = torch.Generator().manual_seed(5)
    linear = nn.Linear(64, 2, dtype=torch.float64)
    with torch.no_grad():
        weights = torch.randn(64, generator=draw, dtype=torch.float64)
        linear.weight.copy_(torch.stack([weights, -weights]))
        linear.bias.copy_(torch.tensor([50.0, 0.0]))
    images, labels, ids = pool()
    oracle = Oracle(nn.Sequential(nn.Flatten(), linear))
    hybrid(oracle, images, labels, Threat("linf", 0.05), ids=ids, steps=30, queries=9, class_steps=11)
    assert set(oracle.passes().backwards.tolist()) == {30 + 11}
    assert set(oracle.passes().forwards.tolist()) == {1 + 30 + 3 + 2 + 11 + 1}
    oracle = Oracle(Stairs())
    hybrid(oracle, images, labels, Threat("linf", RADII["linf"] / 5), ids=ids, steps=30, queries=9)
    assert float(oracle.passes().backwards.double().mean()) > 3 * 30


def test_only_images_that_are_near_start_again() -> None:
    """A margin of 0.25 of the one at the image is near, or as the caller says."""
    model, (images, labels, ids) = Stairs(), pool()
    taken = {}
    for near in (0.0, 0.5, 1.0):
        oracle = Oracle(model)
        threat = Threat("linf", RADII["linf"] / 2)
        hybrid(oracle, images, labels, threat, ids=ids, rounds=2, restarts=2, steps=6, queries=8, near=near)
        taken[near] = int(oracle.passes().backwards.sum())
    assert taken[0.0] < taken[0.5] < taken[1.0]


@pytest.mark.parametrize("name", ["worth", "near"])
@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_the_margin_that_is_none_is_refused(name: str, share: float) -> None:
    images, labels, _ = pool()
    settings: dict[str, Any] = {name: share}
    with pytest.raises(ArgumentError, match=name):
        hybrid(curved(), images, labels, Threat("linf", 0.1), **settings)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    images, labels, _ = pool()
    with pytest.raises(ArgumentError, match="p_init"):
        hybrid(curved(), images, labels, Threat("linf", 0.1), p_init=share)
