"""Rules that choose training images, against choices that are known."""

import numpy as np
import pytest

from atodds.data.images import ImageSet
from atodds.data.selection import RULES, herding, k_center, select
from atodds.data.subsets import nested
from atodds.errors import ArgumentError, UnknownNameError


def images(count: int = 60, kinds: int = 3) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4)).astype(np.uint8)
    return ImageSet.from_arrays(pixels, np.arange(count) % kinds, name="some")


GIVEN = images()
MARGINS = np.random.default_rng(1).normal(size=60)


@pytest.mark.parametrize("rule", RULES)
def test_a_subset_has_equal_classes_and_does_not_depend_on_the_order_of_the_source(rule: str) -> None:
    kept = select(GIVEN, 12, rule, seed=3, margins=MARGINS)
    assert np.bincount(kept.labels).tolist() == [4, 4, 4]
    assert len(set(kept.ids)) == 12
    order = np.random.default_rng(2).permutation(60)
    turned = select(GIVEN.take(order), 12, rule, seed=3, margins=MARGINS[order])
    assert set(turned.ids) == set(kept.ids)


def test_random_is_the_subset_of_the_study() -> None:
    assert set(select(GIVEN, 12, "random", seed=5).ids) == set(nested(GIVEN, [12], seed=5)[0].ids)
    assert set(select(GIVEN, 12, "random", seed=5).ids) != set(select(GIVEN, 12, "random", seed=6).ids)


def test_margins_decide_within_each_class() -> None:
    small, large = (select(GIVEN, 12, rule, margins=MARGINS) for rule in ("small-margin", "large-margin"))
    for kind in range(3):
        ranked = GIVEN.ids[GIVEN.labels == kind][np.argsort(MARGINS[GIVEN.labels == kind])]
        assert set(small.ids[small.labels == kind]) == set(ranked[:4])
        assert set(large.ids[large.labels == kind]) == set(ranked[-4:])


def test_k_center_takes_the_ends_of_a_line_and_then_fills_the_widest_gap() -> None:
    line = np.array([[0.0], [1.0], [4.9], [8.0], [10.0]], np.float32)  # mean 4.78
    assert k_center(line, 5).tolist() == [2, 4, 0, 3, 1]


def test_k_center_takes_no_image_twice_where_all_are_the_same() -> None:
    assert sorted(k_center(np.ones((6, 3), np.float32), 6)) == list(range(6))


def test_herding_keeps_the_mean() -> None:
    points = np.random.default_rng(4).random((200, 5), np.float32)
    off = np.linalg.norm(points[herding(points, 20)].mean(0) - points.mean(0))
    draws = np.random.default_rng(5)
    usual = [np.linalg.norm(points[draws.choice(200, 20, replace=False)].mean(0) - points.mean(0)) for _ in range(100)]
    assert off < 0.5 * min(usual)
    assert sorted(herding(points, 200)) == list(range(200))


def test_what_a_rule_lacks_is_told() -> None:
    with pytest.raises(UnknownNameError, match="k-center"):
        select(GIVEN, 12, "k-centre")
    with pytest.raises(ArgumentError, match="one number for each of 60 images"):
        select(GIVEN, 12, "small-margin")
    with pytest.raises(ArgumentError, match="one number"):
        select(GIVEN, 12, "large-margin", margins=MARGINS[:59])
    with pytest.raises(ArgumentError, match="has 60 images"):
        select(GIVEN, 61, "herding")
