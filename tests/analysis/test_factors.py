"""Family, depth, size: comparisons whose outcome was put into the table, and tests against closed forms."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.analysis.made import seen, table

from atodds.analysis import Traits, factors, holm
from atodds.analysis.factors import factors_of
from atodds.errors import ArgumentError, EmptyDataError

FAR = math.inf


def test_holm_is_the_step_down_of_bonferroni() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5]) == (0.5,)
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_p_values_and_bonferroni_and_keeps_their_order(values: list[float]) -> None:
    found = holm(values)
    for p, corrected in zip(values, found, strict=True):
        assert p <= corrected <= min(1.0, p * len(values)) + 1e-12
    order = sorted(range(len(values)), key=lambda k: values[k])
    assert [found[k] for k in order] == sorted(found)
    assert holm(values[::-1]) == pytest.approx(found[::-1])


def made(levels: list[list[float]], n: int = 60, noise: float = 0.1) -> tuple[list[list[float]], dict[str, Traits]]:
    """Models by family: their mean distance; depth 10, 20, ... and 100, 200, ... parameters within a family."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, n)
    values: list[list[float]] = []
    traits: dict[str, Traits] = {}
    for family, means in enumerate(levels):
        for k, mean in enumerate(means):
            traits[f"m{len(values)}"] = Traits(f"f{family}", 10 * (k + 1), 100 * (k + 1) + family)
            values.append((5 + image + mean + rng.normal(0, noise, n)).tolist())
    return values, traits


def test_comparisons_go_step_by_step_and_over_the_whole_range() -> None:
    values, traits = made([[0, 1, 2], [0, 0]])
    found = factors_of(seen(values), traits)
    assert [(c.family, c.lower, c.upper) for c in found.within] == [
        ("f0", "m0", "m1"), ("f0", "m1", "m2"), ("f0", "m0", "m2"), ("f1", "m3", "m4"),
    ]  # fmt: skip
    assert all(c.factors == ("depth", "size") for c in found.within)
    assert [(c.lower, c.upper, c.factors) for c in found.across] == [("f0", "f1", ("family",))]


def test_differences_are_paired_means_and_sign_tests_over_images() -> None:
    values, traits = made([[0, 1, 2], [0, 0]])
    found = factors_of(seen(values), traits)
    first, last = found.within[0], found.within[3]
    gap = np.array(values[1]) - np.array(values[0])
    assert first.difference == pytest.approx(gap.mean())
    spread = 1.96 * gap.std() / math.sqrt(60)
    assert (first.low, first.high) == pytest.approx((gap.mean() - spread, gap.mean() + spread), abs=spread / 4)
    assert first.n == 60
    assert first.ahead is not None
    assert first.ahead.value == 1.0
    assert first.p == pytest.approx(2 * 0.5**60)
    assert first.clear
    assert last.ahead is not None
    wins = int((np.array(values[4]) > np.array(values[3])).sum())
    assert last.p == stats.binomtest(wins, 60).pvalue
    assert not last.clear
    assert [c.adjusted for c in found.within] == pytest.approx(holm([c.p for c in found.within]))
    across = np.array(values[3:]).mean(0) - np.array(values[:3]).mean(0)
    assert found.across[0].difference == pytest.approx(across.mean())


def test_an_image_that_was_never_fooled_counts_as_further_but_has_no_difference() -> None:
    traits = {"m0": Traits("f", 1), "m1": Traits("f", 2), "m2": Traits("g", 3)}
    values: list[list[float]] = [[1, 2, 3, FAR, FAR], [2, FAR, 1, FAR, 4], [1, 1, 1, 1, 1]]
    found = factors_of(seen(values), traits).within[0]
    assert found.n == 2
    assert found.difference == pytest.approx((1 - 2) / 2)
    assert found.ahead is not None
    assert (found.ahead.value, found.ahead.n) == (0.5, 4)
    wrong = [[True, False, False, False, False], [False] * 5, [False] * 5]
    left = factors_of(seen(values, wrong), traits).within[0]
    assert left.n == 1
    assert left.ahead is not None
    assert left.ahead.n == 3


def test_models_that_never_differ_are_not_told_apart() -> None:
    traits = {"m0": Traits("f", 1), "m1": Traits("f", 2), "m2": Traits("g", 3)}
    found = factors_of(seen([[1, 2], [1, 2], [3, 4]]), traits).within[0]
    assert (found.ahead, found.p, found.difference) == (None, 1.0, 0.0)


