"""Distances, exact projections and steepest steps in l1, l2 and l-inf, for many images at once.

Images are (N, ...) with pixels in [0, 1]; a radius is a number or an (N,) tensor, one an image. Projections are
Euclidean and exact: each has one unknown, a scale or a threshold, which Newton steps on a piecewise smooth function
find in a handful of passes over an image, where sorting its values would cost more than a pass of a small network.
The result for an image never depends on the others beside it. Sources: the l1 ball and its intersection with the box,
Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021, section 2; the
l2 ball and box by the same argument.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from atodds import noise
from atodds.errors import ThreatError
from atodds.threat import Norm

Radius = float | Tensor

DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""The norm that a gradient is measured in where distances are measured in another."""

_BLOCK = 2**18
"""Values that are worked on at once on a CPU, so that what one operation writes is still in the cache for the next."""
_ROUNDS = 200
"""More Newton steps than any image needs: one takes about 5, and hardly more than a number has bits."""


def distance(images: Tensor, others: Tensor, norm: Norm | str) -> Tensor:
    """(N,) distances between pairs of images. `norm` may also be "l0": the number of values that differ."""
    return length(images - others, norm)


def length(delta: Tensor, norm: Norm | str) -> Tensor:
    """(N,) lengths of perturbations (N, ...); zero-pixel perturbations have length 0.

    Raises:
        ThreatError: a norm other than "l0", "l1", "l2" and "linf".
    """
    flat = delta.flatten(1)
    match norm:
        case "l0":
            return (flat != 0).sum(1).to(flat.dtype)
        case "l1":
            return flat.abs().sum(1)
        case "l2":
            return _l2(flat)
        case "linf":
            return flat.abs().amax(1)
        case _:
            raise ThreatError("norm", norm, "not a length", "Choose one of l0, l1, l2, linf.")


def project(images: Tensor, origins: Tensor, eps: Radius, norm: Norm) -> Tensor:
    """The nearest points, in l2, that lie in the ball of radius `eps` around `origins` and in the box [0, 1]. Exact.

    Args:
        images: (N, ...), anywhere.
        origins: (N, ...), in the box.
        eps: radius, or (N,) radii.
        norm: of the ball.
    """
    points, start, radius, result = images.flatten(1), origins.flatten(1), _column(eps, images), _empty(images)
    for rows in blocks(points):
        _project(points[rows].clone(), start[rows], radius[rows], norm, result[rows])
    return result.view(images.shape)


