"""atodds data: list, fetch, show."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from atodds.cli import data as commands
from atodds.data import load
from atodds.data.fetch import OFFICIAL, RemoteFile
from atodds.errors import DataError, DownloadError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(commands.app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    return result.output


def test_list_says_where_each_set_lies(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x=np.zeros((1, 28, 28), np.uint8), y=[0])
    lines = run("list", "--root", str(tmp_path)).splitlines()
    found = {line.split()[0]: line for line in lines[1:4]}
    assert "embedded" in found["digits"]
    assert f"{tmp_path / 'mnist.npz'} (npz)" in found["mnist"]
    assert "atodds data fetch cifar10" in found["cifar10"]
    assert str(tmp_path) in lines[-1]


def test_show_says_what_a_set_holds() -> None:
    told = run("show", "digits", "--limit", "100")
    images = load("digits", limit=100)
    for text in ("100", "1 x 8 x 8", "balanced 100", images.fingerprint):
        assert text in told
    assert "25" not in run("show", "digits", "--limit", "20", "--how", "first").split("classes")[1]


def test_show_takes_a_folder_a_split_and_a_size(tmp_path: Path) -> None:
    (tmp_path / "val" / "[red]cat\x1b[31m").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "val" / "[red]cat\x1b[31m" / "a.png")
    told = run("show", str(tmp_path), "--split", "val", "--size", "24")
    assert "3 x 24 x 24" in told
    assert "[red]cat�[31m" in told
    assert "\x1b" not in told


def test_what_is_wrong_is_raised_for_main_to_print(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="atodds data fetch mnist"):
        run("show", "mnist", "--root", str(tmp_path))


def test_fetch_says_that_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = (RemoteFile("a.gz", 1, hashlib.sha256(b"x").hexdigest(), ()),)
    monkeypatch.setitem(OFFICIAL, "mnist", official)
    with pytest.raises(DownloadError, match=r"a\.gz could not be downloaded"):
        run("fetch", "mnist", "--root", str(tmp_path))
    (tmp_path / "mnist" / "a.gz").write_bytes(b"x")
    assert "already there, and right" in run("fetch", "mnist", "--root", str(tmp_path))


@pytest.mark.parametrize("command", ["list", "fetch", "show"])
def test_help_shows_examples(command: str) -> None:
    told = run(command, "--help")
    assert f"atodds data {command}" in told
