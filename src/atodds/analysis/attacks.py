"""What each attack added to the ones before it, and what it cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from atodds.analysis.accuracy import CLEAN, Integers, distances, reach, rows_of
from atodds.analysis.intervals import Bools, Floats, Rate, wilson
from atodds.threat import Budget, EpsSpec, Norm, parse_eps_list


@dataclass(frozen=True)
class AttackShare:
    """One attack: the share of all images that it was the first to fool, at each budget, and what it took.

    `alone` is the share of all images that it fooled by itself, where it was run on every image that is classified
    rightly. `images` counts the images that it was run on, at any budget; `forwards` and `backwards` its passes.
    """

    attack: str
    added: tuple[Rate, ...]
    alone: tuple[Rate, ...] | None
    images: int
    forwards: int
    backwards: int

    @property
    def passes(self) -> int:
        """Forward and backward passes together."""
        return self.forwards + self.backwards


@dataclass(frozen=True)
class AttackShares:
    """All attacks on one model in the order in which they ran.

    At each budget the shares add up to one: `misclassified` without any attack, `added` by each attack, and `standing`,
    which is the robust accuracy.
    """

    model: str
    norm: Norm
    budgets: tuple[Budget, ...]
    misclassified: Rate
    attacks: tuple[AttackShare, ...]
    standing: tuple[Rate, ...]
    clean_passes: int

    @property
    def passes(self) -> int:
        """All passes through the model, the one on each image itself included."""
        return self.clean_passes + sum(attack.passes for attack in self.attacks)


def attack_shares(
    table: pl.DataFrame, model: str, norm: str, budgets: EpsSpec, attacks: Sequence[str] = (), *, alone: bool = False
) -> AttackShares:
    """What each attack added in sequence: an image counts for the first attack in the order that fooled it within ε.

    Args:
        table: the verdict table.
        model: as its `model` column says it.
        norm: "l1", "l2" or "linf".
        budgets: where to look.
        attacks: the order in which they ran; attacks that it leaves out ran before, in the order of the table.
        alone: whether every attack was run on every image that is classified rightly: then its own share is known too.

    Raises:
        UnknownNameError, ThreatError, EmptyDataError, ArgumentError: as for `accuracy.distances`.
    """
    found = distances(table, model, norm)
    wanted = parse_eps_list(budgets, norm)
    rows = rows_of(table, model)
    attacked = rows.filter(pl.col("attack") != CLEAN)
    present = attacked["attack"].unique(maintain_order=True).to_list()
    named = [name for name in dict.fromkeys(attacks) if name in present]
    order = [name for name in present if name not in named] + named
    nearest = _nearest(attacked, order, found.norm, found.image)
    nearest[:, ~found.correct] = math.inf
    first = [_first(nearest <= reach(budget.value)) for budget in wanted]
    n = len(found)
    shares = []
    for place, name in enumerate(order):
        mine = attacked.filter(pl.col("attack") == name)
        shares.append(
            AttackShare(
                name,
                tuple(wilson(int((who == place).sum()), n) for who in first),
                tuple(wilson(int((nearest[place] <= reach(b.value)).sum()), n) for b in wanted) if alone else None,
                mine["image"].n_unique(),
                int(mine["forwards"].sum()),
                int(mine["backwards"].sum()),
            )
        )
    standing = tuple(wilson(int(found.standing(budget.value).sum()), n) for budget in wanted)
    clean = rows.filter(pl.col("attack") == CLEAN)
    clean_passes = int(clean["forwards"].sum()) + int(clean["backwards"].sum())
    wrong = wilson(int((~found.correct).sum()), n)
    return AttackShares(model, found.norm, wanted, wrong, tuple(shares), standing, clean_passes)


def _nearest(attacked: pl.DataFrame, order: Sequence[str], norm: Norm, images: Integers) -> Floats:
    """(attacks, images): the smallest distance at which each attack fooled each image, infinite where it did not. An
    attack that missed its target and hit another wrong class has fooled the image."""
    nearest = np.full((len(order), len(images)), math.inf)
    fooled = attacked.group_by("attack", "image").agg(pl.col(norm).min().alias("distance"))
    for place, name in enumerate(order):
        mine = fooled.filter(pl.col("attack") == name, pl.col("image").is_in(images.tolist()))
        nearest[place, np.searchsorted(images, mine["image"].to_numpy())] = mine["distance"].to_numpy()
    return nearest


def _first(fooled: Bools) -> Integers:
    """(images,): the first attack that fooled each image, -1 where none did."""
    if not fooled.shape[0]:
        return np.full(fooled.shape[1], -1, dtype=np.int64)
    return np.where(fooled.any(axis=0), fooled.argmax(axis=0), -1).astype(np.int64)
