"""Tiny ImageNet's official folder: 200 classes of ImageNet, 64 pixels a side, as JPEG files.

Stanford CS231N, "Tiny ImageNet visual recognition challenge", 2015. `wnids.txt` names the classes in order and
`words.txt` says what they are; `train/WNID/images/` holds 500 files a class, `val/images/` 10,000 files, whose classes
stand in `val/val_annotations.txt`. The images of its own `test/` have no labels, so that, as in the study of data sizes
(2019), the validation images are the test set.
"""

import re
from pathlib import Path

import numpy as np

from atodds.data.decode import SUFFIXES
from atodds.data.encoded import encoded_set
from atodds.data.images import ImageSet
from atodds.data.paths import SPLITS, set_name
from atodds.data.source import Source, listed, no_split, read_bytes
from atodds.data.sources.folder import FileBlobs
from atodds.errors import DataError

FOLDER = "tiny-imagenet-200"
LARGEST = 1 << 24
"""Bytes of a list: the largest official one has 2.7 million."""
_WNID = re.compile(r"n\d{8}")
_FILE = re.compile(r"[\w-][\w.-]*", re.ASCII)


def _finds(path: Path) -> bool:
    return any(_is_root(place) for place in _places(path))


def _places(path: Path) -> tuple[Path, Path]:
    return path, path / FOLDER


def _is_root(place: Path) -> bool:
    parts = (place / "train", place / "val" / "val_annotations.txt")
    return (place / "wnids.txt").is_file() and any(part.exists() for part in parts)


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """The training images, class by class, or the validation images in the order of their list.

    Raises:
        DataError: no such split, a list that is missing or says something else, a class without images.
    """
    place = next(place for place in _places(path) if _is_root(place))
    name = "tiny-imagenet" if place.name == FOLDER else set_name(place)
    wnids = _wnids(place / "wnids.txt")
    wanted = split.lower()
    if wanted in SPLITS["train"] and (place / "train").is_dir():
        files, labels = _training(place, wnids)
    elif wanted in SPLITS["test"] | SPLITS["validation"] and (place / "val" / "val_annotations.txt").is_file():
        files, labels = _validation(place, wnids)
    else:
        there = [("train", ("train",)), ("val/val_annotations.txt", ("test", "validation"))]
        raise no_split(path, split, [told for part, names in there if (place / part).exists() for told in names])
    blobs = FileBlobs(str(place.absolute()), tuple(files))
    return encoded_set(name, wanted, blobs, np.array(labels, np.int64), _names(place / "words.txt", wnids), size)


def _lines(path: Path) -> list[list[str]]:
    """The lines of a list, cut at tabs; empty ones are left out."""
    try:
        text = read_bytes(path, LARGEST).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text. Download it again.") from None
    return [line.split("\t") for line in text.splitlines() if line.strip()]


def _wnids(path: Path) -> list[str]:
    """The classes, by label."""
    found = [line[0].strip() for line in _lines(path)]
    for number, wnid in enumerate(found, 1):
        if not _WNID.fullmatch(wnid):
            raise DataError(
                f"{path}, line {number}: {wnid[:40]!r} is no WordNet id (n and 8 digits). Download it again."
            )
    if len(found) < 2 or len(set(found)) < len(found):
        raise DataError(f"{path}: {len(set(found))} different classes in {len(found)} lines. Download it again.")
    return found


def _names(path: Path, wnids: list[str]) -> tuple[str, ...]:
    """What the classes are: the first of their names, or the id where the list says none."""
    if not path.is_file():
        return tuple(wnids)
    known = {line[0]: line[1].split(",")[0].strip() for line in _lines(path) if len(line) > 1}
    return tuple(known.get(wnid) or wnid for wnid in wnids)


def _training(place: Path, wnids: list[str]) -> tuple[list[str], list[int]]:
    files, labels = [], []
    for label, wnid in enumerate(wnids):
        folder = place / "train" / wnid / "images"
        if not folder.is_dir():
            raise DataError(f"{folder}: not there, though wnids.txt names the class. Unpack the archive again.")
        of_class = [file for file in listed(folder) if file.name.lower().endswith(SUFFIXES)]
        if not of_class:
            raise DataError(f"{folder}: no image in this class ({' '.join(SUFFIXES)}). Unpack the archive again.")
        files += [f"train/{wnid}/images/{file.name}" for file in of_class]
        labels += [label] * len(of_class)
    return files, labels


def _validation(place: Path, wnids: list[str]) -> tuple[list[str], list[int]]:
    path, label_of = place / "val" / "val_annotations.txt", {wnid: label for label, wnid in enumerate(wnids)}
    files, labels = [], []
    for number, line in enumerate(_lines(path), 1):
        if len(line) < 2 or not _FILE.fullmatch(line[0]):
            raise DataError(f"{path}, line {number}: not a file name and its class. Download it again.")
        if line[1] not in label_of:
            raise DataError(f"{path}, line {number}: class {line[1][:40]!r} is not in wnids.txt. Download both again.")
        files.append(f"val/images/{line[0]}")
        labels.append(label_of[line[1]])
    if not files or len(set(files)) < len(files):
        raise DataError(f"{path}: {len(set(files))} different files in {len(files)} lines. Download it again.")
    return files, labels


SOURCE = Source("tiny-imagenet", "Tiny ImageNet's folder (tiny-imagenet-200/)", _finds, _load)
