"""Which columns of a Parquet file are the images and the labels, and what its classes are called."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from atodds.data.arrays import Integers, numbered
from atodds.errors import DataError, shown

IMAGES = ("image", "img", "images", "pixels", "picture", "x")
LABELS = ("label", "labels", "fine_label", "class", "target", "y")


@dataclass(frozen=True)
class Columns:
    """The columns of one data set.

    Attributes:
        image: the column of encoded images.
        nested: whether it is struct{bytes, path} rather than plain binary.
        label: the column of class indices.
        classes: names from the metadata, None where there are none.
    """

    image: str
    nested: bool
    label: str
    classes: tuple[str, ...] | None

    def class_names(self, labels: Integers, where: Path) -> tuple[str, ...]:
        """The names of the classes, numbers where the file has none."""
        return numbered(labels, str(where)) if self.classes is None else self.classes


def columns_of(schema: pa.Schema, where: Path) -> Columns:
    """The columns of images and labels.

    Raises:
        DataError: there is none, or more than one and no usual name among them.
    """
    if len(set(schema.names)) < len(schema.names):
        raise DataError(f"{where}: two columns of one name among {shown(schema.names)}. Rename one.")
    features = _features(schema, where)
    images = [field.name for field in schema if _holds_bytes(field.type)]
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    image = _one(
        images,
        [name for name in images if _kind(features, name) == "Image"],
        IMAGES,
        "images (binary, or struct of bytes and path)",
        schema,
        where,
    )
    labels = [name for name in integers if _kind(features, name) == "ClassLabel"]
    label = _one(
        [name for name in integers if name in LABELS],
        labels,
        LABELS,
        "labels (whole numbers, named label)",
        schema,
        where,
    )
    feature = features.get(label)
    names = feature.get("names") if isinstance(feature, dict) else None
    classes = tuple(str(name) for name in names) if isinstance(names, list) else None
    return Columns(image, pa.types.is_struct(schema.field(image).type), label, classes)


def _features(schema: pa.Schema, where: Path) -> dict[str, object]:
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(
            f"{where}: its `huggingface` metadata is not the JSON that it should be. "
            "Write the file again, or without it."
        ) from None
    return features if isinstance(features, dict) else {}


def _kind(features: dict[str, object], name: str) -> object:
    feature = features.get(name)
    return feature.get("_type") if isinstance(feature, dict) else None


def _holds_bytes(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.StructType):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _one(
    possible: list[str], declared: list[str], usual: tuple[str, ...], what: str, schema: pa.Schema, where: Path
) -> str:
    for choice in (declared, possible):
        if len(choice) == 1:
            return choice[0]
        for name in usual:
            if name in choice:
                return name
    problem = "several columns could hold" if possible else "no column holds"
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise DataError(f"{where}: {problem} {what}. Its columns: {columns}. Name one {usual[0]!r}.")
