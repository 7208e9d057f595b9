"""The study of data sizes: how accuracy and robustness move with the number of training images.

The submission of 2019 trains networks on nested, balanced subsets, measures accuracy on training and test images, and
the robustness of each network as the mean distance to its fooling images (equation 4), by C&W in l2 and I-FGSM in
l-inf, over X: the images that the networks of all sizes classify rightly. It finds that "robustness rises first, then
falls beyond a turning point". Here the same for any network and data, with intervals; and beyond it, robust accuracy at
a fixed ε.

Subsets, trainings, predictions and attacks are jobs whose results are kept, so that the same command continues.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from atodds import noise
from atodds.analysis import Rate, wilson
from atodds.analysis.accuracy import beats_guessing
from atodds.analysis.intervals import Bools
from atodds.analysis.turning_point import (
    FEWEST,
    Robustness,
    TurningPoint,
    robust_accuracy_over_sizes,
    robustness_over_sizes,
    turning_point,
)
from atodds.batching import BatchSizes
from atodds.data.images import ImageSet
from atodds.errors import EmptyDataError, ModelError
from atodds.evaluation.conduct import Settings, conduct
from atodds.evaluation.store import Store
from atodds.models import fingerprint
from atodds.studies.compare_models import budgets
from atodds.studies.data_size_plan import Plan, Variant
from atodds.studies.predictions import predictions
from atodds.studies.trainings import Job, OnDone, train_missing
from atodds.threat import Norm
from atodds.training.kept import made

NETWORKS = "networks"
"""Where the checkpoints lie, in the folder of the study."""
NORMS: tuple[Norm, ...] = ("l2", "linf")


@dataclass(frozen=True)
class Curve:
    """A network over all sizes.

    Attributes:
        variant: which one.
        train, test: accuracy on the subset and on the test images, by size.
        accuracy: on the test images as a curve over sizes.
        robustness: equation 4 in l2 and l-inf.
        standing: robust accuracy at the study's ε.
        stores: the runs behind it: "l2", "linf", "fixed".
    """

    variant: Variant
    train: tuple[Rate, ...]
    test: tuple[Rate, ...]
    accuracy: TurningPoint
    robustness: dict[Norm, Robustness]
    standing: TurningPoint
    stores: dict[str, Store]


@dataclass(frozen=True)
class DataSizeStudy:
    """The finished study: its plan, and a curve for each network."""

    plan: Plan
    curves: tuple[Curve, ...]
    test_images: int


def carry_out(
    plan: Plan,
    test: ImageSet,
    place: str | os.PathLike[str],
    settings: Settings,
    *,
    device: torch.device | None = None,
    trained: OnDone | None = None,
    attacked: OnDone | None = None,
) -> DataSizeStudy:
    """Carry the study out, or continue it.

    Args:
        plan: from `planned`.
        test: test images; X is chosen among them.
        place: folder of the study.
        settings: of the runs; its workers train too.
        device: where networks are trained and attacked; the CPU where left out.
        trained, attacked: told what is ready.

    Raises:
        EmptyDataError: too few images that the networks of all sizes classify rightly.
        ModelError: training that diverged or that learned nothing, or a checkpoint that cannot be written.
        As for `atodds.evaluate` otherwise.
    """
    where = device or torch.device("cpu")
    jobs = [training for variant in plan.variants for training in plan.trainings(variant)]
    jobs.sort(key=lambda job: -job.size)
    train_missing(jobs, Path(place) / NETWORKS, workers=settings.workers, device=where.type, told=trained)
    learned = [_learned(plan, variant, Path(place), where) for variant in plan.variants]
    curves = []
    for done, (variant, train) in enumerate(zip(plan.variants, learned, strict=True), 1):
        curves.append(_curve(plan, variant, train, test, Path(place), settings, where))
        if attacked is not None:
            attacked(variant.name, done, len(plan.variants))
    return DataSizeStudy(plan, tuple(curves), len(test))


@dataclass(frozen=True)
class Attacked:
    """What the attacks of a study found on networks of one kind.

    Attributes:
        right: (test images, networks) whether the image is classified rightly.
        ids: of the networks, as the tables of verdicts say them.
        stores: the runs: "l2", "linf", "fixed".
    """

    right: Bools
    ids: tuple[str, ...]
    stores: dict[str, Store]


def attack(
    plan: Plan,
    name: str,
    models: Mapping[str, nn.Module],
    words: Sequence[str],
    test: ImageSet,
    place: Path,
    settings: Settings,
) -> Attacked:
    """Attack networks on X, the images that all of them classify rightly, and at the study's ε on any test images.

    Args:
        plan: of the study.
        name: of the runs' folders.
        models: on the device.
        words: what each of them is called where one is too weak.
        test: the test images.
        place: folder of the study.
        settings: of the runs.

    Raises:
        EmptyDataError: too few images that all classify rightly.
        As for `atodds.evaluate` otherwise.
    """
    right = np.stack([predictions(model, test, place) == test.labels for model in models.values()], 1)
    common = _common(right, test, plan, name, words)
    some = _drawn(test, np.arange(len(test)), plan.limit, plan.seed)
    runs: tuple[tuple[str, Norm, ImageSet, str, str], ...] = (
        ("l2", "l2", common, budgets(plan.data, "l2"), plan.effort.l2),
        ("linf", "linf", common, budgets(plan.data, "linf"), plan.effort.linf),
        ("fixed", "linf", some, plan.eps.text, plan.effort.fixed),
    )
    seeded = replace(settings, seed=plan.seed)
    weights = [fingerprint(model) for model in models.values()]
    stores, sizes = {}, dict[str, BatchSizes]()
    for what, norm, images, eps, spec in runs:
        # What is asked of other images or networks, as after a size was left out, is another run.
        asked = hashlib.sha256(json.dumps([images.fingerprint, eps, spec, weights]).encode()).hexdigest()
        folder = place / f"runs/{name}-{what}-{asked[:8]}"
        stores[what] = conduct(models, images, norm, eps, spec, folder, seeded, shared=sizes)
    return Attacked(right, tuple(info.id for info in stores["l2"].manifest.models), stores)


def _learned(plan: Plan, variant: Variant, place: Path, device: torch.device) -> tuple[Rate, ...]:
    """Accuracy of the networks of a variant on their own subsets. One that learned nothing is refused before anything
    is attacked: X would be what it happens to name, whatever the others know."""
    rates = []
    for one in plan.trainings(variant):
        (model,) = trained_models([one], place, device).values()
        rate = _rate(predictions(model, one.images, place) == one.images.labels)
        if not beats_guessing(rate, one.images.labels):
            raise ModelError(
                f"{one.entry.name} learned nothing: it is right on {rate} of its own training images, no clearly "
                "better than to name the commonest class each time. Leave its size or network out, or train from other "
                "weights (another seed, in another folder)."
            )
        rates.append(rate)
    return tuple(rates)


def _curve(
    plan: Plan,
    variant: Variant,
    train: tuple[Rate, ...],
    test: ImageSet,
    place: Path,
    settings: Settings,
    device: torch.device,
) -> Curve:
    models = trained_models(plan.trainings(variant), place, device)
    seen = attack(plan, variant.name, models, [f"size {size}" for size in plan.sizes], test, place, settings)
    norms: dict[Norm, Store] = {"l2": seen.stores["l2"], "linf": seen.stores["linf"]}
    return Curve(
        variant=variant,
        train=train,
        test=tuple(_rate(column) for column in seen.right.T),
        accuracy=turning_point(seen.right.astype(np.float64), plan.sizes, seed=plan.seed),
        robustness={
            norm: robustness_over_sizes(store.table(), norm, seen.ids, plan.sizes, seed=plan.seed)
            for norm, store in norms.items()
        },
        standing=robust_accuracy_over_sizes(
            seen.stores["fixed"].table(), "linf", seen.ids, plan.sizes, plan.eps.value, seed=plan.seed
        ),
        stores=seen.stores,
    )


def trained_models(jobs: Sequence[Job], place: Path, device: torch.device) -> dict[str, nn.Module]:
    """The networks of some trainings, by name, on the device; what is not in the folder of the study is trained."""
    return {
        job.entry.name: made(job.entry, job.images, place / NETWORKS, device=device.type).to(device) for job in jobs
    }


def _common(right: Bools, test: ImageSet, plan: Plan, name: str, words: Sequence[str]) -> ImageSet:
    """X: images that all networks classify rightly, as many as are attacked, drawn among them."""
    rows = np.flatnonzero(right.all(1))
    if len(rows) < FEWEST:
        weakest = words[int(right.mean(0).argmin())]
        raise EmptyDataError(
            f"{len(rows)} of {len(test)} test images are classified rightly by every {name}, too few. "
            f"Leave out {weakest}, the least accurate, or give more test images."
        )
    return _drawn(test, rows, plan.limit, plan.seed)


def _drawn(test: ImageSet, rows: np.ndarray, limit: int, seed: int) -> ImageSet:
    """As many of these rows, at random by their ids, in source order."""
    draws = noise.uniform(torch.from_numpy(test.ids[rows]), (1,), seed=seed, stream="attacked")[:, 0].numpy()
    return test.take(np.sort(rows[np.argsort(draws, kind="stable")[:limit]]))


def _rate(right: Bools) -> Rate:
    return wilson(int(right.sum()), len(right))
