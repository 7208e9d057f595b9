"""Least squares against exact lines, the formulas of textbooks, and refits without each point."""

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from atodds.analysis import least_squares
from atodds.analysis.line import weighted_lines
from atodds.errors import ArgumentError, EmptyDataError


def names(count: int) -> list[str]:
    return [f"m{k}" for k in range(count)]


def test_an_exact_line_is_found_exactly() -> None:
    x = [-3.0, -2.0, -1.0, 0.5, 2.0, 4.0]
    line = least_squares(names(6), x, [2 + 3 * v for v in x])
    assert (line.slope, line.intercept) == pytest.approx((3, 2))
    assert line.r_squared == pytest.approx(1)
    assert line.slope_interval == pytest.approx((3, 3))
    assert line.at(10.0) == pytest.approx((32, 32, 32))
    assert line.footing.standing == "stands"
    assert [point.residual for point in line.points] == pytest.approx([0] * 6, abs=1e-12)


ANSCOMBE = {  # F. J. Anscombe (1973), "Graphs in statistical analysis"
    "first": ([10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5],
              [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]),
    "third": ([10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5],
              [7.46, 6.77, 12.74, 7.11, 7.81, 8.84, 6.08, 5.39, 8.15, 6.42, 5.73]),
    "fourth": ([8, 8, 8, 8, 8, 8, 8, 19, 8, 8, 8],
               [6.58, 5.76, 7.71, 8.84, 8.47, 7.04, 5.25, 12.5, 5.56, 7.91, 6.89]),
}  # fmt: skip


@pytest.mark.parametrize("which", ANSCOMBE)
def test_the_quartet_of_anscombe_has_one_line(which: str) -> None:
    """Published: intercept 3.00, slope 0.500 with standard error 0.118, R² 0.67, residual deviation 1.237."""
    line = least_squares(names(11), *ANSCOMBE[which])
    assert round(line.slope, 2) == 0.5
    assert round(line.intercept, 1) == 3.0
    assert round(line.r_squared, 2) == 0.67
    assert line.deviation == pytest.approx(1.237, abs=0.002)
    reach = stats.t.ppf(0.975, 9)
    assert (line.slope_interval[1] - line.slope) / reach == pytest.approx(0.118, abs=0.001)


def test_a_line_that_stands_on_one_point_says_so() -> None:
    line = least_squares(names(11), *ANSCOMBE["fourth"])
    assert line.footing.standing == "stands on one"
    assert line.footing.on == ("m7",)
    assert math.isnan(line.footing.slope)  # all the others have one x
    assert line.points[7].slope_without is None
    assert line.points[7].leverage == pytest.approx(1)
    assert line.points[7].cook == 0
    assert least_squares(names(11), *ANSCOMBE["first"]).footing.standing == "stands"


def test_a_line_that_stands_on_two_points_says_which() -> None:
    rng = np.random.default_rng(0)
    x = [*rng.normal(0, 0.3, 16), 6.0, 6.1]
    y = [*rng.normal(0, 0.3, 16), 5.0, 5.2]
    line = least_squares(names(18), x, y)
    assert line.r_squared > 0.9
    assert line.footing.standing == "stands on two"
    assert set(line.footing.on) == {"m16", "m17"}
    assert line.footing.r_squared < 0.2
    assert line.footing.low < 0 < line.footing.high
    alone = least_squares(names(16), x[:16], y[:16])
    assert (line.footing.slope, *alone.slope_interval) == pytest.approx(
        (alone.slope, line.footing.low, line.footing.high)
    )


def test_a_line_that_stands_on_all_of_them_says_what_it_would_miss_most() -> None:
    x = np.linspace(-3, 0, 18)
    y = 1 + 2 * x + np.random.default_rng(1).normal(0, 0.3, 18)
    line = least_squares(names(18), x.tolist(), y.tolist())
    assert line.footing.standing == "stands"
    assert len(line.footing.on) == 2
    assert 0 < line.footing.low < line.footing.slope
    assert line.footing.r_squared < line.r_squared


def test_no_relation_and_too_few_points_are_said() -> None:
    rng = np.random.default_rng(3)
    assert (
        least_squares(names(12), rng.normal(size=12).tolist(), rng.normal(size=12).tolist()).footing.standing
        == "no relation"
    )
    few = least_squares(names(5), [1, 2, 3, 4, 5], [1, 2.1, 2.9, 4.1, 5])
    assert few.footing.standing == "too few"
    assert few.footing.on == ()


points = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=4, max_size=12)


