"""Numbers that only some runs have: of several models together, of attacks that ran alone, of transfers."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import polars as pl

from atodds import analysis
from atodds.analysis import (
    Curve,
    Entry,
    Factors,
    Frontier,
    LowerUpper,
    MixtureFrontier,
    Optimalities,
    Rate,
    Scaling,
    Traits,
    TransferMatrix,
)
from atodds.analysis.accuracy import Distances
from atodds.analysis.factors import factors_of
from atodds.analysis.frontier import frontier_at, pareto
from atodds.analysis.leaderboard import matching
from atodds.analysis.mixtures import mixed_in, mixture_frontiers
from atodds.analysis.scaling import scaling_of
from atodds.analysis.together import Measure, Together, side_by_side
from atodds.analysis.transfer import Kind
from atodds.errors import EmptyDataError
from atodds.evaluation.manifest import Manifest
from atodds.threat import Budget

FEWEST = 3
"""Two models need no frontier: the curves say all."""
ENOUGH = 0.99
"""Where this share of the images of every model was fooled, their mean distance says how far they are."""
LITTLE = 0.01
"""Of all images: who keeps less has nothing to be compared with the published entries."""
MOST = 6
"""Transfer matrices on a page, at most."""
RADII = 9
"""At how many radii the certified accuracy is told."""


@dataclass(frozen=True, eq=False)
class FrontierFacts:
    """The frontier at one eps, with the published entries at that eps, and which of these are their own frontier."""

    frontier: Frontier
    published: tuple[Entry, ...]
    members: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Further:
    """All of it; empty or None where a run has nothing for it.

    Models are named as the `model` column of the table names them. `fewer` are models without a finite distortion, left
    out of `factors`. `mixtures` are the lines between two models at some budgets, a tuple for each two models.
    """

    frontiers: tuple[FrontierFacts, ...] = ()
    scaling: Scaling | None = None
    factors: Factors | None = None
    fewer: tuple[str, ...] = ()
    optimality: Optimalities | None = None
    transfers: tuple[TransferMatrix, ...] = ()
    bounds: tuple[LowerUpper, ...] = ()
    certified: tuple[tuple[str, Curve], ...] = ()
    mixtures: tuple[tuple[MixtureFrontier, ...], ...] = ()


def further(
    manifest: Manifest,
    table: pl.DataFrame,
    transfers: pl.DataFrame | None,
    bounds: pl.DataFrame,
    found: Sequence[Distances],
    budgets: Sequence[Budget],
    key: Budget,
    traits: Mapping[str, Traits],
    errors: Mapping[str, Rate] | None = None,
) -> Further:
    """What a run has of it.

    Args:
        transfers: the transfer table, where the run was asked for it.
        bounds: the table of lower bounds.
        found: the distances of every model.
        budgets, key: of the page.
        traits: of models, by their id or their name.
        errors: of models, by their id, where they were measured on more images.
    """
    known = {info.id: said for info in manifest.models if (said := traits.get(info.id) or traits.get(info.name))}
    families = {model: said.family for model, said in known.items()}
    several = side_by_side(found) if len(found) >= FEWEST and key.value > 0 else None
    measure = _measure(several) if several else "mean"
    fitted = _scaling(several, measure, errors) if several else None
    factors, fewer = _factors(several, known, measure) if several else (None, ())
    return Further(
        frontiers=_frontiers(manifest, several, budgets, key) if several else (),
        scaling=fitted,
        factors=factors,
        fewer=fewer,
        optimality=_optimality(manifest, table, found),
        transfers=_transfers(manifest, transfers, families) if transfers is not None else (),
        bounds=tuple(one for info in manifest.models for one in analysis.lower_uppers(bounds, table, info.id)),
        certified=_certified(bounds),
        mixtures=_mixtures(manifest, found, budgets, key),
    )


def _frontiers(
    manifest: Manifest, several: Together, budgets: Sequence[Budget], key: Budget
) -> tuple[FrontierFacts, ...]:
    """At the key eps, and at the largest that has published entries and where any model keeps something."""
    boards = {budget: matching(manifest.data.name, several.norm, budget) for budget in budgets if budget.value}
    alive = [budget for budget in budgets if (several.standing(budget.value).mean(0) >= LITTLE).any()]
    largest = next((budget for budget in reversed(alive) if boards.get(budget)), None)
    wanted = [key] if largest in (None, key) else [key, largest]
    return tuple(
        FrontierFacts(frontier_at(several, budget), boards[budget], _members(boards[budget]))
        for budget in wanted
        if budget is not None
    )


def _members(entries: Sequence[Entry]) -> tuple[bool, ...]:
    if not entries:
        return ()
    inside = pareto(np.array([entry.accuracy for entry in entries]), np.array([entry.best_known for entry in entries]))
    return tuple(inside.tolist())


def _measure(several: Together) -> Measure:
    """The mean, as the 2018 study took it, where next to all images were fooled; the median otherwise, which does not
    depend on those that were not."""
    right = several.correct.sum(0)
    fooled = (several.correct & np.isfinite(several.values)).sum(0)
    return "mean" if (fooled >= ENOUGH * right).all() else "median"


def _scaling(several: Together, measure: Measure, errors: Mapping[str, Rate] | None) -> Scaling | None:
    try:
        return scaling_of(several, measure=measure, errors=errors)
    except EmptyDataError:
        return None


def _factors(
    several: Together, known: Mapping[str, Traits], measure: Measure
) -> tuple[Factors | None, tuple[str, ...]]:
    """Of the models whose family is known, where two of one family are among them."""
    places = [k for k, model in enumerate(several.models) if model in known]
    finite = [k for k in places if _finite(several, k, measure)]
    families = [known[several.models[k]].family for k in finite]
    if len(finite) < FEWEST or len(set(families)) == len(families):
        return None, ()
    part = Together(
        tuple(several.models[k] for k in finite), several.norm, several.image, several.correct[:, finite],
        several.values[:, finite],
    )  # fmt: skip
    return factors_of(part, known, measure=measure), tuple(several.models[k] for k in places if k not in finite)


def _finite(several: Together, place: int, measure: Measure) -> bool:
    values = several.values[several.correct[:, place], place]
    known = np.isfinite(values)
    return bool(known.any() and (measure == "mean" or np.isfinite(np.median(values))))


def _optimality(manifest: Manifest, table: pl.DataFrame, found: Sequence[Distances]) -> Optimalities | None:
    """Of the models that were fooled at all, where several attacks ran, each alone."""
    fooled = [one.model for one in found if (one.correct & np.isfinite(one.values)).any()]
    attacks = table.filter(pl.col("attack").is_in(manifest.attacks) & pl.col("target").is_null())["attack"].n_unique()
    if not manifest.alone or attacks < 2 or not fooled:
        return None
    return analysis.optimality(table, manifest.norm, alone=True, models=fooled)


def _transfers(manifest: Manifest, transfers: pl.DataFrame, families: Mapping[str, str]) -> tuple[TransferMatrix, ...]:
    """A matrix for each attack; for a targeted one, whether the target itself transferred, and whether it came near."""
    complete = families if len(families) == len(manifest.models) else None
    order = [info.id for info in manifest.models]
    found: list[TransferMatrix] = []
    for attack in manifest.attacks:
        rows = transfers.filter(pl.col("attack") == attack)
        present = {*rows["source"].to_list(), *rows["model"].to_list()}
        models = [model for model in order if model in present]
        aimed = (rows["source_fooled"] & rows["target"].is_not_null()).any()
        kinds: tuple[Kind, ...] = ("targeted", "top-5") if aimed else ("untargeted",)
        eps = None if rows["eps"].is_null().any() else manifest.budgets[-1]
        for kind in kinds if len(models) > 1 else ():
            with suppress(EmptyDataError):  # no image that counts
                found.append(
                    analysis.transfer(transfers, kind=kind, attack=attack, eps=eps, models=models, families=complete)
                )
    return tuple(found[:MOST])


def _certified(bounds: pl.DataFrame) -> tuple[tuple[str, Curve], ...]:
    """Certified accuracy, from radius 0 to the largest of each method on each model."""
    found: list[tuple[str, Curve]] = []
    certificates = bounds.filter(pl.col("certified"))
    for (model, method), rows in certificates.group_by("model", "method", maintain_order=True):
        reach = float(rows["lower"].to_numpy().max())
        radii = [Budget(float(f"{radius:.3g}"), f"{radius:.3g}") for radius in np.linspace(0, reach, RADII)]
        found.append((str(method), analysis.certified_accuracy(bounds, str(model), str(method), radii)))
    return tuple(found)


def _mixtures(
    manifest: Manifest, found: Sequence[Distances], budgets: Sequence[Budget], key: Budget
) -> tuple[tuple[MixtureFrontier, ...], ...]:
    """At the first, the key and the last budget at which any model of the line keeps something."""
    of = {one.model: one for one in found}
    families = []
    for mixed in mixed_in(manifest.models):
        seen = side_by_side([of[model] for model in mixed.models])
        alive = [budget for budget in budgets[1:] if (seen.standing(budget.value).mean(0) >= LITTLE).any()]
        wanted = dict.fromkeys(budget for budget in alive if budget in (alive[0], key, alive[-1]))
        lines = mixture_frontiers(seen, wanted, mixed)
        families += [lines] if lines else []
    return tuple(families)
