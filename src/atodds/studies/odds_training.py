"""Robust training against data: what it gains and costs on few and on many samples, and with the radius.

Tsipras et al. (ICLR 2019), figure 1, for any network and norm: standard test accuracy over the number of training
samples, for networks trained against several radii. And the trade on the largest training set: standard and robust
accuracy by the radius that was trained against.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from atodds.analysis import Rate, accuracy, robust_accuracy, wilson
from atodds.analysis.accuracy import beats_guessing
from atodds.analysis.crossing import Crossing, Gap, crossing
from atodds.analysis.intervals import Bools
from atodds.batching import BatchSizes
from atodds.data.images import ImageSet
from atodds.evaluation.conduct import Settings, conduct
from atodds.evaluation.manifest import Finding, ModelInfo
from atodds.evaluation.store import Store
from atodds.models.classifier import Classifier
from atodds.studies.odds_plan import Plan, Training, Variant
from atodds.studies.predictions import predictions
from atodds.studies.trainings import OnDone, train_missing
from atodds.threat import Budget, Norm
from atodds.training.kept import made

NETWORKS = "networks"
"""Where the checkpoints lie, in the folder of the study."""
_TINY = 256
"""Networks for images of so few values are attacked in this process: others take as long to start."""


@dataclass(frozen=True)
class Curve:
    """A network over the sizes.

    Attributes:
        variant: which one.
        accuracy: on all test images, a mean over the repetitions, by size.
        crossing: where it stops being more accurate than the standard one of the same network; None for that.
        dead: by size and seed, the accuracy of trainings that learned nothing: no clearly better than to name the
            commonest class each time. The mean holds them all the same.
    """

    variant: Variant
    accuracy: tuple[Gap, ...]
    crossing: Crossing | None
    dead: Mapping[tuple[int, int], Rate]


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
        store: the run behind it, which may be of more networks.
    """

    network: str
    norm: Norm
    budgets: tuple[Budget, ...]
    rows: tuple[Kept, ...]
    store: Store

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """As the run knows these networks."""
        names = {row.variant.name for row in self.rows}
        return tuple(info for info in self.store.manifest.models if info.name in names)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the audit saw of them."""
        ids = {info.id for info in self.models}
        return tuple(finding for finding in self.store.findings() if finding.model in ids)


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
        reached = {(size, seed): right[variant.name, seed, size] for size in plan.sizes for seed in plan.seeds}
        rates = {where: wilson(int(hits.sum()), len(hits)) for where, hits in reached.items()}
        dead = {where: rate for where, rate in rates.items() if not beats_guessing(rate, test.labels)}
        found.append(Curve(variant, alone, beside, dead))
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
    workers = 1 if math.prod(attacked.shape) <= _TINY else settings.workers
    quiet = replace(settings, seed=plan.seeds[0], keep=False, workers=workers)
    found, sizes = dict[tuple[str, Norm], Trade](), dict[str, BatchSizes]()
    for norm in plan.norms:
        # Both networks in one run: processes take longer to start than small networks to be attacked.
        variants = [one for one in plan.variants if one.norm in (None, norm)]
        chosen = {one.name: models[one.name] for one in variants}
        folder = place / "runs" / f"{norm}-{attacked.fingerprint[:8]}"
        store = conduct(chosen, attacked, norm, list(plan.budgets[norm]), attacks, folder, quiet, shared=sizes)
        ids = {info.name: info.id for info in store.manifest.models}
        for network in plan.networks:
            mine = [one for one in variants if one.network == network]
            rows = tuple(_kept(one, store, ids[one.name], norm, plan.budgets[norm]) for one in mine)
            found[network, norm] = Trade(network, norm, plan.budgets[norm], rows, store)
    return tuple(found[network, norm] for network in plan.networks for norm in plan.norms)


def _kept(variant: Variant, store: Store, model: str, norm: Norm, budgets: tuple[Budget, ...]) -> Kept:
    table = store.table()
    robust = {eps.text: robust_accuracy(table, model, norm, eps.value) for eps in budgets}
    return Kept(variant, accuracy(table, model), robust)


def _right(job: Training, test: ImageSet, place: Path, device: str) -> Bools:
    model = made(job.entry, job.images, place / NETWORKS, device=device)
    model.to(torch.device(device))
    found: Bools = predictions(model, test, place) == test.labels
    return found
