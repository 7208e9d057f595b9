"""What several models did on the same images, side by side, and how far each of them is from being fooled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from atodds.analysis.accuracy import Distances, Integers, distances, reach
from atodds.analysis.intervals import Bools, Floats
from atodds.analysis.numbers import significant
from atodds.analysis.resampling import bounds
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import Norm, parse_norm

Measure = Literal["mean", "median"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True, eq=False)
class Together:
    """The images that all of some models have, in image order.

    `image` is (n,); `correct`, whether a model classifies the image itself rightly, and `values`, the smallest distance
    at which it was fooled (0 where it is wrong, infinite where nothing fooled it), are (n, models).
    """

    models: tuple[str, ...]
    norm: Norm
    image: Integers
    correct: Bools
    values: Floats

    def __len__(self) -> int:
        return len(self.image)

    def standing(self, eps: float) -> Bools:
        """(n, models) whether the image is classified rightly and nothing within `eps` fooled the model."""
        return self.correct & ~(self.values <= reach(eps))


@dataclass(frozen=True)
class Distortion:
    """How far from its images a model was fooled: the mean over those that were fooled, or the median over all that it
    classifies rightly, with a bootstrap interval over images.

    `n` images are classified rightly, and `fooled` of them were fooled at all.
    """

    value: float
    low: float
    high: float
    n: int
    fooled: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{significant(self.value)} ({significant(self.low)}–{significant(self.high)})"


def together(table: pl.DataFrame, norm: str, models: Sequence[str] | None = None) -> Together:
    """The distances of several models over the images that all of them have.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        models: as the `model` column says them; None takes all, in the order of the table.

    Raises:
        EmptyDataError: no verdicts, or no image in common.
        ArgumentError: models of several data sets, or a model named twice.
        UnknownNameError, ThreatError: as for `accuracy.distances`.
    """
    if table.is_empty():
        raise EmptyDataError("The table holds no verdicts. Evaluate a model first.")
    names = tuple(table["model"].unique(maintain_order=True).to_list() if models is None else models)
    if not names or len(set(names)) < len(names):
        raise ArgumentError("models", names, "not several models, each once", "Name the models to compare.")
    found = [distances(table, name, norm) for name in names]
    sets = table.filter(pl.col("model").is_in(names))["data"].unique().sort().to_list()
    if len(sets) > 1:
        raise ArgumentError("models", ", ".join(sets), "evaluated on several data sets", "Compare models on one.")
    return side_by_side(found)


def side_by_side(found: Sequence[Distances]) -> Together:
    """`together` from distances that are already at hand, all in one norm and of one data set.

    Raises:
        EmptyDataError: no image in common.
    """
    images = found[0].image
    for other in found[1:]:
        images = np.intersect1d(images, other.image, assume_unique=True)
    if not images.size:
        names = ", ".join(one.model for one in found)
        raise EmptyDataError(f"No image is common to {names}. Evaluate all of them on the same images.")
    rows = [np.searchsorted(one.image, images) for one in found]
    return Together(
        models=tuple(one.model for one in found),
        norm=parse_norm(found[0].norm),
        image=images,
        correct=np.stack([one.correct[row] for one, row in zip(found, rows, strict=True)], 1),
        values=np.stack([one.values[row] for one, row in zip(found, rows, strict=True)], 1),
    )


def distortions(seen: Together, draws: Floats, measure: Measure) -> Floats:
    """(b, models) distortions of each model, each image counted as often as (b, n) draws say; NaN where none counts."""
    check(measure)
    return _mean(seen, draws) if measure == "mean" else _median(seen, draws)


def described(seen: Together, resamples: Floats, measure: Measure) -> tuple[Distortion, ...]:
    """The distortion of each model, with its interval from (resamples, models) values; NaN where there is none."""
    values = distortions(seen, np.ones((1, len(seen))), measure)[0]
    low, high = bounds(resamples)
    right = seen.correct.sum(0)
    fooled = (seen.correct & np.isfinite(seen.values)).sum(0)
    return tuple(
        Distortion(float(values[k]), float(low[k]), float(high[k]), int(right[k]), int(fooled[k]))
        for k in range(len(seen.models))
    )


def check(measure: str) -> None:
    """Raise ArgumentError unless a text names a measure."""
    if measure not in MEASURES:
        raise ArgumentError("measure", measure, "not a measure of distortion", f"Choose {' or '.join(MEASURES)}.")


def _mean(seen: Together, draws: Floats) -> Floats:
    counted = seen.correct & np.isfinite(seen.values)
    total = draws @ np.where(counted, seen.values, 0.0)
    number = draws @ counted.astype(np.float64)
    return np.divide(total, number, out=np.full_like(total, math.nan), where=number > 0)


def _median(seen: Together, draws: Floats) -> Floats:
    """The mean of the two middle values, each image standing there as often as it was drawn."""
    medians = np.full((len(draws), len(seen.models)), math.nan)
    for place in range(len(seen.models)):
        mine = np.flatnonzero(seen.correct[:, place])
        if not mine.size:
            continue
        order = mine[np.argsort(seen.values[mine, place], kind="stable")]
        ordered = seen.values[order, place]
        upto = np.cumsum(draws[:, order], axis=1)
        number = upto[:, -1]
        some = number > 0
        below = np.argmax(upto >= ((number + 1) // 2)[:, None], axis=1)
        above = np.argmax(upto >= (number // 2 + 1)[:, None], axis=1)
        medians[some, place] = ((ordered[below] + ordered[above]) / 2)[some]
    return medians