def test_deeper_is_further_in_every_pair_of_the_trend() -> None:
    values, traits = made([[0, 1, 2], [5, 6, 7], [1]])
    depth, size = factors_of(seen(values), traits).trends
    assert (depth.factor, depth.concordant, depth.pairs) == ("depth", 6, 6)
    assert depth.p == pytest.approx(2 / 36, abs=0.01)  # two of the 3! · 3! orders are so extreme
    assert size.concordant == 6


def test_a_trend_against_the_enumeration_of_all_orders() -> None:
    values, traits = made([[0, 2, 1, 3]], noise=0.001)
    values.append(values[0])
    traits["m4"] = Traits("g", 1, 1)
    (depth, _) = factors_of(seen(values), traits).trends
    score = [sum(1 if order[b] > order[a] else -1 for a in range(4) for b in range(a + 1, 4))
             for order in permutations(range(4))]  # fmt: skip
    assert depth.concordant == 5
    assert depth.p == pytest.approx(np.mean(np.abs(score) >= 4), abs=0.015)


def test_shares_are_eta_squared_and_r_squared() -> None:
    values, traits = made([[0, 1, 2], [4, 5, 7], [1, 1, 3]])
    found = factors_of(seen(values), traits)
    whole = np.array(values).mean(1)
    shares = {one.factor: one for one in found.explained}
    groups = whole.reshape(3, 3)
    between = 3 * ((groups.mean(1) - whole.mean()) ** 2).sum()
    assert shares["family"].share == pytest.approx(between / ((whole - whole.mean()) ** 2).sum())
    logs = np.log([traits[f"m{k}"].depth or 0 for k in range(9)])
    assert shares["depth"].share == pytest.approx(stats.linregress(logs, whole).rvalue ** 2)
    assert (shares["family"].chance, shares["depth"].chance) == (2 / 8, 1 / 8)
    assert "accuracy" not in shares  # no model makes an error
    assert [text.partition(":")[0] for text in found.skipped] == ["accuracy"]
    corrected = holm([one.p for one in found.explained])
    assert [one.adjusted for one in found.explained] == pytest.approx(corrected)


def test_chance_is_what_random_orders_explain_on_average() -> None:
    """With levels that have nothing to do with families, p is uniform and the mean share is the chance."""
    shares, ps = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = (5 + rng.normal(size=(9, 1)) + np.zeros((9, 4))).tolist()
        traits = {f"m{k}": Traits(f"f{k // 3}") for k in range(9)}
        (one,) = factors_of(seen(values), traits, resamples=2).explained
        shares.append(one.share)
        ps.append(one.p)
    assert np.mean(shares) == pytest.approx(2 / 8, abs=0.06)
    assert stats.kstest(ps, "uniform").pvalue > 0.01


def test_accuracy_is_a_factor_too() -> None:
    errors = (0.5, 0.25, 0.125, 0.0625)
    values = [[5 + 2 * math.log(error)] * 16 for error in errors]
    wrong = [[k < round(error * 16) for k in range(16)] for error in errors]
    traits = {f"m{k}": Traits(f"f{k // 2}") for k in range(4)}
    found = {one.factor: one.share for one in factors_of(seen(values, wrong), traits).explained}
    assert found["accuracy"] == pytest.approx(1)


def test_a_factor_that_cannot_be_looked_at_is_named() -> None:
    values, _ = made([[0, 1], [2, 3]])
    alone = {f"m{k}": Traits(f"f{k}", 5) for k in range(4)}
    found = factors_of(seen(values), alone)
    assert found.within == ()
    assert found.explained == ()
    assert {text.partition(":")[0] for text in found.skipped} == {"family", "depth", "size", "accuracy"}
    assert len(found.across) == 6


def test_the_order_of_models_changes_nothing_but_signs() -> None:
    values, traits = made([[0, 1, 2], [0, 0]])
    rows = table(dict(zip(traits, values, strict=True)))
    there = factors(rows, "l2", traits)
    back = factors(rows, "l2", dict(reversed(traits.items())))
    key = {(c.lower, c.upper): (round(c.difference, 12), c.n, c.p) for c in there.within}
    assert {(c.lower, c.upper): (round(c.difference, 12), c.n, c.p) for c in back.within} == key
    assert back.across[0].difference == pytest.approx(-there.across[0].difference)
    assert [one.share for one in back.explained] == pytest.approx([one.share for one in there.explained])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ArgumentError, match="fewer than three"):
        factors(table({"a": [1], "b": [2]}), "l2", {"a": Traits("x"), "b": Traits("x")})
    never = table({"a": [1], "b": [2], "c": [FAR]})
    with pytest.raises(EmptyDataError, match="c has no finite mean distortion"):
        factors(never, "l2", {name: Traits("x") for name in "abc"})
