"""Whether a downloaded file of weights is what it should be: not a web page, not the first half, not another file."""

import hashlib
import html.parser
import json
import struct
from pathlib import Path

from atodds.errors import ArgumentError, ChecksumError, ModelError, TruncatedFileError, WebPageError

_AT_ONCE = 1 << 22
_END = b"PK\x05\x06"
"""What stands at the end of a zip archive, which is what torch.save writes."""
_TAIL = (1 << 16) + 22
_LONGEST_HEADER = 100_000_000
"""What safetensors itself allows."""


def check_whole(file: Path, by_hand: str = "Fetch it again, with a browser") -> None:
    """Look at both ends of a file of weights.

    Args:
        file: one that is there.
        by_hand: how to get it, without a full stop.

    Raises:
        WebPageError: it is a web page.
        TruncatedFileError: it is empty, or its end is missing.
        ModelError: nobody may read it.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(1024)
            opened.seek(max(0, size - _TAIL))
            tail = opened.read(_TAIL)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    if _is_page(head):
        said = _title(tail if size <= _TAIL else head)
        raise WebPageError(
            f"{file} is a web page{said}, not weights: some hosts answer with one where a download must be confirmed "
            f"or a limit is reached. {by_hand}."
        )
    missing = _missing(file, head, tail, size)
    if missing:
        raise TruncatedFileError(f"{file} is not whole: {missing}. {by_hand}.")


def check_hash(file: Path, sha256: str, by_hand: str = "Fetch it again, or leave out the hash if you trust it") -> None:
    """Hold a file against the SHA-256 that it should have, 64 hex digits.

    Raises:
        ArgumentError: not such a hash.
        ChecksumError: another file.
    """
    wanted = sha256.strip().lower()
    if len(wanted) != 64 or not set(wanted) <= set("0123456789abcdef"):
        raise ArgumentError("sha256", sha256, "not 64 hex digits", "Give what sha256sum prints for the right file.")
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_AT_ONCE):
            found.update(piece)
    if found.hexdigest() != wanted:
        raise ChecksumError(f"{file} has SHA-256 {found.hexdigest()}, not {wanted}: it is another file. {by_hand}.")


def _is_page(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--"))


def _missing(file: Path, head: bytes, tail: bytes, size: int) -> str:
    """What a file lacks, in words; nothing where it seems whole."""
    if size == 0:
        return "it is empty"
    if head.startswith(b"PK\x03\x04") and _END not in tail:
        return f"it ends after {size:,} bytes in the middle of an archive"
    if file.suffix == ".safetensors" and size >= 8:
        (length,) = struct.unpack("<Q", head[:8])
        if length > _LONGEST_HEADER:
            return ""  # no safetensors at all, which who reads it will say
        if size < 8 + length:
            return f"it ends after {size:,} bytes, within its header"
        with file.open("rb") as opened:
            opened.seek(8)
            expected = 8 + length + _reach(opened.read(length))
        if size < expected:
            return f"it has {size:,} bytes, and its header promises {expected:,}"
    return ""


def _reach(header: bytes) -> int:
    """How many bytes of tensors a header promises; 0 where it is none."""
    try:
        told = json.loads(header)
        return max((int(entry["data_offsets"][1]) for name, entry in told.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return 0


def _title(page: bytes) -> str:
    """The title of a page, for the message."""
    found = _Title()
    found.feed(page.decode("utf-8", "replace")[:100_000])
    words = "".join(letter if letter.isprintable() else " " for letter in " ".join(found.text)).split()
    return f" ({' '.join(words)[:80]!r})" if words else ""


class _Title(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.text = False, list[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.inside = tag == "title"

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "title"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text.append(data)
