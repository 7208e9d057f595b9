"""The Pareto set of accuracy against robustness: which models are worth a choice, and who beats the others.

A model dominates another where it has at least as much of both, and more of one. The members of the frontier are those
that nothing dominates. Two models with the very same numbers dominate neither each other, and both may be members.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from atodds.analysis.intervals import Bools, Floats, Rate, wilson
from atodds.analysis.resampling import RESAMPLES, resampled
from atodds.analysis.together import Distortion, Measure, Together, check, described, distortions, together
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import Budget, EpsLike, parse_eps

_AT_ONCE = 2**23
"""Pairs of models that are compared at once."""


@dataclass(frozen=True)
class Dominator:
    """A model that dominates another, and the share of resamples in which it does."""

    model: str
    probability: float


@dataclass(frozen=True)
class FrontierPoint:
    """One model: where it stands, and how surely.

    `member` says whether nothing dominates it, `probability` in which share of resamples nothing does. `dominators` are
    those that dominate it on the images as they are, the surest first.
    """

    model: str
    accuracy: Rate
    robustness: Rate | Distortion
    member: bool
    probability: float
    dominators: tuple[Dominator, ...]


@dataclass(frozen=True)
class Frontier:
    """All models with their place, in the order in which they were named.

    `eps` is the budget that robust accuracy is taken at; None where robustness is a distortion.
    """

    eps: Budget | None
    points: tuple[FrontierPoint, ...]
    resamples: int

    @property
    def members(self) -> tuple[FrontierPoint, ...]:
        """The Pareto set, the most accurate first."""
        inside = (point for point in self.points if point.member)
        return tuple(sorted(inside, key=lambda point: (-point.accuracy.value, -point.robustness.value, point.model)))

    def point(self, model: str) -> FrontierPoint:
        """The place of one model."""
        return next(point for point in self.points if point.model == model)


def pareto(accuracy: Floats, robustness: Floats) -> Bools:
    """(n,) whether no other of n points has at least as much of both and more of one.

    >>> pareto(np.array([0.9, 0.8, 0.8, 0.7]), np.array([0.1, 0.5, 0.5, 0.4])).tolist()
    [True, True, True, False]

    Raises:
        EmptyDataError: no points.
        ArgumentError: not two vectors of one length, or a number that is NaN.
    """
    first, second = np.asarray(accuracy, dtype=np.float64), np.asarray(robustness, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        problem = f"not one number for each of the {first.shape} accuracies"
        raise ArgumentError("robustness", second.shape, problem, "Give two vectors over the same models.")
    if not first.size:
        raise EmptyDataError("0 models have no frontier. Name at least one.")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ArgumentError("robustness", np.nan, "not a number that can be compared", "Leave such models out.")
    members: Bools = np.asarray(~_dominated(first[None], second[None])[0].any(axis=1))
    return members


def frontier(
    table: pl.DataFrame,
    norm: str,
    eps: EpsLike | None = None,
    *,
    models: Sequence[str] | None = None,
    measure: Measure = "median",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Frontier:
    """The Pareto set of accuracy against robust accuracy at eps, or against distortion where no eps is given.

    Each resample draws images with replacement, the same for all models, and looks for the frontier anew: probabilities
    are those of a paired bootstrap (Efron & Tibshirani 1993, chapter 6). They say how much the draw of images matters,
    and nothing of attacks that are too weak.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        eps: a budget; None takes the distortion instead.
        models: as the `model` column says them; None takes all.
        measure: of distortion: the "mean" over images that were fooled, or the "median" over all that are right.
        seed: of the draws.
        resamples: how many.

    Raises:
        EmptyDataError: no image in common, or a model that classifies none rightly or was never fooled, and so has no
            distortion.
        UnknownNameError, ThreatError, ArgumentError: as for `together`.
    """
    budget = None if eps is None else parse_eps(eps, norm)
    return frontier_at(together(table, norm, models), budget, measure=measure, seed=seed, resamples=resamples)


def frontier_at(
    seen: Together, eps: Budget | None, *, measure: Measure = "median", seed: int = 0, resamples: int = RESAMPLES
) -> Frontier:
    """`frontier` from distances that are already at hand."""
    check(measure)
    n, count = len(seen), len(seen.models)
    right = seen.correct.astype(np.float64)
    if eps is None:
        drawn = resampled(
            lambda draws: np.hstack([draws @ right / n, distortions(seen, draws, measure)]),
            n, resamples=resamples, seed=seed,
        )  # fmt: skip
        found = described(seen, drawn[:, count:], measure)
        for model, distortion in zip(seen.models, found, strict=True):
            if np.isnan(distortion.value):
                problem = f"{model} has no {measure} distortion: of {n} images it classifies {distortion.n} rightly, "
                raise EmptyDataError(f"{problem}and {distortion.fooled} of them were fooled. Leave it out.")
        robustness: tuple[Rate | Distortion, ...] = found
    else:
        standing = seen.standing(eps.value)
        both = np.hstack([right, standing.astype(np.float64)])
        drawn = resampled(lambda draws: draws @ both / n, n, resamples=resamples, seed=seed)
        robustness = tuple(wilson(int(number), n) for number in standing.sum(0))
    accuracy = tuple(wilson(int(number), n) for number in seen.correct.sum(0))
    return frontier_of(seen.models, accuracy, robustness, drawn[:, :count], drawn[:, count:], eps=eps)


def frontier_of(
    models: Sequence[str],
    accuracy: Sequence[Rate],
    robustness: Sequence[Rate | Distortion],
    drawn_accuracy: Floats,
    drawn_robustness: Floats,
    *,
    eps: Budget | None,
) -> Frontier:
    """The frontier of points whose resamples, (resamples, models) each, are at hand. A resample in which a model has no
    distortion (NaN) takes its distortion for 0."""
    here = _dominated(_values(accuracy)[None], _values(robustness)[None])[0]
    resamples, count = drawn_accuracy.shape
    inside = np.zeros(count)
    times = np.zeros((count, count))
    rows = max(1, _AT_ONCE // count**2)
    for start in range(0, resamples, rows):
        part = slice(start, start + rows)
        beaten = _dominated(drawn_accuracy[part], np.nan_to_num(drawn_robustness[part], posinf=np.inf))
        inside += (~beaten.any(2)).sum(0)
        times += beaten.sum(0)
    points = []
    for place, model in enumerate(models):
        beaters = [
            Dominator(models[k], float(times[place, k] / resamples)) for k in np.flatnonzero(here[place]).tolist()
        ]
        points.append(
            FrontierPoint(
                model=model,
                accuracy=accuracy[place],
                robustness=robustness[place],
                member=not beaters,
                probability=float(inside[place] / resamples),
                dominators=tuple(sorted(beaters, key=lambda beater: (-beater.probability, beater.model))),
            )
        )
    return Frontier(eps, tuple(points), resamples)


def _dominated(first: Floats, second: Floats) -> Bools:
    """(b, n, n) from (b, n): whether point i is dominated by point j."""
    no_less = (first[:, None, :] >= first[:, :, None]) & (second[:, None, :] >= second[:, :, None])
    more = (first[:, None, :] > first[:, :, None]) | (second[:, None, :] > second[:, :, None])
    dominated: Bools = no_less & more
    return dominated


def _values(numbers: Sequence[Rate | Distortion]) -> Floats:
    return np.array([number.value for number in numbers], dtype=np.float64)
