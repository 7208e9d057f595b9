"""The attack inside training: a climb from a start, without verdicts.

An attack of `atodds.attacks` looks after each image: who is fooled, what was best, who may leave. Training needs none
of that, only the last point, so this is the bare climb: no further forward pass, and nothing that makes a GPU wait.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atodds import noise, norms
from atodds.threat import Threat

_SPREAD = 0.01
"""In l1 a step is shared by the 1 % of the values with the largest gradient, as in PGD."""


@dataclass(frozen=True)
class Inner:
    """What a network is trained against: steps of this length, so many, in this ball.

    Attributes:
        threat: norm and radius.
        steps: gradients in the images, for each batch.
        step_size: length of a step, in the threat's norm.
        beta: weight of TRADES' robust term.
        skip: share of images, those that can reach the smallest loss, that adversarial training leaves alone.
        freeze: signal of a layer's gradients below which adversarial training lets it stand still; 0 for never.
    """

    threat: Threat
    steps: int
    step_size: float
    beta: float = 6.0
    skip: float = 0.0
    freeze: float = 0.0


def random_start(images: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
    """A random point of each image's ball and box, as a function of seed and id: uniform in l-inf, in l2 and l1 at any
    distance with the same chance, as in PGD.
    """
    points = norms.random_point(images, threat.eps, threat.norm, ids, seed=seed)
    if threat.norm == "linf":
        return points
    share = noise.uniform(ids, [1] * (images.ndim - 1), seed=seed, stream="start", dtype=images.dtype)
    return torch.lerp(images, points, share)


def climb(
    model: nn.Module, objective: Callable[[Tensor], Tensor], points: Tensor, images: Tensor, inner: Inner
) -> Tensor:
    """Projected gradient ascent in the images, with the model in eval mode.

    Args:
        model: images -> logits.
        objective: logits (B, K) -> a number to raise, a sum over images.
        points: (B, C, H, W), where to begin, in ball and box; overwritten.
        images: (B, C, H, W), centres of the balls.
        inner: ball, steps and their length.

    Returns:
        (B, C, H, W) images in ball and box, without a history.
    """
    with frozen(model):
        for _ in range(inner.steps):
            leaf = points.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(model(leaf)), leaf)
            points = ascend(points, gradient, images, inner)
    return points.detach()


def ascend(points: Tensor, gradient: Tensor, images: Tensor, inner: Inner) -> Tensor:
    """The points, moved one step along a gradient inside ball and box; they are overwritten."""
    threat = inner.threat
    return norms.ascend(points, gradient, images, threat.eps, threat.norm, inner.step_size, spread=_SPREAD, out=points)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode and parameters without gradients, while it lasts."""
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)
