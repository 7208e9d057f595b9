"""What a source is: a layout on disk that becomes an ImageSet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atodds.data.arrays import ArrayLike
from atodds.data.decode import fit_all
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, DataError


@dataclass(frozen=True)
class Source:
    """A layout on disk.

    Attributes:
        name: what it is called.
        layout: how it looks on disk, in a few words.
        finds: whether a path (file or folder) has this layout; looks at names only, raises nothing.
        load: the set at a path that `finds` accepted, of a split, resized and cropped to a size if one is given.
    """

    name: str
    layout: str
    finds: Callable[[Path], bool]
    load: Callable[[Path, str, int | None], ImageSet]


def array_set(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    ids: ArrayLike | None = None,
    size: int | None = None,
) -> ImageSet:
    """`ImageSet.from_arrays`, with every image resized and cropped to `size` if one is given."""
    whole = ImageSet.from_arrays(images, labels, classes=classes, name=name, split=split, ids=ids)
    if size is None or whole.shape[1:] == (size, size):
        return whole
    pixels = whole.pixels()
    if pixels.dtype != np.uint8 or whole.shape[0] not in (1, 3):
        raise ArgumentError(
            "size",
            size,
            f"only 8-bit grey or colour images are resized, {name} is {pixels.dtype} {whole.shape}",
            "Resize it first.",
        )
    fitted = fit_all(pixels.astype(np.uint8, copy=False), size, name)
    return ImageSet.from_arrays(fitted, whole.labels, classes=whole.classes, name=name, split=split, ids=whole.ids)


def no_split(where: Path, split: str, present: Sequence[str]) -> DataError:
    """The error for a split that is not there."""
    there = (
        f"There is {', '.join(sorted(set(present)))}: pass split= (--split)."
        if present
        else "Name the split in the file or folder names."
    )
    return DataError(f"{where}: no {split!r} split. {there}")


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden files.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        there = (path for path in folder.iterdir() if not path.name.startswith((".", "__")))
        return sorted(there, key=lambda path: path.name)
    except OSError as problem:
        raise DataError(f"{folder}: cannot be read ({problem.strerror}). Check the path and its permissions.") from None


def read_bytes(path: Path, most: int) -> bytes:
    """A file as bytes.

    Args:
        path: the file.
        most: more bytes than any honest file of its kind has.

    Raises:
        DataError: it cannot be read, or is larger than that.
    """
    try:
        size = path.stat().st_size
        if size > most:
            raise DataError(
                f"{path}: {size} bytes, more than a file of this kind has ({most}). "
                "Check that it is what its name says."
            )
        return path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror}). Check the path and its permissions.") from None
