"""FAB: the closest fooling image, by steps onto the linearised decision boundary that are drawn towards the image.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, algorithm 1;
targeted as in AutoAttack (Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atodds import noise, norms
from atodds.attacks import losses
from atodds.attacks.hyperplanes import toward
from atodds.attacks.leaving import without
from atodds.attacks.pool import Balls, Pool, opened, positive
from atodds.errors import ArgumentError
from atodds.oracle import Objective, Oracle
from atodds.threat import Norm, Threat

_FAR: dict[Norm, float] = {"linf": 0.3, "l2": 1.0, "l1": 5.0}
"""Without a threat, restarts from an image that nothing has fooled yet begin in half of this ball, as in AutoAttack."""
_LEAST = 1e-8
"""Steps are taken to be this long at least where their lengths are compared."""
_BLOCK, _BLOCK_ELSEWHERE = 2**18, 2**26
"""Values that a step works on at once on a CPU, where they stay in the cache, and elsewhere."""
_PAIRS = 2**25
"""Values of the images that go to the model at once when all classes are looked at: 128 MB in float32."""


def fab(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls | str,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    classes: int = 9,
    enough: float = 0.0,
) -> Tensor:
    """FAB towards the class whose boundary is nearest at each step, or towards targets. An image leaves as soon as a
    fooling image within eps is found.

    Passes an image, restart and step, at most: a gradient for each wrong class that is looked at, or one for a target,
    and a forward pass; without targets, another forward pass at the beginning.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each; or a norm alone, to find the closest fooling
            image at any distance.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: decides the random starts, with each image's id.
        steps: linearisations an image and restart, at most.
        restarts: the first begins at the image, later ones at random in half of the ball.
        alpha_max: largest weight of the step from the image itself.
        eta: how far a step goes beyond the plane.
        beta: how much of the way is left after the return from a point that fools.
        classes: how many wrong classes are looked at, the most likely ones at the image: of 10 classes, all.
        enough: where there is no eps, an image leaves once a fooling image as near as this is found.

    Returns:
        (N, C, H, W) images in the box. With a threat they are in its ball too: one that fools where one was found, else
        the closest that fools, cut to the ball. Without one, the closest that fools. The image itself where none did.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    _check(steps, restarts, classes, alpha_max, eta, beta)
    if not 0 <= enough < math.inf:
        raise ArgumentError("enough", enough, "not a distance", "Give 0 or more.")
    with opened(model, images, labels, threat, targets, ids) as pool:
        rule, found = _Rule(pool.norm, steps, alpha_max, eta, beta), _Found.of(pool, enough)
        if targets is None:
            planes = _nearest(pool, _wrong_classes(pool, found)[:, :classes], rule.norm)
        else:
            planes = _single(pool, _towards(pool))
        for restart in range(restarts):
            _run(pool, planes, found, rule, seed=seed, draw=restart, random=restart > 0)
        return pool.settled(images)


def fab_targeted(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls | str,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    classes: int = 9,
) -> Tensor:
    """FAB towards each of the most likely wrong classes in turn; any wrong prediction counts.

    Passes an image, class, restart and step, at most: a gradient and a forward pass; another forward pass at the
    beginning.

    Args:
        model, images, labels, threat, ids, seed, alpha_max, eta, beta: as in `fab`.
        targets: (N,) the only class to try for each image, which it must reach; or None.
        steps, restarts: as in `fab`, for each class.
        classes: how many classes are tried: the 2nd to the 10th most likely at the image, fewer where there are fewer.

    Returns, raises: as for `fab`.
    """
    _check(steps, restarts, classes, alpha_max, eta, beta)
    with opened(model, images, labels, threat, targets, ids) as pool:
        rule, found = _Rule(pool.norm, steps, alpha_max, eta, beta), _Found.of(pool)
        if targets is None:
            ranked = _wrong_classes(pool, found)
            leads = [losses.lead(rank, pool.labels) for rank in ranked[:, :classes].unbind(1)]
        else:
            leads = [_towards(pool)]
        for rank, lead in enumerate(leads):
            for restart in range(restarts):
                draw = rank * restarts + restart
                _run(pool, _single(pool, lead), found, rule, seed=seed, draw=draw, random=restart > 0)
        return pool.settled(images)


def _check(steps: int, restarts: int, classes: int, alpha_max: float, eta: float, beta: float) -> None:
    positive(steps=steps, restarts=restarts, classes=classes)
    for name, share in (("alpha_max", alpha_max), ("beta", beta)):
        if not 0 <= share <= 1:
            raise ArgumentError(name, share, "not a share", "Give a number from 0 to 1.")
    if not 0 < eta < math.inf:
        raise ArgumentError("eta", eta, "no step towards the plane", "Give a positive number, such as 1.05.")


