"""Lower bounds beside the distances that attacks found, and the accuracy that certificates promise."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from atodds.analysis.accuracy import Curve, Integers, distances
from atodds.analysis.intervals import Floats, Median, Rate, median, wilson
from atodds.bounds.certify import Beside, beside
from atodds.errors import EmptyDataError, UnknownNameError
from atodds.threat import EpsSpec, Norm, parse_eps_list, parse_norm


@dataclass(frozen=True, eq=False)
class LowerUpper:
    """One method on one model: bounds and distances of the n images that the model classifies rightly, in image order.

    Attributes:
        model, method, norm: whose, by what, in which norm. A certificate is of the smoothed classifier.
        certified: the bounds are certificates, not estimates.
        image: (n,) ids.
        lower, low, high: (n,) bounds and their intervals.
        upper: (n,) smallest distances at which an attack fooled the model, infinite where none did.
        beside: which bounds are above the distance, and why.
        below: share of the fooled images whose bound is at most the distance; None where none was fooled.
        median_lower, median_upper: over all n images.
        passes: forward and backward passes that the bounds took, over all images.
    """

    model: str
    method: str
    norm: Norm
    certified: bool
    image: Integers
    lower: Floats
    low: Floats
    high: Floats
    upper: Floats
    beside: Beside
    below: Rate | None
    median_lower: Median
    median_upper: Median
    passes: int

    def __len__(self) -> int:
        return len(self.image)


def lower_upper(bounds: pl.DataFrame, verdicts: pl.DataFrame, model: str, method: str) -> LowerUpper:
    """Bounds of a method on a model beside the distances in the verdict table, in the norm of the bounds.

    Args:
        bounds: the table of lower bounds.
        verdicts: the verdict table.
        model, method: as the tables' columns say them.

    Raises:
        UnknownNameError: no such model or method in the table of bounds.
        EmptyDataError: no image with both that the model classifies rightly.
        As for `distances` otherwise.
    """
    rows = _rows(bounds, model, method)
    found = distances(verdicts, model, rows["norm"][0])
    _, mine, theirs = np.intersect1d(rows["image"].to_numpy(), found.image, return_indices=True)
    kept = found.correct[theirs]
    rows, upper = rows[mine[kept]], found.values[theirs[kept]]
    if rows.is_empty():
        raise EmptyDataError(f"{model} classifies no image with a bound of {method} rightly.")
    lower, low, high = (rows[name].to_numpy() for name in ("lower", "low", "high"))
    certified = bool(rows["certified"][0])
    seen = beside(
        rows["image"].to_numpy(),
        lower,
        upper,
        method=method,
        certified=certified,
        low=low,
        radius=_floats(rows, "radius", np.inf),
        p_value=_floats(rows, "p_value", np.nan),
        endless=rows["endless"].to_numpy(),
    )
    return LowerUpper(
        model=model,
        method=method,
        norm=parse_norm(rows["norm"][0]),
        certified=certified,
        image=rows["image"].to_numpy(),
        lower=lower,
        low=low,
        high=high,
        upper=upper,
        beside=seen,
        below=wilson(seen.below, seen.n) if seen.n else None,
        median_lower=median(lower),
        median_upper=median(upper),
        passes=int(rows["forwards"].sum()) + int(rows["backwards"].sum()),
    )


def certified_accuracy(bounds: pl.DataFrame, model: str, method: str, radii: EpsSpec) -> Curve:
    """The share of all images that the smoothed classifier answers rightly, with a certified radius of so much or more.

    A lower bound of its accuracy at that radius, where an attack gives an upper one. Radius 0 counts every image with a
    certificate.

    Raises:
        UnknownNameError: no such model or method in the table of bounds.
        EmptyDataError: the bounds are estimates.
        ThreatError: a radius that means nothing.
    """
    rows = _rows(bounds, model, method)
    if not rows["certified"][0]:
        raise EmptyDataError(f"{method} gives estimates, no certificates: it promises no accuracy.")
    norm = parse_norm(rows["norm"][0])
    wanted = parse_eps_list(radii, norm)
    right = (rows["prediction"] == rows["label"]).to_numpy()
    lower = rows["lower"].to_numpy()
    rates = tuple(wilson(int((right & (lower >= radius.value)).sum()), len(rows)) for radius in wanted)
    return Curve(model, norm, wanted, rates)


def lower_uppers(bounds: pl.DataFrame, verdicts: pl.DataFrame, model: str) -> tuple[LowerUpper, ...]:
    """`lower_upper` for every method that a model has bounds of, in the order of the table; none where it classifies no
    image rightly."""
    if not distances(verdicts, model, "linf").correct.any():
        return ()
    names = bounds.filter(pl.col("model") == model)["method"].unique(maintain_order=True)
    return tuple(lower_upper(bounds, verdicts, model, name) for name in names)


def _rows(bounds: pl.DataFrame, model: str, method: str) -> pl.DataFrame:
    mine = bounds.filter(pl.col("model") == model)
    if mine.is_empty():
        raise UnknownNameError.among("model", model, bounds["model"].unique().to_list())
    rows = mine.filter(pl.col("method") == method)
    if rows.is_empty():
        raise UnknownNameError.among("method", method, mine["method"].unique().to_list())
    return rows.unique("image", maintain_order=True)


def _floats(rows: pl.DataFrame, column: str, empty: float) -> Floats:
    return rows[column].fill_null(empty).cast(pl.Float64).to_numpy()
