"""How a mean over the same images moves with the number of training samples: flat, rising, falling, or turning.

The study of data sizes (2019) trains one network on nested sets of growing size, measures the robustness of each by its
equation 4, and finds that it "rises first, then falls beyond a turning point". Whether there is such a point is a
question about differences of means over the same images, most of which the images share: it is answered from paired
differences, for all pairs of sizes at once, so that noise alone is called flat in 19 of 20 cases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from atodds.analysis.intervals import CONFIDENCE, Floats
from atodds.analysis.numbers import significant
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.analysis.together import together
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import EpsLike, parse_eps

Form = Literal["flat", "rising", "turning", "falling"]
FORMS: tuple[Form, ...] = get_args(Form)
FEWEST = 5
"""Images, at least: with fewer, a bootstrap of differences says nothing."""


@dataclass(frozen=True)
class SizeMean:
    """The mean over the images at one size, with its bootstrap interval."""

    size: int
    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{significant(self.value)} ({significant(self.low)}–{significant(self.high)})"


@dataclass(frozen=True)
class Step:
    """How much the mean differs from one size to a larger one, with an interval that holds for all pairs of sizes at
    once."""

    start: int
    stop: int
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        low, high = (_signed(end) for end in (self.low, self.high))
        return f"{_signed(self.value)} ({low} to {high}) from {self.start:,} to {self.stop:,}"


@dataclass(frozen=True)
class TurningPoint:
    """A curve over sizes, and which of four forms it has.

    Let the peak be the size with the largest mean (the smallest of several).

    - "turning": the mean is clearly lower at some size before the peak, and at some size after it;
    - "rising": clearly lower before, not after. A plateau at the end is no turn;
    - "falling": clearly lower after, not before;
    - "flat": neither.

    "Clearly" means by an interval that holds for all pairs of sizes at once.

    Attributes:
        means: by size, ascending, with an interval for each alone.
        form: of the curve.
        peak: the size with the largest mean: where the curve turns, where it does. The true one lies between the sizes
            that were measured beside it.
        peak_low, peak_high: the sizes between which the peak of 95 % of the resamples lies.
        rise, fall: the clearest ones before and after the peak, clear or not; None where the peak is the first or the
            last size.
        probability: that there is a turning point: the share of the resamples that turn, by the same intervals. What
            other images of the same kind would show; under noise alone it is a few per cent.
        resolution: the largest half-width of the intervals of differences, as a share of the largest mean: a flat curve
            is flat to within this.
        n: images.
    """

    means: tuple[SizeMean, ...]
    form: Form
    peak: int
    peak_low: int
    peak_high: int
    rise: Step | None
    fall: Step | None
    probability: float
    resolution: float
    n: int


@dataclass(frozen=True)
class Robustness:
    """Equation 4 at each size, and what it was measured on.

    Attributes:
        curve: of the mean distances.
        common: how many images all models classify rightly.
        missed: how many of these some model was not fooled on: they have no distance there, and are left out at every
            size, which makes the means smaller than they are.
    """

    curve: TurningPoint
    common: int
    missed: int


def turning_point(
    values: npt.ArrayLike,
    sizes: Sequence[int],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> TurningPoint:
    """Which form the mean over images has as a function of size, and where it turns.

    For each pair of sizes, the difference of the means over its standard error over images; the largest of these
    numbers over all pairs, centred, has a distribution that a bootstrap over images gives, the errors being estimated
    anew in each resample (bootstrap-t). Its upper quantile makes one set of intervals for all differences, and whatever
    is said of any pair is said at that level together.

    Args:
        values: (n, k) what is averaged, the same n images in each of k columns: distances, or 1 where an image stands.
        sizes: k numbers of training samples, ascending.
        seed, resamples: of the bootstrap.
        confidence: of all intervals.

    Raises:
        ArgumentError: fewer than two sizes, sizes that do not ascend, not one column each, values that are not finite.
        EmptyDataError: fewer than five images.

    References:
        B. Efron, R. J. Tibshirani (1993), "An introduction to the bootstrap", section 12.5 (bootstrap-t).
        P. H. Westfall, S. S. Young (1993), "Resampling-based multiple testing", section 2.3 (largest of many).
    """
    table = np.asarray(values, dtype=np.float64)
    _check(table, sizes, confidence)
    n, k = table.shape
    pairs = list(combinations(range(k), 2))
    early, late = (np.array(side) for side in zip(*pairs, strict=True))
    gaps = table[:, late] - table[:, early]
    steps, errors = gaps.mean(0), gaps.std(0, ddof=1) / math.sqrt(n)

    def drawn(draws: Floats) -> Floats:
        """(b, k + 1) means of a resample, and its largest centred difference over its error."""
        means, centre = draws @ table / n, draws @ gaps / n
        # Centred first: squares of what is large and nearly constant would leave nothing of the variance.
        square = draws @ (gaps - steps) ** 2 / n - (centre - steps) ** 2
        error = np.sqrt(square.clip(0) / (n - 1))
        off = np.abs(centre - steps)
        return np.concatenate([means, _ratio(off, error, errors).max(1, keepdims=True)], 1)

    found = resampled(drawn, n, resamples=resamples, seed=seed)
    reach = float(np.quantile(found[:, -1], confidence, method="higher")) * errors
    low, high = bounds(found[:, :k], confidence)
    means = table.mean(0)
    wide = np.zeros((k, k))
    wide[early, late] = wide[late, early] = reach
    turns = sum(_form(row, wide) == "turning" for row in found[:, :k])
    peaks = found[:, :k].argmax(1).astype(np.float64)
    first, last = (int(end) for end in bounds(peaks, confidence))
    peak = int(means.argmax())
    largest = float(np.abs(means).max())
    return TurningPoint(
        means=tuple(SizeMean(sizes[j], float(means[j]), float(low[j]), float(high[j])) for j in range(k)),
        form=_form(means, wide),
        peak=sizes[peak],
        peak_low=sizes[first],
        peak_high=sizes[last],
        rise=_clearest([(j, peak) for j in range(peak)], means, wide, sizes),
        fall=_clearest([(peak, j) for j in range(peak + 1, k)], means, wide, sizes),
        probability=turns / len(found),
        resolution=float(reach.max()) / largest if largest else math.inf,
        n=n,
    )


def robustness_over_sizes(
    table: pl.DataFrame, norm: str, models: Sequence[str], sizes: Sequence[int], *, seed: int = 0
) -> Robustness:
    """Equation 4: the mean distance to the fooling images over the images that all models classify rightly.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        models: as the `model` column says them, one a size.
        sizes: that they were trained on, ascending.
        seed: of the bootstrap.

    Raises:
        EmptyDataError: fewer than five images that all models classify rightly and were fooled on.
        As for `turning_point` and `together` otherwise.
    """
    seen = together(table, norm, models)
    common = seen.correct.all(1)
    fooled = common & np.isfinite(seen.values).all(1)
    curve = turning_point(seen.values[fooled], sizes, seed=seed)
    return Robustness(curve, int(common.sum()), int((common & ~fooled).sum()))


def robust_accuracy_over_sizes(
    table: pl.DataFrame, norm: str, models: Sequence[str], sizes: Sequence[int], eps: EpsLike, *, seed: int = 0
) -> TurningPoint:
    """The same of robust accuracy at `eps`, over all images. Arguments and errors as for `robustness_over_sizes`."""
    seen = together(table, norm, models)
    return turning_point(seen.standing(parse_eps(eps, norm).value).astype(np.float64), sizes, seed=seed)


def _ratio(off: Floats, error: Floats, usual: Floats) -> Floats:
    """(b, pairs) off / error. A resample whose images all differ by the same has no error: the usual one then."""
    errors = np.where(error > 1e-9 * usual, error, usual)
    return np.divide(off, errors, out=np.zeros_like(off), where=errors > 0)


def _form(means: Floats, wide: Floats) -> Form:
    """The form of a curve whose differences have to exceed (k, k) `wide`."""
    peak = int(means.argmax())
    lower = means[peak] - means > np.maximum(wide[peak], 1e-12 * abs(means[peak]))
    before, after = bool(lower[:peak].any()), bool(lower[peak + 1 :].any())
    if before:
        return "turning" if after else "rising"
    return "falling" if after else "flat"


def _clearest(pairs: Sequence[tuple[int, int]], means: Floats, wide: Floats, sizes: Sequence[int]) -> Step | None:
    """Of several pairs, the one whose difference most exceeds what noise does."""
    if not pairs:
        return None

    def clearness(pair: tuple[int, int]) -> float:
        gap = abs(float(means[pair[1]] - means[pair[0]]))
        return gap / wide[pair] if wide[pair] else math.inf if gap else 0.0

    start, stop = max(pairs, key=clearness)
    value = float(means[stop] - means[start])
    return Step(sizes[start], sizes[stop], value, value - float(wide[start, stop]), value + float(wide[start, stop]))


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{significant(abs(value))}"


def _check(table: Floats, sizes: Sequence[int], confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ArgumentError("confidence", confidence, "not a share between 0 and 1", "Give 0.95 for 95 %.")
    if len(sizes) < 2 or list(sizes) != sorted(set(sizes)):
        raise ArgumentError("sizes", list(sizes), "not two sizes or more that ascend", "Give 1000, 2000, 5000.")
    if table.ndim != 2 or table.shape[1] != len(sizes):
        problem = f"of shape {table.shape}, not a column for each of {len(sizes)} sizes"
        raise ArgumentError("values", "an array", problem, "Give (images, sizes).")
    if len(table) < FEWEST:
        raise EmptyDataError(
            f"{len(table)} images are left that all models classify rightly and were fooled on; it takes {FEWEST}. "
            "Attack more images, or leave out the smallest size."
        )
    if not np.isfinite(table).all():
        raise ArgumentError("values", "an array", "not finite everywhere", "Leave out images without a distance.")
