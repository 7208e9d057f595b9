"""The study of many models: how far each is from being fooled in three norms, and what fools one shown to all others.

D. Su, H. Zhang, H. Chen, J. Yi, P.-Y. Chen, Y. Gao, "Is robustness the cost of accuracy? A comprehensive study on the
robustness of 18 deep image classification models", ECCV 2018, for any models. Every norm is a run of its own, in a
folder of its own, so that each continues where it stopped, and each has its own page.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from torch import nn

from atodds.analysis import Rate, Traits, accuracy
from atodds.attacks.targets import MODES
from atodds.batching import BatchSizes
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, UnknownNameError
from atodds.evaluation.conduct import Settings, conduct
from atodds.evaluation.store import Store
from atodds.models.classifier import Classifier
from atodds.models.networks import NETWORKS, parameter_count
from atodds.threat import Norm
from atodds.training.kept import made
from atodds.training.suites import SUITES, Entry

FEWEST = 3
"""Models of a study, at least: two give no line."""


@dataclass(frozen=True)
class Part:
    """A run of the study: a norm, and the attacks in it."""

    norm: Norm
    attacks: str


_LAPTOP: Mapping[Norm, str] = {
    "l2": "pgd(steps=20,stop=False),minimum_norm(gradients=200)",
    "linf": "fgsm,ifgsm(steps=20,stop=False),minimum_norm(gradients=200)",
    "l1": "pgd(steps=20,stop=False),minimum_norm(gradients=200)",
}
_PAPER: Mapping[Norm, str] = {
    "l2": "pgd(stop=False),minimum_norm,carlini_wagner",
    "linf": "fgsm,ifgsm(steps=50,stop=False),minimum_norm,ifgsm_search(stop=False)",
    "l1": "pgd(stop=False),minimum_norm,elastic_net",
}
_AIMED: Mapping[Norm, str] = {"l2": "carlini_wagner", "linf": "ifgsm_search", "l1": "elastic_net"}
PRESETS: Mapping[str, tuple[Part, ...]] = {
    "laptop": tuple(
        Part(norm, f"{plain},minimum_norm(gradients=200,target=least-likely)") for norm, plain in _LAPTOP.items()
    ),
    "paper": tuple(
        Part(norm, ",".join([plain, *(f"{_AIMED[norm]}(target={target})" for target in MODES)]))
        for norm, plain in _PAPER.items()
    ),
}
"""What is run, by preset: "paper" has the study's own attacks and settings too, "laptop" the shortest ones that tell
distances and transfer, and of the targets the least likely class."""

BUDGETS: Mapping[tuple[str, Norm], str] = {
    ("digits", "linf"): "0.05,0.1,0.2",
    ("mnist", "linf"): "0.05,0.1,0.2,0.3",
    ("", "linf"): "1/255,2/255,4/255,8/255",
    ("digits", "l2"): "0.25,0.5,1,2",
    ("mnist", "l2"): "0.5,1,1.5,2",
    ("", "l2"): "0.125,0.25,0.5,1",
    ("digits", "l1"): "1,2,4,8",
    ("mnist", "l1"): "2,5,10,20",
    ("", "l1"): "2,4,8,12",
}
"""Where curves are read, and the budgets of the attacks that have one, by data set and norm."""


def budgets(data: str, norm: Norm) -> str:
    """The budgets of the study on a data set, by its name."""
    return BUDGETS.get((data, norm)) or BUDGETS["", norm]


def parts(preset: str, norms: Sequence[str] = ()) -> tuple[Part, ...]:
    """The runs of a preset, in some norms or all.

    Raises:
        UnknownNameError: no such preset, or none in that norm.
    """
    if preset not in PRESETS:
        raise UnknownNameError.among("preset", preset, PRESETS)
    known = [part.norm for part in PRESETS[preset]]
    for norm in norms:
        if norm not in known:
            raise UnknownNameError.among("norms", norm, known)
    return tuple(part for part in PRESETS[preset] if part.norm in norms or not norms)


class OnTrained(Protocol):
    """Called with the name of a network that is ready, and how many of how many are."""

    def __call__(self, name: str, done: int, of: int) -> None: ...


def suite(data: str) -> tuple[Entry, ...]:
    """The networks that are trained for a data set where the user brings none.

    Raises:
        ArgumentError: there are none for this data set.
    """
    if data not in SUITES:
        way_out = f"Bring models, or take one of {', '.join(SUITES)}."
        raise ArgumentError("data", data, "no networks are ready to be trained for it", way_out)
    return SUITES[data]


def trained(
    entries: Iterable[Entry], images: ImageSet, folder: str | os.PathLike[str], *, workers: int, told: OnTrained
) -> dict[str, Classifier]:
    """The networks of a suite, each trained in one thread, `workers` of them at a time; those that are there are used
    again.

    Raises:
        ModelError: a checkpoint that cannot be written, or training that diverged.
    """
    wanted = list(entries)
    with ProcessPoolExecutor(max(1, min(workers, len(wanted))), mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(_train, entry, images, str(folder)): entry.name for entry in wanted}
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                job.result()
                told(jobs[job], done, len(wanted))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {entry.name: made(entry, images, folder) for entry in wanted}


def _train(entry: Entry, images: ImageSet, folder: str) -> None:
    made(entry, images, folder)


def traits_of(model: nn.Module, family: str | None = None) -> Traits | None:
    """Family, depth (layers with weights on the way through, those of shortcuts too) and size of a network.

    Args:
        model: the network. The family of one of ours is known from its card.
        family: as the user calls it.
    """
    card = model.card if isinstance(model, Classifier) else None
    known = family or (NETWORKS[card.network].family if card and card.network in NETWORKS else None)
    if known is None:
        return None
    layers = sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in model.modules())
    return Traits(known, depth=layers or None, size=parameter_count(model) or None)


@dataclass(frozen=True)
class ModelsStudy:
    """The finished runs of a study, by norm; the accuracy of its models on every test image, by id; and what is known
    of them by name."""

    stores: Mapping[Norm, Store]
    accuracy: Mapping[str, Rate]
    traits: Mapping[str, Traits]
    preset: str

    @property
    def errors(self) -> dict[str, Rate]:
        """The share of all test images that each model has wrong, by id."""
        return {model: rate.complement for model, rate in self.accuracy.items()}


def compare(
    models: Mapping[str, nn.Module],
    images: ImageSet,
    place: str | os.PathLike[str],
    settings: Settings,
    *,
    every: ImageSet | None = None,
    preset: str = "laptop",
    norms: Sequence[str] = (),
    families: Mapping[str, str] | None = None,
    data: str = "",
) -> ModelsStudy:
    """Carry the study out, or continue it.

    Args:
        models: by name, three or more.
        images: to attack; only those that a model classifies rightly count for it.
        place: folder; each norm has one of its own in it.
        every: all test images, on which accuracy is measured; `images` where left out. Few of those that are attacked
            are misclassified, and the logarithm of the error of a good model is that of a handful.
        settings: as for a run; every attack runs alone on every image, and all is shown to all others.
        preset: "laptop" or "paper".
        norms: those to look at; all of the preset if none are named. Others may follow in the same folder.
        families: of models, by name, where they are not networks of this package.
        data: name of the data set, for the budgets.

    Raises:
        ArgumentError: fewer than three models, or a family for none of them.
        UnknownNameError: no such preset or norm.
        As for `atodds.evaluate`.
    """
    runs = parts(preset, norms)
    if len(models) < FEWEST:
        raise ArgumentError("models", len(models), "too few to compare", f"Bring {FEWEST} or more.")
    for name in families or {}:
        if name not in models:
            raise UnknownNameError.among("family", name, models)
    whole = replace(settings, alone=True, transfer=True, keep=True)
    sizes: dict[str, BatchSizes] = {}
    stores = {
        part.norm: conduct(
            models, images, part.norm, budgets(data, part.norm), part.attacks, Path(place) / part.norm, whole,
            shared=sizes,
        )
        for part in runs
    }  # fmt: skip
    plain = replace(settings, transfer=False, keep=False)
    clean = conduct(models, every or images, "linf", "0", "fgsm", Path(place) / "accuracy", plain, shared=sizes)
    rates = {info.id: accuracy(clean.table(), info.id) for info in clean.manifest.models}
    known = {name: traits_of(model, (families or {}).get(name)) for name, model in models.items()}
    return ModelsStudy(stores, rates, {name: traits for name, traits in known.items() if traits}, preset)
