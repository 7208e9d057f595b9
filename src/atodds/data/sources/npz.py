"""NumPy archives: arrays by name, several splits in one file."""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from atodds.data.images import ImageSet
from atodds.data.paths import belongs, set_name, split_in, words
from atodds.data.source import Source, array_set, no_split
from atodds.data.sources.idx import DEFLATE
from atodds.errors import DataError, shown

IMAGES = frozenset({"x", "images", "image", "data"})
LABELS = frozenset({"y", "labels", "label", "targets"})
IDS = frozenset({"ids"})
BROKEN = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    AttributeError,
    OverflowError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    Warning,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and NumPy raise on damaged archives and headers; warnings too, where they are errors."""


def _finds(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npz"


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """The arrays of one split.

    Keys: images, image, x or data for the images; labels, label, y or targets for the labels; ids for the ids, if any;
    with the split before or behind (x_test, test_images) where the archive holds several. `classes` holds the names of
    the classes. Pickled objects are never loaded.

    Raises:
        DataError: keys that tell no images or labels, or a damaged archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            images, labels, ids, told = _keys(path, list(members), split)
            wanted = [key for key in (images, labels, ids, "classes") if key in members]
            arrays = {key: _array(path, archive, members[key]) for key in wanted}
    except BROKEN as problem:
        raise DataError(f"{path}: not a readable .npz archive ({problem}). Save it again with numpy.savez.") from None
    return array_set(
        arrays[images],
        arrays[labels],
        name=set_name(path),
        split=told,
        classes=[_text(word) for word in arrays["classes"].ravel().tolist()] if "classes" in arrays else None,
        ids=arrays.get(ids),
        size=size,
    )


def _keys(path: Path, keys: list[str], split: str) -> tuple[str, str, str, str]:
    """The keys of images, labels and ids ("" if none), and the split that they tell."""
    found: dict[frozenset[str], dict[str, str]] = {IMAGES: {}, LABELS: {}, IDS: {}}
    for key in keys:
        parts = words(key)
        kind = next((kind for kind in found if kind.intersection(parts)), None)
        if kind is not None:
            others = "_".join(word for word in parts if word not in kind)
            found[kind].setdefault(split_in(others) or others, key)
    both = [told for told in found[IMAGES] if told in found[LABELS]]
    told = next((told for told in both if told and belongs(told, split)), "")
    if told in both:
        return found[IMAGES][told], found[LABELS][told], found[IDS].get(told, ""), told or split_in(path.stem)
    if both:
        raise no_split(path, split, both)
    raise DataError(f"{path}: keys {shown(sorted(keys))}. Name the arrays images and labels, or x_test and y_test.")


def _text(word: object) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, after its header was held against the size of the file that it lies in."""
    where = f"{path}: {info.filename}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where} is packed in a way that NumPy does not write. Save it again with numpy.savez.")
    if info.file_size > DEFLATE * path.stat().st_size:
        raise DataError(f"{where} promises {info.file_size} bytes, far more than the file can hold. Do not trust it.")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        head = member.tell()
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects, which could run code. Save plain arrays: "
            "numbers, or names as fixed-width text."
        )
    if head + math.prod(shape) * dtype.itemsize != info.file_size:
        raise DataError(
            f"{where}: the header promises {shape} of {dtype}, which is not what the file holds. Save it again."
        )
    with archive.open(info) as member:
        return np.asarray(np.lib.format.read_array(member, allow_pickle=False))


SOURCE = Source("npz", "a NumPy archive (.npz): images and labels, or x_test and y_test", _finds, _load)
