"""Distances, exact projections and steepest steps in l1, l2 and l-inf, for many images at once.

Images are (N, ...) with pixels in [0, 1]; a radius is a number or an (N,) tensor, one an image. Projections are
Euclidean and exact, found by sorting break points; none iterates. Sources: the l1 ball and its intersection with the
box, Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021, section 2;
the l2 ball and box by the same argument.
"""

import torch
from torch import Tensor

from atodds import noise
from atodds.threat import Norm

Radius = float | Tensor


def distance(images: Tensor, others: Tensor, norm: Norm | str) -> Tensor:
    """(N,) distances between pairs of images. `norm` may also be "l0": the number of values that differ."""
    return length(images - others, norm)


def length(delta: Tensor, norm: Norm | str) -> Tensor:
    """(N,) lengths of perturbations (N, ...); zero-pixel perturbations have length 0."""
    flat = delta.flatten(1)
    match norm:
        case "l0":
            return (flat != 0).sum(1).to(flat.dtype)
        case "l1":
            return flat.abs().sum(1)
        case "l2":
            return _l2(flat)
        case _:
            return flat.abs().amax(1)


def project(images: Tensor, origins: Tensor, eps: Radius, norm: Norm) -> Tensor:
    """The nearest points, in l2, that lie in the ball of radius `eps` around `origins` and in the box [0, 1]. Exact.

    Args:
        images: (N, ...), anywhere.
        origins: (N, ...), in the box.
        eps: radius, or (N,) radii.
        norm: of the ball.
    """
    radius = _column(eps, images)
    if norm == "linf":
        wide = _like(radius, images)
        return torch.minimum(torch.maximum(images, origins - wide), origins + wide).clamp(0, 1)
    delta, start = (images - origins).flatten(1), origins.flatten(1)
    room = torch.where(delta < 0, start, 1 - start)
    size = _l2_sizes(delta.abs(), room, radius) if norm == "l2" else _l1_sizes(delta.abs(), room, radius)
    return (start + delta.sign() * size).clamp(0, 1).view_as(images)


def project_ball(delta: Tensor, eps: Radius, norm: Norm) -> Tensor:
    """The nearest perturbations, in l2, of length at most `eps` in `norm`: no box. Exact."""
    radius = _column(eps, delta)
    flat = delta.flatten(1)
    if norm == "linf":
        return torch.minimum(torch.maximum(flat, -radius), radius).view_as(delta)
    if norm == "l2":
        size = _l2(flat)[:, None]
        return (flat * (radius / size.clamp_min(_tiny(flat))).clamp_max(1)).view_as(delta)
    endless = torch.full_like(flat, torch.inf)
    return (flat.sign() * _l1_sizes(flat.abs(), endless, radius)).view_as(delta)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Perturbations of length 1 in `norm` along which a loss with this gradient rises most.

    The sign in l-inf, the normalised gradient in l2, one coordinate in l1. Where the gradient is zero, so is the step.
    """
    flat = gradient.flatten(1)
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        scaled = flat / flat.abs().amax(1, keepdim=True).clamp_min(_tiny(flat))
        size = _l2(scaled)[:, None]
        return (scaled / size.clamp_min(_tiny(flat))).view_as(gradient)
    top = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top).sign()).view_as(gradient)


def ascend(
    images: Tensor, gradient: Tensor, origins: Tensor, eps: Radius, norm: Norm, size: Radius, *, spread: float = 0.0
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
    """
    if norm != "l1":
        step = steepest(gradient, norm).mul_(_like(_column(size, images), images))
        return project(images + step, origins, eps, norm)
    flat, start, slope = images.flatten(1), origins.flatten(1), gradient.flatten(1)
    budget, radius = _column(size, images), _column(eps, images)
    room = torch.where(slope > 0, 1 - flat, flat).clamp_min(0)
    share = budget / max(1.0, round(spread * flat.shape[1]))
    gain = torch.where(slope == 0, -1, slope.abs())
    moved = _fill(gain, torch.minimum(room, share) * (slope != 0), budget)
    delta = flat + slope.sign() * moved - start
    excess = delta.abs().sum(1, keepdim=True) - radius
    delta = delta - delta.sign() * _fill(-slope * delta.sign(), delta.abs(), excess.clamp_min(0))
    return (start + delta).clamp(0, 1).view_as(images)


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
    shape = origins.shape[1:]
    stream = "ball"
    if norm == "linf":
        delta = noise.uniform(ids, shape, seed=seed, step=step, stream=stream, low=-1, high=1, dtype=origins.dtype)
    else:
        if norm == "l2":
            delta = noise.normal(ids, shape, seed=seed, step=step, stream=stream, dtype=origins.dtype)
        else:
            unit = noise.uniform(ids, shape, seed=seed, step=step, stream=stream, low=-1, high=1, dtype=origins.dtype)
            delta = unit.sign() * -torch.log1p(-unit.abs().clamp_max(1 - 2.0**-24))
        depth = noise.uniform(ids, (1,), seed=seed, step=step, stream="depth", dtype=origins.dtype)
        scale = depth ** (1 / delta[0].numel()) / length(delta, norm)[:, None].clamp_min(_tiny(delta))
        delta = delta * _like(scale, delta)
    return project(origins + delta * _like(_column(eps, origins), origins), origins, eps, norm)