def project_ball(delta: Tensor, eps: Radius, norm: Norm) -> Tensor:
    """The nearest perturbations, in l2, of length at most `eps` in `norm`: no box. Exact."""
    radius = _column(eps, delta)
    flat = delta.flatten(1)
    if norm == "linf":
        return torch.clamp(flat, -radius, radius).view(delta.shape)
    if norm == "l2":
        flat, size, divisor = _measurable(flat)
        return (flat * torch.minimum(radius / size, divisor)).view(delta.shape)
    threshold = _threshold(flat.abs(), None, radius)
    return (flat - torch.clamp(flat, -threshold, threshold)).view(delta.shape)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Perturbations of length 1 in `norm` along which a loss with this gradient rises most.

    The sign in l-inf, the normalised gradient in l2, one coordinate in l1. Where the gradient is zero, so is the step.
    """
    flat = gradient.flatten(1)
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        flat, size, _ = _measurable(flat)
        return (flat / size).view(gradient.shape)
    top = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top).sign()).view(gradient.shape)


def ascend(
    images: Tensor,
    gradient: Tensor,
    origins: Tensor,
    eps: Radius,
    norm: Norm,
    size: Radius,
    *,
    spread: float = 0.0,
    even: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """One step of length `size` along the steepest direction that stays in ball and box.

    In l-inf and l2 this is the step of projected gradient ascent. In l1 the steepest step fills the coordinates with
    the largest gradient, one after the other, up to the box; what then exceeds the ball is taken back where it is
    worth least (smallest gradient along the perturbation). On a linear loss the optimum is its fixed point.

    Args:
        images: (N, ...), in ball and box.
        gradient: (N, ...), of the loss to raise.
        origins: (N, ...), centres of the balls, in the box.
        eps: radius or radii of the balls.
        norm: of ball and step.
        size: length of the step, or (N,) lengths.
        spread: l1 only: the step is shared by at least this share of the coordinates (SLIDE, Tramèr & Boneh 2019,
            takes 0.01); 0 for the steepest.
        even: l1 only: what exceeds the ball is taken back from all values alike, to the nearest point of the ball.
        out: contiguous memory for the result, which may be that of the images: fresh memory costs more than the step.
    """
    points, slopes, start = images.flatten(1), gradient.flatten(1), origins.flatten(1)
    radius, step = _column(eps, images), _column(size, images)
    result = _empty(images) if out is None else out.view(len(out), -1)
    sharers = max(1, round(spread * points.shape[1]))
    for rows in blocks(points):
        x, slope, centre, out = points[rows], slopes[rows], start[rows], result[rows]
        if norm == "l1":
            _ascend_l1(x, slope, centre, radius[rows], step[rows], sharers, out, even=even)
        elif norm == "l2":
            slope, long, _ = _measurable(slope)
            _project(torch.addcmul(x, slope, step[rows] / long), centre, radius[rows], norm, out)
        else:
            _project(slope.sign().mul_(step[rows]).add_(x), centre, radius[rows], norm, out)
    return result.view(images.shape)


def random_point(origins: Tensor, eps: Radius, norm: Norm, ids: Tensor, *, seed: int, step: int = 0) -> Tensor:
    """Random images, uniform in the ball around `origins`, then projected onto the box.

    A uniform point of an l_p ball in d dimensions is a direction from the p-generalised normal distribution, times
    u^(1/d) (Barthe, Guédon, Mendelson, Naor 2005).

    Args:
        origins: (N, ...), in the box.
        eps: radius or radii.
        norm: of the ball.
        ids: (N,) int64 stable ids.
        seed: the run's seed.
        step: restart.
    """
    shape, dtype = origins.shape[1:], origins.dtype
    if norm == "linf":
        delta = noise.uniform(ids, shape, seed=seed, step=step, stream="ball", low=-1, high=1, dtype=dtype)
    else:
        delta = random_direction(ids, shape, norm, seed=seed, step=step, dtype=dtype)
        depth = noise.uniform(ids, (1,), seed=seed, step=step, stream="depth", dtype=dtype)
        delta *= _like(depth ** (1 / delta[0].numel()), delta)
    # Around a point of the box, the nearest point of the box to a point of the ball is in the ball too.
    return torch.addcmul(origins, delta, _like(_column(eps, origins), origins)).clamp_(0, 1)


def random_direction(
    ids: Tensor, shape: Sequence[int], norm: Norm, *, seed: int, step: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Random perturbations (N, *shape) of length 1: in l-inf a corner of the ball, every value ±1; in l2 and l1 the
    direction of a uniform point of the ball.

    Args:
        ids: (N,) int64 stable ids.
        shape: of one image.
        norm: of the ball.
        seed: the run's seed.
        step: which draw.
        dtype: of the result.
    """
    if norm == "linf":
        return noise.sign(ids, shape, seed=seed, step=step, stream="ball", dtype=dtype)
    if norm == "l2":
        delta = noise.normal(ids, shape, seed=seed, step=step, stream="ball", dtype=dtype)
    else:
        unit = noise.uniform(ids, shape, seed=seed, step=step, stream="ball", low=-1, high=1, dtype=dtype)
        delta = unit.sign() * -torch.log1p(-unit.abs().clamp_max(1 - 2.0**-24))
    return delta / _like(length(delta, norm).clamp_min(_tiny(delta)), delta)


def settle(images: Tensor, origins: Tensor, eps: Radius | None, norm: Norm) -> Tensor:
    """The same images, moved by rounding errors at most, so that box and ball hold exactly: measured in float64, no
    value of the result is outside [0, 1] and no perturbation is longer than `eps`.

    A sum such as 0.7 + 1/255 rounds to a float32 that may be further than 1/255 from 0.7, by up to 1e-5 of it. Values
    that are no number return to the origin.

    Args:
        images: (N, ...), within rounding of ball and box.
        origins: (N, ...), in the box.
        eps: radius, (N,) radii, or None for the box alone.
        norm: of the ball.
    """
    points, start, result = images.flatten(1).to(origins.dtype), origins.flatten(1), _empty(origins)
    radius = None if eps is None else _column(eps, points, torch.float64)
    for rows in blocks(points):
        x, centre = points[rows].clamp(0, 1), start[rows].double()
        wished = (x.double() - centre).nan_to_num_(0)
        delta = wished if radius is None else _shrunk(wished, radius[rows], norm)
        moved = (centre + delta).to(origins.dtype)
        if origins.dtype == torch.float64:  # in float32, centre + (x - centre) is x again
            moved = torch.where(delta == x - centre, x, moved)
        beyond = (moved.double() - centre).abs_().sub_(delta.abs()).sign_().clamp_min_(0)  # 1 where rounded outwards
        back = torch.nextafter(moved, start[rows]).sub_(moved)
        torch.addcmul(moved, back, beyond.to(origins.dtype), out=result[rows])
    return result.view(origins.shape)


