"""What every source promises, whatever it reads: one row a source."""

import gzip
import hashlib
import io
import json
import operator
import pickle
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atodds.data import ImageSet, load
from atodds.data.sources import SOURCES
from atodds.errors import AtoddsError

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

COUNT, CLASSES = 20, 10


@dataclass(frozen=True)
class Row:
    """One source under test: how to write images for it, and what it makes of them."""

    write: Callable[[Path, Bytes, Integers], ImageSet]
    channels: int = 3
    by_class: bool = False
    side: int = 32


def png(image: Bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).save(buffer, "png")
    return buffer.getvalue()


def write_idx(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    n, _, height, width = images.shape
    content = struct.pack(">4I", 0x803, n, height, width) + images.tobytes()
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, n) + labels.astype(np.uint8).tobytes())
    return load(folder)


def write_cifar_python(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    batch = {b"data": images.reshape(len(images), -1), b"labels": labels.tolist(), b"filenames": [b"a.png"]}
    (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    return load(folder)


def write_cifar_binary(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    records = np.concatenate([labels.astype(np.uint8)[:, None], images.reshape(len(images), -1)], 1)
    (folder / "test_batch.bin").write_bytes(records.tobytes())
    return load(folder)


def write_stl10(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    (folder / "test_X.bin").write_bytes(images.swapaxes(2, 3).tobytes())
    (folder / "test_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    return load(folder)


def write_tiny_imagenet(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    (folder / "val" / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / "val" / "images" / f"val_{k}.JPEG").write_bytes(png(image))
        lines.append(f"val_{k}.JPEG\tn{label:08}\t0\t0\t31\t31\n")
    (folder / "wnids.txt").write_text("".join(f"n{label:08}\n" for label in range(CLASSES)))
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return load(folder)


def write_parquet(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    names = {"info": {"features": {"label": {"_type": "ClassLabel", "names": list("abcdefghij")}}}}
    cells = [{"bytes": png(image), "path": f"{k}.png"} for k, image in enumerate(images)]
    table = pa.table({"image": cells, "label": labels}).replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table.slice(0, 13), folder / "test-00000-of-00002.parquet", row_group_size=6)
    pq.write_table(table.slice(13), folder / "test-00001-of-00002.parquet", row_group_size=6)
    return load(folder)


def write_npz(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    np.savez_compressed(folder / "some.npz", x_test=images, y_test=labels)
    return load(folder / "some.npz")


def write_folder(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "test" / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{k:02}.png").write_bytes(png(image))
    return load(folder)


def write_arrays(folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    assert folder.is_dir()
    return ImageSet.from_arrays(images, labels, name="some", split="test")


ROWS = {
    "idx": Row(write_idx, channels=1),
    "cifar-python": Row(write_cifar_python),
    "cifar-binary": Row(write_cifar_binary),
    "stl10": Row(write_stl10, side=96),
    "tiny-imagenet": Row(write_tiny_imagenet),
    "parquet": Row(write_parquet),
    "npz": Row(write_npz),
    "folder": Row(write_folder, by_class=True),
    "arrays": Row(write_arrays),
}
EMBEDDED = "digits"


@pytest.fixture(scope="module")
def spawned() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def made(channels: int, side: int = 32) -> tuple[Bytes, Integers]:
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (COUNT, channels, side, side), dtype=np.uint8)
    return images, rng.permutation(np.arange(COUNT) % CLASSES).astype(np.int64)


def write(row: Row, folder: Path, images: Bytes, labels: Integers) -> ImageSet:
    folder.mkdir(exist_ok=True)
    return row.write(folder, images, labels)


@pytest.fixture(params=[*ROWS, EMBEDDED])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSet:
    """A set from each source."""
    if request.param == EMBEDDED:
        return load(EMBEDDED)
    row = ROWS[request.param]
    return write(row, tmp_path / "some", *made(row.channels, row.side))


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    """Each source that is written to."""
    return ROWS[request.param]


def test_every_registered_source_has_a_row() -> None:
    assert set(SOURCES) == set(ROWS) - {"arrays"}


def test_every_source_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    assert all(f"`{name}`" in page for name in [*SOURCES, EMBEDDED])


def test_pixels_and_labels_are_those_that_were_written(row: Row, tmp_path: Path) -> None:
    pixels, labels = made(row.channels, row.side)
    images = write(row, tmp_path / "some", pixels, labels)
    order = np.argsort(labels, kind="stable") if row.by_class else np.arange(COUNT)
    assert (images.pixels() == pixels[order]).all()
    assert images.pixels().dtype == np.uint8
    assert images.labels.tolist() == labels[order].tolist()
    assert images.labels.dtype == np.int64
    assert images.ids.tolist() == list(range(COUNT))
    assert images.shape == (row.channels, row.side, row.side)
    assert (images.name, images.split, images.selection) == ("some", "test", "all")
    assert len(images.classes) == CLASSES


def test_images_are_pixels_over_255(images: ImageSet) -> None:
    tensor = images.images([3, 1])
    assert tensor.shape == (2, *images.shape)
    assert tensor.dtype.is_floating_point
    assert (tensor.numpy() == images.pixels([3, 1]).astype(np.float32) / np.float32(255)).all()


def test_a_few_positions_are_the_same_as_all_of_them(images: ImageSet) -> None:
    positions = [11, 0, 19, 11, 5]
    assert (images.pixels(positions) == images.pixels()[positions]).all()
    assert images.pixels([]).shape == (0, *images.shape)


def test_what_pixels_gives_can_be_written_to_without_harm(images: ImageSet) -> None:
    before = images.pixels()
    for given in (images.pixels(), images.pixels([0]), images.images().numpy()):
        given[:] = 0
    assert (images.pixels() == before).all()


def test_ids_survive_limit_and_take(images: ImageSet) -> None:
    whole = images.pixels()
    for part in (images.limit(15), images.limit(5, "first"), images.take([7, 2]), images.limit(15).take([3, 1])):
        assert (part.pixels() == whole[part.ids]).all()
        assert (part.labels == images.labels[part.ids]).all()
    assert images.limit(5, "first").ids.tolist() == [0, 1, 2, 3, 4]
    assert images.take([7, 2]).ids.tolist() == [7, 2]


def test_balanced_takes_equally_many_of_each_class(images: ImageSet) -> None:
    assert np.bincount(images.limit(10).labels).tolist() == [1] * 10
    assert np.bincount(images.limit(13).labels).tolist() == [2] * 3 + [1] * 7
    assert set(images.limit(10).ids) < set(images.limit(13).ids)


def test_the_fingerprint_is_that_of_the_same_images_read_again(row: Row, tmp_path: Path) -> None:
    one = write(row, tmp_path / "one", *made(row.channels, row.side))
    two = write(row, tmp_path / "two", *made(row.channels, row.side))
    assert one.fingerprint == two.fingerprint
    assert one.limit(10).fingerprint == one.take(two.limit(10).ids).fingerprint
    assert len(bytes.fromhex(one.fingerprint)) == 32


def test_the_fingerprint_changes_with_one_pixel(row: Row, tmp_path: Path) -> None:
    pixels, labels = made(row.channels, row.side)
    one = write(row, tmp_path / "one", pixels, labels)
    pixels[4, 0, 31, 31] ^= 1
    assert write(row, tmp_path / "two", pixels, labels).fingerprint != one.fingerprint


def test_the_fingerprint_changes_with_one_label_one_id_and_the_order(images: ImageSet) -> None:
    labels, ids = images.labels.copy(), images.ids.copy()
    labels[2] = (labels[2] + 1) % CLASSES
    ids[3] = 10_000
    order = np.arange(len(images))
    order[[0, 1]] = [1, 0]
    others = [
        replace(images, labels=labels),
        replace(images, ids=ids),
        images.take(order),
        images.limit(15),
        images.limit(14),
    ]
    assert len({images.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_a_spawned_process_sees_the_same_images(images: ImageSet, spawned: ProcessPoolExecutor) -> None:
    part = images.limit(12)
    pixels = spawned.submit(ImageSet.pixels, part, [2, 0])
    fingerprint = spawned.submit(operator.attrgetter("fingerprint"), part)
    assert (pixels.result() == part.pixels([2, 0])).all()
    assert fingerprint.result() == part.fingerprint


def test_it_survives_pickle_and_carries_only_its_selection(images: ImageSet) -> None:
    part = images.limit(10)
    packed = pickle.dumps(part)
    again = pickle.loads(packed)  # noqa: S301
    assert (again.pixels() == part.pixels()).all()
    assert (again.ids == part.ids).all()
    assert len(packed) < part.pixels().nbytes + 4000


def test_size_gives_every_source_that_side(row: Row, tmp_path: Path) -> None:
    write(row, tmp_path / "some", *made(row.channels, row.side))
    if row is not ROWS["arrays"]:
        path = tmp_path / "some" / "some.npz"
        images = load(path if path.exists() else tmp_path / "some", size=24)
        assert images.shape == (row.channels, 24, 24)
        assert images.pixels([1]).shape == (1, row.channels, 24, 24)


def test_a_damaged_file_is_our_error_or_still_readable(row: Row, tmp_path: Path) -> None:
    write(row, tmp_path / "some", *made(row.channels, row.side))
    rng = np.random.default_rng(11)
    files = sorted(path for path in (tmp_path / "some").rglob("*") if path.is_file())[:2]
    refused = []
    for file in files:
        sound = file.read_bytes()
        damaged = [sound[: round(len(sound) * share)] for share in (0, 0.001, 0.3, 0.9, 0.999)]
        for _ in range(30):
            flipped = np.frombuffer(sound, np.uint8).copy()
            near_an_end = rng.integers(0, min(200, len(sound)), 3) * rng.choice([-1, 1], 3)
            flipped[near_an_end] = rng.integers(0, 256, 3)
            damaged.append(flipped.tobytes())
        for content in damaged:
            file.write_bytes(content)
            try:
                images = load(tmp_path / "some" if file.suffix != ".npz" else file)
                images.pixels()
                images.fingerprint  # noqa: B018
            except AtoddsError as problem:
                refused.append(str(problem))
        file.write_bytes(sound)
    assert len(refused) >= len(files) * 3
    assert all("some" in message for message in refused)


def test_the_digits_are_those_of_scikit_learn() -> None:
    images = load(EMBEDDED)
    assert (len(images), len(load(EMBEDDED, split="train"))) == (355, 1442)
    assert hashlib.sha256(images.pixels().tobytes()).hexdigest() == DIGITS
    assert images.pixels().max() == 255
    assert np.bincount(images.labels).tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]


DIGITS = "747b8e40cc4d21a26c27e6681d6b5641b1d1c96162f713457890ca5ee65f561d"
