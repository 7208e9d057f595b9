"""Auto-PGD: projected gradient ascent with momentum, that shortens its steps and returns to its best point by itself.

Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML
2020, algorithm 1; in l1, Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
ICML 2021. Projections on ball and box at once are exact in every norm.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atodds import noise, norms
from atodds.attacks import losses
from atodds.attacks.leaving import without
from atodds.attacks.pool import Balls, Pool, opened, positive
from atodds.oracle import Objective, Oracle
from atodds.threat import SLACK, Norm, Threat

_RISES = 0.75
"""The step is halved unless the loss rose in more than this share of the steps since the last checkpoint."""
_AHEAD = 0.75
"""Weight of the new step; the rest goes on in the direction of the last one."""
_WIDER, _SHARE = (3, 2), 0.3
"""In l1: multiples of eps that are searched in turn before eps itself, and the share of the steps that each takes."""
_FEWER = 1.5
"""In l1 a step moves so many times fewer values than the best point has moved, and is so many times shorter."""

_EDGE = 1e-6
"""Values that are no further from the edge of the box are at it."""


def auto_pgd(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    steps: int = 100,
    restarts: int = 1,
    loss: losses.LossName = "cross-entropy",
) -> Tensor:
    """Auto-PGD from a random point of the sphere. At most `steps` gradients and one more forward pass an image and
    restart; in l1 three forward passes, one for each radius. An image leaves as soon as it is fooled, unless the oracle
    averages over a random model: then the point of highest loss is what it proposes.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: decides the random starts, with each image's id.
        steps: gradients an image and restart, at most.
        restarts: random starts; later ones only for images that none before has fooled.
        loss: "cross-entropy", "dlr", "margin" or "logit".

    Returns:
        (N, C, H, W) images in ball and box: one that fools where one was found, else the point of highest loss; of
        several starts, the one that comes closest to fooling.

    Raises:
        ArgumentError: bad images, labels, targets or settings; DLR with fewer than 3 classes, or 4 with targets.
    """
    positive(steps=steps, restarts=restarts)
    with opened(model, images, labels, threat, targets, ids) as pool:
        objective, reached = losses.objective(loss, pool.labels, pool.targets), nowhere(pool)
        for restart in range(restarts):
            if pool.found.all():
                break
            climb(pool, pool.left(), objective, reached, steps, seed=seed, draw=restart)
        return pool.settled(images)


def auto_pgd_targeted(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    steps: int = 100,
    classes: int = 9,
    loss: losses.LossName | None = None,
) -> Tensor:
    """Auto-PGD towards each of the most likely wrong classes in turn; any wrong prediction counts.

    One more forward pass an image at the beginning, and then the passes of `auto_pgd` for each class.

    Args:
        model, images, labels, threat, ids, seed: as in `auto_pgd`.
        targets: (N,) the only class to try for each image, which it must reach; or None.
        steps: gradients an image and class, at most.
        classes: how many classes are tried: the 2nd to the 10th most likely at the image, fewer where there are fewer.
        loss: "dlr", "margin", "cross-entropy" or "logit"; None is DLR, and the margin where there are fewer than the 4
            classes that it needs.

    Returns, raises: as for `auto_pgd`.
    """
    positive(steps=steps, classes=classes)
    with opened(model, images, labels, threat, targets, ids) as pool:
        wrong = pool.wrong_classes()
        fitting = ("dlr" if wrong.shape[1] > 2 else "margin") if loss is None else loss
        ranks, reached = wrong[:, :classes] if pool.targets is None else pool.targets[:, None], nowhere(pool)
        for rank, aim in enumerate(ranks.unbind(1)):
            towards = losses.objective(fitting, pool.labels, aim)
            climb(pool, pool.left(), towards, reached, steps, seed=seed, draw=rank)
        return pool.settled(images)


def checkpoints(steps: int) -> frozenset[int]:
    """Numbers of steps after which the step may be shortened: p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} -
    0.03, 0.06), as shares of the steps."""
    gap, less, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = set(), gap
    while at <= steps:
        found.add(at)
        gap = max(gap - less, least)
        at += gap
    return frozenset(found)


@dataclass
class _State:
    """The images that are not fooled yet, one row each: views of memory that is written in place.

    Attributes:
        rows: (n,) where they are in the pool.
        origins, radii: (n, D), (n, 1) the balls that are searched.
        points, before: (n, D) where the search is, and where it was a step ago.
        gradient, loss: (n, D), (n,) at `points`.
        best, best_gradient, best_loss: the same at the point of highest loss so far.
        height, best_height: (n,) how close `points` and `best` come to fooling: the margin, whatever the loss is.
        step: (n, 1) length of a step.
        rises: (n,) steps since the last checkpoint in which the loss rose.
        shortened, best_then: (n,) whether the step was shortened at the last checkpoint, and the highest loss then.
        moved: (n,) in l1, how many values the best point had moved at the last checkpoint; a step moves fewer.
    """

    rows: Tensor
    origins: Tensor
    radii: Tensor
    points: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    height: Tensor
    best_height: Tensor
    step: Tensor
    rises: Tensor
    shortened: Tensor
    best_then: Tensor
    moved: Tensor

    def drop(self, gone: Tensor) -> None:
        """Forget the images where `gone`."""
        names = tuple(vars(self))
        left = without(gone, *(getattr(self, name) for name in names))
        for name, tensor in zip(names, left, strict=True):
            setattr(self, name, tensor)

    def keep_best(self) -> None:
        """Remember the points whose loss is the highest yet."""
        at = (self.loss > self.best_loss).nonzero()[:, 0]
        self.best.index_copy_(0, at, self.points.index_select(0, at))
        self.best_gradient.index_copy_(0, at, self.gradient.index_select(0, at))
        self.best_loss.index_copy_(0, at, self.loss.index_select(0, at))
        self.best_height.index_copy_(0, at, self.height.index_select(0, at))

    def back(self, where: Tensor) -> None:
        """Return to the best points."""
        at = where.nonzero()[:, 0]
        self.points.index_copy_(0, at, self.best.index_select(0, at))
        self.gradient.index_copy_(0, at, self.best_gradient.index_select(0, at))


def nowhere(pool: Pool) -> Tensor:
    """(N,) how close each image's proposal comes to fooling, before there is one."""
    return torch.full_like(pool.eps, -torch.inf)


