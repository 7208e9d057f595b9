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
        gradients=5,
    )  # fmt: skip
    assert int(oracle.passes().backwards.max()) == 2 * 3 * 10
    assert int(oracle.passes().forwards.max()) == 1 + 2 * 3 * (10 + 7 + more) - 5  # two windows in the first round


def flat(away: float) -> nn.Module:
    """A linear model of three classes: a grey image is so far in linf from the boundary of each other class."""
    draw = torch.Generator().manual_seed(5)
    linear = nn.Linear(64, 3, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.randn((3, 64), generator=draw, dtype=torch.float64))
        lead = linear.weight[0] - linear.weight[1:]
        linear.bias.copy_(torch.cat([torch.zeros(1), away * lead.abs().sum(1) * -1 + lead.sum(1) / 2]))
    return nn.Sequential(nn.Flatten(), linear)


def test_where_gradients_lead_there_is_one_round_and_then_the_search_along_the_boundary() -> None:
    """On a linear model Auto-PGD ends in the best corner of the ball, which no window moves."""
    images, labels, ids = pool()
    oracle = Oracle(flat(0.2))
    hybrid(oracle, images, labels, Threat("linf", 0.05), ids=ids, steps=30, queries=9, gradients=20)
    assert set(oracle.passes().forwards.tolist()) == {1 + 30 + 3 + 2 + 20}
    backwards = oracle.passes().backwards
    assert int(backwards.min()) > 30 + 15  # each of its runs ends with a look that needs no gradient
    assert int(backwards.max()) < 30 + 20
    oracle = Oracle(Stairs())
    hybrid(oracle, images, labels, Threat("linf", RADII["linf"] / 5), ids=ids, steps=30, queries=9)
    assert float(oracle.passes().backwards.double().mean()) > 3 * 30


class Pit(nn.Module):
    """Two wrong classes: towards the first the climb is steep and ends short of fooling, the second fools."""

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1) - 0.5
        near, far = values[:, :32].mean(1), values[:, 32:].mean(1)
        first = (20 * near).tanh() * 0.9 - 1
        second = 10 * far - 1.0
        return torch.stack([torch.zeros_like(near), first, second], 1)


@pytest.mark.parametrize("norm", NORMS)
def test_a_class_that_the_climb_passes_by_is_found_along_the_boundary(norm: Norm) -> None:
    """The second class is ahead where `far` is 0.1, within the ball; from some starts Auto-PGD on the margin heads for
    the first, which never is."""
    images = torch.full((4, *SHAPE), 0.5, dtype=torch.float64)
    labels, radius = torch.zeros(4, dtype=torch.int64), {"linf": 0.12, "l2": 0.12 * 32**0.5, "l1": 0.12 * 32}[norm]

    def fooled(gradients: int) -> Tensor:
        found = hybrid(
            Pit(), images, labels, Threat(norm, radius), rounds=1, restarts=1, steps=5, queries=3, worth=1.0,
            gradients=gradients,
        )  # fmt: skip
        return margins(Pit(), found, labels) > 0

    assert not bool(fooled(1).all())
    assert bool(fooled(100).all())


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_found_outside_the_ball_is_not_proposed(norm: Norm) -> None:
    """The proposal that is left comes closer to fooling than the image of the search, drawn back into the ball."""
    model, (images, labels, ids) = curved(), pool()
    threat = Threat(norm, RADII[norm] / 50)
    labels = model(images).argmax(1)
    short = hybrid(model, images, labels, threat, ids=ids, rounds=1, restarts=1, gradients=1)
    longer = hybrid(model, images, labels, threat, ids=ids, rounds=1, restarts=1, gradients=60)
    stands = margins(model, longer, labels) <= 0
    assert bool(stands.any())
    assert bool((short - longer)[stands].abs().max() < 1e-12)


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
