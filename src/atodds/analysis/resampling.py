"""Draws of images with replacement, shared by every bootstrap over images."""

from collections.abc import Callable, Iterator

import numpy as np

from atodds.analysis.intervals import CONFIDENCE, Floats
from atodds.errors import ArgumentError, EmptyDataError

RESAMPLES = 2000
"""Enough for the ends of a 95 % interval: with 2,000 draws their own error is about a tenth of the interval's width."""
_AT_ONCE = 2**21
"""Counts that are held at once."""


def image_draws(n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """How often each of n images was drawn, in blocks of (resamples of the block, n) counts that sum to n in each row.

    A statistic that is a ratio of sums over images is then one matrix product, for all models at once: they are paired.

    Raises:
        EmptyDataError: no images.
        ArgumentError: resamples below 1.

    References:
        B. Efron, R. J. Tibshirani (1993), "An introduction to the bootstrap", chapter 6.
    """
    if n < 1:
        raise EmptyDataError("0 images cannot be drawn from. Select at least one image.")
    if resamples < 1:
        raise ArgumentError("resamples", resamples, "not a number of resamples", "Give at least 1; 2,000 is enough.")
    rng = np.random.default_rng(seed)
    block = max(1, _AT_ONCE // n)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        picks = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def resampled(statistic: Callable[[Floats], Floats], n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(resamples, ...) values of a statistic that takes (b, n) counts and gives (b, ...).

    Raises:
        EmptyDataError, ArgumentError: as for `image_draws`.
    """
    return np.concatenate([statistic(draws) for draws in image_draws(n, resamples=resamples, seed=seed)])


def bounds(values: Floats, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """The ends, (...,) each, that hold the middle `confidence` of (resamples, ...) values; those that are NaN, where a
    resample had nothing to measure, are left out, and the ends are NaN where all are."""
    tail = (1 - confidence) / 2
    low, high = np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    for place in np.ndindex(*values.shape[1:]):
        known = values[(slice(None), *place)]
        known = known[~np.isnan(known)]
        if known.size:  # the nearest draws, not between them: distances may be infinite
            low[place] = np.quantile(known, tail, method="lower")
            high[place] = np.quantile(known, 1 - tail, method="higher")
    return low, high
