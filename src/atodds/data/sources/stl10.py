"""STL-10's official binary files: pixels in one, labels in another, for each of two splits.

A. Coates, H. Lee, A. Ng, "An analysis of single layer networks in unsupervised feature learning", AISTATS 2011. An
image is 3 x 96 x 96 bytes, channel by channel, each channel column by column; a label is one byte, 1 to 10. The
official splits have 5,000 and 8,000 images.

The study of data sizes (2019) takes all 13,000 together and cuts them anew, into 10,000 to train on and 3,000 to test
on, as many of each class. It does not say which; here the seed 0 decides.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atodds.data import subsets
from atodds.data.images import ImageSet
from atodds.data.paths import SPLITS, set_name
from atodds.data.source import Source, array_set, no_split, read_bytes
from atodds.errors import ArgumentError, DataError

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
FOLDER = "stl10_binary"
SIDE = 96
IMAGE = 3 * SIDE * SIDE
LARGEST = 100_000 * IMAGE
"""Bytes of a file: the largest official one, without labels, has so many."""
STUDY, COUNTS = ("train-10000", "test-3000"), (10_000, 3_000)
"""What the parts of the study's split are asked for by, and their images."""

Bytes = npt.NDArray[np.uint8]


def _finds(path: Path) -> bool:
    return _is_pixels(path) or any(_is_pixels(place / _pixels(name)) for place in _places(path) for name in _OFFICIAL)


_OFFICIAL = ("train", "test")


def _pixels(split: str) -> str:
    return f"{split}_X.bin"


def _is_pixels(path: Path) -> bool:
    return path.is_file() and path.name in {_pixels(name) for name in _OFFICIAL}


def _places(path: Path) -> tuple[Path, Path]:
    return path, path / FOLDER


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """A file of pixels with the labels beside it, an official split, or one of the study's.

    Raises:
        DataError: no such split, a file that is missing or not whole, a label that is none of the ten, or for the
            study's split a class with fewer images than it takes.
    """
    if path.is_file():
        told = path.name.removesuffix("_X.bin")
        return _made(*_read(path.parent, told), name=set_name(path.parent), split=told, size=size)
    place = next(place for place in _places(path) if any(_is_pixels(place / _pixels(name)) for name in _OFFICIAL))
    name = "stl10" if place.name == FOLDER else set_name(place)
    if split in STUDY:
        return _of_study(place, name, split, size)
    wanted = next((official for official in _OFFICIAL if split.lower() in SPLITS[official]), "")
    there = [official for official in _OFFICIAL if _is_pixels(place / _pixels(official))]
    if wanted not in there:
        raise no_split(path, split, [*there, *(STUDY if len(there) == 2 else ())])
    return _made(*_read(place, wanted), name=name, split=wanted, size=size)


def _read(place: Path, split: str) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Pixels (N, 3, 96, 96) and labels 0 to 9."""
    file, beside = place / _pixels(split), place / f"{split}_y.bin"
    content = np.frombuffer(read_bytes(file, LARGEST), np.uint8)
    labels = np.frombuffer(read_bytes(beside, LARGEST // IMAGE), np.uint8)
    if len(content) == 0 or len(content) % IMAGE:
        raise DataError(f"{file}: {len(content)} bytes are no whole number of images of {IMAGE}. Download it again.")
    if len(labels) != len(content) // IMAGE:
        raise DataError(
            f"{beside}: {len(labels)} labels beside {len(content) // IMAGE} images in {file.name}. Download both again."
        )
    wrong = np.flatnonzero((labels < 1) | (labels > len(CLASSES)))
    if len(wrong):
        raise DataError(f"{beside}: label {labels[wrong[0]]} of image {wrong[0]} is not 1 to 10. Download it again.")
    return content.reshape(-1, 3, SIDE, SIDE).swapaxes(2, 3), labels.astype(np.int64) - 1


def _of_study(place: Path, name: str, split: str, size: int | None) -> ImageSet:
    """A part of the study's split; ids are rows in both files, one after the other."""
    both = [_read(place, official) for official in _OFFICIAL]
    images, labels = (np.concatenate(column) for column in zip(*both, strict=True))
    whole = _made(images, labels, name=name, split=split, size=size)
    try:
        part = subsets.parts(whole, COUNTS, seed=0)[STUDY.index(split)]
    except ArgumentError as error:
        way_out = "Download STL-10 again, or take split='train' or 'test'."
        raise DataError(f"{place}: no split of {sum(COUNTS)} images: {error.problem}. {way_out}") from None
    return replace(part, selection="all")


def _made(
    images: Bytes,
    labels: npt.NDArray[np.int64],
    *,
    name: str,
    split: str,
    size: int | None,
) -> ImageSet:
    return array_set(images, labels, name=name, split=split, classes=CLASSES, size=size)


SOURCE = Source("stl10", "STL-10's binary files (stl10_binary/)", _finds, _load)
