"""Finding data by name and by path."""

from pathlib import Path

import numpy as np
import pytest

from atodds.data import ImageSet, load
from atodds.data.paths import belongs, data_root, set_name, split_in
from atodds.errors import ArgumentError, DataError, UnknownNameError


def write(path: Path, side: int = 28, labels: tuple[int, ...] = (0, 1)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=np.zeros((len(labels), side, side), np.uint8), y=np.array(labels))
    return path


def test_the_digits_need_nothing() -> None:
    images = load("digits")
    assert repr(images) == "<ImageSet digits test: 355 images 1x8x8, 10 classes, all>"
    assert load("digits", size=16).shape == (1, 16, 16)
    assert load("digits", limit=100).selection == "balanced 100"
    assert load("digits", limit=10, how="first").ids.tolist() == list(range(10))
    with pytest.raises(UnknownNameError, match="test, train"):
        load("digits", split="val")


@pytest.mark.parametrize(("typed", "meant"), [("ciffar10", "cifar10"), ("mnits", "mnist"), ("digit", "digits")])
def test_a_misspelt_name_is_answered_with_the_nearest(typed: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean {meant}"):
        load(typed, root=tmp_path)


@pytest.mark.parametrize("name", ["", "imagenet", "\0", "a" * 5000, "ä"])
def test_other_names_are_answered_with_those_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Known: cifar10, digits, mnist"):
        load(name, root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "CIFAR-10"])
def test_a_known_name_that_is_not_there_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    plain = name.lower().replace("-", "")
    with pytest.raises(
        DataError, match=rf"{plain} is not in {tmp_path}/nowhere. Run `atodds data fetch {plain}`, or point root="
    ):
        load(name, root=tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["photos/x.parquet", "./photos", "x.npz"])
def test_a_path_that_is_not_there_is_called_a_path(path: str, tmp_path: Path) -> None:
    for asked in (path, Path(path)):
        with pytest.raises(DataError, match="no such file or folder"):
            load(asked, root=tmp_path)


def test_a_folder_under_the_root_is_found_by_its_name(tmp_path: Path) -> None:
    write(tmp_path / "flowers.npz")
    assert load("flowers.npz", root=tmp_path).name == "flowers"


def test_a_path_wins_over_a_name_only_when_it_is_written_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "digits" / "digits.npz", side=5)
    assert load("digits").shape == (1, 8, 8)
    assert load("./digits/digits.npz").shape == (1, 5, 5)
    assert load(Path("digits/digits.npz")).shape == (1, 5, 5)


def test_a_folder_in_no_known_layout_lists_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    for path in (tmp_path, tmp_path / "x.txt"):
        with pytest.raises(DataError, match=r"no layout that can be read. Known: .*Parquet.*\.npz"):
            load(path)


def test_something_else_under_a_known_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "cifar10.npz")
    with pytest.raises(DataError, match=r"cifar10\.npz holds .*1x28x28.*, which is not cifar10"):
        load("cifar10", root=tmp_path)
    write(tmp_path / "mnist.npz", labels=(0, 10))
    with pytest.raises(DataError, match="which is not mnist"):
        load("mnist", root=tmp_path)


def test_one_data_set_in_the_root_is_not_taken_for_another(shared: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10 is not in|which is not cifar10"):
        load("cifar10", root=shared / "data" / "mnist")


def test_the_official_files_win_over_other_layouts(tmp_path: Path) -> None:
    place = tmp_path / "cifar10"
    place.mkdir()
    (place / "test_batch.bin").write_bytes(bytes([4]) + bytes(3072))
    (place / "test.parquet").write_bytes(b"never opened")
    assert load("cifar10", root=tmp_path).labels.tolist() == [4]


def test_several_paths_must_be_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="several paths together must be Parquet"):
        load([write(tmp_path / "a.npz"), tmp_path / "b.npz"])
    with pytest.raises(DataError, match="no path"):
        load([])


def test_arguments_that_cannot_be_are_found_before_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz")
    with pytest.raises(ArgumentError, match="size=0"):
        load(path, size=0)
    with pytest.raises(ArgumentError, match="limit=3: some has 2 images"):
        load(path, limit=3)
    with pytest.raises(ArgumentError, match="split=None"):
        load(path, split=None)  # type: ignore[arg-type]


def test_floats_are_not_resized_behind_ones_back(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x=np.full((2, 8, 8), 0.001), y=[0, 1])
    with pytest.raises(ArgumentError, match="size=4"):
        load(tmp_path / "some.npz", size=4)
    assert isinstance(load(tmp_path / "some.npz", size=8), ImageSet)


def test_the_root_is_the_argument_then_the_environment_then_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATODDS_DATA", "/elsewhere")
    assert data_root("/here") == Path("/here")
    assert data_root() == Path("/elsewhere")
    monkeypatch.delenv("ATODDS_DATA")
    assert data_root() == Path.home() / ".cache" / "atodds" / "data"


def test_names_tell_their_split() -> None:
    told = [
        "test-00000-of-00001.parquet",
        "cifar10_train.npz",
        "val",
        "t10k-images-idx3-ubyte",
        "contest.npz",
        "train_test",
    ]
    assert [split_in(name) for name in told] == ["test", "train", "validation", "test", "", "test"]
    assert belongs("fold1/x.parquet", "fold1")
    assert not belongs("latest.parquet", "test")


def test_sets_are_called_by_their_stem_or_else_by_their_folder(tmp_path: Path) -> None:
    for path, name in (
        ("flowers.parquet", "flowers"),
        ("flowers/test.parquet", "flowers"),
        ("flowers/data/test-00000-of-00001-0123456789abcdef.parquet", "flowers"),
        ("flowers/val", "flowers"),
        ("MNIST/raw", "MNIST"),
        ("my.photos", "my.photos"),
    ):
        assert set_name(tmp_path / path) == name
