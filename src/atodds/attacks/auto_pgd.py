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
from atodds.threat import Norm, Threat

_RISES = 0.75
"""The step is halved unless the loss rose in more than this share of the steps since the last checkpoint."""
_AHEAD = 0.75
"""Weight of the new step; the rest goes on in the direction of the last one."""
_RADII = ((3, 0.3), (2, 0.3), (1, 0.4))
"""In l1: multiples of eps that are searched in turn, and their shares of the steps."""
_FEWER = 1.5
"""In l1 a step moves so many times fewer values than the best point has moved, and is so many times shorter."""


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
        (N, C, H, W) images in ball and box: one that fools where one was found, else the point of highest loss.

    Raises:
        ArgumentError: bad images, labels, targets or settings; DLR with fewer than 3 classes, or 4 with targets.
    """
    positive(steps=steps, restarts=restarts)
    with opened(model, images, labels, threat, targets, ids) as pool:
        objective = losses.objective(loss, pool.labels, pool.targets)
        for restart in range(restarts):
            _search(pool, objective, steps, seed=seed, draw=restart)
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
        fitting = loss or ("dlr" if wrong.shape[1] > 2 else "margin")
        ranks = wrong[:, :classes] if pool.targets is None else pool.targets[:, None]
        for rank, aim in enumerate(ranks.unbind(1)):
            _search(pool, losses.objective(fitting, pool.labels, aim), steps, seed=seed, draw=rank)
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

    def back(self, where: Tensor) -> None:
        """Return to the best points."""
        at = where.nonzero()[:, 0]
        self.points.index_copy_(0, at, self.best.index_select(0, at))
        self.gradient.index_copy_(0, at, self.best_gradient.index_select(0, at))


def _search(pool: Pool, objective: Objective, steps: int, *, seed: int, draw: int) -> None:
    """One run for the images that are not fooled. What fools is kept as found; of the others, the best point."""
    rows = pool.left()
    if len(rows) == 0:
        return
    origins, ids = pool.images[rows].flatten(1), pool.ids[rows]
    sample = noise.uniform if pool.norm == "linf" else noise.normal
    delta = sample(ids, origins.shape[1:], seed=seed, step=draw, stream="auto_pgd", dtype=origins.dtype)
    if pool.norm == "l1":
        _in_three_balls(pool, rows, objective, origins, delta.add_(origins), steps)
        return
    if pool.norm == "linf":
        delta.mul_(2).sub_(1)
    radii = pool.radii(rows)
    size = norms.length(delta, pool.norm).clamp_min_(torch.finfo(delta.dtype).tiny)
    start = torch.addcmul(origins, delta, (radii / size)[:, None]).clamp_(0, 1)
    state = _begin(pool, rows, origins, start, radii[:, None], 2 * radii[:, None], objective)
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
    _keep(pool, state.rows, state.best)


def _in_three_balls(
    pool: Pool, rows: Tensor, objective: Objective, origins: Tensor, points: Tensor, steps: int
) -> None:
    """The search in l1: in balls of three, two and one times the radius, each from the best point of the one before."""
    for times, share in _RADII:
        radii, count = pool.radii(rows, times)[:, None], max(1, round(share * steps))
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
    _keep(pool, rows, norms.project(points, origins, pool.radii(rows), "l1"))


def _begin(
    pool: Pool, rows: Tensor, origins: Tensor, start: Tensor, radii: Tensor, step: Tensor, objective: Objective
) -> _State:
    """The state at the starting points, without the images that are fooled there."""
    seen = pool.oracle.gradients(_shaped(pool, start), losses.at(objective, rows), pool.ids[rows])
    loss, gradient = seen.objective.to(start.dtype), seen.gradient.flatten(1)
    state = _State(
        rows=rows, origins=origins, radii=radii, points=start, before=start.clone(), gradient=gradient, loss=loss,
        best=start.clone(), best_gradient=gradient.clone(), best_loss=loss.clone(), step=step,
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
        state.loss = judge(logits, torch.arange(len(logits), device=logits.device)).to(points.dtype)
    else:
        seen = pool.oracle.gradients(points, judge, ids)
        logits, state.gradient, state.loss = seen.logits, seen.gradient.flatten(1), seen.objective.to(points.dtype)
    state.rises += state.loss > loss_before
    _leave(pool, state, logits)
    state.keep_best()


def _leave(pool: Pool, state: _State, logits: Tensor) -> None:
    """Keep the points that fool, and forget their images. Those of a wider ball count where they lie in eps."""
    if pool.patient:
        return
    hit = pool.fooled(logits, state.rows, state.points)
    if pool.norm == "l1" and hit.any():
        far = norms.distance(state.points, state.origins, "l1") > pool.eps[state.rows]
        hit &= ~far
    if hit.any():
        pool.keep(state.rows[hit], _shaped(pool, state.points[hit]), fooled=True)
        state.drop(hit)


def _keep(pool: Pool, rows: Tensor, points: Tensor) -> None:
    """Take points that do not fool as proposals."""
    pool.keep(rows, _shaped(pool, points), fooled=False)


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
    """A step in l1: of the same size for the values with the largest gradients, projected. The gradient is used up."""
    values = state.points.shape[1]
    number = (state.moved / _FEWER).long().clamp(1, values)
    sizes = state.gradient.abs()
    least = sizes.topk(int(number.max())).values.gather(1, number[:, None] - 1)
    direction = state.gradient.sign_().mul_(sizes >= least)
    share = state.step / direction.abs().sum(1, keepdim=True).clamp_min_(1)
    torch.addcmul(state.points, direction, share, out=state.before)
    there = norms.project(state.before, state.origins, state.radii[:, 0], "l1")
    state.points, state.before = there, state.points
