"""A shard comes back as it was written, or not at all."""

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds.errors import CorruptShardError, NewerRunError
from atodds.evaluation.schema import SCHEMA
from atodds.evaluation.shards import FORMAT, IMAGES, Footer, pack, unpack

FOOTER = Footer(
    job="0" * 32, attack="pgd", model="m@01234567", weights="1" * 64, data="2" * 64,
    versions={"atodds": "0.1.0"}, device="cpu", precision="full", seconds=1.5,
)  # fmt: skip


def rows(count: int = 3) -> pa.Table:
    """Verdicts with nulls, infinite and not-a-number distances, large ids and letters beyond ASCII."""
    some = np.arange(count)
    values: dict[str, Any] = {
        "model": ["naïve 模型"] * count,
        "data": [""] * count,
        "image": some + 2**40,
        "label": some,
        "clean": some,
        "attack": ["pgd"] * count,
        "norm": ["linf"] * count,
        "eps": [None if k % 2 else 0.1 for k in range(count)],
        "target": [k if k % 2 else None for k in range(count)],
        "prediction": some - 1,
        "rank": [k if k % 3 else None for k in range(count)],
        "fooled": some == 0,
        "l0": some * 1.0,
        "l1": np.where(some % 2, np.inf, 0.1),
        "l2": np.where(some % 2, np.nan, -0.5 * some),
        "linf": np.full(count, 5e-324),
        "forwards": some,
        "backwards": some,
        "seed": np.full(count, -(2**63)),
    }
    return pa.Table.from_pydict(values, schema=SCHEMA)


def pictures() -> pa.Table:
    row = {"image": 1, "original": b"\0\1", "proposal": b"", "clean_confidence": 0.5, "confidence": 1.0}
    return pa.Table.from_pylist([row], schema=IMAGES)


def written(table: pa.Table, **metadata: object) -> bytes:
    """A Parquet file as an adversary would write it: any rows under any footer."""
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"atodds": json.dumps(metadata)}), buffer)
    return buffer.getvalue()


def said_of(content: bytes) -> dict[str, Any]:
    metadata = pq.read_schema(io.BytesIO(content)).metadata
    said: dict[str, Any] = json.loads(metadata[b"atodds"])
    return said


@pytest.mark.parametrize("count", [0, 1, 3, 5000])
def test_rows_and_footer_come_back(count: int) -> None:
    table, footer = unpack(pack(rows(count), FOOTER), "shard")
    assert footer == FOOTER
    assert table.schema.equals(SCHEMA)
    for name in SCHEMA.names:
        assert repr(table[name].to_pylist()) == repr(rows(count)[name].to_pylist())


@pytest.mark.parametrize("table", [pictures(), pictures()[:0]])
def test_pictures_come_back(table: pa.Table) -> None:
    again, _ = unpack(pack(table, FOOTER), "shard", IMAGES)
    assert again.to_pylist() == table.to_pylist()


