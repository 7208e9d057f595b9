"""IDX: MNIST's files, plain and gzipped, and headers that lie."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from atodds.data import load
from atodds.errors import DataError, EmptyDataError


def write(folder: Path, split: str = "t10k", zipped: bool = False, count: int = 3, level: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = bytes(range(level, level + count * 4))
    put(folder / f"{split}-images-idx3-ubyte", struct.pack(">4I", 0x803, count, 2, 2) + pixels, zipped)
    put(folder / f"{split}-labels-idx1-ubyte", struct.pack(">2I", 0x801, count) + bytes(range(count)), zipped)


def put(path: Path, content: bytes, zipped: bool) -> None:
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("zipped", [False, True])
def test_pixels_and_labels_are_the_bytes_behind_the_header(tmp_path: Path, zipped: bool) -> None:
    write(tmp_path, zipped=zipped)
    images = load(tmp_path)
    assert images.pixels().ravel().tolist() == list(range(12))
    assert images.labels.tolist() == [0, 1, 2]
    assert images.classes == ("0", "1", "2")
    assert images.shape == (1, 2, 2)


def test_the_train_split_is_read_from_its_files(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "train", level=100)
    assert load(tmp_path, split="train").pixels([0])[0, 0, 0, 0] == 100
    with pytest.raises(DataError, match=r"no 'validation' split. There is test, train"):
        load(tmp_path, split="validation")


@pytest.mark.parametrize("place", ["mnist", "MNIST", "MNIST/raw", "."])
def test_mnist_is_found_by_its_name(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / "t10k-images-idx3-ubyte", struct.pack(">4I", 0x803, 2, 28, 28) + bytes(2 * 784), True)
    put(folder / "t10k-labels-idx1-ubyte", struct.pack(">2I", 0x801, 2) + bytes([7, 2]), True)
    for images in (load("mnist", root=tmp_path), load("MNIST", root=str(tmp_path))):
        assert (images.name, images.split, len(images)) == ("mnist", "test", 2)
        assert images.classes == tuple("0123456789")
    monkeypatch.setenv("ATODDS_DATA", str(tmp_path))
    assert load("mnist").labels.tolist() == [7, 2]


def test_one_file_finds_its_labels(tmp_path: Path) -> None:
    write(tmp_path / "fashion", zipped=True)
    images = load(tmp_path / "fashion" / "t10k-images-idx3-ubyte.gz", split="train")
    assert (images.name, images.split) == ("fashion", "test")
    (tmp_path / "fashion" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"no labels beside it. Put t10k-labels-idx1-ubyte"):
        load(tmp_path / "fashion")


def test_other_names_of_the_same_files_are_known(tmp_path: Path) -> None:
    write(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("t10k-", "emnist-letters-test-").replace("-idx", ".idx"))
    assert len(load(tmp_path)) == 3


def test_two_data_sets_in_one_folder_are_not_confused(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "emnist-letters-test")
    with pytest.raises(DataError, match=r"are both 'test'. Give the path of one file"):
        load(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (struct.pack(">4I", 0x803, 3, 2, 2) + bytes(11), "promises 3x2x2 bytes"),
        (struct.pack(">4I", 0x803, 3, 2, 2) + bytes(13), "holds more"),
        (struct.pack(">4I", 0x801, 3, 2, 2) + bytes(12), "magic number 0x0801"),
        (struct.pack(">4I", 0xD03, 3, 2, 2) + bytes(48), "magic number 0x0d03"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "too short"),
        (struct.pack(">4I", 0x803, 40_000, 1000, 1000) + bytes(999), "too short"),
        (struct.pack(">4I", 0x803, 2, 2, 2) + bytes(8), "2 images, .* 3 labels"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, content: bytes, message: str, zipped: bool) -> None:
    write(tmp_path, zipped=zipped)
    put(tmp_path / "t10k-images-idx3-ubyte", content, zipped)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_no_images_is_an_error_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, count=0)
    with pytest.raises(EmptyDataError, match="0x2x2"):
        load(tmp_path)


def test_a_gzip_that_is_none_or_cut_names_the_file(tmp_path: Path) -> None:
    write(tmp_path, zipped=True)
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    sound = file.read_bytes()
    for content in (b"no gzip", sound[:-9], sound[:20]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz"):
            load(tmp_path)


OFFICIAL = {
    0x803: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    0x801: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of the official t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, unpacked."""


def test_mnist_is_the_official_one_byte_by_byte(shared: Path, tmp_path: Path) -> None:
    parquet = load("mnist", root=shared / "data")
    images = struct.pack(">4I", 0x803, 10_000, 28, 28) + parquet.pixels().tobytes()
    labels = struct.pack(">2I", 0x801, 10_000) + parquet.labels.astype(np.uint8).tobytes()
    assert hashlib.sha256(images).hexdigest() == OFFICIAL[0x803]
    assert hashlib.sha256(labels).hexdigest() == OFFICIAL[0x801]
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    idx = load("mnist", root=tmp_path)
    assert (idx.pixels() == parquet.pixels()).all()
    assert idx.limit(100).ids.tolist() == parquet.limit(100).ids.tolist()
