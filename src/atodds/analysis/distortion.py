"""How often each attack reached what it wanted, and how far it had to go: what the study of 18 models reports.

D. Su et al. (2018), "Is robustness the cost of accuracy?", section 3: success rate over the images that were attacked,
mean and standard deviation of the distortions over the successes, attack by attack and target by target.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from atodds.analysis.accuracy import CLEAN, Integers, reach, rows_of
from atodds.analysis.intervals import Floats, Rate, wilson
from atodds.analysis.numbers import significant
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.analysis.together import together
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import EpsLike, parse_eps, parse_norm

_COLUMNS = ("l0", "l1", "l2", "linf")


@dataclass(frozen=True)
class Spread:
    """The mean of `n` distances with its bootstrap interval over images, their standard deviation and their median."""

    mean: float
    low: float
    high: float
    std: float
    median: float
    n: int

    def __float__(self) -> float:
        return self.mean

    def __str__(self) -> str:
        return f"{significant(self.mean)} ({significant(self.low)}–{significant(self.high)})"


@dataclass(frozen=True)
class AttackDistortion:
    """One attack on one model.

    Attributes:
        attack: with its settings, as the table names it.
        target: "least-likely", "second" or "random"; empty where any class but the label would do.
        success: the share of the attacked images that were fooled as the attack wanted.
        on_all: whether it ran on every image that counts and that the model has right, so that its rate is its own.
        l0, l1, l2, linf: how far its successes are from their images, in [0, 1] for a pixel; None without a success.
    """

    attack: str
    target: str
    success: Rate
    on_all: bool
    l0: Spread | None
    l1: Spread | None
    l2: Spread | None
    linf: Spread | None

    def of(self, norm: str) -> Spread | None:
        """The distances in "l1", "l2" or "linf"."""
        return {"l1": self.l1, "l2": self.l2, "linf": self.linf}[parse_norm(norm)]


def attack_distortions(
    table: pl.DataFrame,
    model: str,
    norm: str,
    *,
    attacks: Sequence[str] = (),
    images: npt.ArrayLike | None = None,
    eps: EpsLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[AttackDistortion, ...]:
    """Success rate and distances of each attack, over the images that the model has right.

    Minimum-norm and targeted attacks run on every such image, others only where `alone` was asked for: elsewhere they
    get what is left by those before them, and a share of what is left says little of the attack.

    Args:
        table: the verdict table.
        model: as its `model` column says it.
        norm: of an image's several successes, the closest in this norm counts.
        attacks: as the table names them, in the order that is wanted; all, in the order of the table, if none is given.
        images: ids of those that count, such as `common_images`; None for all.
        eps: only successes within it count; None for any distance.
        seed, resamples: of the bootstrap.

    Raises:
        EmptyDataError: no image of those that count was attacked by one of the attacks.
        ArgumentError: an attack that the table does not have.
        UnknownNameError, ThreatError: as for `accuracy.distances`.
    """
    column = parse_norm(norm)
    limit = np.inf if eps is None else reach(parse_eps(eps, norm).value)
    every = rows_of(table, model).filter(pl.col("clean") == pl.col("label"))
    if images is not None:
        every = every.filter(pl.col("image").is_in(np.asarray(images).tolist()))
    right, rows = every["image"].n_unique(), every.filter(pl.col("attack") != CLEAN)
    present = rows["attack"].unique(maintain_order=True).to_list()
    if missing := [name for name in attacks if name not in present]:
        way_out = f"Attacks of the table: {', '.join(present) or 'none'}."
        raise ArgumentError("attacks", ", ".join(missing), f"made on no image of {model} that counts", way_out)
    if not present:
        raise EmptyDataError(f"No image that {model} has right was attacked. Evaluate an attack on it first.")
    return tuple(
        _distortion(rows.filter(pl.col("attack") == name), name, right, column, limit, seed, resamples)
        for name in (attacks or present)
    )


def common_images(table: pl.DataFrame, models: Sequence[str] | None = None) -> Integers:
    """Ids, ascending, of the images that all of some models have and classify rightly.

    Distances over these images can be compared between models: each has its say on the same ones, and none is
    flattered by having given up the difficult.

    Args:
        table: the verdict table.
        models: as its `model` column says them; None for all.

    Raises:
        EmptyDataError: no verdicts, or no such image.
        UnknownNameError, ArgumentError: as for `together.together`.
    """
    seen = together(table, "linf", models)
    found = seen.image[seen.correct.all(1)]
    if not found.size:
        raise EmptyDataError(
            f"No image is classified rightly by all of {', '.join(seen.models)}. Leave out the weakest."
        )
    return found


def _distortion(
    rows: pl.DataFrame, attack: str, right: int, norm: str, limit: float, seed: int, resamples: int
) -> AttackDistortion:
    n = rows["image"].n_unique()
    hits = rows.filter(pl.col("fooled") & (pl.col(norm) <= limit)).sort(norm, "image")
    closest = hits.unique("image", keep="first", maintain_order=True).sort("image")
    target = _TARGET.search(attack)
    spreads = _spreads(closest.select(_COLUMNS).to_numpy(), seed, resamples)
    return AttackDistortion(attack, target[1] if target else "", wilson(closest.height, n), n == right, *spreads)


_TARGET = re.compile(r"[(,]target=([\w-]+)")


def _spreads(values: Floats, seed: int, resamples: int) -> list[Spread | None]:
    """Of each column of (n, 4) distances."""
    n = len(values)
    if n == 0:
        return [None] * len(_COLUMNS)
    low, high = bounds(resampled(lambda draws: draws @ values / n, n, resamples=resamples, seed=seed))
    means, middles = values.mean(0), np.median(values, axis=0)
    deviations = values.std(0, ddof=1) if n > 1 else np.zeros(len(_COLUMNS))
    columns = np.stack([means, low, high, deviations, middles], 1).tolist()
    return [Spread(mean, least, most, std, median, n) for mean, least, most, std, median in columns]
