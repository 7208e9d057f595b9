"""The table of lower bounds: by this method, an image's distance to the decision boundary of this model is at least so
much.

It stands beside the verdict table, whose distances are upper bounds of the same quantity.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from torch import Tensor

from atodds.threat import Norm

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("model", pa.string(), nullable=False),
    pa.field("data", pa.string(), nullable=False),
    pa.field("image", pa.int64(), nullable=False),
    pa.field("label", pa.int32(), nullable=False),
    pa.field("prediction", pa.int32(), nullable=False),
    pa.field("norm", pa.string(), nullable=False),
    pa.field("method", pa.string(), nullable=False),
    pa.field("certified", pa.bool_(), nullable=False),
    pa.field("target", pa.int32()),
    pa.field("lower", pa.float64(), nullable=False),
    pa.field("low", pa.float64(), nullable=False),
    pa.field("high", pa.float64(), nullable=False),
    pa.field("radius", pa.float64()),
    pa.field("p_value", pa.float64()),
    pa.field("endless", pa.bool_(), nullable=False),
    pa.field("forwards", pa.int64(), nullable=False),
    pa.field("backwards", pa.int64(), nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)
"""Columns and types, in the order in which they are stored."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """What a method says of N images; tensors are (N,), on the CPU.

    Attributes:
        norm: of the distances.
        certified: certificates, not estimates.
        prediction: int64, by the classifier that the bounds are of; -1 where it has none.
        lower: float64, the bounds; 0 where the prediction is not the label.
        low, high: float64, their intervals.
        target: int64 classes that the bounds are for, or None where they are for any.
        radius: float64 that the bounds were cut to, or None.
        p_value: float64 of the fits behind them, NaN where there is none; or None.
        endless: bool, whether the fit alone has no finite answer, or None.
    """

    norm: Norm
    certified: bool
    prediction: Tensor
    lower: Tensor
    low: Tensor
    high: Tensor
    target: Tensor | None = None
    radius: Tensor | None = None
    p_value: Tensor | None = None
    endless: Tensor | None = None


def rows(
    bounds: Bounds,
    *,
    model: str,
    data: str,
    images: Tensor,
    labels: Tensor,
    method: str,
    passes: tuple[Tensor, Tensor],
    seed: int,
) -> pa.Table:
    """One row an image, in the order of `images` (ids).

    Args:
        bounds: of the images.
        model, data, method, seed: what is the same for all rows.
        images, labels: (N,) ids and labels.
        passes: (N,) forward and backward passes.
    """
    count = len(images)
    columns: dict[str, Any] = {
        "model": [model] * count,
        "data": [data] * count,
        "image": images.tolist(),
        "label": labels.tolist(),
        "prediction": bounds.prediction.tolist(),
        "norm": [bounds.norm] * count,
        "method": [method] * count,
        "certified": [bounds.certified] * count,
        "target": _numbers(bounds.target, count),
        "lower": bounds.lower.tolist(),
        "low": bounds.low.tolist(),
        "high": bounds.high.tolist(),
        "radius": _numbers(bounds.radius, count),
        "p_value": _numbers(bounds.p_value, count),
        "endless": [False] * count if bounds.endless is None else bounds.endless.tolist(),
        "forwards": passes[0].tolist(),
        "backwards": passes[1].tolist(),
        "seed": [seed] * count,
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def _numbers(values: Tensor | None, count: int) -> list[float | None]:
    """Values with null in the place of NaN."""
    said = [None] * count if values is None else values.tolist()
    return [None if value is None or value != value else value for value in said]
