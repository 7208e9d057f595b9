"""A folder of images a class: splits, sorting, mixed shapes and colours, broken files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atodds.data import load
from atodds.errors import DataError, UnreadableImageError


def put(path: Path, level: int = 0, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level, 0, 0)).save(path)
    return path


def levels(path: Path, split: str = "test") -> list[int]:
    return [int(level) for level in load(path, split=split).pixels()[:, 0, 0, 0]]


def test_classes_and_files_are_sorted_by_name(tmp_path: Path) -> None:
    for k, name in enumerate(["dog/b.png", "dog/a.png", "cat/10.png", "cat/9.png", "cat/deep/1.png", "Ant/x.PNG"]):
        put(tmp_path / "pets" / name, k)
    images = load(tmp_path / "pets")
    assert images.classes == ("Ant", "cat", "dog")
    assert images.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert levels(tmp_path / "pets") == [5, 2, 3, 4, 1, 0]
    assert (images.name, images.split, images.shape) == ("pets", "", (3, 3, 4))


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png", 1)
    put(tmp_path / "cat" / ".hidden.png", 2)
    put(tmp_path / ".cache" / "b.png", 3)
    put(tmp_path / "__MACOSX" / "c.png", 4)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "README.md").write_text("x")
    assert levels(tmp_path) == [1]


@pytest.mark.parametrize("folder", ["val", "validation", "valid", "Val"])
def test_a_split_is_found_by_its_folder(tmp_path: Path, folder: str) -> None:
    put(tmp_path / "pets" / "train" / "cat" / "a.png", 1)
    put(tmp_path / "pets" / folder / "cat" / "a.png", 2)
    assert levels(tmp_path / "pets", "val") == [2]
    assert levels(tmp_path / "pets", "train") == [1]
    direct = load(tmp_path / "pets" / folder)
    assert (direct.name, direct.split) == ("pets", "validation")
    with pytest.raises(DataError, match=f"no 'test' split. There is {folder}, train|There is train, {folder}"):
        load(tmp_path / "pets")


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        put(tmp_path / name / "a.png")
    assert load(tmp_path).classes == ("bus", "train")


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="dog: no image in this class"):
        load(tmp_path)


def test_images_without_class_folders_say_what_is_missing(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    with pytest.raises(DataError, match="images without class folders"):
        load(tmp_path)


def test_different_shapes_name_two_files_and_the_way_out(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png", 10, (4, 3))
    put(tmp_path / "dog" / "b.png", 20, (8, 5))
    with pytest.raises(DataError, match=r"cat/a\.png is 4x3 and .*dog/b\.png is 8x5 pixels.*Pass size="):
        load(tmp_path)
    images = load(tmp_path, size=8)
    assert images.shape == (3, 8, 8)
    assert images.pixels()[:, 0, 4, 4].tolist() == [10, 20]


def test_only_the_selection_must_have_one_shape(tmp_path: Path) -> None:
    for k in range(3):
        put(tmp_path / "cat" / f"{k}.png")
    put(tmp_path / "dog" / "b.png", 20, (8, 5))
    assert len(load(tmp_path, limit=3, how="first")) == 3


def test_size_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png", 10, (64, 48))
    assert len({load(tmp_path, size=size).fingerprint for size in (None, 32, 33)}) == 3


def test_grey_among_colours_becomes_colour_and_all_grey_stays_grey(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png", 7, mode="L")
    assert load(tmp_path).pixels().shape == (1, 1, 3, 4)
    put(tmp_path / "cat" / "b.png", 9)
    images = load(tmp_path)
    assert images.shape == (3, 3, 4)
    assert images.pixels()[:, :, 0, 0].tolist() == [[7, 7, 7], [9, 0, 0]]


def test_files_are_opened_only_when_asked_for(tmp_path: Path) -> None:
    for k in range(4):
        put(tmp_path / "cat" / f"{k}.png", k)
    images = load(tmp_path)
    (tmp_path / "cat" / "2.png").unlink()
    assert images.pixels([0, 3])[:, 0, 0, 0].tolist() == [0, 3]
    with pytest.raises(UnreadableImageError, match=r"cat/2\.png: cannot be decoded \(No such file"):
        images.pixels()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    broken = put(tmp_path / "cat" / "b.png", size=(400, 300))
    content = broken.read_bytes()
    for damaged in (b"", b"x", content[:20]):
        broken.write_bytes(damaged)
        with pytest.raises(UnreadableImageError, match=r"cat/b\.png: cannot be decoded"):
            load(tmp_path)
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableImageError, match=r"cat/b\.png: cannot be decoded"):
        load(tmp_path, size=8).pixels()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_named_like_an_image_does_not_hang(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    os.mkfifo(tmp_path / "cat" / "b.png")
    with pytest.raises(UnreadableImageError, match=r"cat/b\.png"):
        load(tmp_path)


def test_linked_classes_and_files_are_followed(tmp_path: Path) -> None:
    real = put(tmp_path / "real" / "a.png", 5)
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / "b.png").symlink_to(real)
    (tmp_path / "set" / "dog").symlink_to(real.parent)
    assert levels(tmp_path / "set") == [5, 5]


def test_jpegs_are_what_pillow_decodes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    (tmp_path / "cat").mkdir()
    Image.fromarray(pixels).save(tmp_path / "cat" / "a.jpg", quality=80)
    expected = np.asarray(Image.open(tmp_path / "cat" / "a.jpg")).transpose(2, 0, 1)
    assert (load(tmp_path).pixels()[0] == expected).all()
