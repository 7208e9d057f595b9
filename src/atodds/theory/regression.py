"""More data, a smaller error, a larger or a smaller robustness: the example of two straight lines, for any data.

The study of data sizes (2019) opens with it. Two lines are fitted by least squares with an intercept, M1 to a few
points and M2 to these and more; the error is the mean squared error on other points, and the robustness the smallest
change of x that moves the relative error |f(x + δ) - y| / |y| past a tolerance. M2 has the smaller error and the
smaller robustness.

The means of the smallest changes that the study prints are not means of them: with δ1 for the first point and δ2 for
the second, 0.2194 and 0.2125 are (2·δ1 + δ2) / 2, the mean of the running sums δ1 and δ1 + δ2. `mean` is the true one
and `mean_of_running_sums` the printed one; the order of the two models is the same in both.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from atodds.errors import ArgumentError, EmptyDataError

Points = Sequence[tuple[float, float]]

FIRST: Points = ((1.35, 9.52), (2.42, 16.7), (4.02, 28.03))
MORE: Points = (*FIRST, (8.59, 60.22), (3.85, 25.74), (6.71, 47.2))
TEST: Points = ((4.78, 33.24), (9.71, 67.78))
"""The study's data, (x, y): what M1 is fitted to, what M2 is, and what both are measured on."""

TOLERANCE, STEP = 0.025, 1e-4
"""The study's: the relative error that a change has to exceed, and the steps in which changes are tried."""


@dataclass(frozen=True)
class Line:
    """y = slope · x + intercept."""

    slope: float
    intercept: float

    def at(self, x: float) -> float:
        """The line at x."""
        return self.slope * x + self.intercept


@dataclass(frozen=True)
class Change:
    """The smallest change of x that moves the relative error at one point past the tolerance.

    `delta` has the sign of the direction in which it is smallest, 0 where the error exceeds the tolerance already, and
    is infinite where no change helps: the line is level.
    """

    x: float
    y: float
    predicted: float
    delta: float


@dataclass(frozen=True)
class Fit:
    """A line, what it was fitted to, and what it is worth on other points."""

    name: str
    n: int
    line: Line
    mse: float
    changes: tuple[Change, ...]

    @property
    def mean(self) -> float:
        """The mean of the smallest changes: the robustness."""
        return math.fsum(abs(change.delta) for change in self.changes) / len(self.changes)

    @property
    def mean_of_running_sums(self) -> float:
        """What the study prints in its place: the mean of δ1, δ1 + δ2, and so on."""
        sums = itertools.accumulate(abs(change.delta) for change in self.changes)
        return math.fsum(sums) / len(self.changes)


def least_squares(points: Points) -> Line:
    """The line with an intercept that makes the sum of squared residuals smallest.

    Raises:
        EmptyDataError: fewer than two different x.
        ArgumentError: a coordinate that is not finite.
    """
    _check(points, "points")
    if len({x for x, _ in points}) < 2:
        raise EmptyDataError(f"Through {len(points)} points at one x goes any line. Give points at two x or more.")
    n = len(points)
    middle, height = math.fsum(x for x, _ in points) / n, math.fsum(y for _, y in points) / n
    spread = math.fsum((x - middle) ** 2 for x, _ in points)
    slope = math.fsum((x - middle) * (y - height) for x, y in points) / spread
    return Line(slope, height - slope * middle)


def mean_squared_error(line: Line, points: Points) -> float:
    """Of a line, over points."""
    return math.fsum((line.at(x) - y) ** 2 for x, y in points) / len(points)


def smallest_change(line: Line, x: float, y: float, *, tolerance: float = TOLERANCE, step: float = STEP) -> Change:
    """The smallest multiple of `step`, up or down, that moves the relative error at a point past `tolerance`.

    With e = f(x) - y, a change in the direction that enlarges |e| has tolerance·|y| - |e| to go, at |slope| for each
    unit of x; one in the other direction has to pass y first, and is never smaller.

    Raises:
        ArgumentError: y is 0, so that no error is relative to it; a tolerance or step that is not positive.
    """
    for argument, value in (("tolerance", tolerance), ("step", step)):
        if not 0 < value < math.inf:
            raise ArgumentError(argument, value, "not a positive number", f"Give {TOLERANCE} or {STEP}, as the study.")
    if y == 0:
        raise ArgumentError("y", y, "no error is relative to 0", "Leave the point out, or shift the data.")
    predicted = line.at(x)
    error = predicted - y
    left = tolerance * abs(y) - abs(error)
    if left < 0:
        return Change(x, y, predicted, 0.0)
    if line.slope == 0:
        return Change(x, y, predicted, math.inf)
    steps = math.floor(left / abs(line.slope) / step) + 1
    sign = math.copysign(1.0, line.slope) * (1.0 if error >= 0 else -1.0)
    return Change(x, y, predicted, sign * steps * step)


def fitted(name: str, points: Points, test: Points, *, tolerance: float = TOLERANCE, step: float = STEP) -> Fit:
    """A line through points, with its error and its smallest changes on test points.

    Raises:
        EmptyDataError: fewer than two different x to fit to, or no test point.
        ArgumentError: as for `least_squares` and `smallest_change`.
    """
    line = least_squares(points)
    _check(test, "test")
    if not test:
        raise EmptyDataError("No point to measure a line on. Give one at least.")
    changes = tuple(smallest_change(line, x, y, tolerance=tolerance, step=step) for x, y in test)
    return Fit(name, len(points), line, mean_squared_error(line, test), changes)


def example() -> tuple[Fit, Fit]:
    """The study's own: M1 and M2."""
    return fitted("M1", FIRST, TEST), fitted("M2", MORE, TEST)


def _check(points: Points, argument: str) -> None:
    for point in points:
        if len(point) != 2 or not all(math.isfinite(part) for part in point):
            raise ArgumentError(argument, point, "not a point", "Give pairs of finite numbers, (x, y).")
