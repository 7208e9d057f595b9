"""MNIST and its relatives in IDX files, plain or gzipped.

The format: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits. A big-endian header: a magic
number (0x0803 for images, 0x0801 for labels), then one 32-bit length an axis; then bytes.
"""

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atodds.data.images import ImageSet
from atodds.data.paths import belongs, set_name, split_in
from atodds.data.source import Source, array_set, listed, no_split
from atodds.errors import DataError, EmptyDataError

IMAGES = re.compile(r"(?P<head>.*?)images(?P<tail>[-.])idx3(?P<end>[-.]ubyte)(\.gz)?", re.IGNORECASE)
BROKEN = (OSError, EOFError, zlib.error)

DEFLATE = 1032
"""Deflate makes nothing smaller than by this factor (RFC 1951), so a header that promises more lies."""


def _finds(path: Path) -> bool:
    if path.is_file():
        return IMAGES.fullmatch(path.name) is not None
    return any(_images_in(folder) for folder in (path, path / "raw"))


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """Images and labels of one split.

    Raises:
        DataError: no such split, no labels beside the images, or a damaged file.
    """
    file = path if path.is_file() else _of_split(path, split)
    told = split_in(file.name) if path.is_file() else split
    labels_file = _labels_beside(file)
    images = read_idx(file, 3)
    labels = read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{file} holds {len(images)} images, {labels_file.name} {len(labels)} labels. Take both from one source."
        )
    return array_set(images, labels, name=set_name(file.parent), split=told, size=size)


def read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """One IDX file of bytes.

    Args:
        path: the file; gzipped if its name ends in .gz.
        axes: how many axes it must have: 3 for images, 1 for labels.

    Raises:
        DataError: it is damaged, holds something else, or its header promises more than it holds.
        EmptyDataError: it holds nothing.
    """
    zipped = path.suffix.lower() == ".gz"
    head = 4 + 4 * axes
    try:
        on_disk = path.stat().st_size
        with gzip.open(path) if zipped else path.open("rb") as file:
            header = file.read(head)
            if len(header) < head:
                raise DataError(f"{path}: {len(header)} bytes are no IDX file. Download it again.")
            magic, *shape = struct.unpack(f">{1 + axes}I", header)
            if magic != 0x0800 + axes:
                kind = "images" if axes == 3 else "labels"
                raise DataError(
                    f"{path}: magic number {magic:#06x}, but IDX {kind} begin with {0x0800 + axes:#06x}. "
                    "Check what the file is."
                )
            count = 1
            for length in shape:
                count *= length
            most = DEFLATE * on_disk if zipped else on_disk - head
            if count > most:
                raise DataError(
                    f"{path}: the header promises {_by(shape)} bytes, the file is too short for them. "
                    "Download it again."
                )
            content = file.read(count + 1)
    except BROKEN as problem:
        raise DataError(f"{path}: cannot be read ({problem}). Download it again.") from None
    if len(content) != count:
        kept = "more" if len(content) > count else f"only {len(content)}"
        raise DataError(f"{path}: the header promises {_by(shape)} bytes, the file holds {kept}. Download it again.")
    if count == 0:
        raise EmptyDataError(f"{path}: {_by(shape)}, so nothing to measure.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _by(shape: list[int]) -> str:
    return "x".join(str(length) for length in shape)


def _images_in(folder: Path) -> list[Path]:
    return [path for path in listed(folder) if IMAGES.fullmatch(path.name)] if folder.is_dir() else []


def _of_split(path: Path, split: str) -> Path:
    files = _images_in(path) or _images_in(path / "raw")
    of_split = [file for file in files if belongs(file.name, split)]
    if not of_split:
        raise no_split(path, split, [told for file in files if (told := split_in(file.name))])
    heads = {match["head"] for file in of_split if (match := IMAGES.fullmatch(file.name))}
    if len(heads) > 1:
        raise DataError(
            f"{path}: {of_split[0].name} and {of_split[-1].name} are both {split!r}. Give the path of one file."
        )
    return of_split[0]


def _labels_beside(images: Path) -> Path:
    match = IMAGES.fullmatch(images.name)
    stem = f"{match['head']}labels{match['tail']}idx1{match['end']}" if match else ""
    for name in (stem, f"{stem}.gz"):
        if (images.parent / name).is_file():
            return images.parent / name
    raise DataError(f"{images}: no labels beside it. Put {stem}.gz or {stem} into {images.parent}.")


SOURCE = Source("idx", "MNIST's IDX files (t10k-images-idx3-ubyte, plain or .gz, labels beside)", _finds, _load)
