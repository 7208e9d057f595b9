"""Where two curves over sizes cross: the closed form of made curves, and intervals that hold what they should."""

import math

import numpy as np
import pytest

from atodds.analysis.crossing import crossing
from atodds.errors import ArgumentError, EmptyDataError

SIZES = (100, 1000, 10_000)


def outcomes(rates: list[float], n: int = 1000, seeds: int = 3, seed: int = 0) -> np.ndarray:
    """(seeds, sizes, n) right with these chances."""
    rng = np.random.default_rng(seed)
    return rng.random((seeds, len(rates), n)) < np.array(rates)[None, :, None]


def exact(rates: list[float], n: int = 1000) -> np.ndarray:
    """The same with exactly these shares."""
    return np.stack([np.arange(n) < round(rate * n) for rate in rates])[None]


def test_the_crossing_lies_where_the_line_over_the_logarithm_meets_0() -> None:
    found = crossing(exact([0.8, 0.9, 0.9]), exact([0.6, 0.8, 1.0]), SIZES)
    assert [gap.value for gap in found.gaps] == pytest.approx([0.2, 0.1, -0.1])
    assert found.value == pytest.approx(1000 * math.sqrt(10))
    assert found.helps == (100, 1000)
    assert found.costs == (10_000,)
    assert found.low <= found.value <= found.high
    assert (found.seeds, found.n) == (1, 1000)


def test_what_never_helps_crosses_below_and_what_always_helps_beyond() -> None:
    never = crossing(exact([0.5, 0.6, 0.7]), exact([0.6, 0.7, 0.8]), SIZES)
    always = crossing(exact([0.6, 0.7, 0.8]), exact([0.5, 0.6, 0.7]), SIZES)
    assert str(never) == "below 100 (below 100 to below 100)"
    assert str(always) == "beyond 10,000 (beyond 10,000 to beyond 10,000)"


def test_equal_curves_have_no_clear_gap() -> None:
    same = outcomes([0.7, 0.8, 0.9])
    found = crossing(same, same, SIZES)
    assert not any(gap.clear for gap in found.gaps)
    assert found.value == 0


def test_the_interval_holds_the_true_crossing_in_most_repetitions_of_the_experiment() -> None:
    held = 0
    for k in range(60):
        first, second = outcomes([0.8, 0.85, 0.88], 400, seed=2 * k), outcomes([0.7, 0.83, 0.95], 400, seed=2 * k + 1)
        found = crossing(first, second, SIZES, resamples=200)
        true = 1000 * 10 ** (0.02 / 0.09)
        held += found.low <= true <= found.high
    assert held >= 50


def test_repetitions_that_disagree_widen_the_interval() -> None:
    agreed = np.concatenate([exact([0.8, 0.8])] * 4)
    split = np.concatenate([exact([0.7, 0.7]), exact([0.9, 0.9])] * 2)
    base = np.concatenate([exact([0.75, 0.75])] * 4)
    narrow, wide = (crossing(one, base, (10, 100)).gaps[0] for one in (agreed, split))
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ArgumentError, match="first"):
        crossing(exact([0.5, 0.6]), exact([0.5, 0.6]), SIZES)
    with pytest.raises(ArgumentError, match="sizes"):
        crossing(exact([0.5, 0.6, 0.7]), exact([0.5, 0.6, 0.7]), (3, 2, 1))
    with pytest.raises(EmptyDataError):
        crossing(np.zeros((1, 3, 0), bool), np.zeros((1, 3, 0), bool), SIZES)
