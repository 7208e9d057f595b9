"""The study of accuracy against robustness: the theory, the experiment, and what networks see.

Tsipras et al., "Robustness may be at odds with accuracy" (ICLR 2019), for any data and networks. It has parts, which
can be asked for one by one: the theory, training against data, the trade under attack, the linear task, pictures, and
training made cheaper. What takes long is kept in the folder of the study, and the same command continues.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from atodds.analysis import Rate
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, UnknownNameError
from atodds.evaluation.conduct import Settings
from atodds.explain import features
from atodds.explain.features import Step, Task, Weights
from atodds.studies.cheaper import Cheaper, measure
from atodds.studies.odds_pictures import Pictures, pictures
from atodds.studies.odds_plan import Plan
from atodds.studies.odds_training import Curve, Trade, curves, largest, trades
from atodds.studies.trainings import OnDone
from atodds.theory import soft_margin, tsipras
from atodds.theory.soft_margin import Phase
from atodds.theory.tsipras import DataModel

PARTS = {
    "theory": "the data model in which everything is known",
    "samples": "standard and adversarial training over the number of training samples",
    "attacks": "accuracy and robust accuracy by the radius that was trained against",
    "features": "a linear task: weights against correlation",
    "pictures": "gradients, far images, interpolation, synthesis",
    "cheaper": "adversarial training that skips weak images or lets layers stand still",
}
"""By name: what each part is."""
TRAINED = ("samples", "attacks")
USUAL_PARTS = tuple(part for part in PARTS if part != "cheaper")
PAIR, PAIR_EPS = ("5", "7"), 0.2
"""The linear task of the paper, and its radius."""
P, STRENGTH, FEATURES = 0.95, 3.0, 100
DRAWS = 20_000


@dataclass(frozen=True)
class Point:
    """A classifier of the data model: accuracy in closed form and counted on draws."""

    name: str
    standard: float
    robust: float
    counted: tuple[Rate, Rate]


@dataclass(frozen=True)
class Theory:
    """What is known without a network.

    Attributes:
        model: the example.
        eps: of the adversary, 2η.
        line: (standard, robust) of classifiers between the first feature alone and the mean of the others.
        points: some of them and the two machines, with draws beside.
        phases: what training ends in, over p, η√d and eps.
        draws: behind each counted rate.
    """

    model: DataModel
    eps: float
    line: tuple[tuple[float, float], ...]
    points: tuple[Point, ...]
    phases: tuple[Phase, ...]
    draws: int


@dataclass(frozen=True, eq=False)
class Features:
    """The linear task.

    Attributes:
        classes: its two.
        eps: radius of attack and training.
        train, test: images.
        standard, robust: the two classifiers; `rates` their standard and robust accuracy.
        steps: standard classifiers on the best-correlated pixels.
    """

    classes: tuple[str, str]
    eps: float
    train: Task
    test: Task
    standard: Weights
    robust: Weights
    rates: tuple[tuple[Rate, Rate], tuple[Rate, Rate]]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class OddsStudy:
    """The finished parts of the study; None for those that were not asked for."""

    data: str
    plan: Plan | None
    theory: Theory | None
    curves: tuple[Curve, ...]
    trades: tuple[Trade, ...]
    features: Features | None
    pictures: Pictures | None
    cheaper: Cheaper | None
    attacks: str
    command: str
    device: str


def check_parts(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts, each once, in the order of the page.

    Raises:
        UnknownNameError: no such part.
        ArgumentError: none.
    """
    for part in parts:
        if part not in PARTS:
            raise UnknownNameError.among("parts", part, PARTS)
    if not parts:
        raise ArgumentError("parts", [], "nothing to do", f"Give some of {', '.join(PARTS)}.")
    return tuple(part for part in PARTS if part in parts)


