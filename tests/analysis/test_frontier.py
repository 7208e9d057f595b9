"""The frontier, on points whose Pareto set is known, and by its promises on all others."""

import math
from itertools import permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import seen, table

from atodds.analysis import frontier, pareto
from atodds.analysis.frontier import frontier_at
from atodds.errors import ArgumentError, EmptyDataError, ThreatError, UnknownNameError
from atodds.threat import Budget


@pytest.mark.parametrize(
    ("points", "members"),
    [
        ([(0.9, 0.1), (0.8, 0.5), (0.7, 0.4)], [0, 1]),
        ([(0.9, 0.1)], [0]),
        ([(0.5, 0.5), (0.5, 0.5)], [0, 1]),  # equal points do not beat each other
        ([(0.5, 0.5), (0.5, 0.4), (0.4, 0.5)], [0]),  # a tie in one is beaten in the other
        ([(0.1, 0.9), (0.2, 0.8), (0.3, 0.7)], [0, 1, 2]),
        ([(0.1, math.inf), (0.2, 1.0), (0.1, 2.0)], [0, 1]),
    ],
)
def test_the_pareto_set_is_the_known_one(points: list[tuple[float, float]], members: list[int]) -> None:
    for order in permutations(range(len(points))):
        accuracy, robustness = (np.array([points[k][side] for k in order]) for side in (0, 1))
        assert sorted(order[k] for k in np.flatnonzero(pareto(accuracy, robustness))) == members


share = st.integers(0, 6).map(lambda k: k / 6)


@settings(deadline=None)
@given(st.lists(st.tuples(share, share), min_size=1, max_size=15))
def test_a_member_is_beaten_by_nobody_and_every_other_by_a_member(points: list[tuple[float, float]]) -> None:
    accuracy, robustness = (np.array([point[side] for point in points]) for side in (0, 1))
    members = pareto(accuracy, robustness)
    assert members.any()

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    for k, point in enumerate(points):
        beaters = [j for j, other in enumerate(points) if beats(other, point)]
        assert members[k] == (not beaters)
        assert members[k] or any(members[j] for j in beaters)


FAR = math.inf
TABLE = table(
    {  # 100 images each; robust at 1: those that were fooled further away, or never
        "accurate": [0.5] * 80 + [FAR] * 20,
        "balanced": [0.5] * 50 + [FAR] * 50,
        "beaten": [0.5] * 55 + [FAR] * 45,
        "robust": [0.5] * 10 + [FAR] * 90,
    },
    {"balanced": list(range(5)), "beaten": list(range(10)), "robust": list(range(10))},
)


def test_members_and_who_beats_the_others_are_named() -> None:
    found = frontier(TABLE, "l2", 1)
    assert [(p.model, p.accuracy.value, p.robustness.value) for p in found.points] == [
        ("accurate", 1.0, 0.2), ("balanced", 0.95, 0.5), ("beaten", 0.9, 0.45), ("robust", 0.9, 0.9),
    ]  # fmt: skip
    assert [point.model for point in found.members] == ["accurate", "balanced", "robust"]
    assert [beater.model for beater in found.point("beaten").dominators] == ["balanced", "robust"]
    assert found.eps == Budget(1.0, "1")
    assert all(point.member == (not point.dominators) for point in found.points)


def test_probabilities_are_those_of_drawing_the_same_images_for_all_models() -> None:
    """ "beaten" is right and stands only where "robust" is and does: it never overtakes it. "accurate" is beaten where
    none of the 5 images was drawn that it has right and "balanced" has not."""
    found = frontier(TABLE, "l2", 1)
    beaten = found.point("beaten")
    assert beaten.probability == 0
    assert beaten.dominators[0].probability == 1
    assert found.point("accurate").probability == pytest.approx(1 - 0.95**100, abs=0.005)


def test_the_probability_of_a_close_call_is_the_binomial_one() -> None:
    """Both models have every image right. a stands on 30 images on which b falls, b on 30 others: who is ahead in a
    resample is a fair coin, and both are members where they tie."""
    values = [[9.0] * 30 + [0.1] * 30 + [9.0] * 40, [0.1] * 30 + [9.0] * 30 + [9.0] * 40]
    found = frontier_at(seen(values), Budget(1.0, "1"), resamples=20_000)
    rng = np.random.default_rng(5)
    drawn = rng.multinomial(100, [0.3, 0.3, 0.4], size=200_000)
    expected = (drawn[:, 0] >= drawn[:, 1]).mean()
    assert [point.probability for point in found.points] == pytest.approx([expected, expected], abs=0.01)
    assert [point.member for point in found.points] == [True, True]


def test_equal_models_are_members_together() -> None:
    found = frontier_at(seen([[0.1, 9.0], [0.1, 9.0]]), Budget(1.0, "1"), resamples=50)
    assert [(point.member, point.probability, point.dominators) for point in found.points] == [(True, 1.0, ())] * 2


def test_without_an_eps_robustness_is_the_distortion() -> None:
    near = table({"a": [1, 2, 3, 4], "b": [2, 3, 4, 50]}, {"b": [0]})
    median = frontier(near, "l2")
    assert [point.robustness.value for point in median.points] == [2.5, 4.0]
    mean = frontier(near, "l2", measure="mean")
    assert [point.robustness.value for point in mean.points] == [2.5, 19.0]
    assert mean.eps is None
    assert [point.member for point in mean.points] == [True, True]
    low, value, high = (getattr(median.points[0].robustness, name) for name in ("low", "value", "high"))
    assert low < value < high


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 5), st.randoms(use_true_random=False))
def test_the_order_of_models_changes_nothing(count: int, random: object) -> None:
    rng = np.random.default_rng(count)
    found = {f"m{k}": rng.exponential(size=12).tolist() for k in range(count)}
    wrong = {name: np.flatnonzero(rng.random(12) < 0.3).tolist() for name in found}
    names = list(found)
    random.shuffle(names)  # type: ignore[attr-defined]
    verdicts = table(found, wrong)
    first, second = (
        frontier(verdicts, "l2", 0.7, resamples=40),
        frontier(verdicts, "l2", 0.7, models=names, resamples=40),
    )
    assert {p.model: p for p in first.points} == {p.model: p for p in second.points}
    assert first.members == second.members


def test_what_has_no_frontier_is_refused() -> None:
    with pytest.raises(EmptyDataError, match="0 models"):
        pareto(np.array([]), np.array([]))
    with pytest.raises(ArgumentError, match="not one number"):
        pareto(np.ones(2), np.ones(3))
    with pytest.raises(ArgumentError, match="compared"):
        pareto(np.ones(1), np.array([math.nan]))
    with pytest.raises(ThreatError):
        frontier(TABLE, "l3", 1)
    with pytest.raises(UnknownNameError):
        frontier(TABLE, "l2", 1, models=["accurat"])
    never = table({"a": [FAR, FAR], "b": [1, 2]})
    with pytest.raises(EmptyDataError, match="a has no mean distortion: of 2 images it classifies 2 rightly, and 0"):
        frontier(never, "l2", measure="mean")
    assert frontier(never, "l2", measure="median").points[0].robustness.value == FAR
    with pytest.raises(EmptyDataError, match="no verdicts"):
        frontier(pl.DataFrame(), "l2", 1)
