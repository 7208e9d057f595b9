"""What training lowers: one function each, from the batches of an epoch to losses. A new objective is a function and a
row of `OBJECTIVES`.

An objective is a generator. Each loss that it yields is lowered by one step of the optimizer before it goes on, so it
may look at what the step left behind: free training takes its next images from the gradient of the last loss.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds import noise, norms
from atodds.errors import ArgumentError
from atodds.training.inner import Inner, ascend, climb, frozen, random_start
from atodds.training.thrift import Frozen, Weak, first_step

_TRADES_START = 0.001
"""Standard deviation of TRADES' random start; a start at the image itself has gradient 0."""


@dataclass(frozen=True)
class Batch:
    """Images of one step.

    Attributes:
        images: (B, C, H, W) float32 in [0, 1].
        labels: (B,) int64.
        ids: (B,) int64.
        seed: of this pass over the data.
        number: of the batch in its epoch, from 0.
        done: share of the whole training that lies before it.
        inner: what to train against, None in standard training.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    seed: int
    number: int = 0
    done: float = 0.0
    inner: Inner | None = None

    @property
    def against(self) -> Inner:
        """What to train against.

        Raises:
            ArgumentError: nothing.
        """
        if self.inner is None:
            raise ArgumentError("inner", None, "nothing to train against", "Give a threat, steps and a step size.")
        return self.inner


@dataclass(frozen=True)
class Lowered:
    """A loss to lower, the images that it is of, and the logits (B, K) by which accuracy so far is judged; `passes` are
    the passes of single images that it took so far, its own and those of the attack."""

    loss: Tensor
    logits: Tensor
    batch: Batch
    passes: int


Follow = Callable[[nn.Module, Iterable[Batch]], Iterator[Lowered]]
"""(model in training mode, batches of an epoch) -> losses, each lowered before the next is asked for."""


def standard(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Lowered]:
    """Cross-entropy on the images as they are."""
    for batch in batches:
        yield _cross_entropy(model, batch.images, batch, len(batch.labels))


def adversarial(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Lowered]:
    """Cross-entropy on the images that PGD finds in the ball around each (Madry et al.: "Towards deep learning models
    resistant to adversarial attacks", ICLR 2018, eq. 2.1).

    PGD starts at a random point, takes all its steps, and sees the model in eval mode; the loss is taken in training
    mode. With a single step of 1.25 eps it is fast adversarial training (Wong, Rice, Kolter: "Fast is better than
    free", ICLR 2020, algorithm 3). Weak images are left alone, and layers stand still, where the inner attack says so:
    see `atodds.training.thrift`.

    Raises:
        ArgumentError: a batch without an inner attack.
    """
    weak, layers = None, None
    try:
        for batch in batches:
            inner, count = batch.against, len(batch.labels)
            points = random_start(batch.images, batch.ids, inner.threat, batch.seed)
            passes = count * inner.steps
            if inner.skip:
                weak = weak or Weak(inner.skip)
                points, reach = first_step(model, points, batch.images, batch.labels, inner)
                rows = weak.strong(reach)
                images, labels, ids = (part[rows] for part in (batch.images, batch.labels, batch.ids))
                batch, points = replace(batch, images=images, labels=labels, ids=ids), points[rows]
                inner, passes = replace(inner, steps=inner.steps - 1), count + len(rows) * (inner.steps - 1)
            if inner.freeze:
                layers = layers or Frozen(model, inner.freeze)

            def higher(logits: Tensor, labels: Tensor = batch.labels) -> Tensor:
                return F.cross_entropy(logits, labels, reduction="sum")

            found = climb(model, higher, points, batch.images, inner)
            yield _cross_entropy(model, found, batch, passes + len(batch.labels))
            if layers is not None:
                layers.look()
    finally:
        if layers is not None:
            layers.release()


def trades(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Lowered]:
    """Cross-entropy on the images, and beta times the divergence of what the model says in the ball from what it says
    at its centre (Zhang et al.: "Theoretically principled trade-off between robustness and accuracy", ICML 2019, eq. 5
    and algorithm 1).

    Raises:
        ArgumentError: a batch without an inner attack.
    """
    for batch in batches:
        inner, images = batch.against, batch.images
        with frozen(model), torch.no_grad():
            said = model(images).softmax(1)

        def further(logits: Tensor, said: Tensor = said) -> Tensor:
            return F.kl_div(logits.log_softmax(1), said, reduction="sum")

        drawn = noise.normal(batch.ids, images.shape[1:], seed=batch.seed, stream="trades")
        near = norms.project(images + _TRADES_START * drawn, images, inner.threat.eps, inner.threat.norm)
        found = climb(model, further, near, images, inner)
        plain, logits = model(images), model(found)
        apart = F.kl_div(logits.log_softmax(1), plain.softmax(1), reduction="batchmean")
        passes = len(images) * (inner.steps + 3)
        yield Lowered(F.cross_entropy(plain, batch.labels) + inner.beta * apart, logits, batch, passes)


def free(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Lowered]:
    """Cross-entropy on perturbed images, each batch several times over; every backward pass gives the gradient for the
    weights and, at once, that for the next perturbation (Shafahi et al.: "Adversarial training for free!", NeurIPS
    2019, algorithm 1). A batch begins with the perturbations that the one before it left, the first of an epoch with
    none. The model is in training mode throughout.

    Raises:
        ArgumentError: a batch without an inner attack.
    """
    left: Tensor | None = None
    for batch in batches:
        inner, images = batch.against, batch.images
        points = images.clone()
        if left is not None:
            points = norms.project(images + left[: len(images)], images, inner.threat.eps, inner.threat.norm)
        for _ in range(inner.steps):
            leaf = points.clone().requires_grad_(True)
            yield _cross_entropy(model, leaf, batch, len(images))
            if leaf.grad is None:
                raise ArgumentError("loss", "yielded", "it was not lowered", "Take its backward pass before going on.")
            points = ascend(points, leaf.grad, images, inner)
        left = points - images


def _cross_entropy(model: nn.Module, images: Tensor, batch: Batch, passes: int) -> Lowered:
    logits: Tensor = model(images)
    return Lowered(F.cross_entropy(logits, batch.labels), logits, batch, passes)


@dataclass(frozen=True)
class Objective:
    """One way to train.

    Attributes:
        follow: what it does.
        summary: one line about it.
        against: whether it needs an inner attack.
        steps: gradients in the images for each batch, where the recipe does not say.
        step_size: number of steps -> length of one, in eps, where the recipe does not say.
    """

    follow: Follow
    summary: str
    against: bool = True
    steps: int = 10
    step_size: Callable[[int], float] = lambda steps: 2.5 / steps


OBJECTIVES: Mapping[str, Objective] = {
    "standard": Objective(standard, "cross-entropy on the images as they are", against=False),
    "adversarial": Objective(adversarial, "cross-entropy on what PGD finds in the ball"),
    "trades": Objective(trades, "cross-entropy, and the divergence within the ball"),
    "fast": Objective(adversarial, "one step of 1.25 eps from a random start", steps=1, step_size=lambda _: 1.25),
    "free": Objective(
        free, "each batch several times, one gradient for weights and images", steps=4, step_size=lambda _: 1.0
    ),
}
