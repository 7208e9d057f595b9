"""FGSM, I-FGSM and PGD: steps along the gradient, in l1, l2 and l-inf, targeted or not. One loop serves all of them.

FGSM: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015. I-FGSM: Kurakin,
Goodfellow, Bengio, "Adversarial examples in the physical world", 2017, with the settings of Su et al., "Is robustness
the cost of accuracy?", ECCV 2018. PGD: Madry et al., "Towards deep learning models resistant to adversarial attacks",
ICLR 2018; in l1, the sparse steps of Tramèr & Boneh, "Adversarial training and robustness for multiple perturbations",
NeurIPS 2019, cut to the box.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from atodds import noise, norms
from atodds.attacks import losses
from atodds.attacks.leaving import without
from atodds.attacks.pool import Balls, Pool, check_starting_points, opened, positive
from atodds.errors import ArgumentError, UnknownNameError
from atodds.oracle import Objective, Oracle
from atodds.threat import Threat

Projection = Literal["exact", "ball-then-box"]


def fgsm(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - every attack takes one; this one draws nothing
    loss: losses.LossName = "cross-entropy",
) -> Tensor:
    """One step of length eps along the steepest direction: x + eps·sign(g) in l-inf. One gradient an image.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: not used.
        loss: "cross-entropy", "logit" or "margin".

    Returns:
        (N, C, H, W) images in ball and box.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    with opened(model, images, labels, threat, targets, ids) as pool:
        found = pool.oracle.gradients(pool.images, losses.objective(loss, pool.labels, pool.targets), pool.ids)
        pool.proposals = norms.ascend(
            pool.images, found.gradient, pool.images, pool.eps, pool.norm, pool.eps, spread=_SPREAD
        )
        return pool.settled(images)


