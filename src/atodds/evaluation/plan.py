"""The jobs of a run, and their names: the hash of all that determines a job's result.

Jobs come in lanes: the images of one chunk, on one model, one job after the other. A job runs one attack on each image
at the largest of the job's levels within which no earlier job of the lane has fooled it, unless the attack was tried
there. So a job's key covers the earlier ones: it covers which images it attacks, and at which eps. Lanes do not depend
on each other.

The levels ascend, a job for each budget and attack, where an attack may find in a small ball what it misses in a larger
one. Where no attack of the list is expected to, the closest fooling image is looked for first, and then every image is
attacked just below the smallest distance found for it, in as many rounds as there are budgets: each round either leaves
an image standing at its level, and then at all smaller ones, or fools it and so lowers its level. Most images are done
after the first.

A minimum-norm attack knows no budgets: it is one job. It runs on every image that is classified rightly, whatever was
found before it, and so does an attack that heads for a target: each answers a question of its own. What they find
counts for the attacks that come after them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from atodds.attacks.registry import Spec, parse
from atodds.attacks.settings import written
from atodds.data.images import ImageSet
from atodds.evaluation.manifest import ModelInfo
from atodds.evaluation.schema import CLEAN
from atodds.threat import Budget, Norm

CHUNK = 256
"""Images of a lane, at most."""

_CODE = 3
"""Raised by one when the evaluation itself judges otherwise, so that old results are not taken for new."""


@dataclass(frozen=True)
class Job:
    """One attack on the images of a lane.

    Attributes:
        key: 32 hex digits, the hash of all that determines the result.
        attack: name with settings, or "clean" for the images themselves.
        levels: budgets to choose from for each image, ascending; none for the clean images, and where the closest
            fooling image is looked for at any distance.
        parents: keys of the jobs whose results it knows.
        weight: passes at most, what a progress bar counts.
    """

    key: str
    attack: str
    levels: tuple[float, ...]
    parents: tuple[str, ...]
    weight: int


@dataclass(frozen=True)
class Lane:
    """Jobs that run one after the other on the images at `positions`, on one model. `data` is their fingerprint."""

    model: str
    positions: tuple[int, ...]
    data: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Question:
    """What every job of a run shares."""

    norm: Norm
    seed: int
    precision: str
    eot: int
    alone: bool


def closest(levels: Sequence[float], norm: Norm) -> Spec:
    """The search for the closest fooling images, where budgets (ascending) are decided from the largest down. Nearer
    than the smallest of them there is nothing to decide."""
    (search,) = parse(f"fab(classes=1,enough={written(levels[0])},steps=10)", norm)
    return search


_LATER = 0.2
"""A round is expected to take so much of the time of the one before it."""


def plan(
    models: Sequence[ModelInfo],
    images: ImageSet,
    budgets: Sequence[Budget],
    attacks: Sequence[Spec],
    question: Question,
    *,
    chunk: int = CHUNK,
) -> tuple[Lane, ...]:
    """All lanes of a run, models in turn so that each makes progress.

    Args:
        models: at least one.
        images: at least one.
        budgets: ascending; 0 is answered by the clean images.
        attacks: in the order in which they run.
        question: what all jobs share.
        chunk: images of a lane, at most.
    """
    count = -(-len(images) // chunk)
    cuts = [len(images) * part // count for part in range(count + 1)]
    lanes = []
    for start, stop in pairwise(cuts):
        positions = tuple(range(start, stop))
        data = images.take(positions).fingerprint
        for model in models:
            jobs = _jobs(model, data, len(positions), budgets, attacks, question)
            lanes.append(Lane(model.id, positions, data, jobs))
    return tuple(lanes)


def _jobs(
    model: ModelInfo, data: str, count: int, budgets: Sequence[Budget], attacks: Sequence[Spec], question: Question
) -> tuple[Job, ...]:
    shared = [_CODE, model.id, model.fingerprint, data, question.norm, question.seed, question.precision, question.eot]
    jobs = [Job(_key([*shared, CLEAN]), CLEAN, (), (), count)]

    def add(spec: Spec, levels: tuple[float, ...], times: float = 1) -> None:
        itself = question.alone or spec.attack.minimum_norm or spec.target
        before = (job for job in jobs if not itself or job.attack in (CLEAN, spec.name))
        parents = tuple(job.key for job in before)
        settings = [spec.target, *sorted((key, repr(value)) for key, value in spec.settings)]
        what = [*shared, spec.attack.name, spec.attack.version, settings, [repr(level) for level in levels], parents]
        jobs.append(Job(_key(what), spec.name, levels, parents, max(1, round(times * count * (spec.passes + 1)))))

    levels = tuple(budget.value for budget in budgets if budget.value > 0)
    budgeted = [spec for spec in attacks if not spec.attack.minimum_norm]
    nested = len(levels) > 1 and not question.alone and all(spec.attack.nested for spec in budgeted)
    searched = attacks[0].attack.minimum_norm and not attacks[0].target
    if nested and not searched and any(not spec.target for spec in budgeted):
        add(closest(levels, question.norm), ())
    turns = [levels] * len(levels) if nested else [(level,) for level in levels]
    for turn, choice in enumerate(turns or [()]):
        for spec in attacks:
            if not spec.attack.minimum_norm and choice:
                add(spec, choice, _LATER**turn if nested else 1)
            elif spec.attack.minimum_norm and turn == 0:
                add(spec, ())
    return tuple(jobs)


def _key(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
