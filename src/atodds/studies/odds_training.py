"""Robust training against data: what it gains and costs on few and on many samples, and with the radius.

Tsipras et al. (ICLR 2019), figure 1, for any network and norm: standard test accuracy over the number of training
samples, for networks trained against several radii. And the trade on the largest training set: standard and robust
accuracy by the radius that was trained against.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from atodds.analysis import Rate, accuracy, robust_accuracy
from atodds.analysis.crossing import Crossing, Gap, crossing
from atodds.analysis.intervals import Bools
from atodds.data.images import ImageSet
from atodds.evaluation.conduct import Settings, conduct
from atodds.evaluation.store import Store
from atodds.models.classifier import Classifier
from atodds.studies.odds_plan import Plan, Training, Variant
from atodds.studies.predictions import predictions
from atodds.studies.trainings import OnDone, train_missing
from atodds.threat import Budget, Norm
from atodds.training.kept import made

NETWORKS = "networks"
"""Where the checkpoints lie, in the folder of the study."""


@dataclass(frozen=True)
class Curve:
    """A network over the sizes.

    Attributes:
        variant: which one.
        accuracy: on all test images, a mean over the repetitions, by size.
        crossing: where it stops being more accurate than the standard one of the same network; None for that.
    """

    variant: Variant
    accuracy: tuple[Gap, ...]
    crossing: Crossing | None


@dataclass(frozen=True)
class Kept:
    """What a network of the largest size keeps: standard and robust accuracy on the attacked images, by radius."""

    variant: Variant
    standard: Rate
    robust: Mapping[str, Rate]


@dataclass(frozen=True)
class Trade:
    """Networks of one kind under attack in one norm.

    Attributes:
        network, norm: which.
        budgets: at which robust accuracy is measured.
        rows: by the radius that was trained against, 0 first.
        store: the run behind it.
    """

    network: str
    norm: Norm
    budgets: tuple[Budget, ...]
    rows: tuple[Kept, ...]
    store: Store


def curves(
    plan: Plan, test: ImageSet, place: Path, *, workers: int = 1, device: str = "cpu", told: OnDone | None = None
) -> tuple[Curve, ...]:
    """Train what is missing, and compare the curves.

    Args:
        plan: from `planned`.
        test: all test images.
        place: folder of the study.
        workers: trainings at once.
        device: where they run.
        told: what is trained.

    Raises:
        ModelError: training that diverged, or a checkpoint that cannot be written.
        RunError: the folder cannot be written.
    """
    jobs = plan.trainings()
    train_missing(jobs, place / NETWORKS, workers=workers, device=device, told=told)
    right = {(job.variant.name, job.seed, job.size): _right(job, test, place, device) for job in jobs}

    def table(variant: Variant) -> Bools:
        return np.stack([[right[variant.name, seed, size] for size in plan.sizes] for seed in plan.seeds])

    found = []
    for variant in plan.variants:
        mine, plain = table(variant), table(Variant(variant.network, variant.settings))
        # Its accuracy is its gap to a network that is never right: the same bootstrap.
        alone = crossing(mine, np.zeros_like(mine), plan.sizes, seed=plan.seeds[0]).gaps
        beside = crossing(mine, plain, plan.sizes, seed=plan.seeds[0]) if variant.eps else None
        found.append(Curve(variant, alone, beside))
    return tuple(found)


def largest(plan: Plan, place: Path, *, device: str = "cpu") -> dict[str, Classifier]:
    """The networks of the largest size and the first seed, by the name of their variant."""
    wanted = [job for job in plan.trainings() if job.seed == plan.seeds[0] and job.size == plan.sizes[-1]]
    found = {job.variant.name: made(job.entry, job.images, place / NETWORKS, device=device) for job in wanted}
    for model in found.values():
        model.to(torch.device(device))
    return found


def trades(
    plan: Plan, attacked: ImageSet, place: Path, attacks: str, settings: Settings, *, device: str = "cpu"
) -> tuple[Trade, ...]:
    """Attack the networks of the largest size and the first seed, in each norm that was trained against.

    Args:
        plan: from `planned`.
        attacked: the test images that are attacked.
        place: folder of the study.
        attacks: as for `atodds.evaluate`.
        settings: of the runs.
        device: where the networks run.

    Raises:
        As for `atodds.evaluate`.
    """
    models = largest(plan, place, device=device)
    quiet = replace(settings, seed=plan.seeds[0], keep=False)
    found = []
    for network in plan.networks:
        for norm in plan.norms:
            variants = [one for one in plan.variants if one.network == network and one.norm in (None, norm)]
            chosen = {one.name: models[one.name] for one in variants}
            folder = place / "runs" / f"{network}-{norm}-{attacked.fingerprint[:8]}"
            store = conduct(chosen, attacked, norm, list(plan.budgets[norm]), attacks, folder, quiet)
            ids = {info.name: info.id for info in store.manifest.models}
            rows = tuple(_kept(one, store, ids[one.name], norm, plan.budgets[norm]) for one in variants)
            found.append(Trade(network, norm, plan.budgets[norm], rows, store))
    return tuple(found)


def _kept(variant: Variant, store: Store, model: str, norm: Norm, budgets: tuple[Budget, ...]) -> Kept:
    table = store.table()
    robust = {eps.text: robust_accuracy(table, model, norm, eps.value) for eps in budgets}
    return Kept(variant, accuracy(table, model), robust)


def _right(job: Training, test: ImageSet, place: Path, device: str) -> Bools:
    model = made(job.entry, job.images, place / NETWORKS, device=device)
    model.to(torch.device(device))
    found: Bools = predictions(model, test, place) == test.labels
    return found
