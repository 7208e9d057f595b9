"""One job's results as one Parquet file: verdicts, and a footer that says what made them and proves them whole."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atodds.errors import CorruptShardError, NewerRunError
from atodds.evaluation.schema import SCHEMA

FORMAT = 2
_FOOTER = b"atodds"

_IMAGE_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("image", pa.int64(), nullable=False),
    pa.field("original", pa.binary(), nullable=False),
    pa.field("proposal", pa.binary(), nullable=False),
    pa.field("clean_confidence", pa.float64(), nullable=False),
    pa.field("confidence", pa.float64(), nullable=False),
]
IMAGES = pa.schema(_IMAGE_FIELDS)
"""The sibling shard: fooling images and what they were made of, as raw little-endian float32 of shape (C, H, W)."""


@dataclass(frozen=True)
class Footer:
    """What is known of a shard besides its rows.

    Attributes:
        job: the key of its job.
        attack: name as in the table.
        model, weights: id and fingerprint of the model.
        data: fingerprint of the job's images.
        versions: of the packages that made it.
        device, precision: what the model ran on and in.
        seconds: wall time.
        format: of the shard.
    """

    job: str
    attack: str
    model: str
    weights: str
    data: str
    versions: dict[str, str]
    device: str
    precision: str
    seconds: float
    format: int = FORMAT


_KINDS = {"versions": dict, "seconds": float, "format": int}


def pack(table: pa.Table, footer: Footer) -> bytes:
    """The bytes of a shard."""
    said = asdict(footer)
    said["checksum"] = _checksum(table, said)
    whole = table.replace_schema_metadata({_FOOTER: json.dumps(said, sort_keys=True)})
    buffer = io.BytesIO()
    pq.write_table(whole, buffer, compression="zstd")
    return buffer.getvalue()


def unpack(content: bytes, name: str, schema: pa.Schema = SCHEMA) -> tuple[pa.Table, Footer]:
    """The rows and the footer of a shard.

    Args:
        content: the whole file.
        name: for the message.
        schema: what its columns must be.

    Raises:
        CorruptShardError: truncated, altered, or not a shard.
        NewerRunError: of a later format.
    """
    try:
        table = pq.read_table(pa.BufferReader(content))
        said = json.loads((table.schema.metadata or {}).get(_FOOTER, b"{}"))
        if said.get("format", 0) > FORMAT:
            raise NewerRunError(f"{name} was written by a newer version (format {said['format']}). Upgrade atodds.")
        table = table.replace_schema_metadata(None)
        checksum = said.pop("checksum", "")
        footer = Footer(**said)
        if any(not isinstance(value, _KINDS.get(name, str)) for name, value in said.items()):
            raise TypeError("its footer says nonsense")
        if not table.schema.equals(schema):
            raise CorruptShardError(f"{name} has other columns than a result file.")
        table.validate(full=True)
        whole = checksum == _checksum(table, said)
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorruptShardError(f"{name} is not a whole result file: {reason}") from error
    if not whole:
        raise CorruptShardError(f"{name} was altered: its checksum does not match its rows.")
    return table, footer


def _checksum(table: pa.Table, footer: dict[str, object]) -> str:
    """SHA-256 over values, not over file bytes, so that it does not depend on the version of the Parquet writer."""
    digest = hashlib.sha256(json.dumps(footer, sort_keys=True).encode())
    for field in table.schema:
        column = table.column(field.name).combine_chunks()
        digest.update(f"{field.name}:{field.type}:{len(column)};".encode())
        digest.update(np.packbits(np.asarray(column.is_valid())).tobytes())
        if pa.types.is_string(field.type) or pa.types.is_binary(field.type):
            for value in column.to_pylist():
                part = value.encode() if isinstance(value, str) else value or b""
                digest.update(len(part).to_bytes(8, "little") + part)
        else:
            filled = pc.fill_null(column, pa.scalar(0, pa.int8()).cast(field.type)) if column.null_count else column
            digest.update(np.ascontiguousarray(filled.to_numpy(zero_copy_only=False)).tobytes())
    return digest.hexdigest()
