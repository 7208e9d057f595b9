"""The published leaderboard as it is shipped: whole, sourced, and its frontier that of its numbers."""

import re

import numpy as np
import pytest
from scipy import stats

from atodds.analysis import pareto, published_frontier
from atodds.analysis.leaderboard import IMAGES, Entry, entries, matching, nearby
from atodds.errors import EmptyDataError, ThreatError, UnknownNameError

BOARDS = [("cifar10", "linf", "8/255", 93), ("cifar10", "l2", 0.5, 21), ("cifar100", "linf", "8/255", 38),
          ("imagenet", "linf", "4/255", 30), ("cifar10", "corruptions", None, 23),
          ("cifar100", "corruptions", None, 13), ("imagenet", "corruptions", None, 12)]  # fmt: skip


def test_all_236_entries_are_there_each_with_its_source() -> None:
    found = entries()
    assert len(found) == 236
    assert len({(entry.id, entry.data, entry.threat) for entry in found}) == 236
    for entry in found:
        assert re.fullmatch(r"https?://\S+", entry.paper)
        assert entry.title
        assert entry.venue
        assert entry.architecture
        assert 0 <= entry.robust <= entry.accuracy <= 1
        assert entry.external is None or entry.external <= entry.robust
        assert entry.images == IMAGES[entry.data]
        assert "<" not in f"{entry.venue}{entry.title}"


def test_an_entry_is_what_was_published() -> None:
    (entry,) = [e for e in matching("cifar10", "linf", "8/255") if e.id == "Kang2021Stable"]
    assert entry == Entry(
        id="Kang2021Stable", data="cifar10", threat="linf", eps=entry.eps,
        architecture="WideResNet-70-16, Neural ODE block", accuracy=0.9373, robust=0.7128, external=0.642,
        unreliable=True, additional_data=True, venue="NeurIPS 2021", paper="https://arxiv.org/abs/2110.12976",
        title=entry.title,
    )  # fmt: skip
    assert entry.best_known == 0.642
    assert str(entry.eps) == "8/255"


def test_accuracies_are_counts_of_as_many_images_as_are_told() -> None:
    for entry in entries():
        if entry.threat == "linf":
            assert entry.accuracy * entry.images == pytest.approx(round(entry.accuracy * entry.images), abs=0.01)


@pytest.mark.parametrize(("data", "threat", "eps", "count"), BOARDS)
def test_entries_match_where_data_norm_and_eps_match(
    data: str, threat: str, eps: str | float | None, count: int
) -> None:
    assert len(matching(data, threat, eps)) == count


def test_another_eps_norm_or_data_set_does_not_match() -> None:
    assert matching("cifar10", "linf", "4/255") == ()
    assert matching("cifar10", "l1", 12) == ()
    assert matching("digits", "linf", "8/255") == ()
    assert matching("cifar10", "linf", 8 / 255) == matching("cifar10", "l-inf", "8/255")
    assert len(matching("cifar10", "linf", 0.031)) == 6
    with pytest.raises(ThreatError):
        matching("cifar10", "l7", 1)


def test_entries_of_the_same_board_at_nearly_the_same_eps_are_told() -> None:
    assert {str(entry.eps) for entry in nearby("cifar10", "linf", "8/255")} == {"0.031"}
    assert len(nearby("cifar10", "linf", "8/255")) == 6
    assert nearby("cifar10", "linf", "4/255") == ()
    assert nearby("cifar10", "corruptions") == ()


@pytest.mark.parametrize(("data", "threat", "eps", "count"), BOARDS)
def test_the_frontier_is_the_pareto_set_of_the_published_numbers(
    data: str, threat: str, eps: str | float | None, count: int
) -> None:
    found = published_frontier(data, threat, eps, resamples=100)
    board = matching(data, threat, eps)
    members = pareto(np.array([e.accuracy for e in board]), np.array([e.best_known for e in board]))
    assert [point.member for point in found.points] == members.tolist()
    assert len(found.points) == count
    assert all(0 <= point.probability <= 1 for point in found.points)
    assert all(point.accuracy.low < point.accuracy.value < point.accuracy.high for point in found.points)


def test_the_frontier_of_cifar10_in_l_inf_is_the_one_on_the_page() -> None:
    found = published_frontier("cifar10", "linf", "8/255")
    assert [(p.model, p.accuracy.value, p.robustness.value) for p in found.members] == [
        ("Bai2023Improving_edm", 0.9523, 0.6806),
        ("Bai2024MixedNUTS", 0.9519, 0.6971),
        ("Bartoldson2024Adversarial_WRN-94-16", 0.9368, 0.7371),
    ]
    assert found.members[0].probability < 0.7 < found.members[1].probability


def test_a_close_call_is_the_coin_that_its_numbers_make_it() -> None:
    """Of two entries that differ by 0.04 points of accuracy the better one is ahead little more often than not."""
    found = published_frontier("cifar10", "linf", "8/255", resamples=4000)
    edm, nuts = found.point("Bai2023Improving_edm"), found.point("Bai2024MixedNUTS")
    spread = np.sqrt(2 * 0.9523 * 0.0477 / 10_000)
    assert edm.probability == pytest.approx(
        stats.norm.cdf((edm.accuracy.value - nuts.accuracy.value) / spread), abs=0.03
    )


def test_a_board_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean cifar10"):
        published_frontier("cifar", "linf", "8/255")
    with pytest.raises(EmptyDataError, match=r"corruptions, l2 0\.5, linf 0\.031, linf 8/255"):
        published_frontier("cifar10", "linf", "1/255")
