"""Where one way of training stops being better than another as training data grow.

Tsipras et al. (ICLR 2019), figure 1: adversarial training raises standard accuracy while samples are few, and costs it
when they are many. Where the two curves cross is a question about differences over the same test images, between
networks that were trained on the same samples from the same seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atodds.analysis.intervals import CONFIDENCE, Floats
from atodds.analysis.numbers import points
from atodds.analysis.resampling import RESAMPLES, bounds, image_draws
from atodds.errors import ArgumentError


@dataclass(frozen=True)
class Gap:
    """By how much the first is more often right than the second at one size, with its interval for this size alone."""

    size: int
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{points(self.value)} points ({points(self.low)} to {points(self.high)})"


@dataclass(frozen=True)
class Crossing:
    """Where the first stops being better.

    Attributes:
        gaps: at each size.
        value: the size at which the difference last falls from above 0 to 0, between sizes by a straight line over the
            logarithm; 0 where it is never above 0, infinity where it is so at the largest size.
        low, high: the interval of `value`, 0 and infinity included.
        seeds: repetitions.
        n: test images.
    """

    gaps: tuple[Gap, ...]
    value: float
    low: float
    high: float
    seeds: int
    n: int

    @property
    def helps(self) -> tuple[int, ...]:
        """The sizes at which the first is clearly better."""
        return tuple(gap.size for gap in self.gaps if gap.low > 0)

    @property
    def costs(self) -> tuple[int, ...]:
        """The sizes at which the first is clearly worse."""
        return tuple(gap.size for gap in self.gaps if gap.high < 0)

    def __str__(self) -> str:
        first, last = self.gaps[0].size, self.gaps[-1].size
        ends = f"{_shown(self.low, first, last)} to {_shown(self.high, first, last)}"
        return f"{_shown(self.value, first, last)} ({ends})"


def crossing(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    sizes: Sequence[int],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Crossing:
    """Where the first stops being better than the second.

    Test images and repetitions are drawn with replacement, each by itself; both networks of a repetition and an image
    go together. With few repetitions their part of the interval is rough, and with one there is none.

    Args:
        first, second: (repetitions, sizes, n) bool: whether each image is classified rightly.
        sizes: of the training sets, ascending.
        seed, resamples: of the bootstrap.
        confidence: of all intervals.

    Raises:
        ArgumentError: arrays that do not belong together, or sizes that do not ascend.
        EmptyDataError: no image.
    """
    gains = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if gains.ndim != 3 or gains.shape[1] != len(sizes) or gains.shape[0] == 0:
        problem = f"of shape {gains.shape}, not a row for each repetition and of {len(sizes)} sizes"
        raise ArgumentError("first", "an array", problem, "Give (repetitions, sizes, images).")
    if len(sizes) < 2 or list(sizes) != sorted(set(sizes)):
        raise ArgumentError("sizes", list(sizes), "not two sizes or more that ascend", "Give 1000, 2000, 5000.")
    repetitions, count, n = gains.shape
    rng = np.random.default_rng([seed, 1])
    drawn = []
    for draws in image_draws(n, resamples=resamples, seed=seed):
        weights = rng.multinomial(repetitions, np.full(repetitions, 1 / repetitions), size=len(draws)) / repetitions
        each = (draws @ gains.reshape(-1, n).T / n).reshape(len(draws), repetitions, count)
        drawn.append(np.einsum("br,brk->bk", weights, each))
    found = np.concatenate(drawn)
    means = gains.mean((0, 2))
    low, high = bounds(found, confidence)
    places = np.array([_place(row, sizes) for row in found])
    first_end, last_end = (float(end) for end in bounds(places, confidence))
    return Crossing(
        tuple(Gap(sizes[k], float(means[k]), float(low[k]), float(high[k])) for k in range(count)),
        _place(means, sizes), first_end, last_end, repetitions, n,
    )  # fmt: skip


def _place(means: Floats, sizes: Sequence[int]) -> float:
    """The last size at which a curve falls to 0 from above."""
    if means[-1] > 0:
        return math.inf
    above = np.flatnonzero(means > 0)
    if len(above) == 0:
        return 0.0
    k = int(above[-1])
    share = means[k] / (means[k] - means[k + 1])
    return float(sizes[k] * (sizes[k + 1] / sizes[k]) ** share)


def _shown(value: float, first: int, last: int) -> str:
    if value == 0:
        return f"below {first:,}"
    return f"beyond {last:,}" if math.isinf(value) else f"{float(f'{value:.2g}'):,.0f}"
