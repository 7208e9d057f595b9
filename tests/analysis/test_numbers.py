"""Numbers are written so that nobody is misled by rounding."""

import math

import pytest

from atodds.analysis.numbers import count, percent, points, significant


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.58, "58.0"),
        (0.0, "0"),
        (1.0, "100"),
        (1e-9, "< 0.1"),
        (0.00099, "< 0.1"),
        (0.001, "0.1"),
        (0.9995, "> 99.9"),
        (1 - 1e-9, "> 99.9"),
        (0.999, "99.9"),
    ],
)
def test_nothing_and_everything_are_written_only_when_exact(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(0.032, "+3.2"), (-0.5, "−50.0"), (0.0, "0"), (0.0004, "< +0.1"), (-0.0004, "> −0.1")]
)
def test_a_difference_carries_its_sign(difference: float, text: str) -> None:
    assert points(difference) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0312456, "0.0312"),
        (0.1, "0.100"),
        (0.99951, "1.00"),
        (12.0, "12.0"),
        (255.4, "255"),
        (1234.5, "1230"),
        (1e-7, "1.00e-07"),
        (0.0, "0"),
        (math.inf, "∞"),
    ],
)
def test_distances_have_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9,999"), (12_345, "12.3 k"), (999_999, "1.00 M"), (269_722, "270 k"), (2.5e12, "2500 G")],
)
def test_counts_are_read_at_a_glance(number: float, text: str) -> None:
    assert count(number) == text
