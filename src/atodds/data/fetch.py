"""The official files of a data set: checked against their checksums, written whole or not at all."""

import contextlib
import hashlib
import http.client
import logging
import os
import secrets
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from atodds.data.catalog import KNOWN
from atodds.data.paths import data_root
from atodds.errors import ArgumentError, DownloadError, UnknownNameError

log = logging.getLogger("atodds")

CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte until a server is given up."""

STALE = 24 * 3600.0
"""Seconds until the remains of a download that was killed are swept away."""

LARGEST_MEMBER = 1 << 30

Progress = Callable[[str, int, int], None]
"""Called with the file, the bytes that came, and the bytes that will have come."""


@dataclass(frozen=True)
class RemoteFile:
    """One official file. A .tar.gz is unpacked where it lies."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did: the folder, and the files in it that are new; none, where all was there and right."""

    folder: Path
    new: tuple[str, ...]


_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


def _mnist(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, size, sha256, tuple(f"{mirror}{name}" for mirror in _MNIST))


OFFICIAL: Mapping[str, tuple[RemoteFile, ...]] = {
    "mnist": (
        _mnist(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "cifar10": (
        RemoteFile(
            "cifar-10-python.tar.gz",
            170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        ),
    ),
}


def fetch(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    official: Mapping[str, tuple[RemoteFile, ...]] = OFFICIAL,
) -> Fetched:
    """Bring the official files of a data set under `root`, in a folder of its name.

    Files that are there and right are kept, also those that were put there by hand; a wrong one is replaced. A download
    that breaks leaves nothing behind, and the same call again begins with the first file that is missing.

    Args:
        name: "mnist" or "cifar10".
        root: where named data sets lie; ATODDS_DATA, else ~/.cache/atodds/data, where left out.
        progress: is called as bytes come.
        official: the files of each name.

    Raises:
        UnknownNameError: no such data set.
        ArgumentError: one that needs no download, or that is downloaded by hand.
        DownloadError: no server gave the right bytes (the message says what to download by hand, and where to put it),
            or the folder cannot be written.
    """
    if name in KNOWN and name not in official and KNOWN[name].page:
        way_out = f"Download {KNOWN[name].page} and unpack it in {data_root(root) / name}."
        raise ArgumentError("name", name, "is not fetched", way_out)
    if name in KNOWN and name not in official:
        raise ArgumentError("name", name, "comes with the installation", f"Use it: atodds data show {name}")
    if name not in official:
        raise UnknownNameError.among("name", name, official)
    folder = data_root(root) / name
    new: list[str] = []
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        missing = [file for file in official[name] if not _right(folder / file.name, file)]
    while missing:
        try:
            _download(missing[0], folder, progress or _silent)
        except _RefusedError as problem:
            raise DownloadError(_by_hand(problem, missing, folder)) from None
        new.append(missing.pop(0).name)
    for file in official[name]:
        if file.name.endswith(".tar.gz"):
            new += _unpack(folder / file.name, folder)
    return Fetched(folder, tuple(new))


class _RefusedError(Exception):
    """Why each server did not give a file."""


def _download(file: RemoteFile, folder: Path, progress: Progress) -> None:
    reasons = []
    for url in file.urls:
        try:
            with _replacing(folder / file.name) as out:
                _stream(url, file, out, progress)
            return
        except _RefusedError as problem:
            log.info("%s: %s", url, problem)
            reasons.append(f"{url}: {problem}")
    raise _RefusedError("\n  ".join(reasons))


def _stream(url: str, file: RemoteFile, out: BinaryIO, progress: Progress) -> None:
    """Write what a server gives, if it is the file."""
    if not url.startswith(("https://", "http://")):
        raise _RefusedError("not a web address")
    digest, received = hashlib.sha256(), 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "atodds"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            progress(file.name, 0, file.size)
            while chunk := response.read(CHUNK):
                received += len(chunk)
                if received > file.size:
                    raise _RefusedError(f"more than the {file.size} bytes of the official file")
                digest.update(chunk)
                with _writing(Path(out.name).parent):
                    out.write(chunk)
                progress(file.name, received, file.size)
    except urllib.error.HTTPError as problem:
        problem.close()
        raise _RefusedError(_plain(problem)) from None
    except (OSError, http.client.HTTPException, ValueError) as problem:
        cause = problem.reason if type(problem) is urllib.error.URLError else problem
        raise _RefusedError(_plain(cause)) from None
    if received < file.size:
        raise _RefusedError(f"ended after {received} of {file.size} bytes")
    if digest.hexdigest() != file.sha256:
        raise _RefusedError(f"other bytes than promised, SHA-256 {digest.hexdigest()}")


def _plain(problem: object) -> str:
    """What a server or the network said, without what could steer a terminal."""
    return "".join(filter(str.isprintable, str(problem))) or type(problem).__name__


def _unpack(archive: Path, folder: Path) -> list[str]:
    """Write the files of an archive that are not there as they should be; their names."""
    new = []
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isdir():
                    continue
                inside = tarfile.data_filter(member, str(folder))
                content = tar.extractfile(inside) if inside.isreg() and inside.size <= LARGEST_MEMBER else None
                if content is None:
                    raise DownloadError(f"{archive}: {inside.name!r} is no plain file. Do not trust this archive.")
                data = content.read()
                with _writing(folder):
                    if _put(folder / inside.name, data):
                        new.append(inside.name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as problem:
        raise DownloadError(f"{archive}: cannot be unpacked ({problem}). Delete it and fetch it again.") from None
    return new


def _put(target: Path, data: bytes) -> bool:
    """Make `target` hold `data`; whether that took any writing."""
    if target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(target) as out:
        out.write(data)
    return True


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `target` once it is whole and on the disk, and vanishes otherwise."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with _writing(target.parent):
            out = part.open("xb")
        with out:
            yield out
            with _writing(target.parent):
                out.flush()
                os.fsync(out.fileno())
        with _writing(target.parent):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What the disk refuses, as an error that is not mistaken for one of the network."""
    try:
        yield
    except OSError as problem:
        raise DownloadError(
            f"{folder}: cannot be written ({problem.strerror or problem}). "
            "Make room or take another folder: root= (--root) or ATODDS_DATA."
        ) from None


def _right(path: Path, file: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _sweep(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def _by_hand(problem: Exception, missing: list[RemoteFile], folder: Path) -> str:
    files = [
        f"{' or '.join(file.urls)}\n    -> {folder / file.name} ({file.size} bytes, SHA-256 {file.sha256})"
        for file in missing
    ]
    return (
        f"{missing[0].name} could not be downloaded.\n  {problem}\n"
        "Try again later; or download by hand, and run the same command again, which checks the files:\n  "
        + "\n  ".join(files)
    )


def _silent(_file: str, _received: int, _total: int) -> None:
    """Nobody watches."""
