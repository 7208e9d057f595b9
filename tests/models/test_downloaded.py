"""What came in the place of weights is told apart: a web page, half a file, another file."""

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from atodds import models
from atodds.errors import ArgumentError, ChecksumError, ModelError, TruncatedFileError, WebPageError
from atodds.models.downloaded import check_hash, check_whole
from atodds.models.weights import read_weights

STATE = {"weight": torch.arange(3000.0), "bias": torch.zeros(3)}
PAGES = [
    b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>...</body></html>",
    b"\xef\xbb\xbf\n  <HTML><Head><title>Google Drive - Virus scan warning</title>",
    b"<!-- moved --><html><title>Google Drive - Virus scan warning</title>" + b" " * 100_000,
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.bin"])
def test_a_web_page_is_called_by_its_title(tmp_path: Path, page: bytes, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(page)
    with pytest.raises(WebPageError, match=r"web page \('Google Drive - Virus scan warning'\).*with a browser\.$"):
        read_weights(file)


def test_a_title_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes("<html><title>\x1b[31mred\u202e\nline</title>".encode())
    with pytest.raises(WebPageError) as raised:
        check_whole(file)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_half_a_file_is_told_from_a_damaged_one(tmp_path: Path, kind: str, share: float) -> None:
    file = tmp_path / f"a.{kind}"
    if kind == "pt":
        torch.save(STATE, file)
    else:
        safetensors.torch.save_file(STATE, file)
    read_weights(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TruncatedFileError, match=r"not whole: .*browser\.$"):
        read_weights(file)


def test_a_file_that_is_neither_is_left_to_who_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes(b"not weights at all")
    check_whole(file)
    with pytest.raises(ModelError, match="not a file of weights"):
        read_weights(file)
    junk = tmp_path / "a.safetensors"
    junk.write_bytes(b"\xff" * 100)
    check_whole(junk)
    junk.write_bytes((2).to_bytes(8, "little") + b"[]")
    check_whole(junk)


def test_a_file_is_held_against_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file(STATE, file)
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    check_hash(file, right.upper())
    with pytest.raises(ChecksumError, match=f"has SHA-256 {right}, not {'0' * 64}"):
        check_hash(file, "0" * 64)
    for wrong in ("", "abc", "g" * 64):
        with pytest.raises(ArgumentError, match="64 hex digits"):
            check_hash(file, wrong)


def test_load_takes_weights_and_their_hash_apart_from_the_spec(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file(models.build("linear", (1, 8, 8), 10).state_dict(), file)
    model = models.load("linear", weights=file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert model.source == f"linear@{file}"
    with pytest.raises(ChecksumError):
        models.load("linear", weights=file, sha256="0" * 64)
    with pytest.raises(ArgumentError, match="names weights already"):
        models.load(f"linear@{file}", weights=file)
    (tmp_path / "nets.py").write_text("import torch\ndef make(): return torch.nn.Flatten()\n")
    with pytest.raises(ArgumentError, match="names no file of weights"):
        models.load(f"{tmp_path}/nets.py:make", sha256="0" * 64)
