"""Class by class: what each class keeps and loses over ε, how far classes lie apart, and what they are mistaken for.

Classes are different images: their rates are compared by Fisher's exact test, and the means over models by Welch's.
Models see the same images: they are compared by McNemar's exact test. p values are corrected for their number by
Benjamini and Yekutieli, which holds however the tests depend on each other (the same images stand in many of them).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

import numpy as np
import polars as pl
from scipy import stats

from atodds.analysis.accuracy import CLEAN, Distances, Integers, distances, reach
from atodds.analysis.gate import mcnemar
from atodds.analysis.intervals import CONFIDENCE, Bools, Difference, Floats, Rate, wilson
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.errors import EmptyDataError
from atodds.threat import Budget, Norm, parse_norm

DISCOVERIES = 1 - CONFIDENCE
"""The share of the differences that are called clear that may be wrong, on average."""
EVERY = "mean of all models"
MOST_COMPARED = 100
"""Classes of which every two are compared; with more of them there are too many pairs, of too few images each."""


@dataclass(frozen=True)
class ClassRow:
    """One class under one model: robust accuracy at each budget, and the share of the class that each step takes."""

    label: int
    rates: tuple[Rate, ...]
    steps: tuple[Rate, ...]
    total: Rate

    @property
    def n(self) -> int:
        """Images of the class."""
        return self.total.n


@dataclass(frozen=True)
class Gap:
    """How far the best and the worst class of a model lie apart at a budget.

    The interval is over draws of images; the largest of several differences is too large on average, so `p_value`, of
    Pearson's test that all classes are alike, corrected over models and budgets, says whether there is any.
    """

    budget: Budget
    best: int
    worst: int
    difference: Difference
    p_value: float


@dataclass(frozen=True)
class MeanDrop:
    """The share of a class that is lost from the first budget to the last, averaged over models; with its bootstrap
    interval over images, the same for all models."""

    label: int
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Tested:
    """A difference and its test: `of` (a model, or a class) between `a` and `b`; `p_value` is corrected."""

    of: str
    a: str
    b: str
    difference: float
    p_value: float

    @property
    def clear(self) -> bool:
        """Whether it is called a difference."""
        return self.p_value <= DISCOVERIES


@dataclass(frozen=True, eq=False)
class ModelClasses:
    """One model: its classes in the order of labels, the gaps by budget, and (budgets, classes, K) counts of what the
    images that fell were taken for, K the number of names."""

    model: str
    rows: tuple[ClassRow, ...]
    gaps: tuple[Gap, ...]
    mistakes: Integers


@dataclass(frozen=True, eq=False)
class ClassCurvesOfMany:
    """All models of a study, class by class.

    Attributes:
        norm, budgets: where they were looked at, ascending, 0 first.
        labels: with images; classes: the names of all.
        models: in the order of the table.
        mean_drops: by class, in the order of labels.
        between_classes: pairs of classes, of each model and of the mean over models, in what they lose in total; none
            where there are more than `MOST_COMPARED` classes.
        between_models: pairs of models, in all classes and (of so many) in each, in robust accuracy at `middle`.
        middle: the middle one of the budgets: chosen before anything was seen.
    """

    norm: Norm
    budgets: tuple[Budget, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    models: tuple[ModelClasses, ...]
    mean_drops: tuple[MeanDrop, ...]
    between_classes: tuple[Tested, ...]
    between_models: tuple[Tested, ...]
    middle: Budget


def class_curves(
    table: pl.DataFrame,
    norm: str,
    budgets: Sequence[Budget],
    classes: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ClassCurvesOfMany:
    """What every class keeps under every model of a table; the models have the same images.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        budgets: ascending, 0 first.
        classes: names by label.
        names: what to call the models, in the order of the table; their ids where left out.
        seed, resamples: of the bootstrap.

    Raises:
        EmptyDataError: no verdicts, or models of different images.
        As for `accuracy.distances` otherwise.
    """
    if table.is_empty():
        raise EmptyDataError("The table holds no verdicts. Evaluate a model first.")
    models = table["model"].unique(maintain_order=True).to_list()
    found = [distances(table, model, norm) for model in models]
    if any(not np.array_equal(one.image, found[0].image) for one in found):
        raise EmptyDataError("The models have different images. Evaluate all of them on the same ones.")
    label = found[0].label
    labels = tuple(int(one) for one in np.unique(label))
    standing = np.stack([[one.standing(budget.value) for budget in budgets] for one in found])
    lost = standing[:, 0] & ~standing[:, -1]
    called = list(names or models)
    middle = len(budgets) // 2
    gaps = _gaps(standing, label, labels, budgets, seed, resamples)
    return ClassCurvesOfMany(
        norm=parse_norm(norm),
        budgets=tuple(budgets),
        labels=labels,
        classes=tuple(classes),
        models=tuple(
            ModelClasses(
                models[k],
                tuple(_row(standing[k][:, label == one], one) for one in labels),
                gaps[k],
                _mistakes(table, found[k], budgets, labels, len(classes)),
            )
            for k in range(len(models))
        ),
        mean_drops=tuple(_mean_drop(lost[:, label == one].mean(0), one, seed, resamples) for one in labels),
        between_classes=_between_classes(lost, label, labels, classes, called),
        between_models=_between_models(standing[:, middle], label, labels, classes, called),
        middle=budgets[middle],
    )


def corrected(p_values: Sequence[float]) -> list[float]:
    """p values by Benjamini and Yekutieli: of those called clear at 0.05, at most 5 % are wrong on average.

    References:
        Y. Benjamini, D. Yekutieli (2001), "The control of the false discovery rate in multiple testing under
        dependency".
    """
    clipped = np.clip(np.asarray(p_values, dtype=np.float64), 0, 1)
    return [float(p) for p in stats.false_discovery_control(clipped, method="by")] if len(clipped) else []


def _row(standing: Bools, label: int) -> ClassRow:
    """From (budgets, n) of one class. Images only ever fall, so what a step takes is a count of its images."""
    counts, n = standing.sum(1).tolist(), standing.shape[1]
    return ClassRow(
        label,
        rates=tuple(wilson(count, n) for count in counts),
        steps=tuple(wilson(before - after, n) for before, after in pairwise(counts)),
        total=wilson(counts[0] - counts[-1], n),
    )


def _mean_drop(lost: Floats, label: int, seed: int, resamples: int) -> MeanDrop:
    n = len(lost)
    low, high = bounds(resampled(lambda draws: draws @ lost / n, n, resamples=resamples, seed=seed))
    return MeanDrop(label, float(lost.mean()), float(low), float(high), n)


def _gaps(
    standing: Bools, label: Integers, labels: Sequence[int], budgets: Sequence[Budget], seed: int, resamples: int
) -> list[tuple[Gap, ...]]:
    """Best and worst class of each model at each budget."""
    sizes = np.array([int((label == one).sum()) for one in labels])
    counts = np.stack([standing[:, :, label == one].sum(2) for one in labels], 2)
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(sizes, counts / sizes, size=(resamples, *counts.shape)) / sizes
    low, high = bounds(drawn.max(3) - drawn.min(3))
    rates = counts / sizes
    p_values = corrected([_alike(one, sizes) for model in counts for one in model])
    return [
        tuple(
            Gap(
                budget,
                labels[int(rates[m, k].argmax())],
                labels[int(rates[m, k].argmin())],
                Difference(
                    float(np.ptp(rates[m, k])), float(low[m, k]), float(high[m, k]), int(sizes.sum())
                ),
                p_values[m * len(budgets) + k],
            )
            for k, budget in enumerate(budgets)
        )
        for m in range(len(counts))
    ]  # fmt: skip


def _alike(counts: Integers, sizes: Integers) -> float:
    """Pearson's chi-squared test that all classes have one rate; 1 where all images stand, or none."""
    table = np.stack([counts, sizes - counts])
    if len(counts) < 2 or not table.sum(1).all():
        return 1.0
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def _mistakes(
    table: pl.DataFrame, found: Distances, budgets: Sequence[Budget], labels: Sequence[int], names: int
) -> Integers:
    """(budgets, classes, names): what the fallen images of each class were taken for: a misclassified image as it is,
    a fooled one in the closest image that fooled."""
    rows = table.filter(pl.col("model") == found.model, pl.col("attack") != CLEAN, pl.col(found.norm).is_finite())
    closest = rows.sort(found.norm, maintain_order=True).unique("image", keep="first", maintain_order=True)
    said = found.clean.copy()
    places = np.searchsorted(found.image, closest["image"].to_numpy())
    fooled = found.correct[places]
    said[places[fooled]] = closest["prediction"].cast(pl.Int64).to_numpy()[fooled]
    counts = np.zeros((len(budgets), len(labels), names), dtype=np.int64)
    for at, budget in enumerate(budgets):
        fallen = ~found.correct | (found.values <= reach(budget.value))
        for row, label in enumerate(labels):
            taken = said[fallen & (found.label == label)]
            counts[at, row] = np.bincount(taken[(taken >= 0) & (taken < names)], minlength=names)
    return counts


