"""Where a run's files lie: a folder on disk or in a bucket, in which every file is written whole or not at all."""

import contextlib
import errno
import os
import re
import uuid
from pathlib import Path

import fsspec

from atodds.errors import RunError, StoreFullError

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Folder:
    """A folder that fsspec can reach ("runs/first", "s3://bucket/first").

    Names inside it have at most one "/" and never lead out of it.

    Raises:
        RunError: nothing that fsspec can reach here.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = os.fspath(place)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.place)
        except (ValueError, ImportError) as error:
            raise RunError(f"{self.place} cannot be reached: {error}. Name a folder on this machine.") from error
        self._local = "file" in ([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol)

    def read(self, name: str) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is none.
            RunError: it cannot be read.
        """
        try:
            content: bytes = self._fs.cat_file(self._path(name))
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(name) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RunError(f"{name} cannot be read in {self.place}: {error.strerror or error}.") from error
        return content

    def exists(self, name: str = "") -> bool:
        """Whether the file, or the folder itself, is there."""
        return bool(self._fs.exists(self._path(name) if name else self._root))

    def write(self, name: str, content: bytes) -> None:
        """Write the whole file, or leave things as they were: a crash at any moment leaves no half of a file.

        Raises:
            StoreFullError: no room.
            RunError: the folder cannot be written.
        """
        path = self._path(name)
        try:
            if self._local:
                _replace(Path(path), content)
            else:
                self._fs.pipe_file(path, content)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreFullError(
                    f"No room left for {name} in {self.place} ({len(content):,} bytes). What was finished is kept. "
                    "Make room, then give the same command again: it continues where it stopped."
                ) from error
            raise RunError(f"{name} cannot be written in {self.place}: {error.strerror or error}.") from error

    def remove(self, name: str) -> None:
        """Delete the file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def names(self, under: str) -> list[str]:
        """The names of all finished files in a folder inside this one, sorted."""
        path = self._path(under)
        if not self._fs.exists(path):
            return []
        found = (str(entry).rsplit("/", 1)[-1] for entry in self._fs.ls(path, detail=False, refresh=True))
        return sorted(f"{under}/{name}" for name in found if not name.startswith("."))

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise RunError(f"{name!r} is not the name of a file of a run.")
        return f"{self._root.rstrip('/')}/{name}"


def _replace(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, then rename: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