def climb(
    pool: Pool, rows: Tensor, objective: Objective, reached: Tensor, steps: int, *, seed: int, draw: int | None
) -> None:
    """One run for some images. What fools is kept as found; of the others, the best point, where it is better than what
    was reached before.

    Args:
        pool: of all images.
        rows: (n,) of the images to run for; written.
        objective: what to raise.
        reached: (N,) float64, the margins of the proposals so far; written.
        steps: gradients an image, at most.
        seed: decides the random starts, with the ids.
        draw: which random start; None begins at the proposals.
    """
    if len(rows) == 0:
        return
    origins = pool.images[rows].flatten(1)
    start = pool.proposals[rows].flatten(1) if draw is None else _random_points(pool, rows, origins, seed, draw)
    search = _in_three_balls if pool.norm == "l1" else _in_one_ball
    search(pool, rows, objective, reached, origins, start, steps)


def _random_points(pool: Pool, rows: Tensor, origins: Tensor, seed: int, draw: int) -> Tensor:
    """Random starts (n, D): on the sphere, cut to the box; in l1 beyond both, for the projection to bring back."""
    sample, ids = noise.uniform if pool.norm == "linf" else noise.normal, pool.ids[rows]
    delta = sample(ids, origins.shape[1:], seed=seed, step=draw, stream="auto_pgd", dtype=origins.dtype)
    if pool.norm == "l1":
        return delta.add_(origins)
    if pool.norm == "linf":
        delta.mul_(2).sub_(1)
    size = norms.length(delta, pool.norm).clamp_min_(torch.finfo(delta.dtype).tiny)
    return torch.addcmul(origins, delta, (pool.radii(rows) / size)[:, None]).clamp_(0, 1)