def test_a_shard_does_not_depend_on_how_its_rows_came_together() -> None:
    pieces = pa.concat_tables([rows()[:1], rows()[1:]])
    assert pieces["image"].num_chunks == 2
    assert said_of(pack(pieces, FOOTER))["checksum"] == said_of(pack(rows(), FOOTER))["checksum"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_truncated_or_altered_shard_passes_for_another(data: st.DataObject) -> None:
    """Whatever byte is changed: the rows are refused, or they are the same rows."""
    whole = pack(rows(), FOOTER)
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        content = whole[:place]
    else:
        content = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    try:
        table, footer = unpack(content, "shard")
    except (CorruptShardError, NewerRunError):
        return
    assert len(content) == len(whole)
    assert footer == FOOTER
    assert repr(table.to_pylist()) == repr(rows().to_pylist())


@pytest.mark.parametrize("name", SCHEMA.names)
def test_every_value_is_under_the_checksum(name: str) -> None:
    said = said_of(pack(rows(), FOOTER))
    values = rows().to_pydict()
    values[name][2] = _other(values[name][2])
    with pytest.raises(CorruptShardError, match="checksum"):
        unpack(written(pa.Table.from_pydict(values, schema=SCHEMA), **said), "shard")
    unpack(written(rows(), **said), "shard")


def _other(value: object) -> object:
    match value:
        case bool():
            return not value
        case str():
            return f"{value}!"
        case float():
            return 2.5
        case _:
            return 7


def test_a_null_is_not_a_zero() -> None:
    said = said_of(pack(rows(), FOOTER))
    values = rows().to_pydict()
    values["eps"] = [0.0 if value is None else value for value in values["eps"]]
    with pytest.raises(CorruptShardError, match="checksum"):
        unpack(written(pa.Table.from_pydict(values, schema=SCHEMA), **said), "shard")


def test_text_cannot_move_from_one_row_to_the_next() -> None:
    two = rows(2).set_column(0, SCHEMA.field("model"), pa.array(["ab", "c"]))
    other = rows(2).set_column(0, SCHEMA.field("model"), pa.array(["a", "bc"]))
    with pytest.raises(CorruptShardError, match="checksum"):
        unpack(written(other, **said_of(pack(two, FOOTER))), "shard")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Footer) if field.name != "format"])
def test_everything_in_the_footer_is_under_the_checksum(name: str) -> None:
    said = said_of(pack(rows(), FOOTER))
    value = {"torch": "9"} if name == "versions" else 9.0 if isinstance(said[name], float) else "9"
    with pytest.raises(CorruptShardError, match="checksum"):
        unpack(written(rows(), **(said | {name: value})), "shard")
    del said[name]
    with pytest.raises(CorruptShardError):
        unpack(written(rows(), **said), "shard")


@pytest.mark.parametrize(
    "table",
    [
        rows().drop_columns(["l0"]),
        rows().append_column("more", pa.array([1, 2, 3])),
        rows().select(list(reversed(SCHEMA.names))),
        rows().set_column(3, pa.field("label", pa.int64(), nullable=False), rows()["label"].cast(pa.int64())),
        rows().rename_columns(["Model", *SCHEMA.names[1:]]),
        pictures(),
    ],
)
def test_other_columns_are_refused_even_under_a_right_checksum(table: pa.Table) -> None:
    with pytest.raises(CorruptShardError, match="columns"):
        unpack(pack(table, FOOTER), "shard")


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1" * 3, b"\0" * 100, b'{"not": "parquet"}', written(rows()), written(rows(), a=1)],
)
def test_what_is_no_shard_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptShardError, match="shard is not a whole result file"):
        unpack(content, "shard")


def test_text_that_is_no_text_is_refused() -> None:
    """A changed byte within a name may leave no name at all."""
    content = pack(rows(), FOOTER)
    assert content.count("naïve".encode()) >= 1
    with pytest.raises(CorruptShardError):
        unpack(content.replace("ï".encode(), b"\xff\xff"), "shard")


@pytest.mark.parametrize("metadata", [b"[]", b"null", b"{", b"\xff", b'{"format": []}', b"[" * 100_000, b"{}"])
def test_a_footer_of_nonsense_is_refused(metadata: bytes) -> None:
    buffer = io.BytesIO()
    pq.write_table(rows().replace_schema_metadata({b"atodds": metadata}), buffer)
    with pytest.raises(CorruptShardError):
        unpack(buffer.getvalue(), "shard")


@pytest.mark.parametrize("change", [{"attack": 0.5}, {"seconds": None}, {"model": 3}, {"versions": "1"}])
def test_a_footer_of_other_types_is_refused_even_under_a_right_checksum(change: dict[str, Any]) -> None:
    with pytest.raises(CorruptShardError, match="footer"):
        unpack(pack(rows(), dataclasses.replace(FOOTER, **change)), "shard")


def test_a_shard_of_a_newer_version_says_so() -> None:
    content = written(rows(), **(said_of(pack(rows(), FOOTER)) | {"format": FORMAT + 1, "new": "field"}))
    with pytest.raises(NewerRunError, match="Upgrade atodds"):
        unpack(content, "shard")
