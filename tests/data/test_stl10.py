"""STL-10's binary files, and the cut of its labelled images that the study of data sizes took."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from atodds.data import load
from atodds.data.fetch import fetch
from atodds.data.sources import stl10
from atodds.errors import ArgumentError, DataError

Bytes = npt.NDArray[np.uint8]
IMAGE = 3 * 96 * 96


def write(folder: Path, split: str, labels: list[int], images: Bytes | None = None) -> None:
    """Files as the official ones, of images whose first byte is their number where none are given."""
    folder.mkdir(parents=True, exist_ok=True)
    if images is None:
        images = np.zeros((len(labels), IMAGE), np.uint8)
        images[:, 0] = np.arange(len(labels)) % 256
    (folder / f"{split}_X.bin").write_bytes(images.tobytes())
    (folder / f"{split}_y.bin").write_bytes(bytes(labels))


def test_a_channel_is_stored_column_by_column(tmp_path: Path) -> None:
    flat = np.zeros((1, IMAGE), np.uint8)
    flat[0, 1] = 7  # the second byte is the second row of the first column
    flat[0, 96] = 9  # and the 97th the first row of the second one
    flat[0, 96 * 96] = 3
    write(tmp_path / "x", "test", [10], flat)
    pixels = load(tmp_path / "x").pixels()[0]
    assert (pixels[0, 1, 0], pixels[0, 0, 1], pixels[1, 0, 0]) == (7, 9, 3)
    assert int(pixels.astype(int).sum()) == 19


@pytest.mark.parametrize("place", ["stl10_binary", "stl10", "stl10/stl10_binary", "."])
def test_it_is_found_by_its_name(tmp_path: Path, place: str) -> None:
    write(tmp_path / place, "test", [1, 10, 2])
    write(tmp_path / place, "train", [3, 3])
    images = load("stl10", root=tmp_path)
    assert (images.name, images.split, images.shape) == ("stl10", "test", (3, 96, 96))
    assert [images.classes[label] for label in images.labels] == ["airplane", "truck", "bird"]
    assert len(load("STL-10", root=tmp_path, split="train")) == 2
    assert len(load(tmp_path / place / "train_X.bin", split="test")) == 2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """2 + 3 images of each class, of which the study's split takes 3 to train on and 1 to test on."""
    monkeypatch.setattr(stl10, "COUNTS", (30, 10))
    write(tmp_path / "stl10", "train", [*range(1, 11)] * 2)
    write(tmp_path / "stl10", "test", [*range(1, 11)] * 3)
    return tmp_path


def test_the_study_s_split_is_balanced_and_has_no_image_twice(small: Path) -> None:
    train, test = (load("stl10", root=small, split=split) for split in stl10.STUDY)
    assert np.bincount(train.labels).tolist() == [3] * 10
    assert np.bincount(test.labels).tolist() == [1] * 10
    assert not set(train.ids) & set(test.ids)
    assert max(train.ids) > 20  # of both official splits
    both = np.concatenate([load("stl10", root=small, split=split).pixels() for split in ("train", "test")])
    assert (train.pixels() == both[train.ids]).all()


def test_the_study_s_split_is_the_same_each_time(small: Path) -> None:
    one, two = (load("stl10", root=small, split="train-10000") for _ in range(2))
    assert one.fingerprint == two.fingerprint
    per_class = [one.ids[one.labels == label] // 10 for label in range(10)]
    assert len({tuple(rows) for rows in per_class}) > 1  # drawn, not the first of each


def test_too_few_images_for_the_study_s_split_are_an_error(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path, split, [1, 2])
    with pytest.raises(DataError, match=r"no split of 13000 images: .*Download STL-10 again"):
        load(tmp_path, split="train-10000")


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    write(tmp_path, "test", [1])
    with pytest.raises(DataError, match=r"no 'train' split. There is test"):
        load(tmp_path, split="train")


@pytest.mark.parametrize(
    ("labels", "count", "message"),
    [
        ([1, 2], 2 * IMAGE - 1, "no whole number of images"),
        ([1, 2], 0, "no whole number of images"),
        ([1], 2 * IMAGE, "1 labels beside 2 images"),
        ([0, 1], 2 * IMAGE, "label 0 of image 0 is not 1 to 10"),
        ([10, 11], 2 * IMAGE, "label 11 of image 1 is not 1 to 10"),
    ],
)
def test_files_that_are_not_whole_are_refused(tmp_path: Path, labels: list[int], count: int, message: str) -> None:
    write(tmp_path, "test", labels)
    (tmp_path / "test_X.bin").write_bytes(bytes(count))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "test", [1, 2, 3])
    monkeypatch.setattr(stl10, "LARGEST", 2 * IMAGE)
    with pytest.raises(DataError, match="more than a file of this kind has"):
        load(tmp_path)


def test_it_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"stl10 is not in .*acoates"):
        load("stl10", root=tmp_path)


def test_fetch_says_that_it_is_got_by_hand(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"is not fetched. Download https://cs.stanford.edu"):
        fetch("stl10", root=tmp_path)
