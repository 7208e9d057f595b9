"""Runs along the decision boundary, several for each image side by side: what `minimum_norm` sends out.

A step draws the point back towards the image, then takes the shortest way to the plane that the boundary is taken for,
and somewhat beyond. How far the point is drawn back, as a share of its distance, is the run's heat: it falls from step
to step, and in the end the point has settled.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from atodds import norms
from atodds.attacks import losses
from atodds.attacks.hyperplanes import toward
from atodds.attacks.leaving import without
from atodds.attacks.pool import Pool
from atodds.oracle import Objective
from atodds.threat import Norm

_COLD = 0.01
"""The share of its heat that a run ends with."""
_BEYOND, _LEAST, _MOST = 0.05, 1e-4, 0.5
"""How far beyond the plane a step aims, as a share of the distance: at first, and at the least and most."""
_TAKEN = 2.0
"""That share is divided by this after a point that lies beyond the boundary, and multiplied by it after another."""
_TOGETHER = 0.5
"""At heat 1, how soft the maximum is that a target must exceed."""
_SURE = 64
"""Last digits of the largest logit that a class must lead by."""
_FINE, _REACH = 0.05, 1e-3
"""In l1 a value moves in one step by no more than the heat, a quarter of it below the first of these, and by no less
than the second: steps in l1 move few values, and far."""


@dataclass
class Field:
    """Where the runs of some images have come, each in a slot of its own.

    Attributes:
        rows: (n,) the images in the pool.
        origins: (n, D) the images.
        best: (n, S) distances of the closest fooling points; infinite where there is none.
        points: (n, S, D) these points, or where the run has ended without one.
        goal: (n,) distances that are near enough: eps, or 0 where any distance will do.
    """

    rows: Tensor
    origins: Tensor
    best: Tensor
    points: Tensor
    goal: Tensor

    @classmethod
    def of(cls, pool: Pool, rows: Tensor, slots: int) -> "Field":
        """All runs at their images."""
        origins = pool.images.index_select(0, rows).flatten(1)
        points = origins[:, None].repeat(1, slots, 1)
        best = torch.full_like(points[:, :, 0], torch.inf)
        return cls(rows, origins, best, points, pool.eps[rows].to(origins.dtype).nan_to_num(posinf=0))

    def nearest(self) -> tuple[Tensor, Tensor]:
        """(n,) the smallest distances of each image, and their slots."""
        best, slots = self.best.min(1)
        return best, slots

    def unfinished(self) -> Tensor:
        """The images for which it makes sense to go on."""
        return (self.best > self.goal[:, None]).all(1).nonzero()[:, 0]

    def propose(self, pool: Pool, *, near: bool) -> None:
        """The closest fooling points, or only those that are near enough."""
        best, slots = self.nearest()
        at = (best <= self.goal if near else best.isfinite()).nonzero()[:, 0]
        pool.keep(self.rows[at], self.points[at, slots[at]].view(-1, *pool.images.shape[1:]), fooled=True)


@dataclass(frozen=True)
class Round:
    """Runs that begin together.

    Attributes:
        slots: (n, W) which slots of each image of the field go on; each at most once.
        aims: (n, W) the class that each heads for, or None for whatever fools.
        heats: W numbers, how hot they begin.
        steps: how many points each of them looks at.
    """

    slots: Tensor
    aims: Tensor | None
    heats: tuple[float, ...]
    steps: int


def go(pool: Pool, field: Field, round_: Round, *, seed: int) -> None:
    """All runs of a round, for the images of the field that are unfinished. After the last step there is no use for a
    gradient: it is a look alone.

    Args:
        pool: where the field is from.
        field: written in place.
        round_: what begins.
        seed: of the random points that are gone to where the boundary shows no slope.
    """
    at, shape = field.unfinished(), pool.images.shape[1:]
    if len(at) == 0 or round_.steps == 0:
        return
    runs = _Runs.of(field, at, round_)
    for step in range(round_.steps):
        shown, ids = runs.points.view(-1, *shape), pool.ids[field.rows[runs.images]]
        if step == round_.steps - 1:
            runs.note(pool, field, pool.oracle.logits(shown, ids))
            break
        share = max(1 - step / (round_.steps - 1), _COLD)
        seen = pool.oracle.gradients(shown, runs.wanted(pool, field, share), ids)
        gaps = (seen.objective - _slack(seen.logits)).to(shown.dtype).nan_to_num_(0)
        normals = seen.gradient.flatten(1)
        gone = runs.note(pool, field, seen.logits)
        if gone.any():
            runs.drop(gone)
            gaps, normals = without(gone, gaps, normals)
            if len(gaps) == 0:
                return
        runs.advance(pool, gaps, normals, share, first=step == 0)
        lost = (~normals.any(1)).nonzero()[:, 0]
        if len(lost):
            runs.points[lost] = scattered(pool, field, runs.images[lost], seed=seed, draw=-step)
    lost = field.best[runs.images, runs.slots].isinf()
    field.points[runs.images[lost], runs.slots[lost]] = runs.points[lost]


def scattered(pool: Pool, field: Field, images: Tensor, *, seed: int, draw: int) -> Tensor:
    """(m, D) random points for images of the field, in half of the ball that the closest fooling point lies on, or else
    in half of the image's ball."""
    near, eps = field.nearest()[0][images], pool.eps[field.rows[images]].to(field.origins.dtype)
    known = torch.where(near.isfinite(), near, torch.where(eps.isfinite(), eps, _FAR[pool.norm]))
    ids = pool.ids[field.rows[images]]
    return norms.random_point(field.origins[images], known / 2, pool.norm, ids, seed=seed, step=draw)


