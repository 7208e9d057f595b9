"""The last digits of a distance: proposals that fool are moved to the nearest point of their boundary, or to that of a
class which looks nearer.

The boundary is taken as a plane, through the gradient of the margin at a point next to it; the point of that plane
which is nearest to the image, within the box, is known exactly. A proposal goes there, or part of the way, as long as
it still fools and comes closer: sequential linear programming in l1, quadratic in l2, with a step that is cut to a
quarter where it misses. Then, where any wrong answer will do, the planes of other classes are laid through the point
that was found, and the nearest is tried in the same way. On a linear model that ends at the closest fooling image.
"""

import torch
from torch import Tensor

from atodds import norms
from atodds.attacks import losses
from atodds.attacks.hyperplanes import toward
from atodds.attacks.pool import Pool
from atodds.errors import ArgumentError
from atodds.oracle import Gradients, Objective

OTHERS = 8
"""Classes whose planes are looked at besides those of the label and the class that was reached, the likeliest first."""
_BEYOND = 1e-4
"""How far beyond a plane a step goes, as a share of the way."""
_NEARER = 0.999
"""A class is tried whose plane is nearer than this share of the distance."""


def gradients(steps: int) -> int:
    """Gradients an image, at most."""
    return 2 * (steps + 1) + OTHERS if steps else 0


def check_refine(refine: int) -> None:
    """Nothing, where it is a number of steps.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(refine, int) or refine < 0:
        raise ArgumentError("refine", refine, "not a number of times", "Give a whole number, 0 or more.")


def closer(pool: Pool, confidence: float, steps: int) -> None:
    """Bring the proposals that fool closer to their images, but not those within the ball: steps + 1 gradients an
    image; with no target, one for each of the other classes too, and once more steps + 1 where one looks nearer."""
    size = norms.distance(pool.proposals, pool.images, pool.norm)
    rows = (pool.found & (size > pool.eps.nan_to_num(posinf=0))).nonzero()[:, 0]
    if steps == 0 or len(rows) == 0:
        return
    margin = losses.at(losses.objective("margin", pool.labels, pool.targets), rows)
    points, logits = _moved(pool, rows, pool.proposals.index_select(0, rows).flatten(1), margin, confidence, steps)
    if pool.targets is None and logits.shape[1] > 2:
        nearer, classes = _nearer(pool, rows, points, logits, confidence)
        if len(nearer):
            lead = losses.lead(classes, pool.labels[rows[nearer]])
            points[nearer] = _moved(pool, rows[nearer], points[nearer], lead, confidence, steps)[0]
    pool.keep(rows, points.view(-1, *pool.images.shape[1:]), fooled=True)


def _moved(
    pool: Pool, rows: Tensor, points: Tensor, wanted: Objective, confidence: float, steps: int
) -> tuple[Tensor, Tensor]:
    """The flat points, nearer to the boundary of an objective, and the logits there."""
    images = pool.images.index_select(0, rows).flatten(1)
    size = norms.distance(points, images, pool.norm)
    points, share, seen = points.clone(), torch.ones_like(size), _seen(pool, rows, points, wanted)
    gaps, normals, logits = seen.objective - confidence, seen.gradient.flatten(1), seen.logits
    for _ in range(steps):
        nearest = _way(pool, images, points, normals, gaps).mul_(1 + _BEYOND).add_(images)
        tried = torch.lerp(points, nearest, share[:, None]).clamp_(0, 1)
        seen = _seen(pool, rows, tried, wanted)
        away = norms.distance(tried, images, pool.norm)
        hit = pool.fooled(seen.logits, rows, tried) & ~(seen.objective < confidence)
        share = torch.where(hit, (2 * share).clamp_max(1), share / 4)
        better = (hit & (away < size)).nonzero()[:, 0]
        size[better], gaps[better] = away[better], (seen.objective - confidence)[better]
        points[better], normals[better] = tried[better], seen.gradient.flatten(1)[better]
        logits[better] = seen.logits[better]
    return points, logits


def _nearer(pool: Pool, rows: Tensor, points: Tensor, logits: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Which of the points have a class whose plane is nearer than they are, and the class of the nearest."""
    images, labels = pool.images.index_select(0, rows).flatten(1), pool.labels[rows]
    wrong = logits.scatter(1, labels[:, None], -torch.inf)
    others = wrong.scatter(1, wrong.argmax(1, keepdim=True), -torch.inf).topk(min(OTHERS, logits.shape[1] - 2)).indices
    least = norms.distance(points, images, pool.norm) * _NEARER
    chosen = torch.full_like(labels, -1)
    for classes in others.unbind(1):
        seen = _seen(pool, rows, points, losses.lead(classes, labels))
        normals, gaps = seen.gradient.flatten(1), seen.objective - confidence
        way = _way(pool, images, points, normals, gaps)
        there = torch.linalg.vecdot(normals, images + way - points) + gaps >= -_BEYOND * gaps.abs()
        size = norms.length(way, pool.norm)
        chosen, least = (
            torch.where(there & (size < least), classes, chosen),
            torch.where(there, size.minimum(least), least),
        )
    at = (chosen >= 0).nonzero()[:, 0]
    return at, chosen[at]


def _seen(pool: Pool, rows: Tensor, points: Tensor, wanted: Objective) -> Gradients:
    return pool.oracle.gradients(points.view(-1, *pool.images.shape[1:]), wanted, pool.ids[rows])


def _way(pool: Pool, images: Tensor, points: Tensor, normals: Tensor, gaps: Tensor) -> Tensor:
    """(n, D) from the images to the planes through the points where an objective has these gaps and normals."""
    change = (torch.linalg.vecdot(normals, points - images) - gaps.to(points.dtype)).nan_to_num_()
    return toward(images, normals, change, pool.norm)