@settings(deadline=None)
@given(points)
def test_influence_is_what_a_refit_without_the_point_shows(where: list[tuple[int, int]]) -> None:
    """Cook's distance by its definition: how far all fitted values move, over p s²."""
    x, y = (np.array([point[side] for point in where], dtype=float) for side in (0, 1))
    assume(np.ptp(x) > 0)
    line = least_squares(names(len(x)), x.tolist(), y.tolist())
    fitted = line.intercept + line.slope * x
    assert sum(point.leverage for point in line.points) == pytest.approx(2)
    for k, point in enumerate(line.points):
        rest = np.delete(np.arange(len(x)), k)
        if np.ptp(x[rest]) == 0:
            assert point.slope_without is None
            continue
        slope, intercept = np.polyfit(x[rest], y[rest], 1)
        assert point.slope_without == pytest.approx(slope, abs=1e-9)
        if line.deviation > 1e-9:
            moved = ((fitted - (intercept + slope * x)) ** 2).sum() / (2 * line.deviation**2)
            assert point.cook == pytest.approx(moved, rel=1e-6, abs=1e-9)


def _left_over(where: list[tuple[int, int]]) -> float:
    """The sum of squares that no line removes, in exact arithmetic."""
    n, x, y = len(where), sum(Fraction(a) for a, _ in where), sum(Fraction(b) for _, b in where)
    xx = sum(a * a for a, _ in where) - x * x / n
    xy = sum(a * b for a, b in where) - x * y / n
    return float(sum(b * b for _, b in where) - y * y / n - xy * xy / xx)


@settings(deadline=None)
@given(points, st.randoms(use_true_random=False))
@example([(0, 9), (13, -15), (13, -15), (13, -15), (13, -15)], Random(0))
def test_the_order_of_points_changes_nothing_and_scipy_agrees(where: list[tuple[int, int]], random: object) -> None:
    x, y = ([float(point[side]) for point in where] for side in (0, 1))
    assume(len(set(x)) > 1)
    line = least_squares(names(len(x)), x, y)
    assume(len(set(y)) > 1)  # without, SciPy gives no error of the slope
    theirs = stats.linregress(x, y)
    assert (line.slope, line.intercept) == pytest.approx((theirs.slope, theirs.intercept), abs=1e-9)
    left = _left_over(where)
    if left > 1e-6:  # SciPy takes it from 1 - r², which is lost to rounding where all points lie on the line
        reach = stats.t.ppf(0.975, len(x) - 2)
        wide = theirs.intercept_stderr * reach
        assert line.slope_interval[1] == pytest.approx(theirs.slope + theirs.stderr * reach, abs=1e-6)
        assert line.intercept_interval[0] == pytest.approx(theirs.intercept - wide, abs=1e-6)
    assert line.deviation**2 * (len(x) - 2) == pytest.approx(left, rel=1e-9, abs=1e-18)
    order = list(range(len(x)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = least_squares([f"m{k}" for k in order], [x[k] for k in order], [y[k] for k in order])
    assert other.slope == pytest.approx(line.slope, abs=1e-9)
    assert other.footing.standing == line.footing.standing or line.deviation < 1e-9


def test_the_band_is_narrowest_at_the_mean_and_holds_the_truth() -> None:
    rng, inside = np.random.default_rng(2), 0
    x = np.linspace(0, 1, 12)
    for _ in range(400):
        line = least_squares(names(12), x.tolist(), (1 + 2 * x + rng.normal(0, 0.2, 12)).tolist())
        _, low, high = line.at(0.8)
        inside += low <= 2.6 <= high
    assert inside / 400 == pytest.approx(0.95, abs=0.03)
    widths = [line.at(v)[2] - line.at(v)[1] for v in (0.0, 0.5, 1.0)]
    assert widths[1] < min(widths[0], widths[2])


def test_weighted_lines_are_those_of_points_that_stand_there_so_often() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    weights = np.array([[1, 2, 0, 3, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 4, 0, 0, 0]], dtype=float)
    y[0, 2] = np.nan
    slopes, intercepts = weighted_lines(x, y, weights)
    for row in (0, 1):
        times = weights[row].astype(int)
        expected = np.polyfit(np.repeat(x[row], times), np.repeat(y[row], times), 1)
        assert (slopes[row], intercepts[row]) == pytest.approx(tuple(expected))
    assert np.isnan(slopes[2])


def test_what_makes_no_line_is_refused() -> None:
    with pytest.raises(EmptyDataError, match="2 points"):
        least_squares(names(2), [1, 2], [1, 2])
    with pytest.raises(EmptyDataError, match="3 points at one x"):
        least_squares(names(3), [1, 1, 1], [1, 2, 3])
    with pytest.raises(ArgumentError, match="finite"):
        least_squares(names(3), [1, 2, 3], [1, math.inf, 2])
    with pytest.raises(ArgumentError, match="each once"):
        least_squares(["a", "a", "b"], [1, 2, 3], [1, 2, 3])
    with pytest.raises(ArgumentError, match="each once"):
        least_squares(names(3), [1, 2], [1, 2, 3])
    with pytest.raises(ArgumentError, match="confidence"):
        least_squares(names(3), [1, 2, 3], [1, 2, 3], confidence=1)