_FAR: dict[Norm, float] = {"linf": 0.3, "l2": 1.0, "l1": 5.0}
"""How far fooling images are taken to be where nothing is known yet, as in AutoAttack's FAB."""


@dataclass
class _Runs:
    """Runs that are under way, one row each: views of memory that is written in place.

    Attributes:
        images, slots: (n,) where they are in the field.
        aims: (n,) the classes that they head for, or None.
        heats: (n,) that they began with.
        beyond: (n,) how far beyond the plane the next step aims, as a share of the distance.
        origins, points: (n, D).
    """

    images: Tensor
    slots: Tensor
    aims: Tensor | None
    heats: Tensor
    beyond: Tensor
    origins: Tensor
    points: Tensor

    @classmethod
    def of(cls, field: Field, at: Tensor, round_: Round) -> "_Runs":
        """Those of the images at these places of the field, where their slots have come."""
        width = round_.slots.shape[1]
        images, slots = at.repeat_interleave(width), round_.slots[at].flatten()
        heats = field.best.new_tensor(round_.heats).repeat(len(at))
        return cls(
            images,
            slots,
            None if round_.aims is None else round_.aims[at].flatten(),
            heats,
            torch.full_like(heats, _BEYOND),
            field.origins.index_select(0, images),
            field.points[images, slots],
        )

    def wanted(self, pool: Pool, field: Field, share: float) -> Objective:
        """By how much the classes that are headed for exceed the labels; or any wrong class does; or targets exceed all
        others, taken together the more the hotter it is."""
        rows = field.rows[self.images]
        if pool.targets is not None:
            return _ahead(pool.targets[rows], self.heats * (share * _TOGETHER))
        if self.aims is None:
            return losses.at(losses.objective("margin", pool.labels, None), rows)
        return losses.lead(self.aims, pool.labels[rows])

    def note(self, pool: Pool, field: Field, logits: Tensor) -> Tensor:
        """(n,) whether the runs' images are done. Points that fool are kept where they are closer than those before."""
        rows = field.rows[self.images]
        margin = losses.objective("margin", pool.labels, pool.targets)(logits, rows)
        at = (pool.fooled(logits, rows, self.points) & ~(margin < _slack(logits))).nonzero()[:, 0]
        if len(at):
            points, images, slots = self.points.index_select(0, at), self.images[at], self.slots[at]
            distance = norms.distance(points, self.origins.index_select(0, at), pool.norm)
            closer = distance < field.best[images, slots]
            images, slots = images[closer], slots[closer]
            field.best[images, slots], field.points[images, slots] = distance[closer], points[closer]
        near, _ = field.nearest()
        return (near <= field.goal)[self.images]

    def drop(self, gone: Tensor) -> None:
        """Forget the runs where `gone`."""
        if self.aims is not None:
            (self.aims,) = without(gone, self.aims)
        self.images, self.slots, self.heats, self.beyond, self.origins, self.points = without(
            gone, self.images, self.slots, self.heats, self.beyond, self.origins, self.points
        )

    def advance(self, pool: Pool, gaps: Tensor, normals: Tensor, share: float, *, first: bool) -> None:
        """One step, at this share of the heats; gaps are below 0 on the label's side of the boundary."""
        if not first:
            self.beyond.mul_(torch.where(gaps > 0, 1 / _TAKEN, _TAKEN)).clamp_(_LEAST, _MOST)
        norm, heats = pool.norm, self.heats * share
        reach = torch.where(heats < _FINE, heats / 4, heats).clamp_min(_REACH) if norm == "l1" else None
        for part in norms.blocks(self.points):
            x, image, normal = self.points[part], self.origins[part], normals[part]
            delta = x - image
            size = norms.length(delta, norm)
            back = norms.project_ball(delta, size * (1 - heats[part]), norm).add_(image)
            change = self.beyond[part] * size * norms.length(normal, norms.DUAL[norm])
            change -= gaps[part] + torch.linalg.vecdot(normal, back - x)
            way = toward(back, normal, change, norm, None if reach is None else reach[part])
            torch.add(back, way, out=x).clamp_(0, 1)


def _slack(logits: Tensor) -> Tensor:
    """(n,) by how much a class must lead to lead in any batch: logits are summed in another order there."""
    return logits.nan_to_num(0, 0, 0).abs().amax(1) * (_SURE * torch.finfo(logits.dtype).eps)


def _ahead(targets: Tensor, softness: Tensor) -> Objective:
    """By how much targets (n,) exceed the soft maximum of all others: the closest image of a target often lies where
    several classes meet, and steps onto one plane after another would go back and forth there. Softness (n,) is in
    units of the largest logit's lead over their mean."""

    def lead(logits: Tensor, positions: Tensor) -> Tensor:
        towards = targets[positions]
        values = logits.detach()
        width = (values.amax(1) - values.mean(1)).nan_to_num(0, 0, 0) * softness[positions]
        width = width.clamp_min(torch.finfo(logits.dtype).eps)[:, None]
        others = logits.scatter(1, towards[:, None], -torch.inf)
        return losses.of(logits, towards) - (width * torch.logsumexp(others / width, 1, keepdim=True)).squeeze(1)

    return lead