def _in_one_ball(
    pool: Pool, rows: Tensor, objective: Objective, reached: Tensor, origins: Tensor, points: Tensor, steps: int
) -> None:
    """The search in linf and l2."""
    radii = pool.radii(rows)[:, None]
    state = _begin(pool, rows, origins, points, radii, 2 * radii, objective)
    marks, since = checkpoints(steps), 0
    for done in range(1, steps + 1):
        if len(state.rows) == 0:
            return
        _advance(state, pool.norm, 1.0 if done == 1 else _AHEAD)
        _look(pool, state, objective, last=done == steps)
        since += 1
        if done in marks and done < steps:
            stuck = (state.rises <= _RISES * since) | (~state.shortened & (state.best_then >= state.best_loss))
            state.back(stuck)
            state.step[stuck] /= 2
            state.shortened, state.best_then, since = stuck, state.best_loss.clone(), 0
            state.rises.zero_()
    _keep(pool, reached, state)


def _in_three_balls(
    pool: Pool, rows: Tensor, objective: Objective, reached: Tensor, origins: Tensor, points: Tensor, steps: int
) -> None:
    """The search in l1: in balls of three, two and one times the radius, each from the best point of the one before."""
    short = int(_SHARE * steps)
    stages = [(times, short) for times in _WIDER if short] + [(1, steps - short * len(_WIDER))]
    for times, count in stages:
        radii = pool.radii(rows, times)[:, None]
        start = norms.project(points, origins, radii[:, 0], "l1")
        state = _begin(pool, rows, origins, start, radii, radii.clone(), objective)
        state.moved = norms.distance(state.points, state.origins, "l0")
        every = max(int(0.04 * count), 1)
        for done in range(1, count + 1):
            if len(state.rows) == 0:
                return
            _advance_sparsely(state)
            _look(pool, state, objective, last=done == count)
            if done % every == 0 and done < count:
                moved = norms.distance(state.best, state.origins, "l0")
                sparser = (moved < 0.95 * state.moved)[:, None]
                shorter = torch.clamp(state.step / _FEWER, state.radii / 10, state.radii)
                state.step, state.moved = torch.where(sparser, state.radii, shorter), moved
                state.back(sparser[:, 0])
        rows, origins, points = state.rows, state.origins, state.best
        if len(rows) == 0:
            return
    _keep(pool, reached, state)


def _begin(
    pool: Pool, rows: Tensor, origins: Tensor, start: Tensor, radii: Tensor, step: Tensor, objective: Objective
) -> _State:
    """The state at the starting points, without the images that are fooled there."""
    seen = pool.oracle.gradients(_shaped(pool, start), losses.at(objective, rows), pool.ids[rows])
    height, gradient = _height(pool, rows, seen.logits), seen.gradient.flatten(1)
    loss = _usable(seen.objective, height)
    state = _State(
        rows=rows, origins=origins, radii=radii, points=start, before=start.clone(), gradient=gradient, loss=loss,
        best=start.clone(), best_gradient=gradient.clone(), best_loss=loss.clone(), height=height,
        best_height=height.clone(), step=step,
        rises=torch.zeros_like(rows), shortened=torch.ones_like(rows, dtype=torch.bool), best_then=loss.clone(),
        moved=loss.clone(),
    )  # fmt: skip
    _leave(pool, state, seen.logits)
    return state


def _look(pool: Pool, state: _State, objective: Objective, *, last: bool) -> None:
    """See what the model makes of the points: gradients, but for the last ones."""
    points, ids, judge = _shaped(pool, state.points), pool.ids[state.rows], losses.at(objective, state.rows)
    loss_before = state.loss
    if last:
        logits = pool.oracle.logits(points, ids)
        values = judge(logits, torch.arange(len(logits), device=logits.device))
    else:
        seen = pool.oracle.gradients(points, judge, ids)
        logits, values, state.gradient = seen.logits, seen.objective, seen.gradient.flatten(1)
    state.height = _height(pool, state.rows, logits)
    state.loss = _usable(values, state.height)
    state.rises += state.loss > loss_before
    _leave(pool, state, logits)
    state.keep_best()