def _between_classes(
    lost: Bools, label: Integers, labels: Sequence[int], classes: Sequence[str], names: Sequence[str]
) -> tuple[Tested, ...]:
    pairs = list(combinations(labels, 2)) if len(labels) <= MOST_COMPARED else []
    tests: list[tuple[str, str, str, float, float]] = []
    for name, mine in zip(names, lost, strict=True):
        for a, b in pairs:
            one, other = mine[label == a], mine[label == b]
            p = _fisher(int(one.sum()), len(one), int(other.sum()), len(other))
            tests.append((name, classes[a], classes[b], float(one.mean() - other.mean()), p))
    if len(names) > 1:
        means = lost.mean(0)
        for a, b in pairs:
            first, second = means[label == a], means[label == b]
            tests.append((EVERY, classes[a], classes[b], float(first.mean() - second.mean()), _welch(first, second)))
    return _corrected(tests)


@lru_cache(maxsize=100_000)
def _fisher(first: int, of: int, second: int, of_second: int) -> float:
    return float(stats.fisher_exact(np.array([[first, of - first], [second, of_second - second]])).pvalue)


def _welch(first: Floats, second: Floats) -> float:
    """Welch's test; where neither varies, means differ surely or not at all, which a test cannot weigh: 1."""
    if min(len(first), len(second)) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return 1.0
    return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def _between_models(
    standing: Bools, label: Integers, labels: Sequence[int], classes: Sequence[str], names: Sequence[str]
) -> tuple[Tested, ...]:
    tests: list[tuple[str, str, str, float, float]] = []
    members: list[tuple[str, Bools]] = [("all classes", np.ones(len(label), dtype=np.bool_))]
    members += [(classes[one], label == one) for one in labels if len(labels) <= MOST_COMPARED]
    for of, member in members:
        for a, b in combinations(range(len(names)), 2):
            first, second = standing[a][member], standing[b][member]
            won, fell = int((first & ~second).sum()), int((second & ~first).sum())
            p = min(1.0, 2 * mcnemar(max(won, fell), min(won, fell)))
            tests.append((of, names[a], names[b], float(first.mean() - second.mean()), p))
    return _corrected(tests)


def _corrected(tests: Sequence[tuple[str, str, str, float, float]]) -> tuple[Tested, ...]:
    p_values = corrected([test[-1] for test in tests])
    return tuple(Tested(*test[:-1], p) for test, p in zip(tests, p_values, strict=True))
