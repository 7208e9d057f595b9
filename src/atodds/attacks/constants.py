"""The search for the constant that weighs a miss against the distance, an image at a time: what C&W and EAD share.

Both go down distance + c·max(0, confidence - margin) from the image, for one constant c after another: ten times as
large until one succeeds, then halfway between the largest that failed and the smallest that succeeded. Carlini &
Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017, section VI; Chen et al., "EAD:
elastic-net attacks to deep neural networks via adversarial examples", AAAI 2018, section 4.

All images take their steps side by side, each at a constant of its own; one whose loss has stopped falling goes on to
its next constant at once, and leaves after its last one. What an image has saved by then, it may spend on larger
constants, without stopping, where none has succeeded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from atodds import norms
from atodds.attacks import losses
from atodds.attacks.leaving import without
from atodds.attacks.pool import Pool, positive
from atodds.attacks.refinement import check_refine, closer
from atodds.errors import ArgumentError
from atodds.oracle import Gradients, Objective
from atodds.threat import Norm

_CHECKS, _BETWEEN = 50, 10
"""A search looks so often at its loss, but after so many steps at the earliest: with 1,000 steps, every 20."""
_FALLING = 2e-5
"""A loss falls as long as its mean since the last look is lower than the least before by this share for each step."""
_NARROW = 0.25
"""Constants are told apart to this share of the smallest that succeeded; nearer ones end at the same distance."""
_FACTOR, _LARGEST = 10.0, 1e10
"""By how much constants grow until the first success, and how far."""


@dataclass(frozen=True)
class Rules:
    """How constants are searched for.

    Attributes:
        steps: for one constant, at most.
        searches: constants.
        initial: the first one.
        confidence: by how much the margin must exceed 0.
        stop: go on to the next constant when the loss has stopped falling, and leave when constants hardly differ.
        refine: steps onto the boundary at the end.
        patience: looks in a row at a loss that has stopped falling.

    Raises:
        ArgumentError: one of them is out of its range.
    """

    steps: int
    searches: int
    initial: float
    confidence: float
    stop: bool
    refine: int
    patience: int = 1

    def __post_init__(self) -> None:
        positive(steps=self.steps, searches=self.searches)
        above_zero(initial=self.initial)
        if not 0 <= self.confidence < math.inf:
            raise ArgumentError("confidence", self.confidence, "not a margin", "Give 0 or more, such as 20.")
        check_refine(self.refine)

    @property
    def stretch(self) -> int:
        """Steps between two looks at the loss."""
        return self.steps // min(_CHECKS, max(1, self.steps // _BETWEEN))


class Descent(Protocol):
    """How an attack goes down its loss: the state of the images that are left, one row each.

    Attributes:
        points: (n, D) what the model is shown next, in the box.
    """

    points: Tensor

    def distances(self) -> tuple[Tensor, Tensor]:
        """(n,) the distance in the loss, and (n,) that by which points that fool are compared."""

    def advance(self, slopes: Tensor, constants: Tensor, step: Tensor) -> None:
        """One step down: slopes (n, D) of the margin where it counts, constants (n, 1), steps made so far (n, 1)."""

    def restart(self, where: Tensor) -> None:
        """Back to the image where (n,) bool."""

    def drop(self, gone: Tensor) -> None:
        """Forget the images where (n,) bool."""


def search(pool: Pool, descent: Callable[[Tensor], Descent], rules: Rules) -> None:
    """Propose the closest point that fools, for each image; an image leaves early when one lies within its ball.

    Args:
        pool: of what was opened.
        descent: from flat images (n, D).
        rules: of the search.
    """
    wanted = losses.objective("margin", pool.labels, pool.targets)
    everyone = torch.arange(len(pool.images), device=pool.images.device)
    logits = pool.oracle.logits(pool.images, pool.ids)
    pool.found |= pool.fooled(logits, everyone, pool.images) & ~(wanted(logits, everyone) < rules.confidence)
    state = _State.of(pool, rules)
    if len(state.rows) == 0:
        return
    going = descent(pool.images.index_select(0, state.rows).flatten(1))

    def reach(logits: Tensor, positions: Tensor) -> Tensor:
        return (wanted(logits, state.rows[positions]) - rules.confidence).clamp_max(0)

    while len(state.rows):
        _stretch(pool, reach, going, state, rules)
        ended = state.turned(rules)
        if ended.any():
            going.restart(ended)
            state.drop(ended & state.done(rules), going)
    closer(pool, rules.confidence, rules.refine)


def _stretch(pool: Pool, reach: Objective, descent: Descent, state: "_State", rules: Rules) -> None:
    """Steps until the next look at the loss."""
    shape = pool.images.shape[1:]
    for _ in range(rules.stretch):
        seen = pool.oracle.gradients(descent.points.view(-1, *shape), reach, pool.ids[state.rows])
        near = state.note(pool, descent, seen)
        slopes = seen.gradient.flatten(1)
        if near.any():
            state.drop(near, descent)
            (slopes,) = without(near, slopes)
            if len(state.rows) == 0:
                return
        descent.advance(slopes, state.constants[:, None], state.step[:, None])
        state.step += 1


@dataclass
class _State:
    """The images that are searched for.

    Attributes:
        best: (N,) of every image of the pool, what its proposal is compared by; infinite where there is none.
        goal: (N,) distances that are near enough: eps, or 0 where any distance will do.
        rows: (n,) where the images that are left are in the pool; what follows is theirs.
        constants: (n,) current ones.
        low, high: (n,) largest that failed and smallest that succeeded.
        hit: (n,) whether the current one succeeded.
        tried: (n,) constants that are done.
        spent: (n,) steps at these.
        step: (n,) steps at the current one.
        total, least: (n,) losses since the last look, and their least mean between two looks before.
        still: (n,) looks in a row at which the loss had stopped falling.
    """

    best: Tensor
    goal: Tensor
    rows: Tensor
    constants: Tensor
    low: Tensor
    high: Tensor
    hit: Tensor
    tried: Tensor
    spent: Tensor
    step: Tensor
    total: Tensor
    least: Tensor
    still: Tensor

    @classmethod
    def of(cls, pool: Pool, rules: Rules) -> "_State":
        """All images that nothing has fooled yet, at the first constant."""
        goal = pool.eps.to(pool.images.dtype).nan_to_num(posinf=0)
        best = torch.where(pool.found, 0.0, torch.full_like(goal, torch.inf))
        rows = (~pool.found & (pool.eps > 0)).nonzero()[:, 0]
        one, whole = goal.new_ones(len(rows)), torch.zeros_like(rows)
        return cls(
            best=best,
            goal=goal,
            rows=rows,
            constants=one * rules.initial,
            low=one * 0,
            high=one * torch.inf,
            hit=whole > 0,
            tried=whole,
            spent=whole.clone(),
            step=whole.clone(),
            total=one * 0,
            least=one * torch.inf,
            still=whole.clone(),
        )

    def note(self, pool: Pool, descent: Descent, seen: Gradients) -> Tensor:
        """(n,) whether the images are done: their points that fool are kept where they are closer than those before."""
        away, size = descent.distances()
        reached, closer = ~(seen.objective < 0), size < self.best[self.rows]  # what is no number counts as fooled
        self.total += away - self.constants * seen.objective
        at, near = (reached & closer).nonzero()[:, 0], torch.zeros_like(reached)
        if len(at):
            rows, points = self.rows[at], descent.points.index_select(0, at).view(-1, *pool.images.shape[1:])
            fooled = pool.fooled(seen.logits[at], rows, points)
            reached[at] = fooled
            self.best[rows[fooled]] = size[at[fooled]]
            pool.keep(rows[fooled], points[fooled], fooled=True)
            near[at] = fooled & (norms.distance(points, pool.images[rows], pool.norm) <= self.goal[rows])
        self.hit |= reached
        return near

    def turned(self, rules: Rules) -> Tensor:
        """(n,) which images go on to their next constant."""
        mean = self.total / rules.stretch
        ended = self.step > rules.steps - rules.stretch
        still = mean > self.least * (1 - _FALLING * rules.stretch)
        self.still = torch.where(still, self.still + 1, 0)
        if rules.stop:
            ended |= (self.still >= rules.patience) & (self.tried < rules.searches)
        self.least, self.total = mean.minimum(self.least).masked_fill(ended, torch.inf), torch.zeros_like(mean)
        self.still.masked_fill_(ended, 0)
        self.high = torch.where(ended & self.hit, self.constants, self.high)
        self.low = torch.where(ended & ~self.hit, self.constants, self.low)
        following = torch.where(self.high.isinf(), self.constants * _FACTOR, (self.low + self.high) / 2)
        self.constants = torch.where(ended, following.clamp_max(_LARGEST), self.constants)
        self.spent += self.step * ended
        self.hit, self.step = self.hit & ~ended, self.step.masked_fill(ended, 0)
        self.tried = self.tried + ended
        return ended

    def done(self, rules: Rules) -> Tensor:
        """(n,) which images leave at the end of a constant: all are tried, and one has succeeded, or too few steps are
        left; or those left to try differ too little."""
        poor = self.spent + rules.steps > rules.steps * rules.searches
        tried = (self.tried >= rules.searches) & (self.best[self.rows].isfinite() | poor)
        return tried | (self.low > self.high * (1 - _NARROW)) if rules.stop else tried

    def drop(self, gone: Tensor, descent: Descent) -> None:
        """Forget the images where `gone`."""
        if not gone.any():
            return
        descent.drop(gone)
        self.rows, self.constants, self.low, self.high, self.hit, self.tried, self.spent, self.step = without(
            gone, self.rows, self.constants, self.low, self.high, self.hit, self.tried, self.spent, self.step
        )
        self.total, self.least, self.still = without(gone, self.total, self.least, self.still)


def in_norm(pool: Pool, norm: Norm, attack: str) -> None:
    """Nothing, where the threat is in the norm that the attack measures distances in.

    Raises:
        ArgumentError: it is in another one.
    """
    if pool.norm != norm:
        raise ArgumentError("threat", pool.norm, f"{attack} does not work in it", f"Give {norm!r}, or a threat in it.")


def above_zero(**values: float) -> None:
    """Nothing, where every argument is a positive number.

    Raises:
        ArgumentError: one is not.
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ArgumentError(name, value, "not a positive number", "Give one, such as 0.01.")