def _leave(pool: Pool, state: _State, logits: Tensor) -> None:
    """Keep the points that fool, and forget their images. Of the points in a wider ball, those count that lie in the
    image's own."""
    if pool.patient:
        return
    if pool.norm == "l1" and bool((state.radii[:, 0] > 1.5 * pool.eps[state.rows]).any()):
        near = norms.distance(state.points, state.origins, "l1") <= pool.eps[state.rows] * (1 + SLACK)
        at, hit = near.nonzero()[:, 0], torch.zeros_like(near)
        hit[at] = pool.fooled(logits[at], state.rows[at], state.points[at])
    else:
        hit = pool.fooled(logits, state.rows, state.points)
    if hit.any():
        pool.keep(state.rows[hit], _shaped(pool, state.points[hit]), fooled=True)
        state.drop(hit)


def _keep(pool: Pool, reached: Tensor, state: _State) -> None:
    """Take the best points as proposals that do not fool, where they come closer to it than any before."""
    better = state.best_height > reached[state.rows]
    rows = state.rows[better]
    pool.keep(rows, _shaped(pool, state.best[better]), fooled=False)
    reached[rows] = state.best_height[better]


def _height(pool: Pool, rows: Tensor, logits: Tensor) -> Tensor:
    """(n,) float64: the margin by which logits are what the attack wants, infinite for those that are no numbers."""
    if pool.targets is not None:
        return -losses.margin(logits, pool.targets[rows]).double().nan_to_num(torch.inf, torch.inf, -torch.inf)
    return losses.margin(logits, pool.labels[rows]).double().nan_to_num(torch.inf, torch.inf, -torch.inf)


def _usable(values: Tensor, height: Tensor) -> Tensor:
    """Losses in float64; one that is no number is the highest where nothing comes closer to fooling, else the lowest:
    compared with, it would hide all others."""
    return torch.where(values.isnan(), torch.where(height == torch.inf, torch.inf, -torch.inf), values.double())


def _shaped(pool: Pool, flat: Tensor) -> Tensor:
    return flat.view(-1, *pool.images.shape[1:])


def _advance(state: _State, norm: Norm, ahead: float) -> None:
    """A step along the gradient, projected, and some of the step before: z = P(x + s·d), then P(x + a (z - x) + (1 - a)
    (x - x')). The gradient is used up."""
    for part in norms.blocks(state.points):
        x, before, slope = state.points[part], state.before[part], state.gradient[part]
        origins, radii, step = state.origins[part], state.radii[part], state.step[part]
        if norm == "linf":
            low, high = (origins - radii).clamp_min_(0), (origins + radii).clamp_max_(1)
            there = torch.addcmul(x, slope.sign_(), step)
            torch.clamp(there, low, high, out=there)
            if ahead < 1:
                there.mul_(ahead).add_(x, alpha=2 - 2 * ahead).sub_(before, alpha=1 - ahead)
            torch.clamp(there, low, high, out=before)
        else:
            there = norms.ascend(x, slope, origins, radii[:, 0], norm, step[:, 0])
            if ahead < 1:
                there.mul_(ahead).add_(x, alpha=2 - 2 * ahead).sub_(before, alpha=1 - ahead)
                there = norms.project(there, origins, radii[:, 0], norm)
            before.copy_(there)
    state.points, state.before = state.before, state.points


def _advance_sparsely(state: _State) -> None:
    """A step in l1: of the same size for the values with the largest gradients, projected. The gradient is used up.

    Where all of these are held by the edge of the box, the search would stand still: there the largest gradients of the
    other values count.
    """
    number = (state.moved / _FEWER).ceil().long().clamp(1, state.points.shape[1])[:, None]
    sizes, side = state.gradient.abs(), state.gradient.sign_()
    chosen = sizes >= _ranked(sizes, number)
    free = (state.points + side).clamp_(0, 1).sub_(state.points).abs_() > _EDGE
    held = ~(chosen & free).any(1)
    if held.any():
        others = sizes[held] * free[held]
        chosen[held] = sizes[held] >= _ranked(others, number[held])
    direction = side.mul_(chosen)
    share = state.step / direction.abs().sum(1, keepdim=True).clamp_min_(1)
    torch.addcmul(state.points, direction, share, out=state.before)
    there = norms.project(state.before, state.origins, state.radii[:, 0], "l1")
    state.points, state.before = there, state.points


def _ranked(sizes: Tensor, number: Tensor) -> Tensor:
    """(n, 1) the size that is the largest but `number` - 1 in each row."""
    return sizes.topk(int(number.max())).values.gather(1, number - 1)
