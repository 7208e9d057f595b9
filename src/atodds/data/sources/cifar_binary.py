"""CIFAR-10 in its binary batches: records of one label byte and 3072 pixel bytes, red, green, blue planes of 32x32.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from pathlib import Path

import numpy as np

from atodds.data.images import ImageSet
from atodds.data.source import Source, array_set, read_bytes
from atodds.data.sources.cifar_python import CLASSES, LARGEST, batches, has_batch, is_batch, name_of
from atodds.errors import DataError

FOLDER = "cifar-10-batches-bin"
RECORD = 1 + 3 * 32 * 32


def _finds(path: Path) -> bool:
    return is_batch(path, ".bin") or has_batch(path, ".bin") or has_batch(path / FOLDER, ".bin")


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """One batch, or all of a split.

    Raises:
        DataError: a batch that is missing, or not a whole number of records.
    """
    files, told = batches(path, split, FOLDER, ".bin")
    records = np.concatenate([_records(file) for file in files])
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    return array_set(images, records[:, 0], name=name_of(files), split=told, classes=CLASSES, size=size)


def _records(path: Path) -> np.ndarray:
    content = read_bytes(path, LARGEST)
    if len(content) == 0 or len(content) % RECORD:
        raise DataError(f"{path}: {len(content)} bytes are no whole number of records of {RECORD}. Download it again.")
    return np.frombuffer(content, np.uint8).reshape(-1, RECORD)


SOURCE = Source("cifar-binary", "CIFAR-10's binary batches (cifar-10-batches-bin/)", _finds, _load)
