"""Random noise: the black-box baseline that every gradient attack must beat.

An attack that follows gradients and finds less than noise of the same size has been led astray: the gradients are
masked (Carlini et al., "On evaluating adversarial robustness", 2019, section 3.2).
"""

import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks.pool import Balls, Pool, opened, positive
from atodds.oracle import Oracle
from atodds.threat import Threat


def random_noise(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    queries: int = 100,
) -> Tensor:
    """Random points on the edge of the ball: ±eps for each value in l-inf, a uniform direction in l2, one of l1.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: decides the points, with each image's id.
        queries: forward passes an image, at most.

    Returns:
        (N, C, H, W) images in ball and box: one that fools where one was found, else the image itself.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    positive(queries=queries)
    with opened(model, images, labels, threat, targets, ids) as pool:
        rows = torch.arange(len(images), device=pool.images.device)
        for query in range(queries):
            points = _edge(pool, rows, seed, query)
            hit = pool.fooled(pool.oracle.logits(points, pool.ids[rows]), rows, points)
            pool.keep(rows[hit], points[hit], fooled=True)
            rows = rows[~hit]
            if len(rows) == 0:
                break
        return pool.settled(images)


def _edge(pool: Pool, rows: Tensor, seed: int, query: int) -> Tensor:
    """Points on the sphere, cut to the box: around a point of the box, that does not leave the ball."""
    delta = norms.random_direction(
        pool.ids[rows], pool.images.shape[1:], pool.norm, seed=seed, step=query, dtype=pool.images.dtype
    )
    radii = pool.radii(rows).view(-1, *[1] * (delta.ndim - 1))
    return delta.mul_(radii).add_(pool.images[rows]).clamp_(0, 1)
