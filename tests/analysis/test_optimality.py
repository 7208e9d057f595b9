"""How near attacks come to the best of all, against the areas between curves."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.analysis.made import table

from atodds.analysis import curve, optimality
from atodds.errors import ArgumentError, EmptyDataError, UnknownNameError

FAR = math.inf


def attacked(found: dict[str, list[float]], model: str = "m", wrong: tuple[int, ...] = ()) -> pl.DataFrame:
    """Each attack with the distance that it found for each image, alone."""
    parts = [
        table({model: distances}, {model: list(wrong)}, attack=attack, passes=10 * (k + 1))
        for k, (attack, distances) in enumerate(found.items())
    ]
    return pl.concat([parts[0], *(part.filter(pl.col("attack") != "clean") for part in parts[1:])])


def test_the_share_is_the_ratio_of_areas() -> None:
    """ε0 = 4. Areas: best (4-1) + (4-2) + (4-4) = 5; a: 3 + 0 + 0; b: (4-3) + 2 + 0."""
    found = optimality(attacked({"a": [1, FAR, 5], "b": [3, 2, 4]}), "l2", alone=True)
    assert found.reach == {"m": 4.0}
    assert [(one.attack, one.optimality.value) for one in found.attacks] == [("a", 0.6), ("b", 0.6)]
    a, b = (one.models[0] for one in found.attacks)
    assert (a.best_on, b.best_on) == (1, 2)
    assert (a.passes, b.passes) == (10, 20)
    assert a.optimality.n == 3


def test_the_best_is_one_and_what_finds_nothing_is_zero() -> None:
    found = optimality(attacked({"best": [1, 2, 3], "blind": [FAR, FAR, FAR], "last": [9, 9, 3]}), "l2", alone=True)
    assert [(one.attack, one.optimality.value) for one in found.attacks] == [
        ("best", 1.0),
        ("blind", 0.0),
        ("last", 0.0),
    ]
    assert (found.attacks[0].optimality.low, found.attacks[0].optimality.high) == (1.0, 1.0)


def test_images_that_are_wrong_from_the_start_do_not_count() -> None:
    whole = optimality(attacked({"a": [1, FAR, 5], "b": [3, 2, 4]}), "l2", alone=True)
    more = optimality(attacked({"a": [1, 0, FAR, 5], "b": [3, 0, 2, 4]}, wrong=(1,)), "l2", alone=True)
    assert [one.optimality.value for one in more.attacks] == [one.optimality.value for one in whole.attacks]
    assert more.attacks[0].optimality.n == 3


def test_a_given_eps_bounds_the_areas() -> None:
    found = optimality(attacked({"a": [1, FAR, 5], "b": [3, 2, 4]}), "l2", alone=True, eps=2)
    assert [(one.attack, one.optimality.value) for one in found.attacks] == [("a", 1.0), ("b", 0.0)]


distances = st.lists(st.one_of(st.integers(1, 40).map(float), st.just(FAR)), min_size=5, max_size=5)


@settings(deadline=None, max_examples=50)
@given(distances, distances)
def test_it_is_the_area_between_the_accuracy_and_the_curves(first: list[float], second: list[float]) -> None:
    """Against the definition: robust accuracy of each attack's own table, summed over a grid finer than distances."""
    both = {"a": first, "b": second}
    best = [min(pair) for pair in zip(first, second, strict=True)]
    finite = [value for value in best if value < FAR]
    assume(finite and min(finite) < max(finite))
    grid = np.arange(0.5, max(finite), 1.0)
    rows = attacked(both)
    lost = {}
    for attack in both:
        own = rows.filter(pl.col("attack").is_in(["clean", attack]))
        lost[attack] = sum(1 - rate.value for rate in curve(own, "m", "l2", grid.tolist()).rates)
    whole = sum(1 - rate.value for rate in curve(rows, "m", "l2", grid.tolist()).rates)
    found = optimality(rows, "l2", alone=True, resamples=10)
    for one in found.attacks:
        assert one.optimality.value == pytest.approx(lost[one.attack] / whole)
        assert 0 <= one.optimality.low <= one.optimality.value + 1e-12 or one.optimality.n < 3
        assert one.optimality.high <= 1


def test_over_models_it_is_the_mean() -> None:
    rows = pl.concat(
        [attacked({"a": [1, FAR, 5], "b": [3, 2, 4]}), attacked({"a": [1, 2, 3], "b": [3, 2, 4]}, "other")]
    )
    found = optimality(rows, "l2", alone=True)
    a = found.attacks[0]
    assert a.attack == "a"
    assert a.optimality.value == pytest.approx((0.6 + 1) / 2)
    assert [one.model for one in a.models] == ["m", "other"]
    assert [one.optimality.value for one in optimality(rows, "l2", alone=True, models=["other"]).attacks] == [
        1.0,
        1 / 3,
    ]


def test_only_the_chosen_attacks_make_the_best() -> None:
    rows = attacked({"a": [2, 2], "b": [1, 3], "c": [FAR, 4]})
    chosen = optimality(rows, "l2", alone=True, attacks=["a", "c"], eps=5)
    assert [(one.attack, one.optimality.value) for one in chosen.attacks] == [("a", 1.0), ("c", pytest.approx(1 / 6))]


def test_verdicts_with_targets_answer_another_question() -> None:
    rows = attacked({"a": [2, 3], "b": [1, 1]})
    aimed = rows.with_columns(target=pl.when(pl.col("attack") == "b").then(7).otherwise(None).cast(pl.Int32))
    assert [one.attack for one in optimality(aimed, "l2", alone=True).attacks] == ["a"]


def test_it_says_when_it_cannot_be_computed() -> None:
    rows = attacked({"a": [1, FAR, 5], "b": [3, 2, 4]})
    with pytest.raises(ArgumentError, match=r"never saw the images that earlier ones fooled\. Evaluate with"):
        optimality(rows, "l2", alone=False)
    with pytest.raises(ArgumentError, match="did not see 1 of 3 images that m has right"):
        optimality(rows.filter((pl.col("attack") != "b") | (pl.col("image") != 1)), "l2", alone=True)
    with pytest.raises(ArgumentError, match="not in the table"):
        optimality(rows, "l2", alone=True, attacks=["a", "z"])
    with pytest.raises(EmptyDataError, match="No attack fooled m below"):
        optimality(attacked({"a": [FAR, FAR]}), "l2", alone=True)
    with pytest.raises(EmptyDataError, match="No attack ran"):
        optimality(rows.filter(pl.col("attack") == "clean"), "l2", alone=True)
    with pytest.raises(UnknownNameError):
        optimality(rows, "l2", alone=True, models=["z"])
