"""Distortion against the logarithm of the error: does accuracy cost robustness, and on how few models does that rest?

The 2018 study of 18 networks found the distortion that fools a network to be linear in the natural logarithm of its
top-1 error: distortion = intercept + slope · ln(1 - accuracy). A positive slope means that accuracy costs robustness.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from atodds.analysis.intervals import Floats, Rate, wilson
from atodds.analysis.line import FEWEST, Line, least_squares, weighted_lines
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.analysis.together import Distortion, Measure, Together, check, described, distortions, together
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import Norm

Ends = tuple[float, float]


@dataclass(frozen=True)
class PublishedFit:
    """A fit of the 2018 study: what was measured, in which norm, and its two coefficients."""

    measure: str
    norm: Norm
    slope: float
    intercept: float
    source: str


_SU = "Su et al. 2018, recalled, unverified"
PUBLISHED = (
    PublishedFit("I-FGSM", "linf", 2.9e-2, 6.2e-2, _SU),
    PublishedFit("C&W", "l2", 1.1e-1, 2.1e-1, _SU),
    PublishedFit("CLEVER", "linf", 4.6e-2, 12.5e-2, _SU),
)
"""The fits of D. Su, H. Zhang, H. Chen, J. Yi, P.-Y. Chen, Y. Gao, "Is robustness the cost of accuracy?", ECCV 2018,
over 18 ImageNet networks, with the natural logarithm of the top-1 error."""


@dataclass(frozen=True)
class ScalingPoint:
    """One model: its top-1 error and its distortion, with their intervals."""

    model: str
    error: Rate
    distortion: Distortion


@dataclass(frozen=True)
class Excluded:
    """A model that the line cannot hold, and why."""

    model: str
    why: str


@dataclass(frozen=True)
class Scaling:
    """Distortion = intercept + slope · ln(error), over models.

    `line` holds the fit, its t intervals, R², the residual and the influence of each model, and whether it stands on
    one or two of them. The other intervals are bootstraps: over images, the models as they are, which says
    what other images would change; and over models, the images as they are, which says what other models would change.
    """

    norm: Norm
    measure: Measure
    n: int
    line: Line
    points: tuple[ScalingPoint, ...]
    excluded: tuple[Excluded, ...]
    slope_over_images: Ends
    intercept_over_images: Ends
    slope_over_models: Ends
    intercept_over_models: Ends

    def at(self, error: float) -> tuple[float, float, float]:
        """The distortion that the line gives for a top-1 error in (0, 1], with the interval of the mean there."""
        return self.line.at(math.log(error))


def scaling(
    table: pl.DataFrame,
    norm: str,
    *,
    models: Sequence[str] | None = None,
    measure: Measure = "mean",
    errors: Mapping[str, Rate] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Scaling:
    """The least-squares line of distortion on ln(top-1 error), over models and the images that all of them have.

    A model that makes no error has no logarithm of it, and one that nothing fooled (for the median: not half of its
    images) no distortion: they are left out, and named.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        models: as the `model` column says them; None takes all.
        measure: "mean" over the images that were fooled, as the study did, or "median" over all that are right. Where
            an attack misses images the mean flatters it: those that are missed are the far ones.
        errors: top-1 error of each model where it was measured on more images than were attacked, as the study did;
            None takes that on the attacked ones.
        seed: of the draws.
        resamples: how many, of images and of models.

    Raises:
        EmptyDataError: fewer than three models are left, or all have one error.
        ArgumentError: a model without an error in `errors`, or as for `together`.
        UnknownNameError, ThreatError: as for `together`.

    References:
        D. Su et al. (2018), "Is robustness the cost of accuracy?", section 4.2. B. Efron, R. J. Tibshirani (1993), "An
        introduction to the bootstrap", chapter 9 (bootstrapping pairs).
    """
    return scaling_of(together(table, norm, models), measure=measure, errors=errors, seed=seed, resamples=resamples)


def scaling_of(
    seen: Together,
    *,
    measure: Measure = "mean",
    errors: Mapping[str, Rate] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Scaling:
    """`scaling` from distances that are already at hand."""
    check(measure)
    n = len(seen)
    drawn = resampled(lambda draws: _errors_and_distortions(seen, draws, measure), n, resamples=resamples, seed=seed)
    wrong = (~seen.correct).sum(0)
    if errors is not None and (unknown := [model for model in seen.models if model not in errors]):
        raise ArgumentError("errors", ", ".join(unknown), "models without an error", "Name the error of every model.")
    rates = [wilson(int(wrong[k]), n) if errors is None else errors[model] for k, model in enumerate(seen.models)]
    if errors is not None:  # other images: drawn on their own
        many, share = np.array([rate.n for rate in rates]), np.array([rate.value for rate in rates])
        drawn[:, 0] = np.random.default_rng(seed).binomial(many, share, size=(len(drawn), len(many))) / many
    points = tuple(
        ScalingPoint(model, rates[k], distortion)
        for k, (model, distortion) in enumerate(zip(seen.models, described(seen, drawn[:, 1], measure), strict=True))
    )
    whys = [_why(point, measure) for point in points]
    inside = [k for k, why in enumerate(whys) if not why]
    excluded = tuple(Excluded(points[k].model, why) for k, why in enumerate(whys) if why)
    if len(inside) < FEWEST:
        said = "".join(f" {out.model}: {out.why}." for out in excluded)
        problem = f"{len(inside)} of {len(points)} models can stand on a line, and it takes {FEWEST}."
        raise EmptyDataError(f"{problem}{said} Evaluate more models, or on more images.")
    x = np.array([math.log(points[k].error.value) for k in inside])
    y = np.array([points[k].distortion.value for k in inside])
    line = least_squares([points[k].model for k in inside], x.tolist(), y.tolist())
    with np.errstate(divide="ignore"):
        log = np.log(drawn[:, 0, inside])
    known = np.isfinite(log) & np.isfinite(drawn[:, 1, inside])
    over_images = bounds(np.stack(weighted_lines(log, drawn[:, 1, inside], known.astype(np.float64)), 1))
    times = np.random.default_rng(seed).multinomial(len(inside), np.full(len(inside), 1 / len(inside)), size=resamples)
    over_models = bounds(np.stack(weighted_lines(*np.broadcast_arrays(x[None], y[None], times)), 1))
    ends = [tuple(float(end[k]) for end in pair) for pair in (over_images, over_models) for k in (0, 1)]
    return Scaling(
        norm=seen.norm,
        measure=measure,
        n=n,
        line=line,
        points=tuple(points[k] for k in inside),
        excluded=excluded,
        slope_over_images=(ends[0][0], ends[0][1]),
        intercept_over_images=(ends[1][0], ends[1][1]),
        slope_over_models=(ends[2][0], ends[2][1]),
        intercept_over_models=(ends[3][0], ends[3][1]),
    )


def _errors_and_distortions(seen: Together, draws: Floats, measure: Measure) -> Floats:
    """(b, 2, models)"""
    errors = draws @ (~seen.correct).astype(np.float64) / len(seen)
    return np.stack([errors, distortions(seen, draws, measure)], 1)


def _why(point: ScalingPoint, measure: Measure) -> str:
    """Why a model cannot stand on the line; empty where it can."""
    if point.error.value == 0:
        return f"it makes no error on {point.error.n} images, and 0 has no logarithm"
    if math.isnan(point.distortion.value):
        right = point.distortion.n
        return f"nothing fooled it on {right} images that it has right" if right else "it has no image right"
    if math.isinf(point.distortion.value):
        fooled, right = point.distortion.fooled, point.distortion.n
        return f"its {measure} distortion is infinite: {fooled} of {right} images were fooled"
    return ""
