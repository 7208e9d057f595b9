"""A number carries its n and its interval."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from atodds.analysis.numbers import percent, points, significant
from atodds.errors import ArgumentError, EmptyDataError

CONFIDENCE = 0.95
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """A share of `n` images: `value` in [0, 1], and its interval from `low` to `high`."""

    value: float
    low: float
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{percent(self.value)} % ({percent(self.low)}–{percent(self.high)})"

    @property
    def complement(self) -> "Rate":
        """The share of the other images: the error, where this is the accuracy."""
        return Rate(1 - self.value, 1 - self.high, 1 - self.low, self.n)

    def clears(self, other: "Rate") -> bool:
        """Whether this whole interval lies above the other one."""
        return self.low > other.high


@dataclass(frozen=True)
class Difference:
    """A difference of two shares of the same `n` images, in [-1, 1], with its interval."""

    value: float
    low: float
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{points(self.value)} points ({points(self.low)} to {points(self.high)})"

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Median:
    """A median of `n` distances with its interval; infinite where no fooling image was found for half of the images."""

    value: float
    low: float
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{significant(self.value)} ({significant(self.low)}–{significant(self.high)})"


@lru_cache(maxsize=100_000)
def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Rate:
    """A rate with its Wilson score interval, without continuity correction.

    With p = successes / n and z the standard normal quantile of (1 + confidence) / 2, the interval is
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        EmptyDataError: n is 0: a share of nothing is not a number.
        ArgumentError: successes below 0 or above n; confidence outside (0, 1).

    References:
        E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference".
        R. G. Newcombe (1998), "Two-sided confidence intervals for the single proportion", method 3.
    """
    _checked_confidence(confidence)
    if n == 0:
        raise EmptyDataError("A rate of 0 images means nothing. Select at least one image.")
    if not 0 <= successes <= n:
        raise ArgumentError("successes", successes, f"not a count out of {n}", f"Give a number from 0 to {n}.")
    interval = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Rate(successes / n, float(interval.low), float(interval.high), n)


def paired_bootstrap(
    a: npt.ArrayLike, b: npt.ArrayLike, *, seed: int = 0, resamples: int = 10_000, confidence: float = CONFIDENCE
) -> Difference:
    """The difference mean(a) - mean(b) over the same images, with its percentile bootstrap interval.

    Images are drawn with replacement, both outcomes of an image together. A resample's mean depends only on how often
    each of the three values a - b = -1, 0, 1 was drawn, so one multinomial draw is one resample: exact, and as fast
    for 10,000 images as for ten. The interval has no width where no image tells the two apart; n then says how
    little or how much that means.

    Args:
        a: (n,) bool, one outcome an image.
        b: (n,) bool, outcomes of the same images in the same order.
        seed: of the draws; the same seed gives the same interval on every machine.
        resamples: how many.
        confidence: share of resamples between low and high.

    Raises:
        EmptyDataError: no images.
        ArgumentError: arrays that are not two bool vectors of one length; resamples below 1; confidence outside (0, 1).

    References:
        B. Efron, R. J. Tibshirani (1993), "An introduction to the bootstrap", chapter 13.
    """
    _checked_confidence(confidence)
    first, second = np.asarray(a), np.asarray(b)
    if first.ndim != 1 or first.shape != second.shape:
        problem = f"not one outcome for each of a's {first.shape}"
        raise ArgumentError("b", second.shape, problem, "Give two vectors over the same images.")
    if first.size == 0:
        raise EmptyDataError("A difference over 0 images means nothing. Select at least one image that both have.")
    if first.dtype != np.bool_ or second.dtype != np.bool_:
        raise ArgumentError("a", first.dtype, "not outcomes", "Give booleans: was this image classified rightly?")
    if resamples < 1:
        raise ArgumentError("resamples", resamples, "not a number of resamples", "Give at least 1; 10,000 is enough.")
    n = first.size
    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    shares = np.array([won, lost, n - won - lost], dtype=np.float64) / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    means = (drawn[:, 0] - drawn[:, 1]) / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference((won - lost) / n, float(low), float(high), n)


def median(values: npt.ArrayLike, confidence: float = CONFIDENCE) -> Median:
    """The median of values that may be infinite, with its distribution-free interval.

    The interval runs from the l-th smallest to the l-th largest value, with the largest l for which
    P(Binomial(n, 1/2) < l) <= (1 - confidence) / 2; with too few values for any such l, from 0 to infinity.

    Args:
        values: (n,) distances, not negative.
        confidence: at least this share of such intervals holds the true median.

    Raises:
        EmptyDataError: no values.
        ArgumentError: a value that is NaN; confidence outside (0, 1).

    References:
        H. A. David, H. N. Nagaraja (2003), "Order statistics", section 7.1.
    """
    _checked_confidence(confidence)
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    n = ordered.size
    if n == 0:
        raise EmptyDataError("A median of 0 distances means nothing. Select at least one image.")
    if np.isnan(ordered[-1]):
        raise ArgumentError("values", math.nan, "not a distance", "Write infinity where none was found.")
    middle = float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    below = stats.binom.cdf(np.arange(n // 2 + 1), n, 0.5)  # P(B <= k), and P(B < l) = P(B <= l - 1)
    rank = int((below <= (1 - confidence) / 2).sum())
    if rank == 0:
        return Median(middle, 0.0, math.inf, n)
    return Median(middle, float(ordered[rank - 1]), float(ordered[n - rank]), n)


def _checked_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ArgumentError("confidence", confidence, "not a share between 0 and 1", "Give 0.95 for 95 %.")
