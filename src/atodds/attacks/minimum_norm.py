"""The closest fooling image within a budget of gradients: runs along the decision boundary that cool down, towards
several classes at once, and again for the best of them.

A step is one of sequential quadratic programming: back towards the image, then the shortest way to the plane that the
boundary is taken for. At heat 1 it ends where that plane is nearest to the image, as a step of DeepFool
(Moosavi-Dezfooli et al., CVPR 2016) from the image would, and jumps from one part of the boundary to another; at heat
0.1 it is close to a step of FAB (Croce & Hein, ICML 2020), and slides along. Heat that falls over a run does what the
falling steps of DDN (Rony et al., CVPR 2019), FMN (Pintor et al., NeurIPS 2021) and ALMA (Rony et al., ICCV 2021) do,
in far fewer steps. What is left are local optima, and the best of them is mostly a matter of the class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import losses
from atodds.attacks.boundary_runs import Field, Round, go, scattered
from atodds.attacks.pool import Balls, Pool, opened, positive
from atodds.oracle import Oracle
from atodds.threat import Threat


def minimum_norm(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls | str,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    gradients: int = 500,
    classes: int = 9,
) -> Tensor:
    """The closest fooling image that a budget of gradients finds, in l2, linf or l1.

    At most as many passes forward and backward, and one more forward pass an image.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: "l2", "linf" or "l1", to find the closest fooling image at any distance; or a threat or balls, and then
            an image leaves as soon as a fooling image within eps is found.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: decides the random starts, with each image's id.
        gradients: the budget of an image. From 400 on, what 200 find is found first, and random starts follow.
        classes: how many wrong classes are looked at, the most likely ones at the image: of 10 classes, all.

    Returns:
        (N, C, H, W) images in the box, and in the ball where there is one: the closest that fools. The image itself
        where none did.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    positive(gradients=gradients, classes=classes)
    with opened(model, images, labels, threat, targets, ids) as pool:
        ranked = pool.wrong_classes()
        if pool.targets is not None:
            ranked = pool.targets[:, None]
        approach(pool, pool.left(), ranked[:, :classes], gradients, seed=seed)
        return pool.settled(images)