def _shrunk(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Perturbations brought within the radius. Lengths are summed in no fixed order, so the scaled ones end some last
    digits below it, and those that are that close to it count as longer."""
    if norm == "linf":
        return torch.minimum(delta, radius).maximum(-radius)
    size = length(delta, norm)[:, None]
    slack = 1e-15 * delta.shape[1] ** 0.5
    if not (longer := size > radius * (1 - slack / 2)).any():
        return delta
    within = radius.masked_fill(radius < 1e-290, 0) * (1 - slack)  # where values have few digits, they may round up
    return delta * torch.where(longer, within / size.clamp_min(_tiny(size)), 1.0)


def _project(points: Tensor, origins: Tensor, radius: Tensor, norm: Norm, out: Tensor) -> None:
    """`project` for flat images and a column of radii, into `out`. The points are used up."""
    if norm == "linf":
        low, high = (origins - radius).clamp_min_(0), (origins + radius).clamp_max_(1)
        torch.clamp(points, low, high, out=out)
        return
    delta = points.sub_(origins)
    if norm == "l2":
        _scaled(delta, origins, radius, out)
        return
    sizes, side = delta.abs(), delta.sign_()
    room = torch.add(origins, side, alpha=2).clamp_(0, 1).sub_(origins).abs_()
    torch.minimum(sizes.sub_(_threshold(sizes, room, radius)).clamp_min_(0), room, out=sizes)
    torch.addcmul(origins, side, sizes, out=out).clamp_(0, 1)


def _scaled(delta: Tensor, origins: Tensor, radius: Tensor, out: Tensor) -> None:
    """The nearest points to origins + delta in box and l2 ball: cut to the box, origins + s·delta with the largest
    s <= 1 that stays in the ball.

    The squared length is convex in s² between the points where a value reaches the box, and flatter beyond each, so
    Newton steps from the s that ignores the box only climb, and end on the piece that holds the solution.
    """
    delta, size, most = _measurable(delta)
    scale = torch.minimum(radius / size, most)
    square, tolerance = radius.square(), 8 * torch.finfo(delta.dtype).eps
    last = torch.full_like(scale, torch.inf)
    for _ in range(_ROUNDS):
        line = torch.addcmul(origins, delta, scale)
        torch.clamp(line, 0, 1, out=out)
        short = square - _l2(out - origins)[:, None].square()
        going = (short > tolerance * square) & (scale < most) & (short < last)
        if not going.any():
            return
        slope = _l2(line.eq_(out).mul_(delta))[:, None].square()
        going &= slope > 0
        scale = torch.where(going, torch.minimum((scale.square() + short / slope).sqrt(), most), scale)
        last = torch.where(going, short, -torch.inf)


def _threshold(sizes: Tensor, room: Tensor | None, radius: Tensor) -> Tensor:
    """(N, 1) smallest t >= 0 with sum of min(max(sizes - t, 0), room) <= radius.

    The sum falls piecewise linearly with t. Newton steps jump along a piece; where one leaves the interval that is
    known to hold the solution, or gains less than half, the interval is halved instead.
    """
    low, high = torch.zeros_like(radius), sizes.amax(1, keepdim=True)
    threshold, last = low, torch.full_like(low, torch.inf)
    going = torch.ones_like(low, dtype=torch.bool)
    tolerance = 8 * torch.finfo(sizes.dtype).eps
    for _ in range(_ROUNDS):
        line = sizes - threshold
        kept = line.clamp_min(0) if room is None else torch.clamp(line, torch.zeros_like(low), room)
        excess = kept.sum(1, keepdim=True) - radius
        low, high = torch.where(excess > 0, threshold, low), torch.where(excess < 0, threshold, high)
        going &= (excess.abs() > tolerance * radius) & ~((excess <= 0) & (threshold == 0))
        if not going.any():
            break
        slope = line.eq_(kept).mul_(kept.sign_()).sum(1, keepdim=True)
        newton, middle = threshold + excess / slope, low + (high - low) / 2
        sure = (slope > 0) & (newton > low) & (newton < high) & (excess.abs() < last / 2)
        following = torch.where(sure, newton, middle)
        going &= following != threshold
        threshold, last = torch.where(going, following, threshold), excess.abs()
    return torch.where(radius > 0, threshold, sizes.amax(1, keepdim=True))


def _ascend_l1(
    points: Tensor,
    slopes: Tensor,
    origins: Tensor,
    radius: Tensor,
    step: Tensor,
    sharers: int,
    out: Tensor,
    *,
    even: bool,
) -> None:
    """`ascend` in l1 for flat images, into `out`; no value moves by more than its share of the step."""
    side = slopes.sign()
    room = torch.add(points, side, alpha=2).clamp_(0, 1).sub_(points).abs_()  # nothing where the slope is 0
    moved = _fill(slopes.abs(), torch.minimum(room, step / sharers), step)
    there = torch.addcmul(points, side, moved)
    if even:
        _project(there, origins, radius, "l1", out)
        return
    delta = there.sub_(origins)
    size, side = delta.abs(), delta.sign()
    excess = (size.sum(1, keepdim=True) - radius).clamp_min_(0)
    if excess.any():
        delta.addcmul_(side, _fill((slopes * side).neg_(), size, excess), value=-1)
    torch.add(origins, delta, out=out).clamp_(0, 1)


def _fill(keys: Tensor, capacity: Tensor, amount: Tensor) -> Tensor:
    """Share `amount` (N, 1) out over coordinates in falling order of `keys`, none above its capacity. Those whose keys
    are equal share what is left for them in proportion to their capacities.

    Halves the interval of keys that holds the last coordinate to be served until it is alone there.
    """
    low, high = keys.amin(1, keepdim=True), keys.amax(1, keepdim=True)
    low = torch.nextafter(low - (high - low) / 1024, torch.full_like(low, -math.inf))
    held = [capacity.sum(1, keepdim=True), torch.zeros_like(amount)]  # by keys above low, above high
    count = [torch.full_like(amount, keys.shape[1]), torch.zeros_like(amount)]
    above = torch.empty_like(keys)
    for _ in range(2 - round(math.log2(torch.finfo(keys.dtype).eps)) * 2):
        if not (count[0] - count[1] > 1).any():
            break
        middle = low + (high - low) / 2
        number = torch.gt(keys, middle, out=above).sum(1, keepdim=True)
        amounts = above.mul_(capacity).sum(1, keepdim=True)
        enough = amounts >= amount
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        held = [torch.where(enough, amounts, held[0]), torch.where(enough, held[1], amounts)]
        count = [torch.where(enough, number, count[0]), torch.where(enough, count[1], number)]
    served = torch.gt(keys, high, out=above)
    last = torch.gt(keys, low, out=torch.empty_like(keys)).sub_(served)
    share = ((amount - held[1]) / (held[0] - held[1]).clamp_min(_tiny(keys))).clamp_(0, 1)
    return served.addcmul_(last, share).mul_(capacity)


def _measurable(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same directions, their l2 lengths, and what they were divided by, as columns: 1, but where a square would
    leave the range of the number format. The length of nothing is given as 1."""
    size, divisor = _l2(flat)[:, None], torch.ones_like(flat[:, :1])
    least = _tiny(flat) ** (1 / 3)
    odd = ~((size > least) & (size < 1 / least))
    if odd.any():
        divisor = torch.where(odd, flat.abs().amax(1, keepdim=True).clamp_min_(_tiny(flat)), divisor)
        flat = flat / divisor
        size = _l2(flat)[:, None]
        size = size + (size == 0)
    return flat, size, divisor


def blocks(flat: Tensor) -> Iterator[slice]:
    """Rows to work on at once: all of them on an accelerator."""
    rows = max(1, _BLOCK // max(1, flat.shape[1])) if flat.device.type == "cpu" else len(flat)
    for start in range(0, len(flat), rows):
        yield slice(start, start + rows)


def _empty(images: Tensor) -> Tensor:
    """Room for a flat result."""
    return torch.empty((len(images), images[0].numel()), dtype=images.dtype, device=images.device)


def _column(value: Radius, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A radius as an (N, 1) tensor, of the images' type unless another is named."""
    column = torch.as_tensor(value, dtype=dtype or images.dtype, device=images.device)
    return column.reshape(-1, 1).expand(len(images), 1)


def _like(column: Tensor, images: Tensor) -> Tensor:
    """An (N, 1) tensor that broadcasts against images of any rank."""
    return column.reshape(-1, *[1] * (images.ndim - 1))


def _l2(flat: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return lengths


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny
