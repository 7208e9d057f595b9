"""Parquet: columns, class names, shards, splits, row groups, and files that lie."""

import hashlib
import io
import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atodds.data import load
from atodds.data.sources.parquet import ParquetBlobs
from atodds.errors import DataError, EmptyDataError, UnreadableImageError


def png(level: int, side: int = 2) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), level).save(buffer, "png")
    return buffer.getvalue()


def write(
    path: Path, levels: list[int], *, image: str = "image", label: str = "label", group: int = 100, **more: list[object]
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(level), "path": None} for level in levels]
    pq.write_table(pa.table({image: cells, label: [level % 2 for level in levels], **more}), path, row_group_size=group)
    return path


def with_features(table: pa.Table, features: object) -> pa.Table:
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def levels(path: Path | list[Path], split: str = "test") -> list[int]:
    asked = path if isinstance(path, Path) else list(path)
    return [int(level) for level in load(asked, split=split).pixels()[:, 0, 0, 0]]


def test_rows_come_in_the_order_asked_across_row_groups(tmp_path: Path) -> None:
    images = load(write(tmp_path / "a.parquet", list(range(50)), group=7))
    positions = [48, 0, 7, 6, 48, 13, 14, 49]
    assert images.pixels(positions)[:, 0, 0, 0].tolist() == positions
    assert images.take([30, 10]).pixels([1, 0])[:, 0, 0, 0].tolist() == [10, 30]


def test_only_the_row_groups_that_are_needed_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", list(range(200)), group=10)
    images = load(path, limit=6)
    content = bytearray(path.read_bytes())
    later = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset
    content[later : later + 400] = bytes(400)
    path.write_bytes(content)
    assert images.pixels()[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(DataError, match=r"a\.parquet"):
        load(path)


def test_the_fingerprint_covers_the_encoded_bytes_in_the_order_of_the_selection(tmp_path: Path) -> None:
    images = load(write(tmp_path / "a.parquet", list(range(20)), group=7)).take([15, 3, 9])
    total = hashlib.sha256(b"atodds images 1\n(1, 2, 2)\nencoded images\n")
    for row in (15, 3, 9):
        total.update(struct.pack("<qq", row, row % 2) + hashlib.sha256(png(row)).digest())
    assert images.fingerprint == total.hexdigest()


def test_plain_binary_columns_and_large_types_are_read(tmp_path: Path) -> None:
    for kind in (pa.binary(), pa.large_binary()):
        table = pa.table({"img": pa.array([png(4), png(9)], kind), "y": pa.array([1, 0], pa.int8())})
        pq.write_table(table, tmp_path / "a.parquet")
        assert levels(tmp_path / "a.parquet") == [4, 9]


def test_class_names_come_from_the_metadata(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "a.parquet", [0, 1]))
    assert load(tmp_path / "a.parquet").classes == ("0", "1")
    pq.write_table(
        with_features(table, {"label": {"_type": "ClassLabel", "names": ["cat", "dog", "eel"]}}), tmp_path / "a.parquet"
    )
    assert load(tmp_path / "a.parquet").classes == ("cat", "dog", "eel")


def test_the_metadata_says_which_of_several_columns_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [4, 9], image="photo", label="kind", mask=[png(1), png(1)], weight=[7, 7])
    with pytest.raises(DataError, match=r"several columns could hold images.*photo"):
        load(path)
    features = {"photo": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": ["a", "b"]}}
    pq.write_table(with_features(pq.read_table(path), features), path)
    assert levels(path) == [4, 9]
    assert load(path).labels.tolist() == [0, 1]


def test_a_file_without_images_or_labels_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column holds images.*text \(string\), label \(int64\)"):
        load(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [png(0)], "label": ["cat"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column holds labels"):
        load(tmp_path / "a.parquet")


def test_metadata_that_is_no_json_is_our_error(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "a.parquet", [0, 1]))
    for raw in (b"{", b"[]", b"[" * 100_000, b'{"info": 3}'):
        pq.write_table(table.replace_schema_metadata({b"huggingface": raw}), tmp_path / "a.parquet")
        with pytest.raises(DataError, match="huggingface"):
            load(tmp_path / "a.parquet")


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    files = [write(tmp_path / f"test-0000{k}-of-00003.parquet", [k * 10, k * 10 + 1]) for k in (2, 0, 1)]
    assert levels(tmp_path) == [0, 1, 10, 11, 20, 21]
    assert levels(files) == [0, 1, 10, 11, 20, 21]
    images = load(files)
    assert (images.name, images.split) == (tmp_path.name, "test")


@pytest.mark.parametrize(
    "layout", ["{}.parquet", "data/{}-00000-of-00001-0123456789abcdef.parquet", "default/{}/0.parquet"]
)
def test_a_folder_is_read_by_split(tmp_path: Path, layout: str) -> None:
    for k, split in enumerate(["train", "test", "validation"]):
        write(tmp_path / "flowers" / layout.format(split), [k, k + 10])
    for split, level in (("train", 0), ("test", 1), ("validation", 2), ("val", 2)):
        images = load(tmp_path / "flowers", split=split)
        assert images.pixels()[:, 0, 0, 0].tolist() == [level, level + 10]
        assert (images.name, images.split) == ("flowers", split)
    with pytest.raises(DataError, match=r"no 'extra' split. There is test, train, validation"):
        load(tmp_path / "flowers", split="extra")


def test_a_file_is_itself_whatever_the_split(tmp_path: Path) -> None:
    images = load(write(tmp_path / "flowers" / "train.parquet", [3, 4]))
    assert (images.name, images.split) == ("flowers", "train")
    plain = load(write(tmp_path / "flowers.parquet", [3, 4]))
    assert (plain.name, plain.split) == ("flowers", "")


def test_shards_of_different_data_sets_do_not_mix(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.parquet", [1, 2]), write(tmp_path / "b.parquet", [1, 2], image="img")]
    with pytest.raises(DataError, match="differ in their columns"):
        load(files)


def test_unreadable_rows_are_named_by_file_and_row(tmp_path: Path) -> None:
    cells = [{"bytes": png(0), "path": None}] * 3
    broken = [*cells, {"bytes": b"no image", "path": "x.png"}]
    empty = [*cells, {"bytes": None, "path": "x.png"}]
    for last, message in ((broken, "none of JPEG"), (empty, "no bytes")):
        pq.write_table(pa.table({"image": cells, "label": [0, 1, 0]}), tmp_path / "test-0.parquet")
        table = pa.table({"image": last, "label": [0, 1, 0, 1]})
        pq.write_table(table, tmp_path / "test-1.parquet", row_group_size=2)
        with pytest.raises(UnreadableImageError, match=rf"test-1\.parquet row 3: .*{message}"):
            load(tmp_path)
        assert len(load(tmp_path, limit=6, how="first")) == 6


def test_different_shapes_name_two_rows(tmp_path: Path) -> None:
    cells = [{"bytes": png(0)}, {"bytes": png(0, side=3)}]
    pq.write_table(pa.table({"image": cells, "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet row 0 is 2x2 and .*a\.parquet row 1 is 3x3.*size="):
        load(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", size=2).shape == (1, 2, 2)


def test_rows_without_a_label_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(0)] * 3, "label": [0, None, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 1: no label"):
        load(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [png(0)] * 2, "label": [-1, -1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="take another split"):
        load(tmp_path / "a.parquet")


def test_a_label_too_large_for_any_integer_is_our_error(tmp_path: Path) -> None:
    label = pa.array([0, 2**64 - 1], pa.uint64())
    pq.write_table(pa.table({"image": [png(0)] * 2, "label": label}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet"):
        load(tmp_path / "a.parquet")


def test_no_rows_is_an_error_of_its_own(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(EmptyDataError, match=r"a\.parquet: no row"):
        load(tmp_path / "a.parquet")


def test_more_rows_than_bytes_is_not_believed(tmp_path: Path) -> None:
    table = pa.table({"image": pa.nulls(1_100_000, pa.binary()), "label": np.zeros(1_100_000, np.int64)})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(DataError, match="promises 1100000 rows, more than it has bytes"):
        load(tmp_path / "a.parquet")


def test_images_that_repeat_take_next_to_no_room_and_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [8] * 5000, group=5000)
    assert path.stat().st_size < 5000
    assert load(path).pixels().mean() == 8


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [png(0)], "other": [png(0)], "label": [0]})
    pq.write_table(table.rename_columns(["image", "image", "label"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns of one name"):
        load(tmp_path / "a.parquet")


def test_a_selection_that_travels_holds_no_pixels(tmp_path: Path) -> None:
    images = load(write(tmp_path / "a.parquet", list(range(100))), limit=10)
    blobs = images._reader.blobs  # type: ignore[attr-defined]
    assert isinstance(blobs, ParquetBlobs)
    assert len(blobs.rows) == 10


def test_cifar10_is_the_published_one(shared: Path) -> None:
    images = load("cifar10", root=shared / "data")
    assert len(images) == 10_000
    assert images.labels[:20].tolist() == [9, 3, 7, 0, 9, 7, 7, 9, 6, 5, 4, 5, 4, 9, 4, 2, 7, 0, 4, 7]
    assert np.bincount(images.labels).tolist() == [1000] * 10
    assert images.classes[:3] == ("airplane", "automobile", "bird")
    assert images.shape == (3, 32, 32)
    assert load("cifar10", root=shared / "data" / "cifar10").fingerprint == images.fingerprint
    assert len(images.limit(500).fingerprint) == 64
    row = pq.ParquetFile(shared / "data" / "cifar10" / "test.parquet").read_row_group(1)["img"][5]["bytes"].as_py()
    assert (images.pixels([5005])[0] == np.asarray(Image.open(io.BytesIO(row))).transpose(2, 0, 1)).all()
