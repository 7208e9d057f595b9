"""The study of classes: accuracy of every class over ε, what each step takes, and what each attack added at which cost.

The study of 2024 ran AutoAttack on 500 CIFAR-10 images at ε = 0, 1/255, ..., 8/255 against five published models, and
tabulated accuracy and drops class by class. Here the same for any models and data, with intervals and with tests that
are corrected for their number. It is one run, as `atodds bench` makes it: the same command continues it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from torch import nn

from atodds.analysis.accuracy import Integers
from atodds.analysis.attacks import AttackShares, attack_shares
from atodds.analysis.classes import ClassCurvesOfMany, Tested, class_curves
from atodds.analysis.intervals import Rate
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, RunError
from atodds.evaluation.conduct import Settings, conduct
from atodds.evaluation.store import Store
from atodds.models.classifier import Classifier
from atodds.threat import Budget, EpsSpec, parse_eps_list
from atodds.training.digits import digits_pair
from atodds.training.kept import made
from atodds.training.suites import SUITES

FEWEST = 2
"""Classes, at least: one has nothing to be compared with."""
BESIDE = ("mlp",)
"""Networks of the digits suite that stand beside the pair where the user brings no model."""
TABLES = "tables"
"""Where the tables lie, in the folder of the study."""


@dataclass(frozen=True, eq=False)
class ClassStudy:
    """A finished study.

    Attributes:
        store: the run behind it.
        names: of the models by id, no two the same.
        curves: everything class by class.
        attacks: what each attack added, by model, in the order of the run.
        seconds: that each took, by model id and attack.
    """

    store: Store
    names: Mapping[str, str]
    curves: ClassCurvesOfMany
    attacks: tuple[AttackShares, ...]
    seconds: Mapping[tuple[str, str], float]

    def attack_minutes(self, model: str, attack: str) -> float:
        """Wall minutes that an attack took on a model."""
        return self.seconds.get((model, attack), 0.0) / 60


def digits_models(folder: str | os.PathLike[str]) -> dict[str, nn.Module]:
    """Three small networks for the embedded digits, trained on the first call: a standard and a robust one, and a
    perceptron.

    Raises:
        ModelError: checkpoints that cannot be written.
    """
    from atodds import data

    images = data.load("digits", split="train")
    pair = {model.name: model for model in digits_pair(folder)}
    others: dict[str, Classifier] = {
        entry.name: made(entry, images, folder) for entry in SUITES["digits"] if entry.name in BESIDE
    }
    return {**pair, **others}


def carry_out(
    models: Mapping[str, nn.Module],
    images: ImageSet,
    place: str | os.PathLike[str],
    settings: Settings,
    *,
    norm: str = "linf",
    eps: EpsSpec = "0:8/255:1/255",
    attacks: str = "standard",
) -> ClassStudy:
    """Carry the study out, or continue it. Arguments and errors are those of `atodds.evaluate`.

    Raises:
        ArgumentError: images of a single class, or no ε above 0.
    """
    if len(set(images.labels.tolist())) < FEWEST:
        raise ArgumentError("images", images.name, "images of a single class", "Bring images of two classes or more.")
    if parse_eps_list(eps, norm)[-1].value == 0:
        raise ArgumentError("eps", eps, "nothing changes within it", "Give a positive one too: 0:8/255:1/255.")
    return read(conduct(models, images, norm, eps, attacks, place, settings))


def read(store: Store) -> ClassStudy:
    """The study that a finished run holds.

    Raises:
        RunError: it is not finished.
    """
    manifest, table = store.manifest, store.table()
    budgets = (Budget(0.0, "0"), *(budget for budget in manifest.budgets if budget.value > 0))
    plain = [info.name for info in manifest.models]
    names = {info.id: info.name if plain.count(info.name) == 1 else info.id for info in manifest.models}
    order = table["model"].unique(maintain_order=True).to_list()
    return ClassStudy(
        store=store,
        names=names,
        curves=class_curves(
            table, manifest.norm, budgets, manifest.data.classes, names=[names[model] for model in order],
            seed=manifest.seed,
        ),
        attacks=tuple(
            attack_shares(table, model, manifest.norm, budgets, manifest.attacks, alone=manifest.alone)
            for model in order
        ),
        seconds={(model, attack): total for model, attack, total in store.seconds().iter_rows()},
    )  # fmt: skip


def tables(study: ClassStudy) -> dict[str, pl.DataFrame]:
    """Every table of the study, by the name of its file; shares from 0 to 1, with their n and interval."""
    curves, called = study.curves, study.curves.classes
    accuracy, drops, gaps, mistakes, attacks = [], [], [], [], []
    spans = [f"{a} to {b}" for a, b in zip(curves.budgets[:-1], curves.budgets[1:], strict=True)]
    for one in curves.models:
        name = study.names[one.model]
        for row in one.rows:
            same = {"model": name, "class": called[row.label]}
            accuracy += [
                same | {"eps": b.text} | _numbers(rate) for b, rate in zip(curves.budgets, row.rates, strict=True)
            ]
            drops += [same | {"step": span} | _numbers(rate) for span, rate in zip(spans, row.steps, strict=True)]
            drops.append(same | {"step": "total"} | _numbers(row.total))
        gaps += [
            {"model": name, "eps": gap.budget.text, "best": called[gap.best], "worst": called[gap.worst],
             "gap": gap.difference.value, "low": gap.difference.low, "high": gap.difference.high,
             "p_all_alike": gap.p_value}
            for gap in one.gaps
        ]  # fmt: skip
        mistakes += [
            {"model": name, "eps": curves.budgets[at].text, "class": called[row.label], "taken_for": called[other],
             "images": int(one.mistakes[at, place, other])}
            for at in range(len(curves.budgets))
            for place, row in enumerate(one.rows)
            for other in one.mistakes[at, place].nonzero()[0].tolist()
        ]  # fmt: skip
    for shares in study.attacks:
        for attack in shares.attacks:
            for budget, rate in zip(shares.budgets, attack.added, strict=True):
                attacks.append(
                    {"model": study.names[shares.model], "attack": attack.attack, "eps": budget.text} | _numbers(rate)
                    | {"images": attack.images, "forwards": attack.forwards, "backwards": attack.backwards,
                       "minutes": study.attack_minutes(shares.model, attack.attack)}
                )  # fmt: skip
    mean = [
        {"class": called[one.label], "drop": one.value, "low": one.low, "high": one.high, "n": one.n}
        for one in curves.mean_drops
    ]
    return {
        "accuracy": pl.DataFrame(accuracy),
        "drops": pl.DataFrame(drops),
        "mean_drops": pl.DataFrame(mean),
        "gaps": pl.DataFrame(gaps),
        "attacks": pl.DataFrame(attacks),
        "mistakes": pl.DataFrame(mistakes),
        "between_classes": _tested(curves.between_classes, "model"),
        "between_models": _tested(curves.between_models, "class"),
    }


def write_tables(study: ClassStudy, folder: str | os.PathLike[str]) -> list[Path]:
    """Write every table as NAME.csv, and give their paths back.

    Raises:
        RunError: the folder cannot be written.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        written = []
        for name, table in tables(study).items():
            table.write_csv(place / f"{name}.csv")
            written.append(place / f"{name}.csv")
    except OSError as error:
        raise RunError(f"Tables cannot be written to {place}: {error.strerror or error}.") from error
    return written


def taken_most(counts: Integers) -> tuple[int, int]:
    """The class that most of the fallen images of a class were taken for, and how many."""
    most = int(counts.argmax())
    return most, int(counts[most])


def _numbers(rate: Rate) -> dict[str, object]:
    return {"share": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}


def _tested(tests: tuple[Tested, ...], of: str) -> pl.DataFrame:
    rows = [
        {of: one.of, "a": one.a, "b": one.b, "difference": one.difference, "p_corrected": one.p_value,
         "clear": one.clear}
        for one in tests
    ]  # fmt: skip
    schema = {of: pl.String, "a": pl.String, "b": pl.String, "difference": pl.Float64, "p_corrected": pl.Float64,
              "clear": pl.Boolean}  # fmt: skip
    return pl.DataFrame(rows, schema=schema)
