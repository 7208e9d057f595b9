"""A folder of images a class: the layout of ImageNet and of most photographs that people bring."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atodds.data.arrays import Integers, unreadable
from atodds.data.decode import SUFFIXES
from atodds.data.encoded import encoded_set
from atodds.data.images import ImageSet
from atodds.data.paths import SPLITS, belongs, set_name, split_in
from atodds.data.source import Source, listed, no_split
from atodds.errors import DataError

LARGEST = 1 << 28
"""Bytes of one image file: more is none."""


@dataclass(frozen=True, eq=False)
class FileBlobs:
    """Image files under one folder."""

    folder: str
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: Integers) -> "FileBlobs":
        """Only these rows."""
        return FileBlobs(self.folder, tuple(self.files[row] for row in rows))

    def read(self, rows: Integers) -> Iterator[tuple[int, bytes]]:
        """(k, bytes) of the k-th of these rows, in order."""
        for k, row in enumerate(rows):
            path = Path(self.folder, self.files[row])
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                    raise unreadable(str(path), f"no file, or larger than {LARGEST} bytes")
                yield k, path.read_bytes()
            except OSError as problem:
                raise unreadable(str(path), problem.strerror or problem) from None

    def title(self, row: int) -> str:
        """The file."""
        return str(Path(self.folder, self.files[row]))

    def sample(self, count: int) -> Integers:
        """Rows spread evenly over all classes, the first among them."""
        return np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))


def _finds(path: Path) -> bool:
    return path.is_dir() and any(_images_in(path))


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """Every image below every class folder, classes and files sorted by name.

    Where the folders are splits (train, test, val), the classes are looked for in the one of `split`.

    Raises:
        DataError: no such split, no class folders, a class without an image, or images of different shapes without
            `size`.
    """
    place, told = _place(path, split)
    kinds = _folders(place)
    if not kinds:
        raise DataError(f"{place}: images without class folders. Give each class a folder: {place.name}/cat/1.png.")
    files, labels = [], []
    for label, kind in enumerate(kinds):
        of_kind = _images_below(kind)
        if not of_kind:
            raise DataError(
                f"{kind}: no image in this class ({' '.join(SUFFIXES)}). Put images into the folder, or remove it."
            )
        files += [file.relative_to(place).as_posix() for file in of_kind]
        labels += [label] * len(of_kind)
    blobs = FileBlobs(str(place.absolute()), tuple(files))
    return encoded_set(
        set_name(path), told, blobs, np.array(labels, np.int64), tuple(kind.name for kind in kinds), size
    )


def _place(path: Path, split: str) -> tuple[Path, str]:
    """The folder that holds the class folders, and the split that its name tells."""
    usual = frozenset({split.lower()}).union(*SPLITS.values())
    splits = [folder for folder in _folders(path) if folder.name.lower() in usual and _folders(folder)]
    if not splits:
        return path, split_in(path.name)
    of_split = [folder for folder in splits if belongs(folder.name, split)]
    if not of_split:
        raise no_split(path, split, [folder.name for folder in splits])
    exact = [folder for folder in of_split if folder.name.lower() == split.lower()]
    return (exact or of_split)[0], split


def _folders(path: Path) -> list[Path]:
    return [folder for folder in listed(path) if folder.is_dir()]


def _images_below(folder: Path) -> list[Path]:
    try:
        return sorted(_images_in(folder, _stop), key=lambda file: file.relative_to(folder).as_posix())
    except OSError as problem:
        raise DataError(f"{problem.filename}: cannot be read ({problem.strerror}). Check its permissions.") from None


def _images_in(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    for place, inner, names in os.walk(folder, onerror=onerror):
        inner[:] = [name for name in inner if not name.startswith((".", "__"))]
        yield from (Path(place, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))


def _stop(problem: OSError) -> None:
    """A folder that cannot be read must not silently be left out."""
    raise problem


SOURCE = Source("folder", "one folder of images a class, in train/ and test/ or directly", _finds, _load)