def carry_out(
    train: ImageSet,
    test: ImageSet,
    place: str | os.PathLike[str],
    settings: Settings,
    *,
    data: str,
    plan: Plan | None = None,
    models: Mapping[str, nn.Module] | None = None,
    parts: Sequence[str] = USUAL_PARTS,
    limit: int = 100,
    attacks: str = "standard",
    device: torch.device | None = None,
    trained: OnDone | None = None,
    told: Callable[[str], None] | None = None,
) -> OddsStudy:
    """Carry the study out, or continue it.

    Args:
        train, test: all training and test images.
        place: folder of the study.
        settings: of the runs; its workers train too.
        data: name of the data set.
        plan: of the networks that are trained; they are needed for "samples" and "attacks", and are shown in
            "pictures" where there is one.
        models: other networks for the pictures, by name.
        parts: some of `PARTS`.
        limit: test images that are attacked, and that alignment is measured on.
        attacks: of the part "attacks".
        device: where networks run; the CPU where left out.
        trained: told what is trained.
        told: told which part begins.

    Raises:
        UnknownNameError, ArgumentError: parts that do not exist, or that have nothing to work with.
        As for `atodds.evaluate` otherwise.
    """
    wanted = check_parts(parts)
    if plan is None and (missing := [part for part in TRAINED if part in wanted]):
        raise ArgumentError("parts", ", ".join(missing), "no networks to train", "Give a plan, or leave them out.")
    if "pictures" in wanted and plan is None and not models:
        raise ArgumentError("models", None, "nothing to look with", "Give models, a plan, or leave pictures out.")
    where, folder = device or torch.device("cpu"), Path(place)
    some = test.limit(min(limit, len(test)))

    def begins(part: str) -> bool:
        if part in wanted and told is not None:
            told(PARTS[part])
        return part in wanted

    theory = known() if begins("theory") else None
    found: tuple[Curve, ...] = ()
    if begins("samples") and plan is not None:
        found = curves(plan, test, folder, workers=settings.workers, device=where.type, told=trained)
    traded: tuple[Trade, ...] = ()
    if begins("attacks") and plan is not None:
        traded = trades(plan, some, folder, attacks, settings, device=where.type)
    linear = linear_task(train, test) if begins("features") and set(PAIR) <= set(test.classes) else None
    shown = None
    if begins("pictures"):
        own = _pair(plan, largest(plan, folder, device=where.type)) if plan is not None else {}
        shown = pictures({**own, **(models or {})}, some, train, data=data)
    cheap = None
    if begins("cheaper"):
        seeds = plan.seeds if plan is not None else tuple(range(settings.seed, settings.seed + 3))
        cheap = measure(data, train, some, folder, seeds=seeds, told=trained)
    return OddsStudy(data, plan, theory, found, traded, linear, shown, cheap, attacks, settings.command, where.type)


def known(*, draws: int = DRAWS) -> Theory:
    """The theory at p = 0.95 and η√d = 3, with draws beside it, and the diagram over p, η√d and eps."""
    model = DataModel.of_strength(P, STRENGTH, FEATURES)
    eps = 2 * model.shift

    def both(classifier: tsipras.Linear) -> tuple[float, float]:
        return tsipras.accuracy(model, classifier), tsipras.accuracy(model, classifier, eps)

    angles = np.linspace(0, np.pi / 2, 61)
    line = tuple(both(tsipras.symmetric(model, float(np.sin(t)), float(np.cos(t)))) for t in angles)
    chosen = {
        "mean of the weak features": tsipras.averaging(model),
        "soft-margin SVM": soft_margin.svm(model).classifier,
        "equal weights of both": tsipras.symmetric(model, 0.5**0.5, 0.5**0.5),
        "mostly the first feature": tsipras.symmetric(model, 0.95, (1 - 0.95**2) ** 0.5),
        "adversarial SVM: the first feature": soft_margin.svm(model, eps).classifier,
    }
    points = tuple(
        Point(
            name,
            *both(one),
            (
                tsipras.simulated(model, one, n=draws, seed=1),
                tsipras.simulated(model, one, eps, n=draws, seed=2),
            ),
        )
        for name, one in chosen.items()
    )
    steps = [float(value) for value in np.linspace(0, 1, 21)]
    strengths = [float(value) for value in np.linspace(0.5, 6, 12)]
    diagram = soft_margin.phases((0.6, 0.8, 0.95), strengths, steps, features=FEATURES)
    return Theory(model, eps, line, points, diagram, draws)


def linear_task(train: ImageSet, test: ImageSet) -> Features:
    """5 against 7 with and without an adversary."""
    task, measured = (features.pair(one, *PAIR) for one in (train, test))
    standard, robust = features.trained(task), features.trained(task, eps=PAIR_EPS)
    rates = tuple((one.kept(measured), one.kept(measured, PAIR_EPS)) for one in (standard, robust))
    moving = int((task.correlations != 0).sum())
    counts = [count for count in (2, 5, 10, 20, 50, 100, 200, 400) if count < moving]
    steps = features.by_pixels(task, measured, [*counts, moving], PAIR_EPS)
    return Features(PAIR, PAIR_EPS, task, measured, standard, robust, (rates[0], rates[1]), steps)


def _pair(plan: Plan, models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Of the last network: the standard one, and in each norm the one against the largest radius."""
    mine = [one for one in plan.variants if one.network == plan.networks[-1]]
    chosen = [mine[0], *(max((one for one in mine if one.norm == norm), key=lambda v: v.value) for norm in plan.norms)]
    return {one.name: models[one.name] for one in chosen}
