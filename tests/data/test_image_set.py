"""ImageSet: what it takes, what it refuses, what a limit and a fingerprint are."""

import hashlib
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
import torch

from atodds.data import ImageSet
from atodds.data.images import How
from atodds.errors import ArgumentError, DataError, EmptyDataError, UnknownNameError


def grey(*labels: int, classes: Sequence[str] | None = None) -> ImageSet:
    """One 2x2 image a label; the k-th image is all k."""
    pixels = np.repeat(np.arange(len(labels), dtype=np.uint8), 4).reshape(-1, 1, 2, 2)
    return ImageSet.from_arrays(pixels, np.array(labels), classes=classes, name="small")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 3, 8, 6), (3, 8, 6)),
        ((4, 8, 6, 3), (3, 8, 6)),
        ((4, 8, 6, 1), (1, 8, 6)),
        ((4, 8, 6), (1, 8, 6)),
        ((4, 1, 8, 1), (1, 8, 1)),
        ((4, 3, 3, 3), (3, 3, 3)),
        ((4, 4, 8, 6), (4, 8, 6)),
        ((4, 8, 6, 4), (4, 8, 6)),
    ],
)
def test_the_layout_is_read_from_the_shape(shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    images = ImageSet.from_arrays(np.zeros(shape, np.uint8), np.zeros(4, int))
    assert images.shape == expected


def test_channels_last_is_moved_and_not_reshaped() -> None:
    last = np.arange(2 * 5 * 4 * 3, dtype=np.uint8).reshape(2, 5, 4, 3)
    assert (ImageSet.from_arrays(last, [0, 1]).pixels() == last.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("shape", [(4,), (4, 64), (4, 9, 8, 8), (1, 2, 3, 4, 5)])
def test_a_shape_without_a_meaning_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"Give \(N, C, H, W\)"):
        ImageSet.from_arrays(np.zeros(shape, np.uint8), np.zeros(shape[0], int))


def test_floats_on_the_8_bit_grid_are_the_bytes_that_they_came_from() -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for floats in (torch.tensor(codes) / 255, torch.tensor(codes) * (1 / 255), torch.tensor(codes).double() / 255):
        images = ImageSet.from_arrays(floats, [0])
        assert images.pixels().dtype == np.uint8
        assert (images.pixels() == codes).all()
        assert images.fingerprint == ImageSet.from_arrays(codes, [0]).fingerprint


def test_floats_off_the_grid_are_kept() -> None:
    floats = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = ImageSet.from_arrays(floats, [0, 1])
    assert images.pixels().dtype == np.float32
    assert torch.equal(images.images(), floats)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_black_and_white_is_the_same_in_every_type(dtype: torch.dtype) -> None:
    plain = torch.tensor([[[[0, 1], [1, 0]]]])
    given = plain.to(dtype) * 255 if dtype == torch.int64 else plain.to(dtype)
    assert torch.equal(ImageSet.from_arrays(given, [0]).images(), plain.float())


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        (np.full((1, 1, 2, 2), 200.0), "Divide by 255"),
        (np.array([-2.1, 0.0, 1.0, 2.6]).reshape(1, 1, 2, 2), "mean= and std= to the model"),
        (np.array([-1e-7, 0.0, 1.0, 1.0]).reshape(1, 1, 2, 2), "Clip them"),
        (np.array([np.nan, 0.0, 1.0, 1.0]).reshape(1, 1, 2, 2), "NaN"),
        (np.array([np.inf, 0.0, 1.0, 1.0]).reshape(1, 1, 2, 2), "infinite"),
        (np.full((1, 1, 2, 2), 256), "0..255"),
        (np.full((1, 1, 2, 2), -1), "0..255"),
        (np.full((1, 1, 2, 2), "a"), "holds no pixels"),
        (np.full((1, 1, 2, 2), 1j), "holds no pixels"),
    ],
)
def test_pixels_out_of_range_say_the_way_out(pixels: np.ndarray, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        ImageSet.from_arrays(pixels, [0])


def test_nan_far_into_a_large_array_is_found() -> None:
    pixels = np.zeros((3000, 1, 1, 1), np.float32)
    pixels[2999] = np.nan
    with pytest.raises(DataError, match="NaN"):
        ImageSet.from_arrays(pixels, np.zeros(3000, int))


def test_the_arrays_are_copied() -> None:
    pixels, labels = np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int64)
    images = ImageSet.from_arrays(pixels, labels, classes=["a", "b"])
    pixels += 1
    labels += 1
    assert images.pixels().max() == 0
    assert images.labels.max() == 0


