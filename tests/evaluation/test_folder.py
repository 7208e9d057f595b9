"""A run's files are whole or not there, and none of them lies outside of its folder."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds.errors import RunError, StoreFullError
from atodds.evaluation.folder import Folder


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run" if request.param == "disk" else f"memory://{tmp_path.name}/run")


def test_what_is_written_is_read(folder: Folder) -> None:
    assert not folder.exists()
    folder.write("jobs/a.parquet", b"one")
    folder.write("jobs/b.parquet", b"")
    folder.write("jobs/a.parquet", b"two")
    folder.write("run.json", b"{}")
    assert folder.exists()
    assert folder.exists("run.json")
    assert not folder.exists("audit")
    assert folder.read("jobs/a.parquet") == b"two"
    assert folder.read("jobs/b.parquet") == b""
    assert folder.names("jobs") == ["jobs/a.parquet", "jobs/b.parquet"]
    assert folder.names("audit") == []


def test_what_is_not_there_is_said_so(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read("run.json")
    folder.remove("run.json")
    folder.write("run.json", b"{}")
    folder.remove("run.json")
    with pytest.raises(FileNotFoundError):
        folder.read("run.json")


NAMES = [
    "", ".", "..", "../x", "../../x", "jobs/../../x", "jobs/..", "/etc/passwd", "jobs//x", "jobs/x/y", "~/x",
    "a\\..\\x", "jobs/.hidden", ".hidden", "x\n", "x\0", "C:x", "memory://x", "jobs/", "a b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folder(folder: Folder, name: str) -> None:
    folder.write("jobs/a", b"")
    for act in (folder.read, folder.remove, folder.names, lambda name: folder.write(name, b"")):
        with pytest.raises(RunError, match="not the name of a file of a run"):
            act(name)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_name_stays_inside_or_is_refused(name: str) -> None:
    root = "/place/run"
    try:
        path = Folder(root)._path(name)
    except RunError:
        return
    assert os.path.normpath(path) == path
    assert path.startswith(f"{root}/")


KILLED = """
import os, sys
from pathlib import Path
from atodds.evaluation.folder import Folder
Path.replace = lambda *_: os._exit(9)  # the power fails after the write, before the rename
Folder(sys.argv[1]).write("run.json", b"new" * 1000)
"""


def test_a_crash_between_write_and_rename_leaves_the_old_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("run.json", b"old")
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False).returncode == 9
    assert folder.read("run.json") == b"old"
    assert len(list(tmp_path.iterdir())) == 2  # and the unfinished one, which nobody takes for a result
    assert Folder(tmp_path.parent).names(tmp_path.name) == [f"{tmp_path.name}/run.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    folder.write("run.json", b"old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreFullError, match=r"No room left for run\.json .* Make room"):
        folder.write("run.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert folder.read("run.json") == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_has_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreFullError):
        Folder(tmp_path).write("run.json", b"new")


def test_a_folder_that_cannot_be_made_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match=r"run\.json cannot be written in"):
        Folder(tmp_path / "file").write("run.json", b"")
    with pytest.raises(RunError, match="cannot be written"):
        Folder(tmp_path / "file" / "below").write("run.json", b"")


@pytest.mark.parametrize("place", ["nowhere://bucket/run", "gs://bucket/run"])
def test_a_place_that_cannot_be_reached_is_our_error(place: str) -> None:
    with pytest.raises(RunError, match=place):
        Folder(place)