@dataclass(frozen=True)
class _Rule:
    """How a step is made: the norm, and settings of `fab`."""

    norm: Norm
    steps: int
    alpha_max: float
    eta: float
    beta: float

    def advance(self, state: "_State") -> None:
        """Onto the plane, from the point and from the image, and somewhat beyond it; then the mean of the two, in which
        the image weighs the more the further away the plane is from the point."""
        rows = max(1, (_BLOCK if state.points.device.type == "cpu" else _BLOCK_ELSEWHERE) // state.points.shape[1])
        for part in _cut(len(state.points), rows):
            x, image, normal, gap = state.points[part], state.origins[part], state.normals[part], state.gaps[part]
            near = toward(x, normal, -gap, self.norm)
            far = toward(image, normal, -gap - torch.linalg.vecdot(normal, image - x), self.norm)
            size, other = (norms.length(step, self.norm).clamp_min_(_LEAST)[:, None] for step in (near, far))
            weight = (size / (size + other)).clamp_max_(self.alpha_max)
            torch.lerp(near.mul_(self.eta).add_(x), far.mul_(self.eta).add_(image), weight, out=x).clamp_(0, 1)


@dataclass
class _Found:
    """What is known of all images of the pool.

    Attributes:
        norm: of distances.
        best: (N,) distances of the closest fooling images so far; infinite where there is none.
        eps: (N,) radii of the balls; infinite where any distance will do.
        goal: (N,) distances that are near enough: eps, or what was asked for where that is infinite.
    """

    norm: Norm
    best: Tensor
    eps: Tensor
    goal: Tensor

    @classmethod
    def of(cls, pool: Pool, enough: float = 0.0) -> "_Found":
        """Nothing yet."""
        eps = pool.eps.to(pool.images.dtype)
        return cls(pool.norm, torch.full_like(eps, torch.inf), eps, eps.nan_to_num(posinf=enough))

    def unfinished(self) -> Tensor:
        """The rows of the pool for which it makes sense to go on."""
        return ((self.best > self.goal) & (self.eps > 0)).nonzero()[:, 0]

    def reach(self, rows: Tensor) -> Tensor:
        """(n,) radii of the balls in which restarts begin."""
        eps, best = self.eps[rows], self.best[rows]
        known = torch.where(best.isfinite(), best, _FAR[self.norm])
        return torch.where(eps.isfinite(), eps, known)

    def finished(self, rows: Tensor) -> Tensor:
        """(n,) whether the images at these rows are near enough."""
        return self.best[rows] <= self.goal[rows]

    def noted(self, pool: Pool, state: "_State", logits: Tensor) -> Tensor:
        """(n,) whether the points fool; those that do are kept where they are closer than what was known. Only these
        must be sure, by passes in the model's own precision; of the others it is enough that they seem to fool."""
        hit = pool.seems_fooled(logits, state.rows)
        at = hit.nonzero()[:, 0]
        if len(at):
            points = state.points.index_select(0, at)
            distance = norms.distance(points, state.origins.index_select(0, at), self.norm)
            closer = distance < self.best[state.rows[at]]
            if (pool.oracle.reduced or pool.oracle.folded) and closer.any():
                chosen = at[closer]
                hit[chosen] = pool.fooled(logits[chosen], state.rows[chosen], points[closer])
                closer &= hit[at]
            rows = state.rows[at][closer]
            self.best[rows] = distance[closer]
            pool.keep(rows, points[closer].view(-1, *pool.images.shape[1:]), fooled=True)
        return hit


@dataclass
class _State:
    """The images that are still searched for, one row each: views of memory that is written in place.

    Attributes:
        rows: (n,) where they are in the pool.
        origins: (n, D) the images.
        points: (n, D).
        gaps: (n,) how far class and label are apart at the point, negative on the label's side.
        normals: (n, D) gradients of the gaps.
    """

    rows: Tensor
    origins: Tensor
    points: Tensor
    gaps: Tensor
    normals: Tensor

    def drop(self, gone: Tensor) -> None:
        """Forget the images where `gone`."""
        if gone.any():
            self.rows, self.origins, self.points, self.gaps, self.normals = without(
                gone, self.rows, self.origins, self.points, self.gaps, self.normals
            )

    def back(self, hit: Tensor, beta: float) -> None:
        """Return the points where `hit` towards their images."""
        share = torch.ones_like(self.gaps).masked_fill_(hit, beta)[:, None]
        torch.lerp(self.origins, self.points, share, out=self.points)


Planes = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""The linearised boundary: (points (n, C, H, W), rows of the pool) -> gaps (n,), normals (n, D), logits (n, K)."""


def _run(pool: Pool, planes: Planes, found: _Found, rule: _Rule, *, seed: int, draw: int, random: bool) -> None:
    """Algorithm 1 for the images that are unfinished, from the images themselves or from random points.

    The pass that gives a plane would tell for nothing whether its point fools. But most points do, and then the image
    moves back and needs its plane there: to look first, by a forward pass, is cheaper than to throw gradients away.
    """
    rows, shape = found.unfinished(), pool.images.shape[1:]
    if len(rows) == 0:
        return
    origins = pool.images.index_select(0, rows).flatten(1)
    start = _random_start(origins, found.reach(rows), pool.ids[rows], rule.norm, seed, draw) if random else origins
    state = _State(rows, origins, start.clone(), torch.empty_like(origins[:, 0]), torch.empty_like(origins))
    for _ in range(rule.steps):
        state.gaps, state.normals, logits = planes(state.points.view(-1, *shape), state.rows)
        found.noted(pool, state, logits)  # an image that was moved back, and fools all the same
        state.drop(found.finished(state.rows))
        if len(state.rows) == 0:
            return
        rule.advance(state)
        logits = pool.oracle.logits(state.points.view(-1, *shape), pool.ids[state.rows])
        state.back(found.noted(pool, state, logits), rule.beta)
        state.drop(found.finished(state.rows))
        if len(state.rows) == 0:
            return


def _wrong_classes(pool: Pool, found: _Found) -> Tensor:
    """(N, K - 1) all classes but the label, the most likely at the image first. Images that fool already are found."""
    ranked = pool.wrong_classes()
    found.best[pool.found] = 0
    return ranked


def _towards(pool: Pool) -> Objective:
    """By how much the logit of the target exceeds all others."""
    return losses.objective("margin", pool.labels, pool.targets)


def _single(pool: Pool, objective: Objective) -> Planes:
    """The boundary where an objective is 0."""

    def planes(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = pool.oracle.gradients(points, lambda logits, at: objective(logits, rows[at]), pool.ids[rows])
        return seen.objective.to(points.dtype), seen.gradient.flatten(1), seen.logits

    return planes


def _nearest(pool: Pool, classes: Tensor, norm: Norm) -> Planes:
    """The boundary to the nearest of some classes (N, k), by the distances of the linearised ones.

    Points go through the model once for each class, in full batches: any module can be asked so.
    """
    values, size = pool.images[0].numel(), classes.shape[1]
    width = max(1, min(size, _PAIRS // values))

    def planes(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gaps, normals = points.new_empty(len(rows)), points.new_empty(len(rows), values)
        nearest, logits = points.new_full((len(rows),), torch.inf), []
        for part in _cut(len(rows), max(1, _PAIRS // (values * width))):
            for columns in _cut(size, width):
                chosen = classes[rows[part], columns]
                count, copies = chosen.shape
                pairs = rows[part].repeat_interleave(copies)
                lead = losses.lead(chosen.flatten(), pool.labels[pairs])
                seen = pool.oracle.gradients(points[part].repeat_interleave(copies, 0), lead, pool.ids[pairs])
                gap, slope = seen.objective.to(points.dtype), seen.gradient.flatten(1)
                away = (gap.abs() / norms.length(slope, norms.DUAL[norm])).nan_to_num_(torch.inf, torch.inf)
                best, column = away.view(count, copies).min(1)
                closer = (best < nearest[part]) | (columns.start == 0)
                pick = (torch.arange(count, device=column.device) * copies + column)[closer]
                at = closer.nonzero()[:, 0] + part.start
                gaps[at], normals[at], nearest[at] = gap[pick], slope[pick], best[closer]
                if columns.start == 0:
                    logits.append(seen.logits[::copies])
        return gaps, normals, torch.cat(logits)

    return planes


def _random_start(origins: Tensor, radii: Tensor, ids: Tensor, norm: Norm, seed: int, draw: int) -> Tensor:
    """Random points at half of the radii, or nearer where the box cuts them."""
    shape, dtype = origins.shape[1:], origins.dtype
    if norm == "linf":
        delta = noise.uniform(ids, shape, seed=seed, step=draw, stream="fab", low=-1, high=1, dtype=dtype)
    else:
        delta = noise.normal(ids, shape, seed=seed, step=draw, stream="fab", dtype=dtype)
    size = norms.length(delta, norm).clamp_min(torch.finfo(dtype).tiny)
    return torch.addcmul(origins, delta, (radii / size / 2)[:, None]).clamp_(0, 1)


def _cut(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of 0..count-1, none longer than `size`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
