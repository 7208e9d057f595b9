"""What drives robustness: the family of a network, its depth, its size, or its accuracy?

Two questions, kept apart. Do these two models, or families, differ on images of this kind? That is asked image by
image, paired. Does a factor order models in general? That is asked over models, of which there are few.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
import polars as pl
from scipy import stats

from atodds.analysis.intervals import Bools, Floats, Rate, wilson
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.analysis.together import Measure, Together, check, distortions, together
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import Norm

Factor = Literal["family", "depth", "size", "accuracy"]
PERMUTATIONS = 9999
LEVEL = 0.05
"""A comparison is clear where its corrected p is below."""


@dataclass(frozen=True)
class Traits:
    """What a model is: its family, its depth in layers and its number of parameters, as far as they are known."""

    family: str
    depth: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class Comparison:
    """How much further from its images `upper` is fooled than `lower`, on the same images.

    Attributes:
        factors: what orders the two: "depth", "size", both, or "family".
        family: of both models; empty where families are compared.
        lower, upper: models, or families.
        difference, low, high: mean of distance(upper) - distance(lower), with its bootstrap interval, over the `n`
            images that both have right and were fooled on. NaN where there are none.
        ahead: of the images that both have right and where the distances differ, the share where `upper`'s is larger:
            one that was never fooled counts as the further one. None where they differ on none.
        p: of the two-sided sign test on that share.
        adjusted: the same after Holm's correction, with all comparisons of its kind.
    """

    factors: tuple[Factor, ...]
    family: str
    lower: str
    upper: str
    difference: float
    low: float
    high: float
    n: int
    ahead: Rate | None
    p: float
    adjusted: float

    @property
    def clear(self) -> bool:
        """Whether the sign test tells the two apart, after correction."""
        return self.adjusted < LEVEL


@dataclass(frozen=True)
class Trend:
    """Over models: of the `pairs` of models of one family whose trait differs, in how many the larger one is the more
    robust. `p` is two-sided: the share of random orders of the models within their families that are at least as far
    from an even split, the true order among them."""

    factor: Factor
    concordant: int
    pairs: int
    p: float


@dataclass(frozen=True)
class Explained:
    """Over models: the share of the variance of their distortion that a factor explains.

    For the family it is η², the variance between families; for depth, size and accuracy the R² of a straight line on
    their logarithm (for accuracy, of the error). `chance` is the mean share over random orders of the models, which is
    (number of coefficients - 1) / (models - 1): six families explain a lot of eighteen models by chance alone. `p` is
    the share of random orders that explain at least as much; `adjusted`, after Holm's correction over the factors.
    """

    factor: Factor
    share: float
    chance: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class Factors:
    """All of it. `within` compares models of a family, step by step and over the whole range; `across` compares
    families. `skipped` says which factor could not be looked at, and why."""

    norm: Norm
    measure: Measure
    models: tuple[str, ...]
    within: tuple[Comparison, ...]
    across: tuple[Comparison, ...]
    trends: tuple[Trend, ...]
    explained: tuple[Explained, ...]
    skipped: tuple[str, ...]


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p values corrected for their number so that the chance of any false rejection stays below the level.

    In ascending order the k-th of m is multiplied by m - k + 1, and is no less than those before it.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)

    References:
        S. Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for k, place in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - k)))
        corrected[place] = highest
    return tuple(corrected)


def factors(
    table: pl.DataFrame,
    norm: str,
    traits: Mapping[str, Traits],
    *,
    measure: Measure = "mean",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Factors:
    """Paired comparisons within families and across them, and what each factor explains over models.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        traits: of each model to look at, by its name in the `model` column.
        measure: of a model's distortion where models are compared as wholes.
        seed, resamples: of the bootstrap over images and of the random orders of models.

    Raises:
        EmptyDataError: no image in common, or a model without a finite distortion.
        ArgumentError: fewer than three models, or those of `together`.
        UnknownNameError, ThreatError: as for `together`.
    """
    if len(traits) < 3:
        raise ArgumentError(
            "traits", list(traits), "fewer than three models", "Name at least three, with their family."
        )
    return factors_of(together(table, norm, list(traits)), traits, measure=measure, seed=seed, resamples=resamples)


def factors_of(
    seen: Together,
    traits: Mapping[str, Traits],
    *,
    measure: Measure = "mean",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Factors:
    """`factors` from distances that are already at hand."""
    check(measure)
    whole = distortions(seen, np.ones((1, len(seen))), measure)[0]
    lost = [model for model, value in zip(seen.models, whole, strict=True) if not math.isfinite(value)]
    if lost:
        raise EmptyDataError(f"{', '.join(lost)} has no finite {measure} distortion. Leave it out, or attack it more.")
    known = [traits[model] for model in seen.models]
    place = {model: k for k, model in enumerate(seen.models)}
    steps = [(step, [place[step[2]]], [place[step[3]]]) for step in _steps(seen.models, known)]
    groups = {name: [k for k, trait in enumerate(known) if trait.family == name] for name in _families(known)}
    family: tuple[Factor, ...] = ("family",)
    contests = [((family, "", a, b), groups[a], groups[b]) for a, b in combinations(groups, 2)]
    explained, skipped = _explained(seen, known, whole, seed)
    return Factors(
        norm=seen.norm,
        measure=measure,
        models=seen.models,
        within=_compared(seen, steps, seed, resamples),
        across=_compared(seen, contests, seed, resamples),
        trends=tuple(_trends(known, whole, seed)),
        explained=explained,
        skipped=skipped,
    )


Name = tuple[tuple[Factor, ...], str, str, str]


def _families(known: Sequence[Traits]) -> list[str]:
    return list(dict.fromkeys(trait.family for trait in known))


def _trait(trait: Traits, factor: Factor) -> int | None:
    return trait.depth if factor == "depth" else trait.size


def _steps(models: Sequence[str], known: Sequence[Traits]) -> list[Name]:
    """Within each family, from each model to the next deeper (larger) one, and from the first to the last."""
    found: dict[tuple[str, str, str], list[Factor]] = {}
    factors: tuple[Factor, ...] = ("depth", "size")
    for family in _families(known):
        for factor in factors:
            ranked = sorted(
                (value, model)
                for model, trait in zip(models, known, strict=True)
                if trait.family == family and (value := _trait(trait, factor)) is not None
            )
            pairs = [(a, b) for a, b in pairwise(ranked) if a[0] < b[0]]
            if len(ranked) > 2 and ranked[0][0] < ranked[-1][0]:
                pairs.append((ranked[0], ranked[-1]))
            for (_, lower), (_, upper) in pairs:
                of = found.setdefault((family, lower, upper), [])
                if factor not in of:
                    of.append(factor)
    return [(tuple(of), *names) for names, of in found.items()]


def _compared(
    seen: Together, contests: Sequence[tuple[Name, list[int], list[int]]], seed: int, resamples: int
) -> tuple[Comparison, ...]:
    if not contests:
        return ()
    sides = [[_side(seen, members) for members in (lower, upper)] for _, lower, upper in contests]
    gaps = np.stack([_gap(lower[0], upper[0]) for lower, upper in sides], 1)
    counted = np.stack([_both(lower, upper) & np.isfinite(_gap(lower[0], upper[0])) for lower, upper in sides], 1)
    sums = np.hstack([np.where(counted, gaps, 0.0), counted.astype(np.float64)])

    def means(draws: Floats) -> Floats:
        both = draws @ sums
        top, bottom = both[:, : len(contests)], both[:, len(contests) :]
        found: Floats = np.divide(top, bottom, out=np.full_like(top, math.nan), where=bottom > 0)
        return found

    here = means(np.ones((1, len(seen))))[0]
    low, high = bounds(resampled(means, len(seen), resamples=resamples, seed=seed))
    tests = [_sign_test(lower, upper) for lower, upper in sides]
    adjusted = holm([p for _, p in tests])
    return tuple(
        Comparison(
            *name, float(here[k]), float(low[k]), float(high[k]), int(counted[:, k].sum()), *tests[k], adjusted[k]
        )
        for k, (name, _, _) in enumerate(contests)
    )


def _side(seen: Together, members: list[int]) -> tuple[Floats, Bools]:
    """(n,) mean distance over the members, and whether all of them have the image right."""
    right: Bools = np.asarray(seen.correct[:, members].all(axis=1))
    return np.asarray(seen.values[:, members].mean(axis=1)), right


def _both(lower: tuple[Floats, Bools], upper: tuple[Floats, Bools]) -> Bools:
    return lower[1] & upper[1]


def _gap(lower: Floats, upper: Floats) -> Floats:
    """(n,) upper - lower; infinite or NaN where one was never fooled."""
    with np.errstate(invalid="ignore"):
        gap: Floats = upper - lower
    return gap


def _sign_test(lower: tuple[Floats, Bools], upper: tuple[Floats, Bools]) -> tuple[Rate | None, float]:
    both = _both(lower, upper)
    more, less = int((both & (upper[0] > lower[0])).sum()), int((both & (upper[0] < lower[0])).sum())
    if more + less == 0:
        return None, 1.0
    return wilson(more, more + less), float(stats.binomtest(more, more + less).pvalue)


def _trends(known: Sequence[Traits], whole: Floats, seed: int) -> Iterator[Trend]:
    """Random orders within families: a family of one has only one."""
    rng = np.random.default_rng(seed)
    groups = [np.array([k for k, trait in enumerate(known) if trait.family == name]) for name in _families(known)]
    orders = np.tile(whole, (PERMUTATIONS, 1))
    for group in groups:
        orders[:, group] = rng.permuted(orders[:, group], axis=1)
    factors: tuple[Factor, ...] = ("depth", "size")
    for factor in factors:
        pairs = [
            (int(a), int(b))
            for group in groups
            for a in group
            for b in group
            if (x := _trait(known[a], factor)) is not None and (y := _trait(known[b], factor)) is not None and x < y
        ]
        if pairs:
            lower, upper = (np.array(side) for side in zip(*pairs, strict=True))
            concordant = int((whole[upper] > whole[lower]).sum())
            score = abs(int(np.sign(whole[upper] - whole[lower]).sum()))
            scores = np.abs(np.sign(orders[:, upper] - orders[:, lower]).sum(1))
            p = (1 + int((scores >= score).sum())) / (1 + PERMUTATIONS)
            yield Trend(factor, concordant, len(pairs), p)


def _explained(
    seen: Together, known: Sequence[Traits], whole: Floats, seed: int
) -> tuple[tuple[Explained, ...], tuple[str, ...]]:
    """What each factor explains, of those that are known of all models and differ between them."""
    wrong = (~seen.correct).mean(0)
    columns: dict[Factor, Floats | None] = {
        "family": np.array([[trait.family == name for name in _families(known)[1:]] for trait in known], dtype=float),
        "depth": _logs([trait.depth for trait in known]),
        "size": _logs([trait.size for trait in known]),
        "accuracy": _logs(wrong.tolist()),
    }
    orders = np.random.default_rng(seed).permuted(np.tile(whole, (PERMUTATIONS, 1)), axis=1)
    found: list[tuple[Factor, float, float, float]] = []
    skipped = []
    for factor, column in columns.items():
        if column is None:
            skipped.append(f"{factor}: not known (or without an error) for every model")
            continue
        basis = _basis(column)
        rank = basis.shape[1]
        if not 0 < rank < len(whole) - 1 or np.ptp(whole) == 0:
            skipped.append(f"{factor}: {'all models have the same' if not rank else 'as many groups as models'}")
            continue
        share = float(_share(basis, whole[None])[0])
        p = (1 + int((_share(basis, orders) >= share - _ROUNDING).sum())) / (1 + PERMUTATIONS)
        found.append((factor, share, rank / (len(whole) - 1), p))
    adjusted = holm([p for _, _, _, p in found])
    return tuple(Explained(*one, adjusted[k]) for k, one in enumerate(found)), tuple(skipped)


def _logs(values: Sequence[float | None]) -> Floats | None:
    """(models, 1) natural logarithms; None where one is missing or not positive."""
    if any(value is None or value <= 0 for value in values):
        return None
    return np.log(np.array(values, dtype=np.float64))[:, None]


def _basis(columns: Floats) -> Floats:
    """An orthonormal basis of what the columns span beside a constant."""
    about = columns - columns.mean(0)
    left, sizes, _ = np.linalg.svd(about, full_matrices=False)
    kept: Floats = left[:, sizes > _ROUNDING * max(1.0, float(np.abs(columns).max(initial=0)))]
    return kept


def _share(basis: Floats, outcomes: Floats) -> Floats:
    """(b,) shares of the variance of (b, models) outcomes that lies in the span of a basis."""
    about = outcomes - outcomes.mean(1, keepdims=True)
    share: Floats = ((about @ basis) ** 2).sum(1) / (about**2).sum(1)
    return share


_ROUNDING = 1e-12
