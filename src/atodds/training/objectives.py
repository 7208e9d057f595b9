"""What training lowers: one function each, from a batch to its loss. A new objective is a function and a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from atodds.attacks.gradient_sign import pgd
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import Threat


@dataclass(frozen=True)
class Batch:
    """Images (B, C, H, W) in [0, 1], labels (B,) int64, ids (B,) int64, and the seed of this pass over the data."""

    images: Tensor
    labels: Tensor
    ids: Tensor
    seed: int


@dataclass(frozen=True)
class Inner:
    """The attack inside adversarial training: PGD with this many steps of this length in the threat's norm."""

    threat: Threat
    steps: int
    step_size: float


Objective = Callable[[nn.Module, Batch, Inner | None], tuple[Tensor, Tensor]]
"""(model in training mode, batch, inner attack) -> (loss to lower, logits (B, K) that it was computed on)."""


def standard(model: nn.Module, batch: Batch, inner: Inner | None) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Cross-entropy on the images as they are."""
    logits: Tensor = model(batch.images)
    return F.cross_entropy(logits, batch.labels), logits


def adversarial(model: nn.Module, batch: Batch, inner: Inner | None) -> tuple[Tensor, Tensor]:
    """Cross-entropy on the images that PGD finds in the ball around each (Madry et al., ICLR 2018, eq. 2.1).

    PGD starts at a random point, takes all its steps, and sees the model in eval mode; the loss is taken in training
    mode.

    Raises:
        ArgumentError: no inner attack.
    """
    if inner is None:
        raise ArgumentError("inner", inner, "nothing to train against", "Give a threat, steps and a step size.")
    oracle = Oracle(model, batch_size=len(batch.images))
    images = pgd(
        oracle,
        batch.images,
        batch.labels,
        inner.threat,
        ids=batch.ids,
        seed=batch.seed,
        steps=inner.steps,
        step_size=inner.step_size,
        stop=False,
    )
    return standard(model, Batch(images, batch.labels, batch.ids, batch.seed), inner)


OBJECTIVES: Mapping[str, Objective] = {"standard": standard, "adversarial": adversarial}
AGAINST: frozenset[str] = frozenset({"adversarial"})
"""The objectives that need an inner attack."""
