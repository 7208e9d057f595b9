"""Square Attack: random search with square windows, in linf, l2 and l1. It asks for logits only.

Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial attack via random
search", ECCV 2020: algorithm 1, with the sampling of algorithm 2 in linf and of algorithm 3 in l2; l1 and the schedule
as in AutoAttack (Croce & Hein, ICML 2020 and 2021). Every image has windows of its own, drawn from (seed, id, query).
A query is written into the pool in place and taken back where it did not help, so its cost is that of the window.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atodds import noise, norms
from atodds.attacks import losses
from atodds.attacks.leaving import without
from atodds.attacks.pool import Balls, Pool, opened, positive
from atodds.attacks.window_queries import WindowQueries
from atodds.errors import ArgumentError
from atodds.oracle import Objective, Oracle
from atodds.threat import Norm, Threat

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of the image that a window covers is halved."""
_TILES = 5
"""In l2 and l1 the start is a grid of so many tiles a side."""
_INSIDE = 1 - 1e-6
"""In l2 and l1 this share of eps is spent, so that rounding stays inside."""
_OVER = 3
"""In l2 and l1 a window is filled with so many times its budget, and what comes is projected on budget and box."""
_DRAWN = 50
"""Queries whose windows are drawn at once."""


def square(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    queries: int = 5000,
    restarts: int = 1,
    p_init: float = 0.8,
    loss: losses.LossName = "margin",
    rescale: bool = False,
) -> Tensor:
    """Random search with square windows, from forward passes alone. At most `queries` + 1 of them an image and restart,
    and a few more where layers are computed in part. An image leaves as soon as it is fooled.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1]. (N, D) is taken for one row of D pixels, (N, C, L) for a row with C channels.
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: decides start and windows, with each image's id.
        queries: windows tried for an image and restart, at most.
        restarts: random starts; later ones only for images that none before has fooled.
        p_init: the share of the image that the first windows cover; it is halved after queries 10, 50, 200, 500, ...
        loss: what a window must improve: "margin", "cross-entropy" or "logit".
        rescale: stretch the schedule of 10,000 queries to `queries`.

    Returns:
        (N, C, H, W) images in ball and box: one that fools where one was found, else the best of the last restart.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    positive(queries=queries, restarts=restarts)
    if not 0 < p_init <= 1:
        raise ArgumentError("p_init", p_init, "not a share of an image", "Give a number above 0, and 1 at most.")
    with opened(model, images, labels, threat, targets, ids) as pool:
        judge = losses.objective(loss, pool.labels, pool.targets)
        shares = [p_init / 2 ** halvings(query, queries if rescale else None) for query in range(queries)]
        for restart in range(restarts):
            search(pool, pool.left(), judge, shares, seed=seed, draw=restart)
        return pool.settled(images)


def halvings(query: int, stretched_to: int | None = None) -> int:
    """How often the windows' share has been halved before a query, counted from 0; for a run of 10,000 queries, or
    one that is stretched to another number."""
    at = query if stretched_to is None else int(query / stretched_to * 10_000)
    return sum(at > step for step in _HALVINGS)


def sides(share: float, height: int, width: int, *, centred: bool) -> tuple[int, int]:
    """Height and width of a window that covers a share of an image: a square, or where that is too long for the short
    side, all of the short side. In l2 and l1 windows have a centre: odd sides, at least 3 where the image has them."""

    def length(wanted: float) -> int:
        return max(round(wanted), 3) // 2 * 2 + 1 if centred else max(round(wanted), 1)

    edge, short, long = length(math.sqrt(share * height * width)), min(height, width), max(height, width)
    if edge > short:
        edge, other = short, min(length(share * long), long)
        return (edge, other) if height == short else (other, edge)
    return edge, edge


@dataclass(frozen=True)
class _Run:
    """What stays the same in a restart: norm, size of the images (C, H, W), and what the draws depend on."""

    norm: Norm
    size: tuple[int, int, int]
    seed: int
    restart: int

    def signs(self, ids: Tensor, shape: tuple[int, ...], name: str, dtype: torch.dtype, *, query: int = 0) -> Tensor:
        """(n, *shape) random signs."""
        return noise.sign(ids, shape, seed=self.seed, step=query, stream=f"square {self.restart} {name}", dtype=dtype)

    def corners(self, ids: Tensor, free: Tensor, windows: int, *, query: int) -> Tensor:
        """(n, queries, windows, 2) random first rows and columns, below `free` (queries, 1, 2)."""
        shape = (len(free), windows, 2)
        return noise.integers(ids, shape, seed=self.seed, step=query, stream=f"square {self.restart}", high=free)


@dataclass
class _State:
    """The images that are not fooled yet, one row each: views of memory that is written in place.

    Attributes:
        rows: (n,) where they are in the pool.
        origins: (n, C·H·W).
        points: (n, C·H·W), the best so far, and during a query the candidates.
        eps: (n, 1).
        best: (n,) the loss of the best.
        spent: (n,) float64, the length of the perturbation to the power of p; not used in linf.
        corners: (n, queries, windows, 2) the windows of some queries: first row and column.
        signs: (n, queries, C + 1) signs of the channels in the window, and a last one that says which way it lies.
    """

    rows: Tensor
    origins: Tensor
    points: Tensor
    eps: Tensor
    best: Tensor
    spent: Tensor
    corners: Tensor
    signs: Tensor

    def draw(self, run: _Run, ids: Tensor, shares: list[float], query: int) -> None:
        """The windows of the queries from this one on, whose shares these are."""
        channels, height, width = run.size
        sizes = [sides(share, height, width, centred=run.norm != "linf") for share in shares]
        free = torch.tensor([[height - h + 1, width - w + 1] for h, w in sizes], device=ids.device)[:, None]
        self.corners = run.corners(ids, free, 1 if run.norm == "linf" else 2, query=query)
        self.signs = run.signs(ids, (len(shares), channels + 1), "signs", self.points.dtype, query=query)

    def drop(self, gone: Tensor) -> None:
        """Forget the images where `gone`."""
        (self.rows, self.origins, self.points, self.eps, self.best, self.spent, self.corners, self.signs) = without(
            gone, self.rows, self.origins, self.points, self.eps, self.best, self.spent, self.corners, self.signs
        )


@dataclass(frozen=True)
class _Change:
    """New values for a window of each image: places (n, k) in it, the values there before and after."""

    places: Tensor
    before: Tensor
    after: Tensor

    def write(self, points: Tensor) -> None:
        """Put the new values into the images."""
        points.scatter_(1, self.places, self.after)

    def undo(self, points: Tensor, accepted: Tensor) -> None:
        """Put the old values back, but in the images at the rows that are accepted: those are few."""
        self.before.index_copy_(0, accepted, self.after.index_select(0, accepted))
        points.scatter_(1, self.places, self.before)


@dataclass(frozen=True)
class _Window:
    """What all windows of one size have in common.

    Attributes:
        sides: height and width.
        pattern: (C·h·w,) places of its values in a flat image, when it is at the top left.
        width: of the images.
        shapes: (2, h, w) in l2 and l1, two stacked pyramids: one above the other, and side by side.
    """

    sides: tuple[int, int]
    pattern: Tensor
    width: int
    shapes: Tensor

    def places(self, corners: Tensor) -> Tensor:
        """(n, C·h·w) places of its values in flat images, with these first rows and columns (n, 2)."""
        return torch.add(corners[:, 1:], corners[:, :1], alpha=self.width) + self.pattern


def search(
    pool: Pool,
    rows: Tensor,
    judge: Objective,
    shares: list[float],
    *,
    seed: int,
    draw: int,
    reached: Tensor | None = None,
) -> None:
    """One run for some images: what fools is kept as found, of the others the best.

    Args:
        pool: of all images.
        rows: (n,) of the images to run for; written.
        judge: what a window must raise.
        shares: of the image that each window covers, a query each.
        seed: decides start and windows, with the ids.
        draw: which start.
        reached: (N,) the values at the proposals, which are begun at; written. None begins at random.
    """
    if len(rows) == 0:
        return
    run = _Run(pool.norm, _size(pool.images.shape), seed, draw)
    flat, eps, ids = pool.images[rows].flatten(1), pool.radii(rows)[:, None], pool.ids[rows]
    if reached is None:
        points = (_stripes if run.norm == "linf" else _tiles)(flat, eps, ids, run)
    else:
        points = pool.proposals[rows].flatten(1)
    spent = _power(points - flat, run.norm).sum(1, dtype=torch.float64)
    none = torch.empty(len(rows), 0, device=rows.device)
    state = _State(rows, flat, points, eps, eps[:, 0], spent, none, none)

    def shaped() -> Tensor:
        return state.points.view(-1, *pool.images.shape[1:])

    def look(logits: Tensor, own: bool) -> tuple[Tensor, Tensor]:
        return judge(logits, state.rows), pool.fooled(logits, state.rows, state.points, exact=own)

    def leave(gone: Tensor, *, fooled: bool) -> None:
        if reached is not None:
            reached[state.rows[gone]] = state.best[gone].to(reached)
        pool.keep(state.rows[gone], state.points[gone].view(-1, *pool.images.shape[1:]), fooled=fooled)
        state.drop(gone)
        queries.drop(gone)

    queries = WindowQueries(pool.oracle)
    state.best, hit = look(pool.oracle.logits(shaped(), pool.ids[state.rows]), own=True)
    state.best.masked_fill_(state.best.isnan(), -torch.inf)  # whatever is a number is better
    leave(hit, fooled=True)
    leave(state.eps[:, 0] == 0, fooled=False)  # there is nothing to search
    for query, share in enumerate(shares):
        if len(state.rows) == 0:
            return
        if query % _DRAWN == 0:
            state.draw(run, pool.ids[state.rows], shares[query : query + _DRAWN], query)
        if query == 0 or share != shares[query - 1]:
            window = _window(share, run, points)
            if run.norm == "linf":
                queries.resize(shaped(), pool.ids[state.rows], window.sides, len(shares) - query)
        changes, spent = (_paint if run.norm == "linf" else _move)(state, query % _DRAWN, window, run)
        for change in changes:
            change.write(state.points)
        values = changes[-1].after.view(-1, run.size[0], *window.sides)
        loss, hit = look(*queries.logits(shaped(), pool.ids[state.rows], state.corners[:, query % _DRAWN, 0], values))
        accepted = (loss > state.best) | hit
        rows = accepted.nonzero()[:, 0]
        queries.take(rows)
        for change in changes:
            change.undo(state.points, rows)
        state.best = torch.where(accepted, loss, state.best)
        state.spent = spent if run.norm == "linf" else torch.where(accepted, spent, state.spent)
        if hit.any():
            leave(hit, fooled=True)
    leave(torch.ones_like(state.rows, dtype=torch.bool), fooled=False)


def _size(shape: torch.Size) -> tuple[int, int, int]:
    """Channels, height and width of a batch of any rank: a row of pixels where there is no height."""
    return shape[1] if len(shape) > 2 else 1, math.prod(shape[2:-1]), shape[-1]


def _window(share: float, run: _Run, like: Tensor) -> _Window:
    channels, height, width = run.size
    size = sides(share, height, width, centred=run.norm != "linf")
    down, right = (torch.arange(length, device=like.device) for length in size)
    channel = torch.arange(channels, device=like.device)
    pattern = ((channel[:, None, None] * height + down[:, None]) * width + right).flatten()
    return _Window(size, pattern, width, like.new_zeros(0) if run.norm == "linf" else pyramids(size, run.norm, like))


def _stripes(origins: Tensor, eps: Tensor, ids: Tensor, run: _Run) -> Tensor:
    """The start in linf: vertical stripes, one pixel wide, of ±eps for each channel."""
    channels, height, width = run.size
    signs = run.signs(ids, (channels, 1, width), "start", origins.dtype)
    return torch.addcmul(origins, signs.expand(-1, -1, height, -1).reshape(origins.shape), eps).clamp_(0, 1)


def _paint(state: _State, query: int, window: _Window, run: _Run) -> tuple[tuple[_Change, ...], Tensor]:
    """A query in linf: the window goes to a corner of the ball, the same for all its pixels.

    A step of ±2·eps that is cut to the ball ends there from anywhere in it. Where the window is there already, it goes
    to the opposite corner: the paper's program draws such windows anew, and a query that changes nothing is wasted.
    """
    channels = run.size[0]
    places = window.places(state.corners[:, query, 0])
    before, centre = state.points.gather(1, places), state.origins.gather(1, places).view(len(places), channels, -1)
    step = (state.signs[:, query, :channels] * state.eps)[:, :, None]
    after = (centre + step).clamp_(0, 1).flatten(1)
    idle = (after == before).all(1)
    if idle.any():
        after = torch.where(idle[:, None], (centre - step).clamp_(0, 1).flatten(1), after)
    return (_Change(places, before, after),), state.spent


def _tiles(origins: Tensor, eps: Tensor, ids: Tensor, run: _Run) -> Tensor:
    """The start in l2 and l1: a grid of tiles, each two stacked pyramids, of one length for all."""
    channels, height, width = run.size
    down, right = min(_TILES, height), min(_TILES, width)
    tile = (height // down, width // right)
    signs = run.signs(ids, (channels + 1, down, right), "start", origins.dtype)
    shapes = pyramids(tile, run.norm, origins)[(signs[:, -1] > 0).long()]
    grid = (signs[:, :-1, :, :, None, None] * shapes[:, None]).transpose(3, 4)
    delta = origins.new_zeros(len(origins), *run.size)
    top, left = (height - down * tile[0]) // 2, (width - right * tile[1]) // 2
    inner = delta[:, :, top : top + down * tile[0], left : left + right * tile[1]]
    inner.copy_(grid.reshape(inner.shape))
    flat = delta.flatten(1)
    length = _root(_power(flat, run.norm).sum(1, keepdim=True), run.norm)
    return torch.addcmul(origins, flat, _INSIDE * eps / length).clamp_(0, 1)


def _move(state: _State, query: int, window: _Window, run: _Run) -> tuple[tuple[_Change, ...], Tensor]:
    """A query in l2 and l1, algorithm 3: a second window is emptied, and the first is filled with all that the two
    held in a channel and its part of what is left of the budget, in the direction of what was there and of two stacked
    pyramids together.

    The paper cuts what comes to the box, and loses what is cut off; AutoAttack projects the whole image in l1. Here the
    window alone is projected, on box and budget at once: the budget is spent, and the rest of the image is not touched.
    """
    norm, count, channels = run.norm, len(state.rows), run.size[0]
    first, second = state.corners[:, query, 0], state.corners[:, query, 1]
    places, emptied = window.places(first), window.places(second)
    before, centre = state.points.gather(1, places), state.origins.gather(1, places)
    held, zero = state.points.gather(1, emptied), state.origins.gather(1, emptied)
    old = (before - centre).view(count, channels, *window.sides)

    offsets = (first - second)[:, :, None]
    down, right = (torch.arange(side, device=first.device) + offsets[:, axis] for axis, side in enumerate(window.sides))
    above_or_below = (down < 0) | (down >= window.sides[0])
    left_or_right = (right < 0) | (right >= window.sides[1])
    alone = (above_or_below[:, :, None] | left_or_right[:, None])[:, None]  # what both hold is counted once
    sizes = _power(old, norm)
    mass = (sizes * alone).sum((2, 3), dtype=torch.float64)
    mass += _power(held - zero, norm).view(count, channels, -1).sum(2, dtype=torch.float64)
    left = (_power((state.eps * _INSIDE).double(), norm) - state.spent[:, None]).clamp_min_(0)
    budget = mass + left / channels

    signs, tiny = state.signs[:, query], torch.finfo(old.dtype).tiny
    shape = window.shapes[(signs[:, -1] > 0).long()][:, None] * signs[:, :-1, None, None]
    shape += old / _root(sizes.sum((2, 3), keepdim=True), norm).clamp_min(tiny)
    length = _root(_power(shape, norm).sum((2, 3), keepdim=True), norm).clamp_min_(tiny)
    scale = _OVER * _root(budget, norm).to(old.dtype)[:, :, None, None] / length
    radius = _root(budget.sum(1), norm).to(old.dtype)
    after = norms.project((shape * scale).flatten(1).add_(centre), centre, radius, norm)
    spent = state.spent - mass.sum(1) + _power(after - centre, norm).sum(1, dtype=torch.float64)
    return (_Change(emptied, held, zero), _Change(places, before, after)), spent


def pyramids(sides: tuple[int, int], norm: Norm, like: Tensor) -> Tensor:
    """(2, h, w) two stacked pyramids with opposite signs, of length 1: one above the other, and side by side."""
    height, width = sides
    above, beside = _stacked(height, width, norm), _stacked(width, height, norm).T
    return torch.stack([above, beside]).to(device=like.device, dtype=like.dtype)


def _stacked(height: int, width: int, norm: Norm) -> Tensor:
    halves = [_pyramid(height // 2, width, norm), -_pyramid(height - height // 2, width, norm)]
    both = torch.cat([half / _root(_power(half, norm).sum(), norm) for half in halves if len(half)])
    return both / _root(_power(both, norm).sum(), norm)


def _pyramid(height: int, width: int, norm: Norm) -> Tensor:
    """Rectangles around the centre, each a pixel larger on all sides than the one before it, one upon the other:
    the k-th, from 0, weighs 1/(k+1)² in l2 and 1/(k+1)⁴ in l1."""
    down = (torch.arange(height) - height // 2).abs()
    right = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(down[:, None], right)
    weights = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64) ** (-2 if norm == "l2" else -4)
    return weights.flip(0).cumsum(0).flip(0)[ring]


def _power(values: Tensor, norm: Norm) -> Tensor:
    return values.square() if norm == "l2" else values.abs()


def _root(power: Tensor, norm: Norm) -> Tensor:
    return power.sqrt() if norm == "l2" else power
