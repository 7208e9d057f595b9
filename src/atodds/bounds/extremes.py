"""The upper end of a random variable, from the largest values of batches of it: a reverse Weibull distribution, fitted
by maximum likelihood.

The largest of many values of a variable that has an upper end is, in the limit, distributed with
F(x) = exp(-((location - x) / scale)^shape) for x <= location (Fisher, Tippett, Gnedenko), and `location` is that end.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-6
"""Maxima that differ by less than this share of the largest are one value."""
_NEAREST, _FURTHEST, _STEPS = 1e-4, 1e3, 57
"""Where ends are looked for: how far beyond the largest value, in ranges of the values, in equal ratios."""
_CUTS = 30
_ROUNDS = 60
"""More Newton steps than any shape needs: one takes about 4."""
_ENOUGH = 1e-10
_GOLDEN = (5**0.5 - 1) / 2
PENALTY = 0.01
"""What the square of the shape costs in log-likelihood, as in the program of the authors of CLEVER."""


@dataclass(frozen=True, eq=False)
class Ends:
    """What the maxima of M variables say about their upper ends; all are (M,).

    Attributes:
        location: the end; infinite where the likelihood grows the further away the end is, which no penalty of the
            shape keeps it from.
        low, high: interval of the location by the profile likelihood; high is infinite where no end is ruled out.
        scale, shape: of the distribution. Where the maxima are one value, the scale is 0 and the shape infinite.
        endless: bool, the maxima alone do not rule out that there is no end: what says where it is, is the penalty.
        distance: Kolmogorov-Smirnov distance between maxima and distribution.
        p_value: of that distance; on the high side, because the distribution was fitted to the same maxima.
    """

    location: Floats
    low: Floats
    high: Floats
    scale: Floats
    shape: Floats
    endless: npt.NDArray[np.bool_]
    distance: Floats
    p_value: Floats


def upper_ends(maxima: Floats, level: float = 0.95, penalty: float = PENALTY) -> Ends:
    """Fit a reverse Weibull distribution to each row, by maximum likelihood less penalty times shape².

    For a given location both other parameters follow from one equation, so the likelihood is looked at as a function of
    the location alone. The shape is 1 at least: below it density and likelihood are infinite at the end (Smith,
    "Maximum likelihood estimation in a class of nonregular cases", Biometrika 1985). The interval holds the locations
    whose log-likelihood is at most half a chi-squared quantile below the largest.

    A variable whose large values are rare, such as a sum of many parts, has maxima that look as if there were no end:
    then the likelihood alone leads to infinite location and shape. The penalty keeps the shape to about 10 there, and
    changes little where the maxima show an end.

    Args:
        maxima: (M, B) finite, the largest values of B batches of each variable.
        level: of the interval.
        penalty: 0 for maximum likelihood alone.
    """
    top, spread = maxima.max(1), np.ptp(maxima, 1)
    flat = spread <= _ROUNDING * np.abs(top)
    spread = np.where(flat, 1.0, spread)
    stand_in = np.linspace(0, 1, maxima.shape[1])  # for rows of one value, which need no fit
    below = np.where(flat[:, None], stand_in, (top[:, None] - maxima) / spread[:, None])
    profile = _Profile(below, penalty)
    grid = np.concatenate([[0.0], np.geomspace(_NEAREST, _FURTHEST, _STEPS)])
    heights = np.stack([profile(np.full(len(maxima), place)) for place in grid], 1)
    place, height = _summit(profile, grid, heights)
    allowed = stats.chi2.ppf(level, 1) / 2
    nearest, furthest = _crossings(profile, grid, heights, height - allowed)
    shape, scale, _ = profile.solved(place)
    without_end = _Profile(below, 0.0)(np.full(len(maxima), _FURTHEST))
    distance, p_value = _fit(below, place, scale, shape)
    end = np.where(place < _FURTHEST, place, np.inf)
    return Ends(
        location=np.where(flat, top, top + spread * end),
        low=np.where(flat, top, top + spread * nearest),
        high=np.where(flat, top, top + spread * furthest),
        scale=np.where(flat, 0.0, spread * scale),
        shape=np.where(flat, np.inf, shape),
        endless=~flat & (without_end >= height + penalty * np.square(shape) - allowed),
        distance=np.where(flat, 0.0, distance),
        p_value=np.where(flat, 1.0, p_value),
    )


class _Profile:
    """The largest log-likelihood, less the penalty, for given locations. Locations are places beyond the largest value
    of each row, and `below` (M, B) is how far below it the values are, all in ranges of the row."""

    def __init__(self, below: Floats, penalty: float) -> None:
        self.below, self.penalty, self.start = below, penalty, np.ones(len(below))

    def __call__(self, places: Floats) -> Floats:
        """(M,) log-likelihoods."""
        shape, scale, middle = self.solved(places)
        height: Floats = np.log(shape) - shape * np.log(scale) - 1
        bent = shape > 1
        height[bent] += (shape[bent] - 1) * middle[bent]
        height *= self.below.shape[1]
        height -= self.penalty * np.square(shape)
        return height

    def solved(self, places: Floats) -> tuple[Floats, Floats, Floats]:
        """(M,) shapes, scales and mean logarithms of the distances y to the location.

        The shape c is where the mean of log y under weights y^c, less the plain mean, less 1/c, plus the slope of the
        penalty a value is 0: that grows with c.
        """
        cost = 2 * self.penalty / self.below.shape[1]
        with np.errstate(divide="ignore"):
            logs = np.log(self.below + places[:, None])
        most, middle = logs.max(1), logs.mean(1)
        logs -= most[:, None]
        shape, going = self.start.copy(), np.ones(len(places), dtype=np.bool_)
        for _ in range(_ROUNDS):
            share = np.exp(shape[:, None] * logs)
            share /= share.sum(1, keepdims=True)
            kept = np.where(share > 0, logs, 0.0)  # 0 at the location itself, whose logarithm is infinite
            mean, square = (share * kept).sum(1), (share * np.square(kept)).sum(1)
            excess = mean - (middle - most) - 1 / shape + cost * shape
            slope = square - np.square(mean) + 1 / np.square(shape) + cost
            step = np.clip(shape - excess / slope, np.maximum(1.0, shape / 4), shape * 4)
            moved = np.abs(step - shape) > _ENOUGH * shape
            shape = np.where(going, step, shape)
            going &= moved
            if not going.any():
                break
        self.start = shape
        scale = np.exp(most) * np.exp(shape[:, None] * logs).mean(1) ** (1 / shape)
        return shape, scale, middle


def _summit(profile: _Profile, grid: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """(M,) places of the largest likelihood, and its logarithms: golden sections beside the best of the grid."""
    best, rows = heights.argmax(1), np.arange(len(heights))
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    for _ in range(_CUTS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        up = profile(left) < profile(right)
        low, high = np.where(up, left, low), np.where(up, high, right)
    middle = (low + high) / 2
    found, known = profile(middle), heights[rows, best]
    return np.where(found > known, middle, grid[best]), np.maximum(found, known)


def _crossings(profile: _Profile, grid: Floats, heights: Floats, floor: Floats) -> tuple[Floats, Floats]:
    """(M,) nearest and furthest places where the likelihood reaches its floor; infinite where it is still above it at
    the end of the grid."""
    above, last = heights >= floor[:, None], len(grid) - 1
    above[np.arange(len(grid))[None] == heights.argmax(1)[:, None]] = True
    first, final = above.argmax(1), last - above[:, ::-1].argmax(1)
    nearest = _cut(profile, floor, grid[first], grid[np.maximum(first - 1, 0)])
    furthest = _cut(profile, floor, grid[final], grid[np.minimum(final + 1, last)])
    return nearest, np.where(final == last, np.inf, furthest)


def _cut(profile: _Profile, floor: Floats, inside: Floats, outside: Floats) -> Floats:
    for _ in range(_CUTS):
        middle = (inside + outside) / 2
        above = profile(middle) >= floor
        inside, outside = np.where(above, middle, inside), np.where(above, outside, middle)
    return inside


def _fit(below: Floats, place: Floats, scale: Floats, shape: Floats) -> tuple[Floats, Floats]:
    """(M,) Kolmogorov-Smirnov distances, and their p-values for distributions that were known beforehand."""
    away = np.sort(below, 1)[:, ::-1] + place[:, None]
    expected = np.exp(-((away / scale[:, None]) ** shape[:, None]))
    count = below.shape[1]
    steps = np.arange(count + 1) / count
    distance: Floats = np.maximum(steps[1:] - expected, expected - steps[:-1]).max(1)
    return distance, np.asarray(stats.kstwo.sf(distance, count), dtype=np.float64)
