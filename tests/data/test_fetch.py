"""Fetching official files from a server on this machine: right, wrong, cut, refused; and archives that mean harm."""

import gzip
import hashlib
import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from atodds.data.fetch import OFFICIAL, RemoteFile, fetch
from atodds.errors import ArgumentError, DownloadError, UnknownNameError

CONTENT = bytes(range(256)) * 9000
Serve = Callable[[str, bytes], str]


class Server(ThreadingHTTPServer):
    """Serves what is put into it; `/cut/` loses the second half, `/more/` does not stop, `/gone/` is not there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, name = self.path.strip("/").split("/", 1)
        if kind == "gone":
            self.send_error(404)
            return
        content = self.server.content[name]
        sent = {"cut": content[: len(content) // 2], "more": content + bytes(100), "wrong": content[::-1]}.get(
            kind, content
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if kind == "cut" else len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Be quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def remote(server: Server, name: str, content: bytes = CONTENT, kinds: tuple[str, ...] = ("right",)) -> RemoteFile:
    server.content[name] = content
    urls = tuple(f"http://127.0.0.1:{server.server_port}/{kind}/{name}" for kind in kinds)
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest(), urls)


def archive(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, member in members.items():
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(name)
            content = b"" if isinstance(member, tarfile.TarInfo) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def left(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def test_the_right_file_is_written_once_and_kept(server: Server, tmp_path: Path) -> None:
    official = {"mnist": (remote(server, "a.gz"), remote(server, "b.gz", b"b"))}
    seen: list[tuple[str, int, int]] = []
    done = fetch("mnist", root=tmp_path, official=official, progress=lambda *step: seen.append(step))
    assert done.new == ("a.gz", "b.gz")
    assert (tmp_path / "mnist" / "a.gz").read_bytes() == CONTENT
    assert left(tmp_path) == ["mnist/a.gz", "mnist/b.gz"]
    assert seen[0] == ("a.gz", 0, len(CONTENT))
    assert ("a.gz", len(CONTENT), len(CONTENT)) in seen
    assert fetch("mnist", root=tmp_path, official=official).new == ()
    assert len(server.asked) == 2


def test_a_file_has_the_permissions_that_others_have(server: Server, tmp_path: Path) -> None:
    fetch("mnist", root=tmp_path, official={"mnist": (remote(server, "a.gz"),)})
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "mnist" / "a.gz").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", f"ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
        ("more", "more than the"),
        ("wrong", "other bytes than promised"),
        ("gone", "404"),
    ],
)
def test_other_bytes_leave_nothing_behind_and_say_what_to_do(
    server: Server, tmp_path: Path, kind: str, reason: str
) -> None:
    file, other = remote(server, "a.gz", kinds=(kind,)), remote(server, "b.gz")
    with pytest.raises(DownloadError) as caught:
        fetch("mnist", root=tmp_path, official={"mnist": (file, other)})
    message = str(caught.value)
    assert reason in message
    for wanted in (file, other):
        assert wanted.urls[0] in message
        assert str(tmp_path / "mnist" / wanted.name) in message
        assert wanted.sha256 in message
    assert left(tmp_path) == []


def test_the_next_mirror_is_tried(server: Server, tmp_path: Path) -> None:
    file = remote(server, "a.gz", kinds=("gone", "cut", "wrong", "right", "never"))
    assert fetch("mnist", root=tmp_path, official={"mnist": (file,)}).new == ("a.gz",)
    assert server.asked == [f"/{kind}/a.gz" for kind in ("gone", "cut", "wrong", "right")]
    assert left(tmp_path) == ["mnist/a.gz"]


def test_a_refused_connection_names_every_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    urls = (f"http://127.0.0.1:{port}/a", f"http://127.0.0.1:{port}/b", "file:///etc/passwd", "http://[/")
    with pytest.raises(DownloadError, match="refused") as caught:
        fetch("mnist", root=tmp_path, official={"mnist": (RemoteFile("a.gz", 1, "0" * 64, urls),)})
    assert all(url in str(caught.value) for url in urls)


def test_what_was_there_goes_on_from_there(server: Server, tmp_path: Path) -> None:
    first, broken, right = remote(server, "a.gz"), remote(server, "b.gz", kinds=("cut",)), remote(server, "b.gz")
    with pytest.raises(DownloadError, match=r"b\.gz could not be downloaded"):
        fetch("mnist", root=tmp_path, official={"mnist": (first, broken)})
    assert left(tmp_path) == ["mnist/a.gz"]
    assert fetch("mnist", root=tmp_path, official={"mnist": (first, right)}).new == ("b.gz",)


def test_a_wrong_file_in_the_place_is_replaced_only_by_the_right_one(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "mnist" / "a.gz"
    place.parent.mkdir()
    place.write_bytes(CONTENT[::-1])
    with pytest.raises(DownloadError):
        fetch("mnist", root=tmp_path, official={"mnist": (remote(server, "a.gz", kinds=("wrong",)),)})
    assert place.read_bytes() == CONTENT[::-1]
    fetch("mnist", root=tmp_path, official={"mnist": (remote(server, "a.gz"),)})
    assert place.read_bytes() == CONTENT


def test_the_remains_of_a_killed_download_are_swept(server: Server, tmp_path: Path) -> None:
    old, fresh = tmp_path / "mnist" / ".a.gz.0.part", tmp_path / "mnist" / ".a.gz.1.part"
    old.parent.mkdir()
    for path in (old, fresh):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    fetch("mnist", root=tmp_path, official={"mnist": (remote(server, "a.gz"),)})
    assert left(tmp_path) == ["mnist/.a.gz.1.part", "mnist/a.gz"]


def test_an_archive_is_unpacked_and_mended(server: Server, tmp_path: Path) -> None:
    members: dict[str, bytes | tarfile.TarInfo] = {"batches/one": b"1" * 5000, "batches/two": b"2"}
    official = {"cifar10": (remote(server, "c.tar.gz", archive(members)),)}
    assert fetch("cifar10", root=tmp_path, official=official).new == ("c.tar.gz", "batches/one", "batches/two")
    assert fetch("cifar10", root=tmp_path, official=official).new == ()
    (tmp_path / "cifar10" / "batches" / "one").write_bytes(b"1" * 4999)
    (tmp_path / "cifar10" / "batches" / "two").write_bytes(b"3")
    assert fetch("cifar10", root=tmp_path, official=official).new == ("batches/one", "batches/two")
    assert (tmp_path / "cifar10" / "batches" / "two").read_bytes() == b"2"
    assert len(server.asked) == 1


def test_an_archive_put_there_by_hand_is_unpacked_without_the_network(server: Server, tmp_path: Path) -> None:
    file = remote(server, "c.tar.gz", archive({"batches/one": b"1"}))
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "c.tar.gz").write_bytes(server.content["c.tar.gz"])
    assert fetch("cifar10", root=tmp_path, official={"cifar10": (file,)}).new == ("batches/one",)
    assert server.asked == []


def link(kind: bytes, name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        {"../evil": b"x"},
        {"batches/../../evil": b"x"},
        {"link": link(tarfile.SYMTYPE, "link", "../.."), "link/evil": b"x"},
        {"hard": link(tarfile.LNKTYPE, "hard", "../../secret")},
        {"pipe": link(tarfile.FIFOTYPE, "pipe", "")},
        {"inner": link(tarfile.SYMTYPE, "inner", "c.tar.gz")},
    ],
)
def test_no_path_of_an_archive_leaves_the_folder(
    server: Server, tmp_path: Path, members: dict[str, bytes | tarfile.TarInfo]
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    with pytest.raises(DownloadError, match=r"c\.tar\.gz"):
        fetch("cifar10", root=root, official={"cifar10": (remote(server, "c.tar.gz", archive(members)),)})
    assert left(tmp_path) == ["root/cifar10/c.tar.gz", "secret"]


def test_an_absolute_path_lands_inside(server: Server, tmp_path: Path) -> None:
    fetch("cifar10", root=tmp_path, official={"cifar10": (remote(server, "c.tar.gz", archive({"/evil": b"x"})),)})
    assert left(tmp_path) == ["cifar10/c.tar.gz", "cifar10/evil"]


@pytest.mark.parametrize(
    "content",
    [b"no archive", archive({"a": CONTENT})[:-40], gzip.compress(b"no tar")],
    ids=["no archive", "cut", "no tar"],  # gzip writes the time: workers would name the tests differently
)
def test_an_archive_that_cannot_be_unpacked_says_so(server: Server, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DownloadError, match=r"c\.tar\.gz: cannot be unpacked"):
        fetch("cifar10", root=tmp_path, official={"cifar10": (remote(server, "c.tar.gz", content),)})
    assert left(tmp_path) == ["cifar10/c.tar.gz"]


def test_a_folder_that_cannot_be_written_is_not_blamed_on_the_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DownloadError, match=r"cannot be written.*take another folder"):
        fetch("mnist", root=tmp_path / "file", official={"mnist": (remote(server, "a.gz"),)})
    assert server.asked == []


def test_names_that_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean cifar10"):
        fetch("cifr10", root=tmp_path)
    with pytest.raises(ArgumentError, match="comes with the installation"):
        fetch("digits", root=tmp_path)


def test_the_official_files_are_well_formed() -> None:
    for files in OFFICIAL.values():
        for file in files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 4000
            assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)
