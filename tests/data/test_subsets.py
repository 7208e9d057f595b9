"""Subsets are nested or share nothing, have equal classes, and depend on seed and ids alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds.data import ImageSet
from atodds.data.subsets import nested, parts
from atodds.errors import ArgumentError


def images(counts: tuple[int, ...] = (20, 20, 20), seed: int = 0) -> ImageSet:
    """A set with so many images of each class, in a random order."""
    draws = np.random.default_rng(seed)
    labels = draws.permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = draws.integers(0, 256, (len(labels), 1, 2, 2)).astype(np.uint8)
    ids = draws.permutation(1000)[: len(labels)]
    return ImageSet.from_arrays(pixels, labels, name="some", ids=ids, classes=[f"c{k}" for k in range(len(counts))])


def counts(subset: ImageSet) -> list[int]:
    return [int((subset.labels == label).sum()) for label in range(len(subset.classes))]


SIZES = st.sets(st.integers(3, 60), min_size=1).map(sorted)


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(-(2**40), 2**40))
def test_every_subset_lies_within_the_next_and_has_equal_classes(sizes: list[int], seed: int) -> None:
    subsets = nested(images(), sizes, seed=seed)
    assert [len(subset) for subset in subsets] == sizes
    for subset in subsets:
        assert max(counts(subset)) - min(counts(subset)) <= 1
    for small, large in pairwise(subsets):
        assert set(small.ids.tolist()) < set(large.ids.tolist())


def test_a_subset_depends_on_its_size_seed_and_ids_alone() -> None:
    source = images()
    (alone,) = nested(source, [30], seed=4)
    among = nested(source, [3, 17, 30, 60], seed=4)[2]
    assert alone.fingerprint == among.fingerprint
    backwards = nested(source.take(np.arange(60)[::-1]), [30], seed=4)[0]
    assert set(backwards.ids.tolist()) == set(alone.ids.tolist())
    assert set(nested(source, [30], seed=5)[0].ids.tolist()) != set(alone.ids.tolist())


def test_images_keep_their_ids_labels_and_order() -> None:
    source = images()
    (subset,) = nested(source, [10])
    place = {int(number): row for row, number in enumerate(source.ids)}
    rows = [place[number] for number in subset.ids.tolist()]
    assert rows == sorted(rows)
    assert np.array_equal(subset.labels, source.labels[rows])
    assert np.array_equal(subset.pixels(), source.pixels(rows))
    assert subset.selection == "balanced 10, seed 0"


def test_another_seed_gives_the_odd_image_to_another_class() -> None:
    odd = {counts(nested(images(), [4], seed=seed)[0]).index(2) for seed in range(20)}
    assert odd == {0, 1, 2}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(3, 60), min_size=1, max_size=6), st.integers(0, 9))
def test_parts_share_no_image_and_have_equal_classes(sizes: list[int], seed: int) -> None:
    if sum(sizes) > 60:
        with pytest.raises(ArgumentError, match="images together, of 60"):
            parts(images(), sizes, seed=seed)
        return
    made = parts(images(), sizes, seed=seed)
    taken = np.concatenate([part.ids for part in made])
    assert [len(part) for part in made] == sizes
    assert len(set(taken.tolist())) == sum(sizes)
    assert all(max(counts(part)) - min(counts(part)) <= 1 for part in made)


def test_the_split_of_stl_10_is_a_thousand_and_three_hundred_of_each_class() -> None:
    labels = np.repeat(np.arange(10), 1300)
    source = ImageSet.from_arrays(np.zeros((13000, 1, 1, 1), np.uint8), labels, name="stl")
    train, test = parts(source, [10_000, 3_000])
    assert counts(train) == [1000] * 10
    assert counts(test) == [300] * 10


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([], "no size"),
        ([30, 61], "some has 60 images. Give at most 60"),
        ([30, 10], "do not increase. Give them from small to large, each once: 10, 30"),
        ([10, 10], "do not increase"),
        ([2], "fewer images than the 3 classes"),
        ([10.5], "not a number of images"),
        ([True], "not a number of images"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: list[int], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        nested(images(), sizes)


def test_a_class_with_too_few_images_is_named_with_the_largest_size_that_works() -> None:
    source = images((20, 5, 30))
    with pytest.raises(ArgumentError, match=r"class 'c1' of some has only 5 of 55 images.*at most (\d+)") as refused:
        nested(source, [9, 30])
    most = int(str(refused.value).split("at most ")[1].split()[0])
    assert 15 <= most <= 17
    assert counts(nested(source, [most])[0])[1] == 5
    with pytest.raises(ArgumentError, match="c1"):
        nested(source, [most + 1])


def test_a_subset_of_a_subset_says_so() -> None:
    (subset,) = nested(images().limit(30), [12], seed=3)
    assert subset.selection == "balanced 12, seed 3 of balanced 30"
