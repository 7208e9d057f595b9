"""Intervals against published values, closed forms, and their own promises."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atodds.analysis import Difference, Rate, median, paired_bootstrap, wilson
from atodds.errors import ArgumentError, EmptyDataError


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_published_ones(successes: int, n: int, low: float, high: float) -> None:
    rate = wilson(successes, n)
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)
    assert rate.value == successes / n
    assert rate.n == n


@settings(deadline=None)
@given(st.integers(1, 2000), st.data())
def test_a_rate_lies_within_its_interval_and_its_interval_within_the_unit(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    rate = wilson(successes, n)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert (rate.low == 0) == (successes == 0)
    assert (rate.high == 1) == (successes == n)


def test_a_rate_says_itself_as_the_page_does() -> None:
    assert str(wilson(290, 500)) == "58.0 % (53.6–62.2)"
    assert str(wilson(0, 500)) == "0 % (0–0.8)"
    assert str(wilson(500, 500)) == "100 % (99.2–100)"
    assert str(wilson(1, 100_000)) == "< 0.1 % (< 0.1–< 0.1)"


def test_an_interval_clears_another_only_when_all_of_it_is_above() -> None:
    assert Rate(0.6, 0.55, 0.65, 100).clears(Rate(0.5, 0.45, 0.549, 100))
    assert not Rate(0.6, 0.55, 0.65, 100).clears(Rate(0.5, 0.45, 0.55, 100))


@pytest.mark.parametrize("call", [lambda: wilson(0, 0), lambda: median([]), lambda: paired_bootstrap([], [])])
def test_nothing_measured_is_an_error(call: object) -> None:
    with pytest.raises(EmptyDataError, match="0 "):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(("successes", "n", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0.0), (1, 5, 1.0)])
def test_counts_and_confidences_that_cannot_be_are_refused(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ArgumentError):
        wilson(successes, n, confidence)


def test_the_bootstrap_is_that_of_drawing_images() -> None:
    """The multinomial draws have the distribution of resampling images one by one."""
    rng = np.random.default_rng(7)
    a, b = rng.random(300) < 0.7, rng.random(300) < 0.6
    found = paired_bootstrap(a, b, resamples=20_000)
    picks = rng.integers(0, 300, size=(20_000, 300))
    means = (a.astype(float) - b)[picks].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)


def test_pairing_tightens_the_interval_of_models_that_fail_alike() -> None:
    a = np.arange(1000) < 600
    b = np.arange(1000) < 580
    paired = paired_bootstrap(a, b)
    shuffled = paired_bootstrap(a, np.random.default_rng(0).permutation(b))
    assert paired.value == shuffled.value == pytest.approx(0.02)
    assert paired.clear
    assert paired.high - paired.low < (shuffled.high - shuffled.low) / 3


def test_the_bootstrap_repeats_itself_and_swaps_its_sign() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(50) < 0.5, rng.random(50) < 0.4
    few = [paired_bootstrap(a, b, seed=seed, resamples=9) for seed in (3, 3, 4)]
    assert few[0] == few[1]
    assert few[0] != few[2]
    assert paired_bootstrap(a, b).value == -paired_bootstrap(b, a).value


def test_models_that_never_differ_have_no_difference() -> None:
    same = np.ones(10, dtype=bool)
    assert paired_bootstrap(same, same) == Difference(0.0, 0.0, 0.0, 10)
    assert not paired_bootstrap(same, same).clear


def test_outcomes_of_different_images_are_refused() -> None:
    with pytest.raises(ArgumentError, match="same images"):
        paired_bootstrap([True], [True, False])
    with pytest.raises(ArgumentError, match="booleans"):
        paired_bootstrap([0.5], [0.5])
    with pytest.raises(ArgumentError, match="at least 1"):
        paired_bootstrap([True], [True], resamples=0)


def test_a_difference_says_itself_in_points() -> None:
    assert str(Difference(0.032, -0.01, 0.0742, 500)) == "+3.2 points (−1.0 to +7.4)"


def test_the_median_interval_is_that_of_the_order_statistics() -> None:
    """n = 10: from the 2nd smallest to the 2nd largest, which holds the median with 97.85 % (David & Nagaraja, 7.1)."""
    found = median(np.arange(1.0, 11.0))
    assert (found.value, found.low, found.high, found.n) == (5.5, 2.0, 9.0, 10)
    assert stats.binom.cdf(8, 10, 0.5) - stats.binom.cdf(1, 10, 0.5) == pytest.approx(0.9785, abs=1e-4)


def test_the_median_is_infinite_when_half_were_never_fooled() -> None:
    assert median([0.1, 0.2, math.inf, math.inf]).value == math.inf
    assert median([0.1, 0.2, 0.3, math.inf, math.inf]).value == 0.3
    assert (median([0.1]).low, median([0.1]).high) == (0.0, math.inf)


def test_a_distance_that_is_no_number_is_refused() -> None:
    with pytest.raises(ArgumentError, match="infinity"):
        median([0.1, math.nan])


def test_the_complement_of_a_rate_is_that_of_the_other_images() -> None:
    rate, other = wilson(3, 40), wilson(37, 40)
    assert rate.complement.n == 40
    assert rate.complement.value == pytest.approx(other.value)
    assert (rate.complement.low, rate.complement.high) == pytest.approx((other.low, other.high))
