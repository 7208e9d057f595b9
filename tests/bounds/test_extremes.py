"""The fit of upper ends against SciPy's own, simulations whose end is known, and closed forms."""

import numpy as np
import pytest
from scipy import stats

from atodds.bounds.extremes import Floats, upper_ends


def drawn(shape: float, rows: int, count: int, *, end: float = 10.0, scale: float = 2.0) -> Floats:
    draws = stats.weibull_min.rvs(shape, scale=scale, size=(rows, count), random_state=np.random.default_rng(7))
    return np.asarray(end - draws, dtype=np.float64)


@pytest.mark.parametrize("shape", [2.0, 3.0, 5.0])
def test_the_likelihood_is_no_smaller_than_at_scipys_fit_and_the_end_is_the_same(shape: float) -> None:
    maxima = drawn(shape, 4, 300)
    ours = upper_ends(maxima, penalty=0)
    for row, values in enumerate(-maxima):
        form, place, scale = stats.weibull_min.fit(values, shape)
        theirs = stats.weibull_min.logpdf(values, form, place, scale).sum()
        mine = stats.weibull_min.logpdf(values, ours.shape[row], -ours.location[row], ours.scale[row]).sum()
        assert mine >= theirs - 1e-6
        assert ours.location[row] == pytest.approx(-place, rel=1e-3)


def test_the_distance_to_the_fit_is_scipys() -> None:
    maxima = drawn(3.0, 3, 100)
    ours = upper_ends(maxima)
    for row, values in enumerate(-maxima):
        law = stats.weibull_min(ours.shape[row], loc=-ours.location[row], scale=ours.scale[row])
        found = stats.kstest(values, law.cdf)
        assert ours.distance[row] == pytest.approx(found.statistic, abs=1e-9)
        assert ours.p_value[row] == pytest.approx(found.pvalue, abs=1e-6)


@pytest.mark.parametrize("shape", [1.5, 3.0, 6.0])
@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_the_interval_holds_the_end_about_as_often_as_its_level(shape: float, penalty: float) -> None:
    found = upper_ends(drawn(shape, 300, 100), 0.9, penalty)
    held = float(np.mean((found.low <= 10) & (found.high >= 10)))
    assert 0.82 <= held <= 0.97
    assert (found.low <= found.location).all()
    assert (found.location <= found.high).all()


def test_a_higher_level_gives_a_wider_interval() -> None:
    maxima = drawn(3.0, 20, 100)
    narrow, wide = upper_ends(maxima, 0.5), upper_ends(maxima, 0.99)
    assert (wide.low <= narrow.low).all()
    assert (wide.high >= narrow.high).all()


def test_maxima_without_an_end_are_told_and_the_penalty_sets_one() -> None:
    maxima = np.random.default_rng(3).gumbel(10, 1, (100, 100))
    alone, held = upper_ends(maxima, penalty=0), upper_ends(maxima)
    assert np.isinf(alone.location).mean() > 0.2
    assert np.isfinite(held.location).all()
    assert np.isfinite(held.high).all()
    assert held.endless.mean() > 0.9
    assert np.mean(upper_ends(drawn(2.0, 100, 100)).endless) < 0.05


def test_where_all_maxima_are_one_value_it_is_the_end() -> None:
    found = upper_ends(np.array([[3.0] * 20, [0.0] * 20, [5.0, 5.0 + 1e-9] * 10]))
    assert found.location == pytest.approx([3, 0, 5])
    assert found.low == pytest.approx([3, 0, 5])
    assert found.high == pytest.approx([3, 0, 5])
    assert not found.endless.any()


def test_values_at_the_end_itself_do_not_make_the_likelihood_infinite() -> None:
    """Piecewise linear networks have gradients that many batches share as their largest."""
    maxima = np.where(np.arange(50) % 3 == 0, 2.0, 1.9 - 0.01 * np.arange(50) % 0.3)[None]
    found = upper_ends(maxima)
    assert found.location[0] == pytest.approx(2.0, rel=0.02)
    assert found.shape[0] >= 1


def test_a_row_does_not_depend_on_the_others() -> None:
    maxima = drawn(3.0, 6, 60)
    whole, alone = upper_ends(maxima), upper_ends(maxima[4:5])
    assert alone.location[0] == whole.location[4]
    assert alone.low[0] == whole.low[4]
    assert alone.high[0] == whole.high[4]


def test_units_do_not_matter() -> None:
    maxima = drawn(3.0, 5, 80)
    one, other = upper_ends(maxima), upper_ends(1e6 * maxima)
    assert other.location == pytest.approx(1e6 * one.location)
    assert other.shape == pytest.approx(one.shape)