def ifgsm(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - as in `fgsm`
    steps: int = 10,
    loss: losses.LossName = "logit",
    stop: bool = True,
) -> Tensor:
    """`steps` steps of eps/steps from the image itself, projected on ball and box after each. No random start.

    Args:
        model, images, labels, threat, targets, ids, seed: as in `fgsm`.
        steps: gradients an image, at most.
        loss: the study of 18 models lowers the label's (or raises the target's) logit.
        stop: leave an image as soon as it is fooled; False takes every step, as the study does.

    Returns:
        (N, C, H, W) images in ball and box.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    positive(steps=steps)
    with opened(model, images, labels, threat, targets, ids) as pool:
        rows = torch.arange(len(images), device=pool.images.device)
        size = pool.radii(rows, 1 / steps)
        objective = losses.objective(loss, pool.labels, pool.targets)
        _climb(pool, objective, rows, pool.images.clone(), pool.images.clone(), steps, size, stop=stop)
        return pool.settled(images)


def pgd(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: losses.LossName = "cross-entropy",
    stop: bool = True,
    projection: Projection = "exact",
    starting_points: Tensor | None = None,
) -> Tensor:
    """Projected gradient ascent from a random point of the ball. At most `steps` gradients and one more forward pass
    an image and restart.

    Args:
        model, images, labels, threat, targets, ids: as in `fgsm`.
        seed: decides the random starts, with each image's id.
        steps: gradients an image and restart, at most.
        step_size: length of a step in the threat's norm; None takes 2.5·eps/steps (Madry et al.).
        restarts: random starts; later ones only for images that none before has fooled.
        random_start: False starts from the image itself.
        loss: "cross-entropy", "logit" or "margin".
        stop: leave an image as soon as it is fooled. False takes every step and proposes the last point, or the one
            before it that fools.
        projection: "exact" goes to the nearest point of ball and box after each step; "ball-then-box" goes to that of
            the ball and then cuts values to [0, 1], as most programs do, in l2 and linf: in linf it is the same, and
            in l2 it ends short of the optimum where the box cuts the ball.
        starting_points: (N, C, H, W) to begin from in the first restart, such as what another attack found; each is
            brought into ball and box.

    Returns:
        (N, C, H, W) images in ball and box: one that fools where one was found, else the last point.

    Raises:
        ArgumentError: bad images, labels, targets, starting points or settings, or another projection in l1.
        UnknownNameError: no such loss or projection.
    """
    positive(steps=steps, restarts=restarts)
    if projection not in get_args(Projection):
        raise UnknownNameError.among("projection", projection, get_args(Projection))
    if starting_points is not None:
        check_starting_points(starting_points, images)
    if step_size is not None and not 0 <= step_size < math.inf:
        raise ArgumentError("step_size", step_size, "not a length", "Give a positive number, in pixels of [0, 1].")
    with opened(model, images, labels, threat, targets, ids) as pool:
        if projection != "exact" and pool.norm == "l1":
            raise ArgumentError("projection", projection, "not for steps in l1", "Give 'exact'.")
        clipped = projection != "exact" and pool.norm == "l2"
        objective = losses.objective(loss, pool.labels, pool.targets)
        sizes = pool.radii(torch.arange(len(images), device=pool.eps.device), 2.5 / steps)
        if step_size is not None:
            sizes.fill_(step_size)
        for restart in range(restarts):
            left = pool.left()
            if len(left) == 0:
                break
            origins = pool.images.index_select(0, left)
            if starting_points is not None and restart == 0:
                given = starting_points.detach().to(origins)  # of every image: none is fooled before the first restart
                points = norms.project(given, origins, pool.radii(left), pool.norm)
            else:
                points = _start(pool, left, seed=seed, restart=restart) if random_start else origins.clone()
            _climb(pool, objective, left, points, origins, steps, sizes[left], stop=stop, clipped=clipped)
        return pool.settled(images)


def _start(pool: Pool, rows: Tensor, *, seed: int, restart: int) -> Tensor:
    """A random point of the ball. In l2 and l1 at any distance with the same chance: in many dimensions nearly all of a
    ball lies next to its sphere, and from there fewer steps are left to find the way."""
    origins, ids = pool.images[rows], pool.ids[rows]
    points = norms.random_point(origins, pool.radii(rows), pool.norm, ids, seed=seed, step=restart)
    if pool.norm == "linf":
        return points
    share = noise.uniform(ids, [1] * (origins.ndim - 1), seed=seed, step=restart, stream="start", dtype=origins.dtype)
    return torch.lerp(origins, points, share)


_SPREAD = 0.01
"""In l1 a step is shared by the 1 % of the values with the largest gradient."""


def _climb(
    pool: Pool,
    objective: Objective,
    rows: Tensor,
    points: Tensor,
    origins: Tensor,
    steps: int,
    sizes: Tensor,
    *,
    stop: bool,
    clipped: bool = False,
) -> None:
    """Climb from `points` for the images at `rows`, around `origins`, in steps of `sizes`; all four are used up.

    In l1, what a step has too much is taken back where it is worth least in the first half of the steps, and from all
    values alike in the second: the first finds more on robust networks, the second where gradients change quickly. The
    point between the two is proposed if it is the better one.
    """
    radii, half = pool.radii(rows), steps // 2 if pool.norm == "l1" else steps
    middle, height, fools = points[:0], sizes[:0], rows[:0] > 0
    for step in range(steps):
        seen = pool.oracle.gradients(points, losses.at(objective, rows), pool.ids[rows])
        gradient, hit = seen.gradient, pool.fooled(seen.logits, rows, points)
        if step == half:
            middle, height, fools = points.clone(), seen.objective.to(points.dtype), hit.clone()
        if hit.any():
            pool.keep(rows[hit], points[hit], fooled=True)
            if stop and not pool.patient:
                rows, points, origins, gradient, radii, sizes = without(
                    hit, rows, points, origins, gradient, radii, sizes
                )
                if len(rows) == 0:
                    return
                if step >= half:
                    middle, height, fools = without(hit, middle, height, fools)
        if clipped:
            points = _clipped(points, gradient, origins, radii, sizes)
            continue
        norms.ascend(
            points, gradient, origins, radii, pool.norm, sizes, spread=_SPREAD, even=step >= half, out=points
        )  # fmt: skip
    logits = pool.oracle.logits(points, pool.ids[rows])
    hit = pool.fooled(logits, rows, points)
    if len(middle):
        better = (height > objective(logits, rows)) & (fools | ~hit)
        points[better], hit[better] = middle[better], fools[better]
    pool.keep(rows[hit], points[hit], fooled=True)
    missed = ~pool.found[rows]
    pool.keep(rows[missed], points[missed], fooled=False)


def _clipped(points: Tensor, gradient: Tensor, origins: Tensor, radii: Tensor, sizes: Tensor) -> Tensor:
    """A step in l2, onto the ball and then into the box."""
    size = sizes.view(-1, *[1] * (points.ndim - 1))
    moved = torch.addcmul(points - origins, norms.steepest(gradient, "l2"), size)
    return norms.project_ball(moved, radii, "l2").add_(origins).clamp_(0, 1)
