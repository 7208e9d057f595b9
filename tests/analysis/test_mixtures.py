"""The line that mixtures trace, on points whose distances from the straight line are known, and on lots that lie on
it."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from tests.analysis.made import seen, table

from atodds.analysis.mixtures import Mixed, MixtureFrontier, mixed_in, mixture_frontier, mixture_frontier_of
from atodds.errors import ArgumentError, EmptyDataError
from atodds.evaluation.manifest import ModelInfo
from atodds.threat import Budget

ONE = Budget(1.0, "1")


def mixed(count: int, by: str = "outputs") -> Mixed:
    return Mixed(by, tuple((k / (count - 1), f"m{k}") for k in range(count)))


def traced(points: list[tuple[float, float]], n: int = 1000, resamples: int = 200) -> MixtureFrontier:
    """The frontier through (accuracy, robust accuracy) in the order of alpha, of n images."""
    values, wrong = [], []
    for accuracy, robustness in points:
        right, robust = round(accuracy * n), round(robustness * n)
        values.append([2.0] * robust + [0.5] * (n - robust))
        wrong.append([False] * right + [True] * (n - right))
    return mixture_frontier_of(seen(values, wrong), ONE, mixed(len(points)), resamples=resamples)


ROOT = math.sqrt(2)


@pytest.mark.parametrize(
    ("points", "mean", "gaps"),
    [
        ([(1.0, 0.0), (0.5, 0.5), (0.5, 0.5)], 0.0, [0, 0, 0]),
        ([(0.9, 0.1), (0.9, 0.5), (0.5, 0.5)], 0.4 / (2 * ROOT), [0, 0.4 / ROOT, 0]),  # a corner: half of a square
        ([(0.5, 0.5), (0.9, 0.5), (0.9, 0.1)], 0.4 / (2 * ROOT), [0, 0.4 / ROOT, 0]),  # the same from the other end
        ([(0.9, 0.1), (0.5, 0.1), (0.5, 0.5)], -0.4 / (2 * ROOT), [0, -0.4 / ROOT, 0]),  # the inner corner
        ([(0.9, 0.1), (0.9, 0.4), (0.9, 0.8)], 0.0, [0, 0, 0]),  # ends of the same accuracy
        ([(0.9, 0.1), (1.0, 0.1), (1.0, 0.8), (0.9, 0.8)], 0.1, [0, 0.1, 0.1, 0]),  # the side of more accuracy
        ([(0.5, 0.1), (0.5, 0.5), (0.9, 0.5)], 0.4 / (2 * ROOT), [0, 0.4 / ROOT, 0]),  # one end has more of both
    ],
)
def test_the_gaps_are_distances_from_the_straight_line(
    points: list[tuple[float, float]], mean: float, gaps: list[float]
) -> None:
    found = traced(points)
    assert found.gap.value == pytest.approx(mean, abs=1e-9)
    assert [point.gap.value for point in found.points] == pytest.approx(gaps, abs=1e-9)
    assert [point.accuracy.value for point in found.points] == pytest.approx([point[0] for point in points])
    assert [point.robustness.value for point in found.points] == pytest.approx([point[1] for point in points])


def test_the_verdict_says_above_and_below_only_when_the_interval_leaves_0_out() -> None:
    above, below = traced([(0.9, 0.1), (0.9, 0.5), (0.5, 0.5)]), traced([(0.9, 0.1), (0.5, 0.1), (0.5, 0.5)])
    assert (above.verdict, below.verdict) == ("above", "below")
    assert [point.model for point in above.clear] == ["m1"]
    assert below.clear == ()
    assert traced([(0.9, 0.1), (0.72, 0.3), (0.5, 0.5)], n=50).verdict == "cannot tell"


def lots(rng: np.random.Generator, n: int, shares: list[float]) -> tuple[list[list[float]], list[list[bool]]]:
    """Two models, and between them which of the two answers is drawn by lot for every image: points of the line."""
    right = rng.random((n, 2)) < [0.9, 0.7]
    robust: npt.NDArray[np.bool_] = right & (rng.random((n, 2)) < [0.1, 0.8])
    values, wrong = [], []
    for share in shares:
        asked = (rng.random(n) < share).astype(int)
        mine = np.arange(n), asked
        values.append(np.where(robust[mine], 2.0, 0.5).tolist())
        wrong.append((~right[mine]).tolist())
    return values, wrong


def test_intervals_hold_the_line_as_often_as_they_say_where_the_mixtures_are_lots() -> None:
    rng, shares, runs, n = np.random.default_rng(5), [0.0, 0.25, 0.5, 0.75, 1.0], 300, 120
    mean_held = all_held = 0
    for run in range(runs):
        found = mixture_frontier_of(seen(*lots(rng, n, shares)), ONE, mixed(5), seed=run, resamples=250)
        mean_held += found.verdict == "cannot tell"
        all_held += all(point.gap.low <= 0 <= point.gap.high for point in found.points)
    # Binomial(300, 0.95) stays above 0.91 with 99.9 %; the bootstrap itself is a little short with 120 images.
    assert mean_held / runs > 0.91
    assert all_held / runs > 0.91
    assert mean_held < runs


def test_the_interval_of_a_single_gap_is_wider_than_it_would_be_alone() -> None:
    rng = np.random.default_rng(1)
    values, wrong = lots(rng, 400, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    many = mixture_frontier_of(seen(values, wrong), ONE, mixed(6))
    few = mixture_frontier_of(seen([values[0], values[2], values[5]], [wrong[0], wrong[2], wrong[5]]), ONE, mixed(3))
    width = [point.gap.high - point.gap.low for point in (many.points[2], few.points[1])]
    assert width[0] > 1.1 * width[1]
    assert many.points[0].gap.low == many.points[0].gap.high == 0


def test_the_table_gives_what_the_distances_give() -> None:
    rows = table({"a": [0.5] * 8 + [2.0] * 2, "b": [2.0] * 9 + [0.5], "m": [2.0] * 9 + [0.5]}, {"b": [0, 1, 2]})
    three = Mixed("weights", ((0.0, "a"), (0.5, "m"), (1.0, "b")))
    found = mixture_frontier(rows, "l2", 1.0, three)
    assert [point.model for point in found.points] == ["a", "m", "b"]
    assert [point.accuracy.value for point in found.points] == [1.0, 1.0, 0.7]
    assert [point.robustness.value for point in found.points] == [0.2, 0.9, 0.6]
    assert found.by == "weights"
    assert found.gap.value > 0


def test_what_cannot_be_asked_is_told() -> None:
    rows = table({"a": [0.5] * 4, "b": [2.0] * 4, "c": [2.0] * 4})
    with pytest.raises(ArgumentError, match="no mixture between"):
        mixture_frontier(rows, "l2", 1.0, Mixed("outputs", ((0.0, "a"), (1.0, "b"))))
    with pytest.raises(ArgumentError, match="equally accurate and equally robust"):
        mixture_frontier(rows, "l2", 1.0, Mixed("outputs", ((0.0, "b"), (0.5, "a"), (1.0, "c"))))
    with pytest.raises(EmptyDataError):
        mixture_frontier(rows.clear(), "l2", 1.0, mixed(3))


def info(name: str, mark: str, source: str = "") -> ModelInfo:
    return ModelInfo(f"{name}@{mark * 8}", name, source, mark * 64, 1)


def test_the_mixtures_of_a_run_are_found_by_what_they_were_made_of() -> None:
    first, second = info("a,b)", "a"), info("c", "c")
    half = info("whatever", "1", "mix(a,b)@aaaaaaaa,c@cccccccc,0.5)")
    tenth = info("mix(a,b),c,0.1)", "2", "mix(a,b)@aaaaaaaa,c@cccccccc,0.1)")
    weights = info("w", "3", "mix-weights(a,b)@aaaaaaaa,c@cccccccc,0.5)")
    orphan = info("o", "4", "mix(a,b)@aaaaaaaa,d@dddddddd,0.5)")
    chosen = info("n", "5", "mix(a,b)@aaaaaaaa,c@cccccccc,network)")
    damaged = info("x", "6", "mix(a,b)@aaaaaaaa,c@cccccccc,1e.-5)")
    outside = info("y", "7", "mix(a,b)@aaaaaaaa,c@cccccccc,3)")
    found = mixed_in([first, half, tenth, weights, orphan, chosen, damaged, outside, second])
    assert found == (
        Mixed("outputs", ((0.0, first.id), (0.1, tenth.id), (0.5, half.id), (1.0, second.id))),
        Mixed("weights", ((0.0, first.id), (0.5, weights.id), (1.0, second.id))),
    )
    assert mixed_in([first, second]) == ()
