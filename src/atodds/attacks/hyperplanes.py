"""The nearest point of a hyperplane within the box, in l1, l2 and linf, for many images at once. Exact.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, section 2.2,
equation 4: min ‖z - x‖_p over z in the box with ⟨w, z - x⟩ = c. Each value moves along the sign of c·w, by min(t, room)
in linf and min(t·|w|, room) in l2, where room is what the box leaves it: the sum of |w| times that is concave and
piecewise linear in t, so Newton steps from the t that ignores the box only climb and end on the piece that holds the
solution. In l1 the values with the largest |w| move first, each as far as the box lets it.
"""

import torch
from torch import Tensor

from atodds.threat import Norm

_ROUNDS = 100
"""More Newton steps than any image needs: one takes about 5."""
_FEW, _MORE = 64, 8
"""In l1 one value in 64 is sorted at first, and 8 times as many where those are not enough."""


def toward(points: Tensor, normals: Tensor, change: Tensor, norm: Norm, reach: Tensor | None = None) -> Tensor:
    """The shortest perturbations of flat images, in `norm`, within the box, with ⟨normal, perturbation⟩ = change.

    Where the box ends before the plane, the corner that comes nearest to it; where a normal is 0, no perturbation.

    Args:
        points: (N, D) in [0, 1].
        normals: (N, D) finite.
        change: (N,) finite.
        norm: in which to be short.
        reach: (N,) how far any value may move at most, or None for as far as the box goes.

    Returns:
        (N, D)
    """
    needed, scale = change.abs()[:, None], normals.abs().amax(1, keepdim=True)
    weights = normals / (scale + (scale == 0)).copysign(change[:, None])  # of size 1 at most: squares stay in range
    side = weights.sign()
    room = torch.add(points, side, alpha=2).clamp_(0, 1).sub_(points).abs_()  # none where the weight is 0
    if reach is not None:
        torch.minimum(room, reach[:, None], out=room)
    weights.abs_()
    within = _dot(weights, room) * scale > needed
    needed = needed / (scale + ~within)
    beyond, inside = (rows.squeeze(1).nonzero()[:, 0] for rows in (~within, within))
    moved = _greedy(weights, room, needed, inside) if norm == "l1" else _level(weights, room, needed, norm)
    if len(beyond):
        moved.index_copy_(0, beyond, room.index_select(0, beyond))
    return moved.mul_(side)


def _level(weights: Tensor, room: Tensor, needed: Tensor, norm: Norm) -> Tensor:
    """(N, D) min(t, room) or min(t·weight, room), with the t for which the weighted sum is what is needed."""
    linf = norm == "linf"
    slope = weights.sum(1, keepdim=True) if linf else _dot(weights, weights)
    level = needed / (slope + (slope == 0))
    tolerance, last = 8 * torch.finfo(room.dtype).eps, torch.full_like(needed, torch.inf)
    moved, free = torch.empty_like(room), torch.empty_like(room)
    for _ in range(_ROUNDS):
        line = level if linf else torch.mul(weights, level, out=free)
        torch.minimum(room, line, out=moved)
        short = needed - _dot(weights, moved)
        going = (short > tolerance * needed) & (short < last)
        if not going.any():
            break
        torch.gt(room, line, out=free)
        if not linf:
            free.mul_(weights)
        slope = _dot(weights, free)
        going &= slope > 0
        level, last = torch.where(going, level + short / slope, level), torch.where(going, short, -torch.inf)
    return moved


def _greedy(weights: Tensor, room: Tensor, needed: Tensor, rows: Tensor) -> Tensor:
    """(N, D) for the images at `rows`: each value up to its room, in falling order of the weights, until the weighted
    sum is what is needed; 0 for the others."""
    size, width, moved = weights.shape[1], max(1, weights.shape[1] // _FEW), torch.zeros_like(room)
    while len(rows):
        top, order = weights.index_select(0, rows).topk(width, 1)
        full, wanted = room.index_select(0, rows).gather(1, order), needed.index_select(0, rows)
        worth = top * full
        upto = worth.cumsum(1)
        share = ((wanted - upto + worth) / top.clamp_min(torch.finfo(top.dtype).tiny)).clamp_min_(0).minimum(full)
        enough = (upto[:, -1] >= wanted[:, 0]) if width < size else torch.ones_like(rows, dtype=torch.bool)
        moved[rows[enough, None], order[enough]] = share[enough]
        rows, width = rows[~enough], min(_MORE * width, size)
    return moved


def _dot(first: Tensor, second: Tensor) -> Tensor:
    products: Tensor = torch.linalg.vecdot(first, second)
    return products[:, None]
