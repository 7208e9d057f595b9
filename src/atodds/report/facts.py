"""Every number of a page, computed once from the verdict table; charts, words and tables only show them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from atodds import analysis
from atodds.analysis import AttackShares, ClassCurves, Curve, Distances, Median, Rate, Traits
from atodds.analysis.accuracy import difference_at
from atodds.evaluation.manifest import Finding, Manifest, ModelInfo
from atodds.report.further import Further, further
from atodds.report.source import Source
from atodds.report.units import Unit, unit_of
from atodds.threat import Budget, Norm, parse_norm

ZERO = Budget(0.0, "0")
GRID = 8
"""How many budgets a page looks at when none was asked for: a run of minimum-norm attacks only."""


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """One model: who it is, and what was measured of it at `Facts.budgets`.

    `place` is its position in the run, which fixes its colour and shape over the whole page; `name` tells it from all
    others. `median` is None where the model classifies no image rightly.
    """

    place: int
    name: str
    info: ModelInfo
    accuracy: Rate
    curve: Curve
    classes: ClassCurves
    shares: AttackShares
    distances: Distances
    median: Median | None
    seconds: dict[str, float]
    findings: tuple[Finding, ...]

    def at(self, budget: Budget) -> Rate:
        """Robust accuracy at one of the page's budgets."""
        return self.curve.rates[self.curve.budgets.index(budget)]

    def count(self, severity: str) -> int:
        """How many findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass(frozen=True, eq=False)
class Facts:
    """A run in numbers.

    `budgets` are those that were asked for, and 0 before them. `shown` are up to three of them for the leaderboard, and
    `key` the one that tells the models apart best (or that halves a single model's accuracy); the model that keeps most
    at `key` comes first. `classes` are the names by label, no two of them the same. `further` is what only some runs
    have.
    """

    manifest: Manifest
    unit: Unit
    budgets: tuple[Budget, ...]
    shown: tuple[Budget, ...]
    key: Budget
    classes: tuple[str, ...]
    models: tuple[ModelFacts, ...]
    findings: tuple[Finding, ...]
    further: Further

    @property
    def n(self) -> int:
        """How many images there are."""
        return self.models[0].accuracy.n

    @property
    def attacks(self) -> tuple[str, ...]:
        """Every attack in the order of the run, which fixes its colour."""
        return tuple(dict.fromkeys(share.attack for model in self.models for share in model.shares.attacks))

    def by_place(self) -> tuple[ModelFacts, ...]:
        """The models in the order in which the run names them."""
        return tuple(sorted(self.models, key=lambda model: model.place))

    def count(self, severity: str) -> int:
        """How many findings of a severity, over all models."""
        return sum(finding.severity == severity for finding in self.findings)

    def name(self, model_id: str) -> str:
        """The name that the page calls a model by."""
        return next((model.name for model in self.models if model.info.id == model_id), model_id)

    def class_name(self, label: int) -> str:
        """The name of a class, or what stands for it where a model predicted none."""
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}" if label >= 0 else "no class"


def gather(run: Source, traits: Mapping[str, Traits] | None = None, errors: Mapping[str, Rate] | None = None) -> Facts:
    """The facts of a finished run.

    Args:
        run: to be read.
        traits: family, depth and size of models, by name or id, where they are known.
        errors: top-1 error of every model, by id, where it was measured on more images than the run's.

    Raises:
        RunError: it is not finished, or a file of it is not whole.
    """
    manifest, table, findings = run.manifest, run.table(), tuple(run.findings())
    norm = parse_norm(manifest.norm)
    budgets = _budgets(manifest, table)
    classes = _distinct(manifest.data.classes, table)
    spent = {(model, attack): total for model, attack, total in run.seconds().iter_rows()}
    names = _names(manifest.models)
    models = []
    for place, info in enumerate(manifest.models):
        model = info.id
        distances = analysis.distances(table, model, norm)
        models.append(
            ModelFacts(
                place=place,
                name=names[model],
                info=info,
                accuracy=analysis.accuracy(table, model),
                curve=analysis.curve(table, model, norm, budgets),
                classes=analysis.per_class(table, model, norm, budgets, classes),
                shares=analysis.attack_shares(table, model, norm, budgets, manifest.attacks, alone=manifest.alone),
                distances=distances,
                median=analysis.median(distances.values[distances.correct]) if distances.correct.any() else None,
                seconds={attack: total for (owner, attack), total in spent.items() if owner == model},
                findings=tuple(finding for finding in findings if finding.model == model),
            )
        )
    key = _key(models, budgets)
    transfers = run.transfers() if manifest.transfers else None
    return Facts(
        manifest=manifest,
        unit=unit_of(norm, budgets),
        budgets=budgets,
        shown=_shown(models, budgets, key),
        key=key,
        classes=classes,
        models=tuple(sorted(models, key=lambda m: (-m.at(key).value, -m.curve.mean, -m.accuracy.value, m.place))),
        findings=findings,
        further=further(
            manifest, table, transfers, run.bounds(), [m.distances for m in models], budgets, key, traits or {}, errors
        ),
    )


def leads(facts: Facts) -> list[tuple[Budget, ModelFacts | None]]:
    """Who leads at each budget: the model whose paired difference to the second is clearly above 0, or nobody."""
    found: list[tuple[Budget, ModelFacts | None]] = []
    for budget in facts.budgets:
        first, second = sorted(facts.models, key=lambda model: -model.at(budget).value)[:2]
        ahead = difference_at(first.distances, second.distances, budget)
        found.append((budget, first if ahead.low > 0 else None))
    return found


def nearest(table: pl.DataFrame, model: str, norm: Norm) -> pl.DataFrame:
    """The verdict on the closest fooling image of each image that is classified rightly and was fooled: `image`,
    `label`, `prediction`, `attack`, `distance`, closest first."""
    fooled = (pl.col("model") == model) & (pl.col("clean") == pl.col("label"))
    rows = table.filter(fooled & pl.col(norm).is_finite()).sort(norm, "image", maintain_order=True)
    closest = rows.unique("image", keep="first", maintain_order=True)
    return closest.select("image", "label", "prediction", "attack", pl.col(norm).alias("distance"))


def _budgets(manifest: Manifest, table: pl.DataFrame) -> tuple[Budget, ...]:
    asked = tuple(budget for budget in manifest.budgets if budget.value > 0)
    if asked:
        return (ZERO, *asked)
    found = table.filter(pl.col(manifest.norm).is_finite())[manifest.norm].to_numpy()
    reach = float(found.max()) if found.size else 0.0
    return (ZERO, *(Budget(float(v), f"{v:.3g}") for v in np.linspace(0, reach, GRID + 1)[1:])) if reach else (ZERO,)


def _distinct(classes: Sequence[str], table: pl.DataFrame) -> tuple[str, ...]:
    """A name for every label; a name that stands twice gets its label behind it."""
    highest = int(table["label"].to_numpy().max(initial=-1))
    names = [*classes, *(f"class {label}" for label in range(len(classes), highest + 1))]
    times = Counter(names)
    return tuple(f"{name} ({label})" if times[name] > 1 else name for label, name in enumerate(names))


def _names(models: Sequence[ModelInfo]) -> dict[str, str]:
    """Display names by id: the plain names where they tell all models apart, the ids otherwise."""
    apart = len({model.name for model in models}) == len(models)
    return {model.id: model.name if apart else model.id for model in models}


def _key(models: Sequence[ModelFacts], budgets: tuple[Budget, ...]) -> Budget:
    """The budget at which the models lie furthest apart; for a single model, the one nearest to half its accuracy."""
    attacked = budgets[1:] or budgets

    def spread(budget: Budget) -> float:
        values = [model.at(budget).value for model in models]
        return max(values) - min(values) if len(values) > 1 else -abs(values[0] - models[0].accuracy.value / 2)

    return max(attacked, key=spread)


def _shown(models: Sequence[ModelFacts], budgets: tuple[Budget, ...], key: Budget) -> tuple[Budget, ...]:
    """The first, the key (or else the middle) and the last budget, none after the first where all models keep none."""
    attacked = budgets[1:]
    lost = next((k for k, b in enumerate(attacked) if all(m.at(b).value == 0 for m in models)), len(attacked) - 1)
    alive = attacked[: lost + 1]
    if len(alive) <= 3:
        return alive
    middle = alive.index(key) if key in alive[1:-1] else (len(alive) - 1) // 2
    return alive[0], alive[middle], alive[-1]
