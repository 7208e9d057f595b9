"""Several ways against the first: means that are known, and intervals that cover what they should."""

import numpy as np
import pytest

from atodds.analysis.arms import arms
from atodds.errors import ArgumentError, EmptyDataError


def test_means_and_gaps_are_those_of_the_table() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3, 4))
    found = arms(values, ["a", "b", "c"], resamples=200)
    assert [arm.name for arm in found] == ["a", "b", "c"]
    for k, arm in enumerate(found):
        assert arm.mean.value == pytest.approx(values[:, k].mean())
        assert arm.each == pytest.approx(tuple(values[:, k].mean(0)))
        assert arm.mean.low <= arm.mean.value <= arm.mean.high
    assert found[0].gap is None
    assert found[2].gap is not None
    assert found[2].gap.value == pytest.approx(values[:, 2].mean() - values[:, 0].mean())


def test_pairing_takes_away_how_unlike_the_images_are() -> None:
    image = 100 * np.random.default_rng(0).normal(size=(40, 1, 1))
    step = np.array([0.0, 1.0])[:, None]
    one, other = arms(image + step + np.zeros((40, 2, 2)), ["a", "b"], resamples=200)
    assert other.gap is not None
    assert (other.gap.low, other.gap.high) == pytest.approx((1, 1))
    assert other.gap.clear
    assert one.mean.high - one.mean.low > 20


def test_what_another_repeat_would_change_is_in_the_interval() -> None:
    """All images alike: only repeats differ, as normal draws. 95 % intervals from three repeats cover most often."""
    draws, hits = np.random.default_rng(0), 0
    for _ in range(200):
        values = np.broadcast_to(draws.normal(size=(1, 2, 3)), (10, 2, 3))
        gap = arms(values, ["a", "b"], resamples=200)[1].gap
        assert gap is not None
        hits += gap.low <= 0 <= gap.high
    assert hits >= 160  # seeds left out of the interval, it would have no width and cover in none
    single = arms(values[..., :1], ["a", "b"], resamples=50)[1].gap
    assert single is not None
    assert single.high - single.low < 1e-9


def test_intervals_of_many_ways_are_wider_than_of_one() -> None:
    values = np.random.default_rng(0).normal(size=(60, 5, 1))
    alone = arms(values[:, :2], list("ab"))[1].gap
    among = arms(values, list("abcde"))[1].gap
    assert alone is not None
    assert among is not None
    assert among.high - among.low > alone.high - alone.low


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ArgumentError, match="2 ways"):
        arms(np.zeros((3, 1, 1)), ["a", "b"])
    with pytest.raises(ArgumentError, match="finite"):
        arms(np.full((3, 2, 1), np.inf), ["a", "b"])
    with pytest.raises(EmptyDataError):
        arms(np.zeros((0, 2, 1)), ["a", "b"])
