"""The jobs of a run, and their names: the hash of all that determines a job's result.

Jobs come in lanes: the images of one chunk, on one model, one job after the other. Within a lane, eps ascends, and at
each eps the attacks run in the order in which they were given; an image that an earlier job of the lane has fooled
within eps is left out. A job's key covers those earlier jobs, so it covers which images it attacks. Lanes are
independent of each other.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from atodds.attacks.registry import Spec
from atodds.data.images import ImageSet
from atodds.evaluation.manifest import ModelInfo
from atodds.evaluation.schema import CLEAN
from atodds.threat import Budget, Norm

CHUNK = 256
"""Images of a lane, at most."""

_CODE = 1
"""Raised by one when the evaluation itself judges otherwise, so that old results are not taken for new."""


@dataclass(frozen=True)
class Job:
    """One attack at one budget on the images of a lane.

    Attributes:
        key: 32 hex digits, the hash of all that determines the result.
        attack: name with settings, or "clean" for the images themselves.
        eps: budget; 0 for the clean images.
        parents: keys of the jobs whose fooled images it leaves out.
        weight: passes at most, what a progress bar counts.
    """

    key: str
    attack: str
    eps: float
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
    clean = Job(_key([*shared, CLEAN]), CLEAN, 0.0, (), count)
    jobs = [clean]
    for budget in budgets:
        if budget.value == 0:
            continue
        for spec in attacks:
            before = (job for job in jobs if not question.alone or job.attack in (CLEAN, spec.name))
            parents = tuple(job.key for job in before)
            settings = sorted((key, repr(value)) for key, value in spec.settings)
            what = [*shared, spec.attack.name, spec.attack.version, settings, repr(budget.value), parents]
            jobs.append(Job(_key(what), spec.name, budget.value, parents, count * (spec.passes + 1)))
    return tuple(jobs)


def _key(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
