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
    pa.field("rank", pa.int32()),
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

DISTANCES = ("l0", "l1", "l2", "linf")
"""The columns that say how far a proposal is from its image."""

NO_CLASS = -1
"""The prediction of a model whose outputs are not numbers."""


@dataclass(frozen=True)
class Answers:
    """What a model says of images, in full precision.

    Attributes:
        prediction: (N,) int64, `NO_CLASS` where no output is the largest: NaN or infinite ones.
        rank: (N,) int64, how many logits exceed that of the class that was asked about, so that it is among the first k
            where rank < k; `NO_CLASS` where the outputs are not numbers or the model has no such class.
        confidence: (N,) float64, the softmax probability of the prediction.
    """

    prediction: Tensor
    rank: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Judged:
    """What the model says of proposed images, and how far they are from what was attacked.

    Attributes:
        answers: on the proposals; their rank is that of the target, or of the label where there is none.
        wrong: (N,) bool, the model does not give the label, and the proposal is an image.
        fooled: (N,) bool, it is wrong as the attack wanted: in any way, or with the target.
        distances: l0, l1, l2, linf -> (N,) float64, infinite where the model is not wrong.
    """

    answers: Answers
    wrong: Tensor
    fooled: Tensor
    distances: dict[str, Tensor]


def answers(logits: Tensor, classes: Tensor) -> Answers:
    """What logits (N, K) say, and where a class (N,) of each image stands among the others."""
    numbers = logits.amax(1).isfinite()  # minus infinity for a class that is never meant is fine
    known = numbers & (classes < logits.shape[1])
    own = logits.gather(1, torch.where(known, classes, 0)[:, None])
    return Answers(
        prediction=torch.where(numbers, logits.argmax(1), NO_CLASS),
        rank=torch.where(known, (logits > own).sum(1), NO_CLASS),
        confidence=torch.softmax(logits.double(), 1).amax(1).nan_to_num(0),
    )


def judge(images: Tensor, proposals: Tensor, labels: Tensor, logits: Tensor, targets: Tensor | None = None) -> Judged:
    """Whether proposals fool, and how far they are from the images, measured in float64.

    Args:
        images: (N, C, H, W), what was attacked.
        proposals: (N, C, H, W), what an attack gave back; counted only where every pixel is a number in [0, 1].
        labels: (N,).
        logits: (N, K), of the proposals, in full precision.
        targets: (N,) what the attack wanted the model to say, or None where anything but the label will do.
    """
    delta = proposals.double() - images.double()
    flat = proposals.flatten(1)
    inside = ((flat >= 0) & (flat <= 1)).all(1)
    said = answers(logits, labels if targets is None else targets)
    wrong = (said.prediction != labels) & inside
    far = {name: norms.length(delta, name).where(wrong, torch.inf) for name in DISTANCES}
    return Judged(said, wrong, wrong if targets is None else wrong & (said.prediction == targets), far)


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
    targets: Tensor | None,
    judged: Judged,
    passes: tuple[Tensor, Tensor],
    seed: int,
) -> pa.Table:
    """One row an image, in the order of `images` (ids).

    Args:
        model, data, attack, norm, seed: what is the same for all rows.
        eps: (N,) budgets; null in the table where infinite.
        targets: (N,) classes to reach, or None.
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
        "target": [None] * count if targets is None else _numbers(targets),
        "prediction": _numbers(judged.answers.prediction),
        "rank": ranks(judged.answers),
        "fooled": _numbers(judged.fooled),
        **{name: _numbers(judged.distances[name]) for name in DISTANCES},
        "forwards": _numbers(passes[0]),
        "backwards": _numbers(passes[1]),
        "seed": [seed] * count,
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def ranks(said: Answers) -> list[int | None]:
    """The column `rank`: null where there is none."""
    return [None if rank == NO_CLASS else rank for rank in said.rank.tolist()]


def within(distance: Tensor, eps: float) -> Tensor:
    """(N,) whether distances count as inside a ball of radius eps: at most eps (1 + 1e-6)."""
    return distance <= eps * (1 + SLACK)


def _numbers(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    array: np.ndarray[tuple[int, ...], np.dtype[Any]] = values.detach().cpu().numpy()
    return array
