"""Tiny ImageNet's folder, as the official archive unpacks it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atodds.data import load
from atodds.errors import DataError, UnreadableImageError

WNIDS = ["n02124075", "n01443537", "n04540053"]
WORDS = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n"


def jpeg(shade: int, side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 0, 255 - shade)).save(buffer, "jpeg")
    return buffer.getvalue()


def write(folder: Path) -> Path:
    """Two training images a class, and three of validation."""
    for label, wnid in enumerate(WNIDS):
        place = folder / "train" / wnid / "images"
        place.mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
        for k in range(2):
            (place / f"{wnid}_{k}.JPEG").write_bytes(jpeg(60 * label + 30 * k))
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for k, label in enumerate((2, 0, 1)):
        (folder / "val" / "images" / f"val_{k}.JPEG").write_bytes(jpeg(200 + 20 * k))
        lines.append(f"val_{k}.JPEG\t{WNIDS[label]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "test" / "images").mkdir(parents=True)
    (folder / "test" / "images" / "test_0.JPEG").write_bytes(jpeg(0))
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    (folder / "words.txt").write_text(WORDS)
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny-imagenet-200")


def test_validation_images_are_the_test_set(tiny: Path) -> None:
    images = load("tiny-imagenet", root=tiny.parent)
    assert (images.name, images.split, images.shape, len(images)) == ("tiny-imagenet", "test", (3, 64, 64), 3)
    assert images.labels.tolist() == [2, 0, 1]
    assert load(tiny, split="val").labels.tolist() == [2, 0, 1]
    assert [round(int(image[0].mean()) / 20) for image in images.pixels()] == [10, 11, 12]


def test_training_images_come_class_by_class_in_the_order_of_the_list(tiny: Path) -> None:
    images = load("tiny-imagenet", root=tiny.parent, split="train")
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [round(int(image[0].mean()) / 30) for image in images.pixels()] == [0, 1, 2, 3, 4, 5]
    assert images.ids.tolist() == list(range(6))


def test_classes_are_called_by_the_first_of_their_words(tiny: Path) -> None:
    assert load(tiny).classes == ("Egyptian cat", "goldfish", "n04540053")
    (tiny / "words.txt").unlink()
    assert load(tiny).classes == tuple(WNIDS)


def test_pixels_are_decoded_only_when_asked_for(tiny: Path) -> None:
    images = load(tiny, split="train")
    (tiny / "train" / WNIDS[2] / "images" / f"{WNIDS[2]}_1.JPEG").write_bytes(jpeg(0)[:300])
    assert images.pixels([0, 3]).shape == (2, 3, 64, 64)
    with pytest.raises(UnreadableImageError, match=rf"{WNIDS[2]}_1.JPEG"):
        images.pixels()


def test_a_split_that_is_not_there_names_those_that_are(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"no 'extra' split. There is test, train, validation"):
        load(tiny, split="extra")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wnids.txt", "n02124075\ncat\n", "line 2: 'cat' is no WordNet id"),
        ("wnids.txt", "n02124075\n../../etc\n", "is no WordNet id"),
        ("wnids.txt", "n02124075\nn02124075\n", "1 different classes in 2 lines"),
        ("wnids.txt", "", "0 different classes"),
        ("wnids.txt", "n02124075\nn01443537\n", "line 1: class 'n04540053' is not in wnids.txt"),
        ("val/val_annotations.txt", "", "0 different files"),
        ("val/val_annotations.txt", "val_0.JPEG\n", "line 1: not a file name and its class"),
        ("val/val_annotations.txt", "../../secret.JPEG\tn02124075\n", "line 1: not a file name and its class"),
        ("val/val_annotations.txt", "val_0.JPEG\tn02124075\n" * 2, "1 different files in 2 lines"),
        ("val/val_annotations.txt", "val_9.JPEG\tn02124075\n", "val_9.JPEG"),
    ],
)
def test_lists_that_say_something_else_are_refused(tiny: Path, file: str, content: str, message: str) -> None:
    (tiny / file).write_text(content)
    with pytest.raises(DataError, match=message):
        load(tiny)


def test_lists_that_are_no_text_are_refused(tiny: Path) -> None:
    (tiny / "wnids.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not text"):
        load(tiny)


def test_a_class_without_images_is_refused(tiny: Path) -> None:
    place = tiny / "train" / WNIDS[1] / "images"
    for file in place.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="no image in this class"):
        load(tiny, split="train")
    place.rmdir()
    with pytest.raises(DataError, match=r"not there, though wnids.txt names the class"):
        load(tiny, split="train")


def test_sizes_other_than_its_own_are_not_taken_for_it(tiny: Path) -> None:
    for k in range(3):
        (tiny / "val" / "images" / f"val_{k}.JPEG").write_bytes(jpeg(0, 32))
    with pytest.raises(DataError, match="which is not tiny-imagenet"):
        load("tiny-imagenet", root=tiny.parent)
    assert np.prod(load("tiny-imagenet", root=tiny.parent, size=64).shape) == 3 * 64 * 64
