"""The example of two lines: every number of the study, and what holds for any data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atodds.errors import ArgumentError, EmptyDataError
from atodds.theory import regression
from atodds.theory.regression import FIRST, MORE, TEST, Line, example, fitted, least_squares, smallest_change


def test_every_number_of_the_study_comes_out() -> None:
    first, second = example()
    assert (first.n, second.n) == (3, 6)
    assert f"{first.line.slope:.6f} {first.line.intercept:.6f} {first.mse:.4f}" == "6.944221 0.051506 0.0450"
    assert f"{second.line.slope:.6f} {second.line.intercept:.6f} {second.mse:.4f}" == "7.054301 -0.438810 0.0396"
    assert [f"{abs(change.delta):.4f}" for change in first.changes] == ["0.1190", "0.2008"]
    assert [f"{abs(change.delta):.4f}" for change in second.changes] == ["0.1121", "0.2008"]
    assert (round(first.mean, 6), round(second.mean, 6)) == (0.1599, 0.15645)


def test_the_printed_means_are_means_of_running_sums() -> None:
    first, second = example()
    assert (round(first.mean_of_running_sums, 6), round(second.mean_of_running_sums, 6)) == (0.2194, 0.2125)
    for fit in (first, second):
        one, two = (abs(change.delta) for change in fit.changes)
        assert fit.mean_of_running_sums == pytest.approx((2 * one + two) / 2, abs=1e-12)


def test_more_data_make_the_error_smaller_and_the_robustness_too_either_way() -> None:
    first, second = example()
    assert set(FIRST) < set(MORE)
    assert first.mse > second.mse
    assert first.mean > second.mean
    assert first.mean_of_running_sums > second.mean_of_running_sums


@pytest.mark.parametrize("points", [FIRST, MORE])
def test_the_line_is_that_of_numpy(points: regression.Points) -> None:
    xs, ys = np.array(points).T
    slope, intercept = np.polyfit(xs, ys, 1)
    line = least_squares(points)
    assert [line.slope, line.intercept] == pytest.approx([slope, intercept])
    assert fitted("x", points, TEST).mse == pytest.approx(np.mean([(line.at(x) - y) ** 2 for x, y in TEST]))


FINITE = st.floats(-20, 20).filter(lambda value: abs(value) > 0.05)


@given(slope=FINITE, intercept=st.floats(-5, 5), x=st.floats(-9, 9), off=st.floats(-0.04, 0.04))
def test_no_smaller_change_on_the_grid_moves_the_error_past_the_tolerance(
    slope: float, intercept: float, x: float, off: float
) -> None:
    """Against the study's own way: every multiple of the step, up and down."""
    line, step = Line(slope, intercept), 0.01
    y = line.at(x) * (1 + off)
    if abs(y) < 0.1:
        return
    found = smallest_change(line, x, y, step=step)

    def error(steps: float) -> float:
        return abs(line.at(x + steps * step) - y) / abs(y) - regression.TOLERANCE

    count = round(abs(found.delta) / step)
    assert error(math.copysign(count, found.delta)) > -1e-9
    assert all(error(sign * smaller) < 1e-9 for smaller in range(count) for sign in (1, -1))


def test_an_error_that_is_too_large_already_needs_no_change_and_a_level_line_knows_none() -> None:
    assert smallest_change(Line(1, 0), 2, 1).delta == 0
    assert smallest_change(Line(0, 1), 2, 1).delta == math.inf


def test_the_sign_is_that_of_the_shorter_way() -> None:
    first, _ = example()
    assert [math.copysign(1, change.delta) for change in first.changes] == [1, -1]


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]])
def test_points_through_which_any_line_goes_are_refused(points: regression.Points) -> None:
    with pytest.raises(EmptyDataError, match="goes any line"):
        least_squares(points)


def test_what_is_no_point_and_what_nothing_is_relative_to_are_refused() -> None:
    with pytest.raises(ArgumentError, match="not a point"):
        least_squares([(1.0, math.nan), (2.0, 1.0)])
    with pytest.raises(ArgumentError, match="relative to 0"):
        fitted("x", FIRST, [(1.0, 0.0)])
    with pytest.raises(EmptyDataError, match="No point"):
        fitted("x", FIRST, [])
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ArgumentError, match="step"):
            smallest_change(Line(1, 0), 1, 1, step=wrong)