def approach(pool: Pool, rows: Tensor, ranked: Tensor, gradients: int, *, seed: int, near: bool = False) -> None:
    """The search for some images: the closest fooling images are proposed.

    Args:
        pool: of all images.
        rows: (n,) of the images to search for.
        ranked: (N, C) the classes to look at, of all images of the pool.
        gradients: the budget of an image.
        seed: decides the random starts, with the ids.
        near: propose only what lies in the image's ball, and leave the other proposals as they are.
    """
    plan = _Plan.of(gradients, ranked.shape[1])
    rows = rows[pool.eps[rows] > 0]
    most = max(1, _VALUES // (pool.images[0].numel() * max(plan.runs + 1, plan.looked)))
    for part in rows.split(most) if len(rows) else ():
        _search(pool, part, ranked[part, : plan.looked], plan, seed, near=near)


_VALUES = 2**26
"""Values of the points that are worked on at once: 256 MB in float32."""
_CYCLE = 200
"""Gradients of the first cycle, where there are enough for another one; each following one is twice as long."""
_LOOK, _RUN, _RUNS = 6, 15, 4
"""One gradient in 6 at most looks at classes; a survey has a run for each 15 of the budget, up to 4."""
_SURVEY, _SECOND = 0.4, 0.3
"""Shares of a cycle that go to the survey and to the round after it; the last one has what is left."""
_HEATS = (1.0, 0.3, 0.1, 0.03)
"""Of runs that begin at the same place: of the best and the second best after a survey, and, the third, at the end."""
_AGAIN = 2
"""Runs of each later survey that go towards the classes that were looked at first."""


@dataclass(frozen=True)
class _Plan:
    """What a budget is spent on.

    Attributes:
        looked: classes that are looked at.
        runs: of a survey.
        cycles: of each, the steps of a run in the survey, in the round for the two best, and in that for the best.
    """

    looked: int
    runs: int
    cycles: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, budget: int, classes: int) -> "_Plan":
        """All of the budget, or almost."""
        looked = max(1, min(classes, budget // _LOOK))
        runs = max(1, min(_RUNS, budget // _RUN))
        sizes: list[int] = []
        left = budget
        while left >= 2 * _CYCLE * 2 ** len(sizes):
            sizes.append(_CYCLE * 2 ** len(sizes))
            left -= sizes[-1]
        sizes.append(left)
        sizes[0] -= looked if looked > 1 else 0
        return cls(looked, runs, tuple(_divided(size, runs) for size in sizes))


def _divided(size: int, runs: int) -> tuple[int, int, int]:
    if runs == 1:
        return size, 0, 0
    survey = round(size * _SURVEY / runs)
    second = round(size * _SECOND / 2)
    return survey, second, size - survey * runs - second * 2


def _search(pool: Pool, rows: Tensor, classes: Tensor, plan: _Plan, seed: int, *, near: bool) -> None:
    """Spend the budget on the images at these rows of the pool, and propose what is found."""
    classes = _by_distance(pool, rows, classes)
    field = Field.of(pool, rows, plan.runs + 1)
    hot, warm, cool, _ = _HEATS
    for number, (survey, second, last) in enumerate(plan.cycles):
        visits = _visits(number, plan)
        if number:
            _restart(pool, field, [draw for _, draw in visits], seed)
        heats = tuple(_HEATS[run // plan.looked] if number == 0 else hot for run in range(plan.runs))
        slots = torch.arange(plan.runs, device=rows.device).expand(len(rows), -1)
        aims = classes[:, [rank for rank, _ in visits]]
        go(pool, field, Round(slots, aims, heats, survey), seed=seed)
        for steps, heats in ((second, (hot, warm)), (last, (cool,))):
            slots = field.best.argsort(dim=1, stable=True)[:, : len(heats)]
            go(pool, field, Round(slots, None, heats, steps), seed=seed)
    field.propose(pool, near=near)


def _visits(number: int, plan: _Plan) -> list[tuple[int, int | None]]:
    """Which class each run of a survey heads for, by rank, and the draw of the random point that it begins at; None for
    the image itself, where nothing has gone to the class from there."""
    if number == 0:
        return [(run % plan.looked, None) for run in range(plan.runs)]
    fresh = plan.runs + (number - 1) * max(0, plan.runs - _AGAIN)
    ranks = [run if run < _AGAIN else fresh + run - _AGAIN for run in range(plan.runs)]
    return [
        (rank % plan.looked, None if plan.runs <= rank < plan.looked else number * plan.runs + run)
        for run, rank in enumerate(ranks)
    ]


def _restart(pool: Pool, field: Field, draws: list[int | None], seed: int) -> None:
    """Keep the best of all runs in the last slot, and put the others where they begin."""
    best, slots = field.nearest()
    everyone = torch.arange(len(best), device=best.device)
    held = field.points[everyone, slots]
    for slot, draw in enumerate(draws):
        start = field.origins if draw is None else scattered(pool, field, everyone, seed=seed, draw=draw)
        field.points[:, slot] = start
    field.points[:, -1], field.best[:, -1], field.best[:, :-1] = held, best, torch.inf


def _by_distance(pool: Pool, rows: Tensor, classes: Tensor) -> Tensor:
    """The classes (n, C) of each image, that with the nearest plane at the image first."""
    count, width = classes.shape
    if width == 1:
        return classes
    copies = rows.repeat_interleave(width)
    lead = losses.lead(classes.flatten(), pool.labels[copies])
    seen = pool.oracle.gradients(pool.images[copies], lead, pool.ids[copies])
    away = seen.objective.abs() / norms.length(seen.gradient, norms.DUAL[pool.norm])
    order = away.nan_to_num_(torch.inf, torch.inf).view(count, width).argsort(dim=1, stable=True)
    return classes.gather(1, order)
