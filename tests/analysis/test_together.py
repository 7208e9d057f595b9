"""Models side by side: the same images, and distortions that are plain means and medians."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import seen, table

from atodds.analysis.together import MEASURES, described, distortions, together
from atodds.errors import ArgumentError, EmptyDataError, UnknownNameError

TABLE = table({"a": [1, 2, 3, math.inf], "b": [5, 6, 7, 8]}, {"a": [0], "b": [3]})


def test_models_stand_side_by_side_on_the_images_that_all_have() -> None:
    without = TABLE.filter((pl.col("model") != "a") | (pl.col("image") != 2))
    both = together(without, "l2")
    assert both.models == ("a", "b")
    assert both.image.tolist() == [0, 1, 3]
    assert both.correct.tolist() == [[False, True], [True, True], [True, False]]
    assert both.values.tolist() == [[0, 5], [2, 6], [math.inf, 0]]
    assert both.standing(5).tolist() == [[False, False], [False, True], [True, False]]
    assert together(TABLE, "l2", ["b", "a"]).values[0].tolist() == [5, 0]


def test_the_mean_is_over_what_was_fooled_and_the_median_over_what_is_right() -> None:
    both = together(TABLE, "l2")
    once = np.ones((1, 4))
    assert distortions(both, once, "mean").tolist() == [[2.5, 6.0]]
    assert distortions(both, once, "median").tolist() == [[3.0, 6.0]]
    mean = described(both, distortions(both, once, "mean"), "mean")
    assert [(found.n, found.fooled) for found in mean] == [(3, 2), (3, 3)]


numbers = st.one_of(st.floats(0, 9), st.just(math.inf))


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, st.booleans(), st.integers(0, 3)), min_size=1, max_size=12))
def test_draws_count_as_if_their_images_stood_there_so_often(images: list[tuple[float, bool, int]]) -> None:
    model = seen([[value for value, _, _ in images]], [[wrong for _, wrong, _ in images]])
    draws = np.array([[times for _, _, times in images]], dtype=float)
    copies = [value for value, wrong, times in images if not wrong for _ in range(times)]
    finite = [value for value in copies if math.isfinite(value)]
    expected = {
        "mean": np.mean(finite) if finite else math.nan,
        "median": np.median(copies) if copies else math.nan,
    }
    for measure in MEASURES:
        assert distortions(model, draws, measure)[0, 0] == pytest.approx(expected[measure], nan_ok=True)


def test_what_cannot_be_compared_is_refused_by_name() -> None:
    with pytest.raises(EmptyDataError, match="No image is common to a, b"):
        together(TABLE.filter((pl.col("model") == "a") ^ (pl.col("image") > 1)), "l2")
    other = pl.concat([TABLE, table({"c": [1, 2]}, data="other@2")])
    with pytest.raises(ArgumentError, match="several data sets"):
        together(other, "l2")
    assert together(other, "l2", ["a", "b"]).models == ("a", "b")
    with pytest.raises(UnknownNameError, match="no such name"):
        together(TABLE, "l2", ["a", "z"])
    with pytest.raises(ArgumentError, match="each once"):
        together(TABLE, "l2", ["a", "a"])
    with pytest.raises(EmptyDataError, match="no verdicts"):
        together(TABLE.clear(), "l2")
    with pytest.raises(ArgumentError, match="mean or median"):
        distortions(together(TABLE, "l2"), np.ones((1, 4)), "mode")  # type: ignore[arg-type]
