"""Accuracy and robust accuracy: queries of the verdict table.

Everything starts from one number an image: the smallest distance at which any attack fooled the model (`distances`).
An attack that headed for a target and made another wrong class of the image has fooled the model too.
Robust accuracy at ε is the share of images whose smallest distance exceeds ε (1 + SLACK): it can only fall as ε grows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from atodds.analysis.intervals import Bools, Difference, Floats, Median, Rate, median, paired_bootstrap, wilson
from atodds.errors import ArgumentError, EmptyDataError, UnknownNameError
from atodds.threat import SLACK, Budget, EpsLike, EpsSpec, Norm, parse_eps, parse_eps_list, parse_norm

CLEAN = "clean"
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Distances:
    """The smallest distance found for each of n images, in image order.

    `image`, `label` and `clean` (the prediction on the image itself) are (n,) int64; `values` is (n,) float64: 0 where
    the image itself is misclassified, infinite where no attack found a fooling image.
    """

    model: str
    norm: Norm
    image: Integers
    label: Integers
    clean: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def correct(self) -> Bools:
        """(n,) whether the image itself is classified rightly."""
        return np.equal(self.clean, self.label)

    def standing(self, eps: float) -> Bools:
        """(n,) whether the image is classified rightly and nothing within `eps` fooled the model."""
        return self.correct & ~(self.values <= reach(eps))


@dataclass(frozen=True)
class Curve:
    """Robust accuracy of one model at each of some budgets, over the same images."""

    model: str
    norm: Norm
    budgets: tuple[Budget, ...]
    rates: tuple[Rate, ...]

    @property
    def mean(self) -> float:
        """Robust accuracy averaged over the budgets."""
        return sum(rate.value for rate in self.rates) / len(self.rates)

    @property
    def drop(self) -> float:
        """What the last budget takes away from the first, as a share."""
        return self.rates[0].value - self.rates[-1].value

    @property
    def drops(self) -> tuple[float, ...]:
        """What each budget takes away from the one before it, as shares; one fewer than there are budgets."""
        values = [rate.value for rate in self.rates]
        return tuple(before - after for before, after in pairwise(values))


@dataclass(frozen=True)
class ClassCurves:
    """A curve for each of the `classes` with images, in the order of their `labels`; `missing` names the others."""

    model: str
    norm: Norm
    budgets: tuple[Budget, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    curves: tuple[Curve, ...]
    missing: tuple[str, ...]


def reach(eps: float) -> float:
    """The largest distance that counts as within eps: rounding must not save an image that lies on the sphere."""
    return eps * (1 + SLACK)


def distances(table: pl.DataFrame, model: str, norm: str) -> Distances:
    """The smallest distance, in a norm, at which any attack fooled a model, for each image.

    Args:
        table: the verdict table.
        model: as its `model` column says it.
        norm: "l1", "l2" or "linf"; it need not be the norm that was attacked.

    Raises:
        UnknownNameError: no such model in the table.
        ThreatError: no such norm.
        EmptyDataError: no verdicts, or none on the images themselves.
        ArgumentError: the table holds verdicts of this model on several data sets.
    """
    column = parse_norm(norm)
    rows = rows_of(table, model)
    images = clean_rows(rows, model)
    nearest = rows.group_by("image").agg(pl.col(column).min().alias("distance"))
    found = images.join(nearest, on="image", how="left").sort("image")
    label, clean = (found[name].cast(pl.Int64).to_numpy() for name in ("label", "clean"))
    values = found["distance"].fill_null(math.inf).cast(pl.Float64).to_numpy()
    return Distances(model, column, found["image"].to_numpy(), label, clean, np.where(clean == label, values, 0.0))


def accuracy(table: pl.DataFrame, model: str) -> Rate:
    """The share of images that a model classifies rightly, nothing being attacked.

    Raises:
        UnknownNameError, EmptyDataError, ArgumentError: as for `distances`.
    """
    images = clean_rows(rows_of(table, model), model)
    return wilson(int((images["clean"] == images["label"]).sum()), images.height)


def beats_guessing(right: Rate, labels: Integers) -> bool:
    """Whether a rate on images is clearly above that of naming the commonest of their (n,) labels each time."""
    return right.low > int(np.bincount(labels).max()) / len(labels)


def robust_accuracy(table: pl.DataFrame, model: str, norm: str, eps: EpsLike) -> Rate:
    """The share of images that are classified rightly and that nothing found within `eps` makes the model misclassify.

    The worst case over every attack in the table: an upper bound of the true robust accuracy.

    Raises:
        ThreatError: no such norm, or an eps that means nothing in it.
        UnknownNameError, EmptyDataError, ArgumentError: as for `distances`.
    """
    return curve(table, model, norm, [parse_eps(eps, norm)]).rates[0]


def curve(table: pl.DataFrame, model: str, norm: str, budgets: EpsSpec) -> Curve:
    """Robust accuracy at each budget, ascending.

    Raises:
        As for `robust_accuracy`.
    """
    found = distances(table, model, norm)
    return _curve(found, parse_eps_list(budgets, norm), np.ones(len(found), dtype=np.bool_))


def per_class(table: pl.DataFrame, model: str, norm: str, budgets: EpsSpec, classes: Sequence[str]) -> ClassCurves:
    """Robust accuracy of the images of each class, at each budget.

    Args:
        classes: names, by label.

    Raises:
        ArgumentError: a label without a name.
        As for `robust_accuracy` otherwise.
    """
    found = distances(table, model, norm)
    wanted = parse_eps_list(budgets, norm)
    lowest, highest = int(found.label.min()), int(found.label.max())
    if lowest < 0 or highest >= len(classes):
        problem = f"labels run from {lowest} to {highest}"
        raise ArgumentError("classes", f"{len(classes)} names", problem, "Give a name for every label.")
    members = [found.label == label for label in range(len(classes))]
    present = [label for label, member in enumerate(members) if member.any()]
    return ClassCurves(
        model,
        found.norm,
        wanted,
        labels=tuple(present),
        classes=tuple(classes[label] for label in present),
        curves=tuple(_curve(found, wanted, members[label]) for label in present),
        missing=tuple(name for name, member in zip(classes, members, strict=True) if not member.any()),
    )


def difference(table: pl.DataFrame, a: str, b: str, norm: str, eps: EpsLike, *, seed: int = 0) -> Difference:
    """How much more robust accuracy model `a` has than model `b` at `eps`, paired over the images that both have.

    Raises:
        EmptyDataError: no image that both have.
        As for `robust_accuracy` otherwise.
    """
    first, second = distances(table, a, norm), distances(table, b, norm)
    return difference_at(first, second, parse_eps(eps, norm), seed=seed)


def difference_at(first: Distances, second: Distances, eps: Budget, *, seed: int = 0) -> Difference:
    """`difference` from distances that are already at hand."""
    _, left, right = np.intersect1d(first.image, second.image, assume_unique=True, return_indices=True)
    if not left.size:
        problem = f"{first.model} and {second.model} have no image in common."
        raise EmptyDataError(f"{problem} Evaluate both on the same images.")
    return paired_bootstrap(first.standing(eps.value)[left], second.standing(eps.value)[right], seed=seed)


def median_distance(table: pl.DataFrame, model: str, norm: str) -> Median:
    """The median of the smallest distances found, over the images that are classified rightly; infinite where fewer
    than half of them were fooled.

    Raises:
        EmptyDataError: no image is classified rightly.
        As for `distances` otherwise.
    """
    found = distances(table, model, norm)
    if not found.correct.any():
        raise EmptyDataError(f"{model} classifies none of {len(found)} images rightly: it has no distance to measure.")
    return median(found.values[found.correct])


def rows_of(table: pl.DataFrame, model: str) -> pl.DataFrame:
    """The verdicts on one model, on one data set.

    Raises:
        UnknownNameError, EmptyDataError, ArgumentError: as for `distances`.
    """
    if table.is_empty():
        raise EmptyDataError("The table holds no verdicts. Evaluate a model first.")
    rows = table.filter(pl.col("model") == model)
    if rows.is_empty():
        raise UnknownNameError.among("model", model, table["model"].unique().to_list())
    sets = rows["data"].unique().sort().to_list()
    if len(sets) > 1:
        way_out = 'Choose one: table.filter(pl.col("data") == name).'
        raise ArgumentError("table", ", ".join(sets), f"verdicts on {model} for several data sets", way_out)
    return rows


def clean_rows(rows: pl.DataFrame, model: str) -> pl.DataFrame:
    """One row an image: `image`, `label`, and `clean`, the prediction on the image itself."""
    clean = rows.filter(pl.col("attack") == CLEAN)
    if clean.is_empty():
        raise EmptyDataError(f"{model} has no verdict on the images themselves (attack {CLEAN!r}). Finish its run.")
    return clean.unique("image", maintain_order=True).select("image", "label", "clean")


def _curve(found: Distances, budgets: tuple[Budget, ...], member: Bools) -> Curve:
    """One sort, then one binary search a budget."""
    right = np.sort(found.values[member & found.correct])
    fallen = np.searchsorted(right, [reach(budget.value) for budget in budgets], side="right")
    n = int(member.sum())
    rates = tuple(wilson(right.size - int(lost), n) for lost in fallen)
    return Curve(found.model, found.norm, budgets, rates)