def test_no_image_is_an_error_of_its_own() -> None:
    with pytest.raises(EmptyDataError, match="no image"):
        ImageSet.from_arrays(np.zeros((0, 1, 2, 2)), np.zeros(0, int))
    with pytest.raises(EmptyDataError, match="no image"):
        grey(0, 1).take([])
    with pytest.raises(DataError, match="holds no pixel"):
        ImageSet.from_arrays(np.zeros((1, 1, 0, 2)), [0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 2]), "3 for 2 images"),
        (np.array([0.0, 1.0]), "Give whole numbers"),
        (np.array(["cat", "dog"]), "Give whole numbers"),
        (np.eye(2), "argmax"),
        (np.zeros((2, 2, 2), int), "one whole number an image"),
        (np.array([0, -1]), "another split"),
        (np.array([0, -2]), "label -2"),
        (np.array([0, 10**12]), "cannot be a class index"),
        (np.array([0, 2**63], np.uint64), "too large"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageSet.from_arrays(np.zeros((2, 1, 2, 2), np.uint8), labels)


def test_labels_come_as_a_list_a_column_or_a_tensor() -> None:
    pixels = np.zeros((2, 1, 2, 2), np.uint8)
    for labels in ([0, 1], np.array([[0], [1]], np.uint8), torch.tensor([0, 1])):
        assert ImageSet.from_arrays(pixels, labels).labels.tolist() == [0, 1]


def test_a_label_outside_the_classes_names_the_image() -> None:
    with pytest.raises(DataError, match="image 2 has label 3, but the 2 classes are 0 to 1"):
        grey(0, 1, 3, classes=["cat", "dog"])


def test_ids_must_be_different_and_not_negative() -> None:
    pixels = np.zeros((2, 1, 2, 2), np.uint8)
    for ids in ([3, 3], [-1, 0]):
        with pytest.raises(DataError, match="ids must be different"):
            ImageSet.from_arrays(pixels, [0, 1], ids=ids)
    assert ImageSet.from_arrays(pixels, [0, 1], ids=[70, 3]).ids.tolist() == [70, 3]
    with pytest.raises(DataError, match="ids must be different"):
        grey(0, 1).take([1, 1])


@pytest.mark.parametrize("positions", [[2], [-1], [0.5], [[0]], [True, False], "01"])
def test_positions_that_do_not_exist_are_refused(positions: object) -> None:
    with pytest.raises(ArgumentError, match="positions="):
        grey(0, 1).pixels(cast(list[int], positions))


def test_positions_come_as_a_range_an_array_or_a_tensor() -> None:
    images = grey(0, 1, 0, 1)
    for positions in (range(1, 3), np.array([1, 2]), torch.tensor([1, 2])):
        assert images.pixels(positions)[:, 0, 0, 0].tolist() == [1, 2]


def test_a_balanced_limit_takes_the_first_of_each_class_in_source_order() -> None:
    images = grey(1, 1, 0, 2, 0, 1, 2, 0, 2)
    assert images.limit(3).ids.tolist() == [0, 2, 3]
    assert images.limit(4).ids.tolist() == [0, 2, 3, 4]
    assert images.limit(5).ids.tolist() == [0, 1, 2, 3, 4]
    assert images.limit(4).selection == "balanced 4"


def test_smaller_balanced_limits_are_parts_of_larger_ones() -> None:
    rng = np.random.default_rng(3)
    images = ImageSet.from_arrays(np.zeros((70, 1, 1, 1), np.uint8), rng.permutation(np.arange(70) % 7))
    limits = [set(images.limit(n).ids) for n in range(7, 71)]
    assert all(small < large for small, large in pairwise(limits))
    assert [len(ids) for ids in limits] == list(range(7, 71))


def test_a_class_with_too_few_images_is_named_and_the_largest_limit_works() -> None:
    images = grey(0, 0, 0, 0, 1, 2, 2, 2, classes=["cat", "dog", "eel"])
    with pytest.raises(
        ArgumentError, match=r"class 'dog' of small has 1 images, 2 are needed. Ask for at most 4, or"
    ) as caught:
        images.limit(6)
    assert caught.value.argument == "limit"
    assert images.limit(4).ids.tolist() == [0, 1, 4, 5]
    with pytest.raises(ArgumentError):
        images.limit(5)
    assert images.limit(6, "first").ids.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_class_without_images_leaves_only_the_first_ones() -> None:
    with pytest.raises(ArgumentError, match=r"class 'dog' of small has 0 images.*Ask for how='first'"):
        grey(0, 0, 0, 2, 2, classes=["cat", "dog", "eel"]).limit(3)


def test_fewer_images_than_classes_cannot_be_balanced() -> None:
    with pytest.raises(ArgumentError, match="Ask for at least 3, or for how='first'"):
        grey(0, 1, 2, 0).limit(2)


@pytest.mark.parametrize("n", [0, -1, 5, True, 2.0, "3"])
def test_a_limit_that_cannot_be_is_refused(n: object) -> None:
    hows: tuple[How, ...] = ("balanced", "first")
    for how in hows:
        with pytest.raises(ArgumentError, match="limit="):
            grey(0, 1, 0, 1).limit(cast(int, n), how)


def test_no_limit_and_the_whole_set_are_all() -> None:
    images = grey(0, 0, 0, 1)
    assert images.limit(None) is images
    assert images.limit(4) is images
    assert images.selection == "all"


def test_an_unknown_how_says_which_there_are() -> None:
    with pytest.raises(UnknownNameError, match="balanced, first"):
        grey(0, 1).limit(None, cast(How, "random"))


def test_a_selection_of_a_selection_says_both() -> None:
    images = grey(0, 1, 0, 1, 0, 1)
    assert images.limit(4).limit(2, "first").selection == "first 2 of balanced 4"
    assert images.limit(4).take([0]).selection == "1 chosen of balanced 4"


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_the_fingerprint_is_the_documented_hash_on_every_machine(kind: str) -> None:
    codes = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    pixels = codes if kind == "uint8" else (codes / 30).astype("<f4")
    total = hashlib.sha256(f"atodds images 1\n(3, 2, 2)\n{kind} pixels\n".encode())
    for k, (number, label) in enumerate([(5, 1), (9, 0)]):
        total.update(struct.pack("<qq", number, label) + hashlib.sha256(pixels[k].tobytes()).digest())
    assert ImageSet.from_arrays(pixels, [1, 0], ids=[5, 9]).fingerprint == total.hexdigest()


def test_the_fingerprint_tells_shapes_and_types_apart() -> None:
    zeros = np.zeros((2, 1, 2, 4), np.uint8)
    others = [
        ImageSet.from_arrays(zeros, [0, 0]),
        ImageSet.from_arrays(zeros.reshape(2, 1, 4, 2), [0, 0]),
        ImageSet.from_arrays(np.full((2, 1, 2, 4), 0.001), [0, 0]),
    ]
    assert len({images.fingerprint for images in others}) == 3


def test_it_shows_what_it_is() -> None:
    assert repr(grey(0, 1, 0, 1).limit(2)) == "<ImageSet small: 2 images 1x2x2, 2 classes, balanced 2>"
