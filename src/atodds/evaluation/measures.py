"""What the audit measures on a probe to see how a model's outputs move: in levels, in jumps, along the gradient or not.

Each measurement is a few forward passes over a few images, on the margin: scale and shift of the logits do not matter.
"""

import torch
from torch import Tensor

from atodds import noise
from atodds.evaluation.probe import Probe

LEVEL = 1 / 255
SWEEP = 1000
"""Steps from black to white; no whole number of them makes a level of 8 bits, so none falls on the edge of one."""

_TINY, _SMALL = 0.05 * LEVEL, 0.25 * LEVEL
_SPAN = 8 * LEVEL
_PIECES = 8
_HALVINGS = 11
_CHUNK = 64
JUMP = 0.005
"""Share of all that the margin goes up and down on the way, on a 16,384th of it: about 80 times what a straight line
does there. Healthy networks stay below 0.0005; k-winners-take-all is mostly above 0.02."""
_BITS = 1e-5
"""Share of the logits below which a difference may be one of rounding."""


def runs(probe: Probe, levels: range) -> Tensor:
    """Lengths of the runs of equal outputs for an image of black, white and one grey, which takes these levels."""
    shape = probe.images.shape[1:]
    where = noise.uniform(torch.zeros(1, dtype=torch.int64), shape, seed=0, stream="levels").to(probe.images)
    rows = []
    for start in range(0, len(levels), _CHUNK):
        greys = torch.tensor(levels[start : start + _CHUNK]).to(probe.images) / SWEEP
        images = torch.where(where < 2 / 3, (where < 1 / 3).to(greys), greys[:, None, None, None])
        rows.append(probe.outputs(images).nan_to_num())
    outputs = torch.cat(rows)
    spread = (outputs.amax() - outputs.amin()).clamp_min(1e-12)
    # rows of a batch may differ in their last bits though they are of equal images
    changes = ((outputs[1:] - outputs[:-1]).abs() > _BITS * spread).any(1).nonzero()[:, 0].cpu() + 1
    return torch.cat([changes, torch.tensor([len(outputs)])]).diff(prepend=torch.zeros(1, dtype=torch.int64))


def jumps(probe: Probe) -> Tensor:
    """(N,) whether the margin jumps on a way of 16/255 through each image.

    Of 8 pieces of the way the one that stands out most is halved again and again, each time keeping the half that
    stands out. Where the margin is continuous, what it changes by is halved too; a jump stays as high as it is.
    """
    base, direction = probe.shaken(LEVEL, "base"), _direction(probe)

    def at(place: Tensor) -> Tensor:
        there = base + _SPAN * place.to(base)[:, None, None, None] * direction
        return probe.margin(there.clamp(0, 1))

    places = torch.linspace(-1, 1, _PIECES + 1, dtype=torch.float64, device=base.device)
    heights = torch.stack([at(place.expand(len(base))) for place in places])
    whole = heights.isfinite().all(0)
    heights = heights.nan_to_num(posinf=0, neginf=0)
    rises = heights.diff(dim=0)
    usual = rises.median(0).values
    piece = (rises - usual).abs().argmax(0)
    row = torch.arange(len(base), device=base.device)
    low, high = places[piece], places[piece + 1]
    bottom, top = heights[piece, row], heights[piece + 1, row]
    for _ in range(_HALVINGS):
        middle, usual = (low + high) / 2, usual / 2
        height = at(middle)
        left = (height - bottom - usual).abs() >= (top - height - usual).abs()
        low, bottom = torch.where(left, low, middle), torch.where(left, bottom, height)
        high, top = torch.where(left, middle, high), torch.where(left, height, top)
    return whole & ((top - bottom).abs() > (JUMP * rises.abs().sum(0)).clamp_min(_bits(probe)))


def raises(probe: Probe, gradient: Tensor, step: float) -> Tensor:
    """(N,) whether a step along the sign of a gradient raises the margin."""
    up = (probe.images + step * gradient.sign()).clamp(0, 1)
    return probe.margin(up) > probe.margin(probe.images)


def follows(probe: Probe) -> Tensor:
    """(N,) whether the margin moves on a way of 0.5/255 through each image."""
    along = _SMALL * _direction(probe)
    moved = probe.margin((probe.images + along).clamp(0, 1)) - probe.margin((probe.images - along).clamp(0, 1))
    return moved.abs() > _bits(probe)


def foretold(probe: Probe) -> float:
    """Share of how the margin moves along a short random way that the gradient explains (R², about 0), at the better
    of two lengths: on the longer one a deep network bends, on the shorter one rounding counts."""
    base, direction = probe.shaken(LEVEL, "base"), _direction(probe)
    gradient = probe.gradient("margin", base).double()
    shares = []
    for length in (_TINY, _SMALL):
        low, high = (base - length * direction).clamp(0, 1), (base + length * direction).clamp(0, 1)
        moved = probe.margin(high) - probe.margin(low)
        said = ((high - low).double() * gradient).flatten(1).sum(1)
        whole = moved.isfinite()
        if not whole.any():
            return 1.0
        missed, total = (moved - said)[whole].square().sum(), moved[whole].square().sum()
        shares.append(1 - float(missed / total.clamp_min(1e-300)))
    return max(shares)


def _direction(probe: Probe) -> Tensor:
    ids = probe.ids.to(probe.images.device)
    return noise.sign(ids, probe.images.shape[1:], seed=0, stream="direction", dtype=probe.images.dtype)


def _bits(probe: Probe) -> float:
    return _BITS * float(probe.logits.nan_to_num(neginf=0).abs().amax())
