"""Does adversarial training become cheaper by what gradients say? Rules held against plain and fast training.

Each rule trains one network for several numbers of passes over the data and several seeds. What counts is the cost at
which a rule reaches the robust accuracy of plain training: in processor time, and in passes of single images. Every
training is kept as a number, so that the same call continues.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from atodds.attacks import auto_pgd
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError
from atodds.evaluation.folder import Folder
from atodds.models.classifier import Classifier
from atodds.oracle import Oracle
from atodds.studies.trainings import OnDone
from atodds.threat import Threat
from atodds.training.loop import Progress, train
from atodds.training.recipe import Recipe


@dataclass(frozen=True)
class Rule:
    """A way to train.

    Attributes:
        changes: what differs from the plain recipe.
        longer: epochs for each epoch of the plain one.
    """

    changes: Mapping[str, object]
    longer: int = 1


RULES: Mapping[str, Rule] = {
    "pgd": Rule({}),
    # Two passes of an image in an epoch where PGD with five steps takes six: three epochs cost the same passes.
    "fast": Rule({"objective": "fast", "attack_steps": None}, longer=3),
    "skip 30 %": Rule({"skip": 0.3}),
    "skip 60 %": Rule({"skip": 0.6}),
    "freeze": Rule({"freeze": 2.0}),
}
"""By name; the plain one comes first."""
_CODE = 2
"""Raised by one when a training is measured another way."""
_STEPS = 20
"""Of Auto-PGD, which measures robust accuracy."""


@dataclass(frozen=True)
class Setup:
    """What is trained.

    Attributes:
        network: its name, with `settings`.
        samples: of the training images.
        recipe: of plain training; epochs and seed are set for each training.
        epochs: passes over the data by the plain rule, ascending.
    """

    network: str
    settings: Mapping[str, int]
    samples: int
    recipe: Recipe
    epochs: tuple[int, ...]


def _recipe(eps: float, steps: int, precision: str) -> Recipe:
    return Recipe(
        objective="adversarial", batch_size=64, lr=0.05, eps=eps, attack_steps=steps, eps_ramp=0.5,
        precision="bfloat16" if precision == "bfloat16" else "float32",
    )  # fmt: skip


SETUPS: Mapping[str, Setup] = {
    "digits": Setup("cnn4", {"width": 8}, 1400, _recipe(0.2, 5, "float32"), (4, 8, 16)),
    "mnist": Setup("cnn4", {"width": 8}, 5000, _recipe(0.2, 5, "bfloat16"), (2, 4, 8)),
}
"""By the name of the data set."""


@dataclass(frozen=True)
class Trial:
    """One training: its cost and what came of it.

    Attributes:
        rule, epochs, seed: which.
        seconds: of the processor.
        passes: of single images, each forward and backward.
        standard, robust: accuracy on the test images.
        n: of these.
    """

    rule: str
    epochs: int
    seed: int
    seconds: float
    passes: int
    standard: float
    robust: float
    n: int


@dataclass(frozen=True)
class Ratio:
    """A cost beside that of plain training: the middle, the lowest and the highest of the seeds; infinite where the
    robust accuracy was not reached, and then `spent` is the least that was spent in vain, beside plain training too."""

    value: float
    low: float
    high: float
    spent: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"not reached, for {self.spent:.2f} or more"
        value, low, high = ("not reached" if math.isinf(x) else f"{x:.2f}" for x in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


@dataclass(frozen=True)
class Cheaper:
    """The trainings, and what each rule costs at the robust accuracy `target`.

    Attributes:
        setup: what was trained.
        trials: all of them.
        target: mean robust accuracy of plain training with the second-largest number of passes over the data, or what
            plain training reaches with every seed, where that is less.
        seconds, passes: by rule, beside plain training of the same seed.
        seeds: how many.
    """

    setup: Setup
    trials: tuple[Trial, ...]
    target: float
    seconds: Mapping[str, Ratio]
    passes: Mapping[str, Ratio]
    seeds: int

    @property
    def pays(self) -> tuple[str, ...]:
        """The rules that cost less processor time than plain training with every seed."""
        return tuple(rule for rule, ratio in self.seconds.items() if rule != "pgd" and ratio.high < 1)


def measure(
    data: str, training: ImageSet, test: ImageSet, place: Path, *, seeds: Sequence[int], told: OnDone | None = None
) -> Cheaper:
    """Train by every rule, or continue.

    Args:
        data: name of the data set.
        training: to take the samples from, the same for all.
        test: images that robust accuracy is measured on.
        place: folder of the study.
        seeds: of weights, order and starts.
        told: what is done.

    Raises:
        ArgumentError: a data set that no setup is known for, or no seed.
        ModelError: training that diverged.
        RunError: the folder cannot be written.
    """
    if data not in SETUPS:
        raise ArgumentError("data", data, "no cheaper training is set up for it", f"Take {', '.join(SETUPS)}.")
    if not seeds:
        raise ArgumentError("seeds", [], "nothing to train", "Give one or more.")
    setup = SETUPS[data]
    images = training.limit(min(setup.samples, len(training)))
    wanted = [
        (name, epochs * rule.longer, seed) for seed in seeds for epochs in setup.epochs for name, rule in RULES.items()
    ]
    trials = []
    for done, (name, epochs, seed) in enumerate(wanted, 1):
        trials.append(_trial(setup, name, epochs, seed, images, test, Folder(place)))
        if told is not None:
            told(f"{name}, {epochs} epochs, seed {seed}", done, len(wanted))
    return summary(setup, trials)


def summary(setup: Setup, trials: Sequence[Trial]) -> Cheaper:
    """What the rules cost at equal robust accuracy.

    Args:
        setup: of the trials.
        trials: of every rule, with every number of epochs and seed.
    """
    seeds = sorted({trial.seed for trial in trials})
    level = setup.epochs[-2] if len(setup.epochs) > 1 else setup.epochs[-1]
    middle = float(np.mean([one.robust for one in trials if (one.rule, one.epochs) == ("pgd", level)]))
    target = min(middle, *(max(one.robust for one in _mine(trials, "pgd", seed)) for seed in seeds))

    def ratios(rule: str, cost: str) -> Ratio:
        found, vain = [], []
        for seed in seeds:
            plain = _cost(trials, "pgd", seed, cost, target)
            found.append(_cost(trials, rule, seed, cost, target) / plain)
            if math.isinf(found[-1]):
                vain.append(_costs(trials, rule, seed, cost)[-1] / plain)
        return Ratio(float(np.median(found)), min(found), max(found), min(vain, default=math.inf))

    rules = list(dict.fromkeys(trial.rule for trial in trials))
    seconds, passes = ({rule: ratios(rule, cost) for rule in rules} for cost in ("seconds", "passes"))
    return Cheaper(setup, tuple(trials), target, seconds, passes, len(seeds))


def cost_at(costs: Sequence[float], values: Sequence[float], target: float) -> float:
    """The cost at which values first reach a target, between trainings by a straight line over the logarithm of the
    cost; the first cost where it is reached from the start, infinity where it is never reached.

    Args:
        costs: ascending and positive.
        values: one for each.
        target: to be reached.
    """
    for k, value in enumerate(values):
        if value >= target:
            if k == 0 or value == values[k - 1]:
                return float(costs[k])
            share = (target - values[k - 1]) / (value - values[k - 1])
            return float(costs[k - 1] * (costs[k] / costs[k - 1]) ** share)
    return math.inf


def _cost(trials: Sequence[Trial], rule: str, seed: int, cost: str, target: float) -> float:
    robust = [one.robust for one in _mine(trials, rule, seed)]
    return cost_at(_costs(trials, rule, seed, cost), robust, target)


def _costs(trials: Sequence[Trial], rule: str, seed: int, cost: str) -> list[float]:
    return [float(getattr(one, cost)) for one in _mine(trials, rule, seed)]


def _mine(trials: Sequence[Trial], rule: str, seed: int) -> list[Trial]:
    """Those of a rule and a seed, by their epochs."""
    return sorted((one for one in trials if (one.rule, one.seed) == (rule, seed)), key=lambda one: one.epochs)


def _trial(setup: Setup, rule: str, epochs: int, seed: int, images: ImageSet, test: ImageSet, folder: Folder) -> Trial:
    recipe = replace(setup.recipe, epochs=epochs, seed=seed, **RULES[rule].changes)  # type: ignore[arg-type]
    what = [_CODE, _STEPS, setup.network, dict(setup.settings), recipe.told(), images.fingerprint, test.fingerprint]
    name = f"cheaper/{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]}.json"
    if folder.exists(name):
        return Trial(**json.loads(folder.read(name)))
    passes = dict[int, int]()

    def count(progress: Progress) -> None:
        passes[progress.epoch] = progress.passes

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began = time.process_time()
        model = train(setup.network, images, recipe, settings=setup.settings, device="cpu", on_progress=count)
        seconds = time.process_time() - began
    finally:
        torch.set_num_threads(threads)
    standard, robust = _accuracies(model, test, Threat(str(recipe.norm), float(setup.recipe.eps or 0)))
    found = Trial(rule, epochs, seed, seconds, sum(passes.values()), standard, robust, len(test))
    folder.write(name, json.dumps(asdict(found)).encode())
    return found


def _accuracies(model: Classifier, test: ImageSet, threat: Threat) -> tuple[float, float]:
    images, labels, ids = test.images(), torch.tensor(test.labels), torch.tensor(test.ids)
    oracle = Oracle(model)
    found = auto_pgd(oracle, images, labels, threat, ids=ids, steps=_STEPS)
    standard, robust = (oracle.logits(shown, ids).argmax(1) == labels for shown in (images, found))
    return float(standard.double().mean()), float((standard & robust).double().mean())
