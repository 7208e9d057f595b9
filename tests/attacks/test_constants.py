"""The search for the constant takes the steps of the paper, an image at a time."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from atodds.attacks.constants import Rules, search
from atodds.attacks.pool import opened
from atodds.errors import ArgumentError
from atodds.oracle import Oracle


class Step(nn.Module):
    """One pixel: class 1 above 0.5."""

    def forward(self, images: Tensor) -> Tensor:
        value = images.flatten(1)[:, :1] - 0.5
        return torch.cat([-value, value], 1)


class Jump:
    """Is over the boundary from its second step on, where the constant is large enough for the image."""

    def __init__(self, needs: Tensor, falling: Callable[[Tensor], Tensor]) -> None:
        self.needs, self.falling, self.rows = needs, falling, torch.arange(len(needs))
        self.points = torch.full((len(needs), 1), 0.25, dtype=torch.float64)
        self.made = torch.zeros(len(needs), dtype=torch.int64)
        self.tried: list[list[float]] = [[] for _ in needs]
        self.lengths: list[list[int]] = [[] for _ in needs]

    def distances(self) -> tuple[Tensor, Tensor]:
        return self.falling(self.made), self.points[:, 0] - 0.25

    def advance(self, slopes: Tensor, constants: Tensor, step: Tensor) -> None:
        assert slopes.shape == constants.shape == step.shape == self.points.shape
        assert torch.equal(step[:, 0], self.made)
        over = constants[:, 0] >= self.needs
        self.points = torch.where(over, 0.75, 0.25)[:, None].double()
        for row, constant, number in zip(self.rows.tolist(), constants[:, 0].tolist(), self.made.tolist(), strict=True):
            if number == 0:
                self.tried[row].append(constant)
                self.lengths[row].append(0)
            self.lengths[row][-1] += 1
        self.made = self.made + 1

    def restart(self, where: Tensor) -> None:
        self.points[where], self.made[where] = 0.25, 0

    def drop(self, gone: Tensor) -> None:
        order = (~gone).nonzero()[:, 0]
        left = len(gone) - int(gone.sum())
        movers, gaps = order[order >= left], gone[:left].nonzero()[:, 0]
        for name in ("needs", "rows", "points", "made"):
            value = getattr(self, name).clone()
            value[gaps] = value[movers]
            setattr(self, name, value[:left])


def made(needs: list[float], rules: Rules, falling: Callable[[Tensor], Tensor] | None = None) -> tuple[Jump, Tensor]:
    """What was tried for images of these needs, and their proposals."""
    loss = falling or (lambda made: 0.5 ** made.double())
    jump = Jump(torch.tensor(needs, dtype=torch.float64), loss)
    images = torch.full((len(needs), 1, 1, 1), 0.25, dtype=torch.float64)
    labels = torch.zeros(len(needs), dtype=torch.int64)
    with opened(Oracle(Step()), images, labels, "l2", None, None) as pool:
        search(pool, lambda _: jump, rules)
        return jump, pool.settled(images)


def expected(need: float, searches: int) -> list[float]:
    """The paper's rule, for one image."""
    low, high, constant, tried = 0.0, math.inf, 0.01, []
    for _ in range(searches):
        tried.append(constant)
        if constant >= need:
            high = constant
        else:
            low = constant
        constant = constant * 10 if math.isinf(high) else (low + high) / 2
    return tried


def test_constants_grow_tenfold_until_one_succeeds_and_are_halved_then() -> None:
    needs = [0.5, 0.001, 20.0, 0.1, 1e5, 3.3]
    jump, found = made(needs, Rules(20, 9, 0.01, 0.0, stop=False, refine=0))
    for row, need in enumerate(needs):
        assert jump.tried[row] == pytest.approx(expected(need, 9), rel=1e-12)
        assert jump.lengths[row] == [20] * 9
    assert found.flatten().tolist() == [0.75] * 6
    _, missed = made([1e12], Rules(20, 9, 0.01, 0.0, stop=False, refine=0))
    assert missed.flatten().tolist() == [0.25]


