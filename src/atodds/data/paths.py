"""What the names of files and folders say: the split, and what to call a set. Where data lies unless told otherwise."""

import os
import re
from pathlib import Path

SPLITS = {
    "train": frozenset({"train", "training"}),
    "test": frozenset({"test", "testing", "t10k"}),
    "validation": frozenset({"validation", "valid", "val", "dev"}),
}
"""The splits by their usual names, and what else they are called."""

_NOISE = frozenset({"of", "data", "raw", "default", "plain", "text"}).union(*SPLITS.values())
_SHARD = re.compile(r"\d+|[0-9a-f]{16}")
_SUFFIX = re.compile(r"\.(parquet|npz|bin|gz)$", re.IGNORECASE)


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Where named data sets lie: `root`, else the environment's ATODDS_DATA, else ~/.cache/atodds/data."""
    return Path(root or os.environ.get("ATODDS_DATA") or "~/.cache/atodds/data").expanduser()


def words(text: str) -> list[str]:
    """The words of a file name: "test-00000-of-00001.parquet" is test, 00000, of, 00001, parquet."""
    return [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]


def belongs(text: str, split: str) -> bool:
    """Whether a file or folder of this name is of the split ("val" and "validation" are one)."""
    wanted = split.lower()
    names = next((names for names in SPLITS.values() if wanted in names), frozenset({wanted}))
    return any(word in names for word in words(text)) or text.lower() == wanted


def split_in(text: str) -> str:
    """The split that a name tells, or "" if it tells none; the last one where it tells several."""
    told = [split for word in words(text) for split, names in SPLITS.items() if word in names]
    return told[-1] if told else ""


def set_name(path: Path) -> str:
    """What to call the set at a path: its stem, or its folder's where the stem only tells split and shard."""
    path = path.absolute()
    stem = _SUFFIX.sub("", path.name)
    if path.parent == path:
        return "images"
    if all(word in _NOISE or _SHARD.fullmatch(word) for word in words(stem)):
        return set_name(path.parent)
    return stem
