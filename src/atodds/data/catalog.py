"""Finding a data set by its name or path."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from atodds.data.arrays import numbered
from atodds.data.decode import checked_size
from atodds.data.images import How, ImageSet
from atodds.data.paths import data_root, split_in
from atodds.data.source import Source, array_set
from atodds.data.sources import SOURCES, digits, parquet, stl10, tiny_imagenet
from atodds.data.sources.cifar_python import CLASSES
from atodds.errors import ArgumentError, DataError, UnknownNameError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Known:
    """A data set that is found by its name.

    Attributes:
        name: as it is asked for.
        title: what it is, in a few words.
        folders: where it may lie under the root, the likeliest first.
        shape: (C, H, W) of its images.
        classes: names of its classes, used where its files hold none; none where they always do.
        page: where its files can be had by hand; empty where `atodds data fetch` brings them.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    page: str = ""


NUMERALS = tuple(str(digit) for digit in range(10))

KNOWN: dict[str, Known] = {
    known.name: known
    for known in (
        Known("digits", "scikit-learn's digits: 1,442 train, 355 test; embedded", (), (1, 8, 8), NUMERALS),
        Known("mnist", "MNIST: 60,000 train, 10,000 test", ("mnist", "MNIST", "mnist.npz"), (1, 28, 28), NUMERALS),
        Known(
            "cifar10",
            "CIFAR-10: 50,000 train, 10,000 test",
            ("cifar10", "CIFAR10", "cifar-10", "cifar-10-batches-py", "cifar-10-batches-bin", "cifar10.npz"),
            (3, 32, 32),
            CLASSES,
        ),
        Known(
            "stl10",
            "STL-10: 5,000 train, 8,000 test; the study's train-10000, test-3000",
            ("stl10", "STL10", "stl-10", stl10.FOLDER),
            (3, stl10.SIDE, stl10.SIDE),
            stl10.CLASSES,
            page="https://cs.stanford.edu/~acoates/stl10/",
        ),
        Known(
            "tiny-imagenet",
            "Tiny ImageNet: 100,000 train, 10,000 validation as test",
            ("tiny-imagenet", tiny_imagenet.FOLDER, "tinyimagenet"),
            (3, 64, 64),
            (),
            page="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        ),
    )
}


def load(
    name_or_path: PathLike | Sequence[PathLike],
    *,
    root: PathLike | None = None,
    split: str = "test",
    limit: int | None = None,
    how: How = "balanced",
    size: int | None = None,
) -> ImageSet:
    """Images with their labels, from a name or from a path in any layout of `atodds.data.sources`.

    Args:
        name_or_path: "digits" (embedded), "mnist", "cifar10", "stl10", "tiny-imagenet", a folder under `root`, or the
            path of a file or folder; or the paths of several Parquet shards.
        root: where named data sets lie; ATODDS_DATA, else ~/.cache/atodds/data, where left out.
        split: "test", "train", ... The path of one file is that file, whatever the split.
        limit: at most so many images; all where left out.
        how: "balanced" takes equally many of each class, "first" the first ones. See `ImageSet.limit`.
        size: resize the shorter side to round(size / 0.875) and crop the size x size centre. Needed where images differ
            in shape.

    Returns:
        The set. Encoded images are decoded later, when they are asked for; their headers are looked at now.

    Raises:
        UnknownNameError: no such name, path or split.
        ArgumentError: a limit or a size that cannot be.
        DataError: nothing there, a layout that is not known, or files that are damaged; UnreadableImageError for one
            image of them.
        EmptyDataError: no image.
    """
    images = _whole(name_or_path, data_root(root), split, checked_size(size)).limit(limit, how)
    images.check()
    return images


def find(known: Known, root: Path) -> tuple[Path, Source] | None:
    """Where under `root` a named data set lies, and in which layout; None if it is not there."""
    places = [root / folder for folder in known.folders]
    if any(source.finds(path) for path in _inside(root) if path.is_file() for source in SOURCES.values()):
        places.append(root)
    for place in places:
        source = layout_of(place)
        if source is not None:
            return place, source
    return None


def layout_of(path: Path) -> Source | None:
    """The layout of a file or folder, None if no source knows it."""
    with _reading(path):
        return next((source for source in SOURCES.values() if _there(path) and source.finds(path)), None)


def _whole(asked: PathLike | Sequence[PathLike], root: Path, split: str, size: int | None) -> ImageSet:
    if not isinstance(split, str):
        raise ArgumentError("split", split, "not a name", "Give 'test', 'train', ...")
    if not isinstance(asked, (str, os.PathLike)):
        return _shards([Path(path).expanduser() for path in asked], size)
    if isinstance(asked, str) and asked in KNOWN:
        return _known(KNOWN[asked], root, split, size)
    path = Path(asked).expanduser()
    if str(asked) and _there(path):
        return _at(path, split, size)
    plain = {_plain(name): known for name, known in KNOWN.items()}.get(_plain(str(asked)))
    if plain is not None:
        return _known(plain, root, split, size)
    if not path.is_absolute() and str(asked) and _there(root / path):
        return _at(root / path, split, size)
    if isinstance(asked, os.PathLike) or path.suffix or (asked and path.name != asked):
        raise DataError(f"{asked}: no such file or folder. Check the path; names are {', '.join(KNOWN)}.")
    raise UnknownNameError.among("data", asked, KNOWN)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _at(path: Path, split: str, size: int | None) -> ImageSet:
    source = layout_of(path)
    if source is None:
        layouts = "; ".join(source.layout for source in SOURCES.values())
        raise DataError(f"{path}: no layout that can be read. Known: {layouts}.")
    with _reading(path):
        return source.load(path, split, size)


def _shards(paths: list[Path], size: int | None) -> ImageSet:
    others = [path for path in paths if layout_of(path) is not parquet.SOURCE or not path.is_file()]
    if others or not paths:
        raise DataError(
            f"{others[0] if others else 'no path'}: several paths together must be Parquet files that exist. "
            "Give these, or one path."
        )
    splits = {told for path in paths if (told := split_in(path.name))}
    return parquet.load_files(paths, splits.pop() if len(splits) == 1 else "", size)


def _known(known: Known, root: Path, split: str, size: int | None) -> ImageSet:
    if known.name == "digits":
        embedded = digits.load(split)
        return array_set(embedded.pixels(), embedded.labels, name="digits", split=split, classes=NUMERALS, size=size)
    found = find(known, root)
    if found is None:
        how = f"Download and unpack {known.page} there" if known.page else f"Run `atodds data fetch {known.name}`"
        raise DataError(
            f"{known.name} is not in {root}. {how}, "
            "or point root= (--root, or the environment's ATODDS_DATA) to the folder that holds it."
        )
    path, source = found
    with _reading(path):
        images = source.load(path, split, size)
    expected = known.shape if size is None else (known.shape[0], size, size)
    if images.shape != expected or (known.classes and images.labels.max() >= len(known.classes)):
        raise DataError(
            f"{path} holds {images!r}, which is not {known.name}. Give its path instead of the name, or another root."
        )
    unnamed = known.classes and images.classes == numbered(images.labels)
    return replace(images, name=known.name, split=split, classes=known.classes if unnamed else images.classes)


def _inside(root: Path) -> list[Path]:
    with _reading(root):
        return sorted(root.iterdir()) if root.is_dir() else []


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the file system refuses, wherever in a layout, as our error."""
    try:
        yield
    except OSError as problem:
        place = problem.filename or path
        raise DataError(f"{place}: cannot be read ({problem.strerror}). Check its permissions.") from None