def test_images_do_not_wait_for_each_other() -> None:
    """One image's loss falls until its 10th step, the other's for ever; each goes on when its own has stopped."""
    rules = Rules(200, 3, 0.01, 0.0, stop=True, refine=0)  # looks every 10 steps
    jump, _ = made([1e12], rules, lambda made: 1 / (1 + made.clamp_max(10)).double())
    alone = jump.lengths[0]
    assert max(alone[:3]) <= 40
    jump, _ = made([1e12], rules, lambda made: 1e6 / (1 + made).double())
    assert jump.lengths[0] == [200] * 3
    both, _ = made([1e12, 0.05], rules, lambda made: 1 / (1 + made.clamp_max(10)).double())
    assert both.lengths[0] == alone
    assert both.tried[1] == pytest.approx(expected(0.05, 3))


def test_what_an_image_has_saved_it_spends_on_larger_constants_until_one_succeeds() -> None:
    rules = Rules(200, 3, 0.01, 0.0, stop=True, refine=0)
    needs = [1e12, 5.0, 50.0, 0.05]
    jump, found = made(needs, rules, lambda made: 1 / (1 + made.clamp_max(10)).double())
    assert found.flatten().tolist() == [0.25, 0.75, 0.75, 0.75]
    for tried, lengths in zip(jump.tried, jump.lengths, strict=True):
        assert sum(lengths) <= 600
        assert lengths[3:] == [200] * len(lengths[3:])
        assert len(lengths) == len(tried)
    assert [len(tried) for tried in jump.tried] == [5, 4, 5, 3]  # less than 200 steps are left after the fifth
    assert jump.tried[2] == pytest.approx([0.01, 0.1, 1, 10, 100])
    alone, _ = made([50.0], rules, lambda made: 1 / (1 + made.clamp_max(10)).double())
    assert (alone.tried[0], alone.lengths[0]) == (jump.tried[2], jump.lengths[2])


def test_an_image_leaves_when_the_constants_left_to_try_hardly_differ() -> None:
    needs = [0.5, 0.001, 3.3]
    jump, found = made(needs, Rules(100, 30, 0.01, 0.0, stop=True, refine=0), lambda made: 0.5 ** made.double())
    assert found.flatten().tolist() == [0.75] * 3
    for need, tried in zip(needs, jump.tried, strict=True):
        assert tried == pytest.approx(expected(need, 30)[: len(tried)])
        low = max((constant for constant in tried if constant < need), default=0.0)
        high = min(constant for constant in tried if constant >= need)
        assert low > 0.75 * high or (low == 0 and len(tried) == 30)
    assert len(jump.tried[0]) < 10


def test_patience_is_the_number_of_looks_at_a_loss_that_stands_still() -> None:
    """Looks every 10 steps; the loss falls until its 10th step, and again from the 45th on."""

    def falling(made: Tensor) -> Tensor:
        return 1 / (1 + made.clamp_max(10) + (made - 45).clamp_min(0)).double()

    for patience, length in ((1, 30), (2, 40), (3, 200)):
        jump, _ = made([0.001], Rules(200, 1, 0.01, 0.0, stop=True, refine=0, patience=patience), falling)
        assert jump.lengths[0] == [length]


@pytest.mark.parametrize(
    ("changed", "argument"),
    [
        ({"steps": 0}, "steps"),
        ({"searches": -1}, "searches"),
        ({"initial": 0.0}, "initial"),
        ({"initial": math.inf}, "initial"),
        ({"refine": -1}, "refine"),
        ({"confidence": -1.0}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, float], argument: str) -> None:
    settings = {"steps": 10, "searches": 9, "initial": 0.01, "confidence": 0.0, "stop": True, "refine": 3} | changed
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        Rules(**settings)  # type: ignore[arg-type]
