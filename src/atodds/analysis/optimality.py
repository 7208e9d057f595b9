"""How near each attack comes to the best that all attacks found together, and what that cost.

The measure of AttackBench: A. E. Cinà, J. Rony, M. Pintor, L. Demetrio, A. Demontis, B. Biggio, I. Ben Ayed, F. Roli
(2025), "AttackBench: Evaluating gradient-based attacks for adversarial examples", AAAI; arXiv 2404.19460.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from atodds.analysis.accuracy import CLEAN, Distances, distances, rows_of
from atodds.analysis.intervals import Floats
from atodds.analysis.numbers import percent
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import EpsLike, Norm, parse_eps, parse_norm


@dataclass(frozen=True)
class Optimality:
    """A share of the best in [0, 1], with its bootstrap interval over images; `n` images."""

    value: float
    low: float
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{percent(self.value)} % ({percent(self.low)}–{percent(self.high)})"


@dataclass(frozen=True)
class LocalOptimality:
    """One attack on one model: its share of the best, the passes that it took an image, and on how many images it found
    the closest fooling image of all (ties count for each)."""

    attack: str
    model: str
    optimality: Optimality
    passes: float
    best_on: int


@dataclass(frozen=True)
class AttackOptimality:
    """One attack: on each model, and over all of them: the mean of its shares (AttackBench's global optimality) and the
    mean of its passes an image."""

    attack: str
    optimality: Optimality
    passes: float
    models: tuple[LocalOptimality, ...]


@dataclass(frozen=True)
class Optimalities:
    """All attacks of a run, the nearest to the best first. `reach` is the largest distance that counts, by model."""

    norm: Norm
    reach: dict[str, float]
    attacks: tuple[AttackOptimality, ...]


def optimality(
    table: pl.DataFrame,
    norm: str,
    *,
    alone: bool,
    models: Sequence[str] | None = None,
    attacks: Sequence[str] | None = None,
    eps: EpsLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Optimalities:
    """How near the curve of each attack comes to that of all together.

    Over the images that a model has right, let d(a) be the smallest distance at which attack a fooled an image
    (infinite where it did not), d* the smallest over all attacks, and ε0 the largest distance that counts. The area
    between the accuracy and a curve of robust accuracy, up to ε0, is the mean of max(0, ε0 - d), so the share is

        Σ max(0, ε0 - d(a)) / Σ max(0, ε0 - d*)

    1 for an attack that is the best on every image, 0 for one that finds nothing below ε0. The best is only the best of
    those that ran: with one attack it is 1 by construction, and a new attack can lower all others.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        alone: whether the run was made with every attack on every image. In sequence a later attack never sees what an
            earlier one fooled, and its curve says nothing of it.
        models: as the `model` column says them; None takes all.
        attacks: to compare; None takes all. Verdicts with targets are left out: they answer another question.
        eps: ε0; None takes the largest d* of the model, beyond which the curve of all attacks together is flat
            (AttackBench's choice).
        seed, resamples: of the bootstrap over images; ε0 stays as it is.

    Raises:
        ArgumentError: the run is not one of attacks alone, an attack did not see every image that is right, or no such
            attack.
        EmptyDataError: nothing was attacked, or nothing fooled a model at all.
        UnknownNameError, ThreatError: as for `accuracy.distances`.
    """
    if not alone:
        problem = "later attacks never saw the images that earlier ones fooled"
        raise ArgumentError("alone", alone, problem, "Evaluate with alone=True (--alone) to compare attacks.")
    names = table["model"].unique(maintain_order=True).to_list() if models is None else list(models)
    local: dict[str, list[LocalOptimality]] = {}
    drawn: dict[str, list[Floats]] = {}
    widest: dict[str, float] = {}
    order: list[str] | None = None
    for model in names:
        found = distances(table, model, norm)
        rows = rows_of(table, model).filter((pl.col("attack") != CLEAN) & pl.col("target").is_null())
        order = _attacks(rows, attacks) if order is None else order
        nearest = _nearest(rows, order, found)
        best = nearest.min(0)
        far = parse_eps(eps, norm).value if eps is not None else float(best[np.isfinite(best)].max(initial=0.0))
        gains = np.maximum(0.0, far - np.vstack([nearest, best[None]]))
        if not gains[-1].any():
            raise EmptyDataError(f"No attack fooled {model} below {far:g}: there is no best to compare with.")
        share = partial(_shares, gains)
        resamples_of = resampled(share, gains.shape[1], resamples=resamples, seed=seed)
        here, (low, high) = share(np.ones((1, gains.shape[1])))[0], bounds(resamples_of)
        widest[model] = far
        for place, attack in enumerate(order):
            value = Optimality(float(here[place]), float(low[place]), float(high[place]), int(found.correct.sum()))
            wins = int(((nearest[place] == best) & np.isfinite(best)).sum())
            local.setdefault(attack, []).append(LocalOptimality(attack, model, value, _passes(rows, attack), wins))
            drawn.setdefault(attack, []).append(resamples_of[:, place])
    ranked = [_overall(attack, local[attack], drawn[attack]) for attack in local]
    ranked.sort(key=lambda one: (-one.optimality.value, one.passes, one.attack))
    return Optimalities(parse_norm(norm), widest, tuple(ranked))


def _attacks(rows: pl.DataFrame, attacks: Sequence[str] | None) -> list[str]:
    present = rows["attack"].unique(maintain_order=True).to_list()
    if not present:
        raise EmptyDataError("No attack ran without targets. Evaluate with attacks first.")
    unknown = [name for name in attacks or () if name not in present]
    if unknown:
        raise ArgumentError("attacks", ", ".join(unknown), "not in the table", f"Choose from {', '.join(present)}.")
    return present if attacks is None else list(dict.fromkeys(attacks))


def _nearest(rows: pl.DataFrame, order: Sequence[str], found: Distances) -> Floats:
    """(attacks, images): the smallest distance at which each attack fooled each image; infinite where it did not, and
    where the image is wrong from the start."""
    right = found.image[found.correct]
    nearest = np.full((len(order), len(found)), math.inf)
    for place, attack in enumerate(order):
        mine = rows.filter(pl.col("attack") == attack)
        missed = np.setdiff1d(right, mine["image"].to_numpy())
        if missed.size:
            problem = f"it did not see {missed.size} of {right.size} images that {found.model} has right"
            raise ArgumentError("attack", attack, problem, "Evaluate with alone=True (--alone) to compare attacks.")
        closest = mine.group_by("image").agg(pl.col(found.norm).min().alias("distance"))
        nearest[place, np.searchsorted(found.image, closest["image"].to_numpy())] = closest["distance"].to_numpy()
    nearest[:, ~found.correct] = math.inf
    return nearest


def _shares(gains: Floats, draws: Floats) -> Floats:
    """(b, attacks) shares of the best, from (attacks and the best, images) areas and (b, images) draws."""
    areas = draws @ gains.T
    best = areas[:, -1:]
    return np.divide(areas[:, :-1], best, out=np.full_like(areas[:, :-1], math.nan), where=best > 0)


def _passes(rows: pl.DataFrame, attack: str) -> float:
    """Forward and backward passes an image."""
    mine = rows.filter(pl.col("attack") == attack)
    return (int(mine["forwards"].sum()) + int(mine["backwards"].sum())) / mine["image"].n_unique()


def _overall(attack: str, local: Sequence[LocalOptimality], drawn: Sequence[Floats]) -> AttackOptimality:
    """The mean over models. A resample draws the same images for all models that were evaluated on the same ones."""
    low, high = bounds(np.stack(drawn, 1).mean(1))
    value = sum(one.optimality.value for one in local) / len(local)
    passes = sum(one.passes for one in local) / len(local)
    whole = Optimality(value, float(low), float(high), sum(one.optimality.n for one in local))
    return AttackOptimality(attack, whole, passes, tuple(local))
