"""The verdict table: this attack, on this model, for this image, found (or not) a fooling image at this distance.

Every image of a set has one row a model from the attack "clean", the image itself: a misclassified image is fooled at
distance 0. So the number of images, accuracy and robust accuracy are all read from the same rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from atodds import norms
from atodds.threat import SLACK, Norm

CLEAN = "clean"

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("model", pa.string(), nullable=False),
    pa.field("data", pa.string(), nullable=False),
    pa.field("image", pa.int64(), nullable=False),
    pa.field("label", pa.int32(), nullable=False),
    pa.field("clean", pa.int32(), nullable=False),
    pa.field("attack", pa.string(), nullable=False),
    pa.field("norm", pa.string(), nullable=False),
    pa.field("eps", pa.float64()),
    pa.field("target", pa.int32()),
    pa.field("prediction", pa.int32(), nullable=False),
    pa.field("fooled", pa.bool_(), nullable=False),
    pa.field("l0", pa.float64(), nullable=False),
    pa.field("l1", pa.float64(), nullable=False),
    pa.field("l2", pa.float64(), nullable=False),
    pa.field("linf", pa.float64(), nullable=False),
    pa.field("forwards", pa.int64(), nullable=False),
    pa.field("backwards", pa.int64(), nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)
"""Columns and types, in the order in which they are stored."""

_DISTANCES = ("l0", "l1", "l2", "linf")

NO_CLASS = -1
"""The prediction of a model whose outputs are not numbers."""


@dataclass(frozen=True)
class Judged:
    """What the model says of proposed images, in full precision.

    Attributes:
        prediction: (N,) int64, `NO_CLASS` where no output is the largest: NaN or infinite ones.
        confidence: (N,) float64, the softmax probability of the prediction.
        fooled: (N,) bool.
        distances: l0, l1, l2, linf -> (N,) float64, infinite where not fooled.
    """

    prediction: Tensor
    confidence: Tensor
    fooled: Tensor
    distances: dict[str, Tensor]


def judge(images: Tensor, proposals: Tensor, labels: Tensor, logits: Tensor) -> Judged:
    """Whether proposals fool, and how far they are from the images, measured in float64.

    Args:
        images: (N, C, H, W), what was attacked.
        proposals: (N, C, H, W), what an attack gave back; counted only where every pixel is a number in [0, 1].
        labels: (N,).
        logits: (N, K), of the proposals, in full precision.
    """
    delta = proposals.double() - images.double()
    flat = proposals.flatten(1)
    inside = ((flat >= 0) & (flat <= 1)).all(1)
    numbers = logits.amax(1).isfinite()  # minus infinity for a class that is never meant is fine
    prediction = torch.where(numbers, logits.argmax(1), NO_CLASS)
    confidence = torch.softmax(logits.double(), 1).amax(1).nan_to_num(0)
    fooled = (prediction != labels) & inside
    far = {name: norms.length(delta, name).where(fooled, torch.inf) for name in _DISTANCES}
    return Judged(prediction, confidence, fooled, far)


def verdicts(
    *,
    model: str,
    data: str,
    images: Tensor,
    labels: Tensor,
    clean: Tensor,
    attack: str,
    norm: Norm,
    eps: Tensor,
    judged: Judged,
    passes: tuple[Tensor, Tensor],
    seed: int,
) -> pa.Table:
    """One row an image, in the order of `images` (ids).

    Args:
        model, data, attack, norm, seed: what is the same for all rows.
        eps: (N,) budgets; null in the table where infinite.
        images, labels, clean: (N,) ids, labels, and predictions on the images themselves.
        judged: the verdicts.
        passes: (N,) forward and backward passes, the judge's own forward pass included.
    """
    count = len(images)
    columns: dict[str, Any] = {
        "model": [model] * count,
        "data": [data] * count,
        "image": _numbers(images),
        "label": _numbers(labels),
        "clean": _numbers(clean),
        "attack": [attack] * count,
        "norm": [norm] * count,
        "eps": [None if budget == torch.inf else budget for budget in eps.tolist()],
        "target": [None] * count,
        "prediction": _numbers(judged.prediction),
        "fooled": _numbers(judged.fooled),
        **{name: _numbers(judged.distances[name]) for name in _DISTANCES},
        "forwards": _numbers(passes[0]),
        "backwards": _numbers(passes[1]),
        "seed": [seed] * count,
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def within(distance: Tensor, eps: float) -> Tensor:
    """(N,) whether distances count as inside a ball of radius eps: at most eps (1 + 1e-6)."""
    return distance <= eps * (1 + SLACK)


def _numbers(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    array: np.ndarray[tuple[int, ...], np.dtype[Any]] = values.detach().cpu().numpy()
    return array
