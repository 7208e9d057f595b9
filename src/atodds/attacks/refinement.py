"""The last digits of a distance: proposals that fool are moved to the nearest point of their boundary.

The boundary is taken as a plane, through the gradient of the margin at a point next to it; the point of that plane
which is nearest to the image, within the box, is known exactly. A proposal goes there, or part of the way, as long as
it still fools and comes closer: sequential linear programming in l1, quadratic in l2, with a step that is cut to a
quarter where it misses. On a linear model the first step gives the closest fooling image of the class that was reached.
"""

import torch

from atodds import norms
from atodds.attacks import losses
from atodds.attacks.hyperplanes import toward
from atodds.attacks.pool import Pool

_BEYOND = 1e-4
"""How far beyond a plane a step goes, as a share of the way."""


def closer(pool: Pool, confidence: float, steps: int) -> None:
    """Bring the proposals that fool closer to their images, but not those within the ball: a gradient an image and
    step, and one more."""
    size = norms.distance(pool.proposals, pool.images, pool.norm)
    rows = (pool.found & (size > pool.eps.nan_to_num(posinf=0))).nonzero()[:, 0]
    if steps == 0 or len(rows) == 0:
        return
    wanted = losses.at(losses.objective("margin", pool.labels, pool.targets), rows)
    shape, images = pool.images.shape[1:], pool.images.index_select(0, rows).flatten(1)
    points = pool.proposals.index_select(0, rows).flatten(1)
    size = norms.distance(points, images, pool.norm)
    seen = pool.oracle.gradients(points.view(-1, *shape), wanted, pool.ids[rows])
    gaps, normals, share = seen.objective - confidence, seen.gradient.flatten(1), torch.ones_like(size)
    for _ in range(steps):
        change = (torch.linalg.vecdot(normals, points - images) - gaps.to(points.dtype)).nan_to_num_()
        nearest = toward(images, normals, change, pool.norm).mul_(1 + _BEYOND).add_(images)
        tried = torch.lerp(points, nearest, share[:, None]).clamp_(0, 1)
        seen = pool.oracle.gradients(tried.view(-1, *shape), wanted, pool.ids[rows])
        away = norms.distance(tried, images, pool.norm)
        hit = pool.fooled(seen.logits, rows, tried) & ~(seen.objective < confidence)
        share = torch.where(hit, (2 * share).clamp_max(1), share / 4)
        better = (hit & (away < size)).nonzero()[:, 0]
        size[better], gaps[better] = away[better], (seen.objective - confidence)[better]
        points[better], normals[better] = tried[better], seen.gradient.flatten(1)[better]
    pool.keep(rows, points.view(-1, *shape), fooled=True)