def settle(images: Tensor, origins: Tensor, eps: Radius | None, norm: Norm) -> Tensor:
    """The same images, moved by rounding errors at most, so that box and ball hold exactly: measured in float64, no
    value of the result is outside [0, 1] and no perturbation is longer than `eps`.

    A sum such as 0.7 + 1/255 rounds to a float32 that may be further than 1/255 from 0.7, by up to 1e-5 of it.

    Args:
        images: (N, ...), within rounding of ball and box.
        origins: (N, ...), in the box.
        eps: radius, (N,) radii, or None for the box alone.
        norm: of the ball.
    """
    start = origins.double()
    delta = images.to(origins.dtype).double().clamp(0, 1) - start
    if eps is not None:
        delta = project_ball(delta, eps, norm) if norm == "linf" else _shrink(delta, _column(eps, delta), norm)
    moved = (start + delta).to(origins.dtype)
    return torch.where((moved.double() - start).abs() > delta.abs(), torch.nextafter(moved, origins), moved)


def _shrink(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Perturbations scaled down to the radius where they are longer, and a last float64 digit below it."""
    size = length(delta, norm)[:, None].clamp_min(_tiny(delta))
    scale = torch.where(size > radius, radius / size * (1 - 1e-15 * delta[0].numel() ** 0.5), 1.0)
    return delta * _like(scale, delta)


def _l2_sizes(wanted: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """min(s·wanted, room) with the largest s <= 1 whose l2 norm is within the radius.

    The squared norm grows with s; coordinate i leaves the line at s = room/wanted. Sorted, the pieces are cumulative
    sums.
    """
    free = torch.minimum(wanted, room)
    ratio = torch.where(wanted > 0, room / wanted.clamp_min(_tiny(wanted)), torch.inf)
    ratio, order = ratio.sort(1)
    filled = room.gather(1, order).square().where(ratio < torch.inf, 0).cumsum(1)
    open_ = wanted.gather(1, order).square().flip(1).cumsum(1).flip(1)
    nothing = filled.new_zeros(len(filled), 1)
    filled, open_ = torch.cat([nothing, filled], 1), torch.cat([open_, nothing], 1)
    at_break = filled[:, 1:] + ratio.square().where(ratio < torch.inf, 0) * open_[:, 1:]
    piece = ((at_break < radius.square()) & (ratio < torch.inf)).sum(1, keepdim=True)
    left = (radius.square() - filled.gather(1, piece)).clamp_min(0)
    scale = (left / open_.gather(1, piece).clamp_min(_tiny(left))).sqrt().clamp_max(1)
    sizes = torch.minimum(scale * wanted, room)
    return torch.where(free.square().sum(1, keepdim=True) <= radius.square(), free, sizes)


def _l1_sizes(wanted: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """min(max(wanted - t, 0), room) with the smallest t >= 0 whose sum is within the radius.

    The sum falls with t, piecewise linearly: coordinate i starts to shrink at wanted - room and is gone at wanted.
    """
    free = torch.minimum(wanted, room)
    total = free.sum(1, keepdim=True)
    starts = (wanted - room).clamp_min(0)
    breaks, order = torch.cat([starts, wanted], 1).sort(1)
    change = torch.cat([torch.ones_like(wanted), -torch.ones_like(wanted)], 1).gather(1, order)
    active = change.cumsum(1)
    drop = torch.cat([breaks[:, :1] * 0, active[:, :-1] * breaks.diff(dim=1)], 1).cumsum(1)
    excess = (total - radius).clamp_min(0)
    piece = ((drop < excess).sum(1, keepdim=True) - 1).clamp_min(0)
    slope = active.gather(1, piece).clamp_min(1)
    threshold = breaks.gather(1, piece) + (excess - drop.gather(1, piece)) / slope
    sizes = torch.minimum((wanted - threshold).clamp_min(0), room)
    return torch.where(excess > 0, sizes, free)


def _fill(keys: Tensor, capacity: Tensor, amount: Tensor) -> Tensor:
    """Share `amount` (N, 1) out over coordinates in falling order of `keys`, none above its capacity."""
    order = keys.sort(dim=1, descending=True, stable=True).indices
    held = capacity.gather(1, order)
    before = held.cumsum(1) - held
    given = torch.minimum((amount - before).clamp_min(0), held)
    return torch.zeros_like(capacity).scatter_(1, order, given)


def _column(value: Radius, images: Tensor) -> Tensor:
    """A radius as an (N, 1) tensor."""
    return torch.as_tensor(value, dtype=images.dtype, device=images.device).reshape(-1, 1).expand(len(images), 1)


def _like(column: Tensor, images: Tensor) -> Tensor:
    """An (N, 1) tensor that broadcasts against images of any rank."""
    return column.reshape(-1, *[1] * (images.ndim - 1))


def _l2(flat: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return lengths


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny
