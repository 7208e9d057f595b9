"""A straight line by least squares: its intervals, what each point does to it, and on how few points it stands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import stats

from atodds.analysis.intervals import CONFIDENCE, Floats
from atodds.errors import ArgumentError, EmptyDataError

FEWEST = 3
"""Through two points there is always a line."""
TELLING = 6
"""With fewer points, two left out leave nothing to judge the rest by."""

Standing = Literal["stands", "stands on one", "stands on two", "no relation", "too few"]


@dataclass(frozen=True)
class Influence:
    """What one point does to the line.

    With e the residual, p = 2 coefficients, s² the residual variance, and Sxx the sum of squares of x about its mean:

    - `leverage` h = 1/m + (x - mean x)² / Sxx; all of them add up to 2;
    - `cook` D = e² h / (p s² (1 - h)²), 0 where the line is exact;
    - `slope_without`, the slope of the line through the other points; None where these have all one x.

    R. D. Cook (1977), "Detection of influential observation in linear regression", eq. 5.
    """

    name: str
    x: float
    y: float
    residual: float
    leverage: float
    cook: float
    slope_without: float | None


@dataclass(frozen=True)
class Footing:
    """Whether the slope of a line stands, that is, whether its t interval leaves 0 out, and on which points.

    Attributes:
        standing: "stands": whichever one or two points are left out, the interval still leaves 0 out, on the same side.
            "stands on one", "stands on two": not without the points `on`. "no relation": not even with all of them.
            "too few": it stands, but with fewer than 6 points nobody can tell on how many.
        on: the fewest points without which it falls; of several such sets, the one without which it falls most clearly.
            Where it stands, the pair that it would miss most; empty with too few points or no relation.
        slope, low, high: of the line through the others, with its t interval; NaN where `on` is empty.
        r_squared: of that line.
    """

    standing: Standing
    on: tuple[str, ...]
    slope: float
    low: float
    high: float
    r_squared: float


@dataclass(frozen=True)
class Line:
    """y = intercept + slope · x through m points, in the order in which they came.

    `slope_interval` and `intercept_interval` are those of the t distribution with m - 2 degrees of freedom;
    `deviation` is the residual standard deviation; `r_squared` is the share of the variance of y that the line
    explains, 1 where y has none.
    """

    slope: float
    intercept: float
    slope_interval: tuple[float, float]
    intercept_interval: tuple[float, float]
    r_squared: float
    deviation: float
    points: tuple[Influence, ...]
    footing: Footing
    confidence: float

    def at(self, x: float) -> tuple[float, float, float]:
        """The line at x, with the interval of the mean of y there (a confidence band, not one for a new point)."""
        xs = np.array([point.x for point in self.points])
        middle = self.intercept + self.slope * x
        spread = math.sqrt(1 / len(xs) + (x - xs.mean()) ** 2 / float(((xs - xs.mean()) ** 2).sum()))
        wide = _quantile(len(xs), self.confidence) * self.deviation * spread
        return middle, middle - wide, middle + wide

    @property
    def most_influential(self) -> Influence:
        """The point with the largest Cook's distance; of equal ones the one with the largest leverage."""
        return max(self.points, key=lambda point: (point.cook, point.leverage))


def least_squares(
    names: Sequence[str], x: Sequence[float], y: Sequence[float], *, confidence: float = CONFIDENCE
) -> Line:
    """The line through named points that makes the sum of squared residuals smallest.

    Args:
        names: one a point, each once.
        x, y: finite coordinates.
        confidence: of the t intervals.

    Raises:
        EmptyDataError: fewer than three points, or all at one x.
        ArgumentError: not as many x and y as names, a name twice, a coordinate that is not finite, or a confidence
            outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ArgumentError("confidence", confidence, "not a share between 0 and 1", "Give 0.95 for 95 %.")
    if len(names) != len(x) or len(names) != len(y) or len(set(names)) < len(names):
        raise ArgumentError("names", list(names), "not one name, each once, for each x and y", "Name every point once.")
    xs, ys = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ArgumentError("y", list(y), "with x not all finite", "Leave points out that have no finite value.")
    if len(xs) < FEWEST or np.ptp(xs) == 0:
        what = f"{len(xs)} points" if len(xs) < FEWEST else f"{len(xs)} points at one x"
        raise EmptyDataError(f"A line through {what} says nothing. Bring at least {FEWEST}, not all at one x.")
    slope, intercept, error = _fit(xs, ys)
    m, about = len(xs), xs - xs.mean()
    width = float((about**2).sum())
    residuals = ys - intercept - slope * xs
    leverages = 1 / m + about**2 / width
    variance = error**2 * width
    explained = _explained(residuals, ys)
    reach = _quantile(m, confidence)
    shaky = reach * math.sqrt(variance * (1 / m + xs.mean() ** 2 / width))
    points = tuple(
        Influence(
            names[k],
            float(xs[k]),
            float(ys[k]),
            float(residuals[k]),
            float(leverages[k]),
            _cook(float(residuals[k]), float(leverages[k]), variance),
            _without(slope, float(about[k]), float(residuals[k]), float(leverages[k]), width),
        )
        for k in range(m)
    )
    interval = (slope - reach * error, slope + reach * error)
    return Line(
        slope=slope,
        intercept=intercept,
        slope_interval=interval,
        intercept_interval=(intercept - shaky, intercept + shaky),
        r_squared=explained,
        deviation=math.sqrt(variance),
        points=points,
        footing=_footing(names, xs, ys, interval, confidence),
        confidence=confidence,
    )


def weighted_lines(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Slopes and intercepts, (b,) each, of b lines through (b, m) points with (b, m) weights; points of weight 0 may be
    anything, NaN included. NaN where the points of a line have all one x."""
    counted = weights > 0
    xs, ys = np.where(counted, x, 0.0), np.where(counted, y, 0.0)
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle, height = (weights * xs).sum(1) / total, (weights * ys).sum(1) / total
        about = xs - middle[:, None]
        width = (weights * about**2).sum(1)
        apart = np.where(counted, xs, -np.inf).max(1) > np.where(counted, xs, np.inf).min(1)
        slopes = np.where(apart, (weights * about * (ys - height[:, None])).sum(1) / width, np.nan)
    return slopes, height - slopes * middle


def _footing(names: Sequence[str], xs: Floats, ys: Floats, interval: tuple[float, float], confidence: float) -> Footing:
    """Leave out every one, then every two, and see whether the interval of the slope still leaves 0 out."""
    nothing = Footing("no relation", (), math.nan, math.nan, math.nan, math.nan)
    side = _side(interval)
    if not side:
        return nothing
    if len(xs) < TELLING:
        return Footing("too few", (), math.nan, math.nan, math.nan, math.nan)
    found: dict[int, tuple[float, Footing]] = {}
    sizes: tuple[tuple[int, Standing], ...] = ((1, "stands on one"), (2, "stands on two"))
    for size, standing in sizes:
        for out in combinations(range(len(xs)), size):
            rest = np.delete(np.arange(len(xs)), out)
            margin, rest_of = _left(tuple(names[k] for k in out), xs[rest], ys[rest], side, confidence)
            if size not in found or margin < found[size][0]:
                found[size] = margin, Footing(standing, *rest_of)
        if found[size][0] <= 0:
            return found[size][1]
    missed = found[2][1]
    return Footing("stands", missed.on, missed.slope, missed.low, missed.high, missed.r_squared)


def _left(
    out: tuple[str, ...], xs: Floats, ys: Floats, side: int, confidence: float
) -> tuple[float, tuple[tuple[str, ...], float, float, float, float]]:
    """How far from 0, in standard errors beyond those of the interval, the slope without some points stays on its side;
    at most 0 where it does not."""
    if np.ptp(xs) == 0:
        return -math.inf, (out, math.nan, math.nan, math.nan, math.nan)
    slope, intercept, error = _fit(xs, ys)
    reach = _quantile(len(xs), confidence)
    explained = _explained(ys - intercept - slope * xs, ys)
    margin = math.inf if error == 0 and side * slope > 0 else side * slope / error - reach if error else -math.inf
    return margin, (out, slope, slope - reach * error, slope + reach * error, explained)


def _fit(xs: Floats, ys: Floats) -> tuple[float, float, float]:
    """Slope, intercept, and the standard error of the slope."""
    about = xs - xs.mean()
    width = float((about**2).sum())
    slope = float((about * (ys - ys.mean())).sum()) / width
    intercept = float(ys.mean()) - slope * float(xs.mean())
    left = float(((ys - intercept - slope * xs) ** 2).sum())
    return slope, intercept, math.sqrt(left / (len(xs) - 2) / width)


def _explained(residuals: Floats, ys: Floats) -> float:
    total = float(((ys - ys.mean()) ** 2).sum())
    return 1 - float((residuals**2).sum()) / total if total else 1.0


def _cook(residual: float, leverage: float, variance: float) -> float:
    if residual == 0 or variance == 0:
        return 0.0
    rest = 1 - leverage
    return residual**2 * leverage / (2 * variance * rest**2) if rest > _ALL else 0.0


def _without(slope: float, about: float, residual: float, leverage: float, width: float) -> float | None:
    rest = 1 - leverage
    return slope - about * residual / (rest * width) if rest > _ALL else None


@lru_cache(maxsize=1000)
def _quantile(points: int, confidence: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, points - 2))


def _side(interval: tuple[float, float]) -> int:
    """1 where an interval lies above 0, -1 where below, 0 where it holds 0."""
    return int(interval[0] > 0) - int(interval[1] < 0)


_ALL = 1e-9
"""A point whose leverage lies so near to 1 decides the slope alone: its residual is rounding."""
