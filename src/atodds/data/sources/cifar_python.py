"""CIFAR-10 in its Python batches, which are pickles: read without running them.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. A batch is a dictionary: data, (n, 3072)
bytes, which are red, green and blue planes of 32x32; and labels.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from atodds.data.images import ImageSet
from atodds.data.paths import belongs, set_name
from atodds.data.pickled import as_bytes, read_pickle
from atodds.data.source import Source, array_set, no_split, read_bytes
from atodds.errors import DataError, shown

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)}
FOLDER = "cifar-10-batches-py"
LARGEST = 1 << 28
"""Bytes of a batch: the official ones have 31 million."""


def batches(path: Path, split: str, folder: str, suffix: str = "") -> tuple[list[Path], str]:
    """The batches at a path, and their split. A file stands for itself; a folder must hold every batch of the split.

    Raises:
        DataError: a split that CIFAR-10 does not have, or a batch that is missing.
    """
    if path.is_file():
        return [path], "test" if path.name.startswith("test") else "train"
    inside = next((place for place in (path, path / folder) if has_batch(place, suffix)), path)
    for known, names in BATCHES.items():
        if belongs(known, split):
            files = [inside / f"{name}{suffix}" for name in names]
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise DataError(
                    f"{inside}: {', '.join(missing)} missing, so the {known} split is not whole. Run: "
                    "atodds data fetch cifar10"
                )
            return files, known
    raise no_split(path, split, tuple(BATCHES))


def has_batch(folder: Path, suffix: str = "") -> bool:
    """Whether any batch lies in a folder."""
    return any((folder / f"{name}{suffix}").is_file() for names in BATCHES.values() for name in names)


def is_batch(path: Path, suffix: str = "") -> bool:
    """Whether a file is named like a batch."""
    return path.is_file() and any(path.name == f"{name}{suffix}" for names in BATCHES.values() for name in names)


def name_of(files: list[Path]) -> str:
    """ "cifar10", or what somebody else called a folder with files of this kind."""
    name = set_name(files[0].parent)
    return "cifar10" if name.startswith("cifar-10-batches") else name


def _finds(path: Path) -> bool:
    return is_batch(path) or has_batch(path) or has_batch(path / FOLDER)


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """One batch, or all of a split.

    Raises:
        DataError: a batch that is missing, damaged, or holds more than arrays and labels.
    """
    files, told = batches(path, split, FOLDER)
    parts = [_batch(file) for file in files]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return array_set(images, labels, name=name_of(files), split=told, classes=CLASSES, size=size)


def _batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    content = read_pickle(read_bytes(path, LARGEST), path)
    if "data" not in content or "labels" not in content:
        raise DataError(
            f"{path}: holds {shown(sorted(content))}, but a CIFAR-10 batch holds data and labels. "
            "Check what the file is."
        )
    pixels = as_bytes(content["data"], path)
    labels = content["labels"]
    if pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise DataError(f"{path}: data of shape {pixels.shape}, but CIFAR-10 has (n, 3072). Check what the file is.")
    if (
        not isinstance(labels, list)
        or len(labels) != len(pixels)
        or not all(type(label) is int and 0 <= label < 10 for label in labels)
    ):
        raise DataError(
            f"{path}: labels must be {len(pixels)} whole numbers from 0 to 9, one an image. Download it again."
        )
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, np.int64)


SOURCE = Source("cifar-python", "CIFAR-10's Python batches (cifar-10-batches-py/)", _finds, _load)
