"""The published leaderboard: 236 entries of RobustBench, with the papers that they come from, as package data."""

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from atodds.analysis.frontier import Frontier, frontier_of
from atodds.analysis.intervals import Floats, Rate, wilson
from atodds.analysis.resampling import RESAMPLES
from atodds.errors import EmptyDataError, UnknownNameError
from atodds.threat import SLACK, Budget, EpsLike, Norm, parse_eps, parse_norm

CORRUPTIONS = "corruptions"
Threat = Norm | Literal["corruptions"]

IMAGES = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 5_000}
"""How many images an entry was evaluated on: all test images of CIFAR, 5,000 validation images of ImageNet."""


@dataclass(frozen=True)
class Entry:
    """One entry. Shares are in [0, 1], as its authors or RobustBench published them.

    Attributes:
        id: its name in RobustBench.
        data: "cifar10", "cifar100" or "imagenet".
        threat: "linf", "l2" or "corruptions".
        eps: as its page writes it; None under corruptions.
        architecture: as its page writes it.
        accuracy: on the images themselves.
        robust: under AutoAttack; under corruptions, the mean accuracy over all of them.
        external: under a later evaluation by others, where there is one.
        unreliable: whether AutoAttack's own checks doubt `robust`; None where the entry does not say.
        additional_data: trained on more than the data set's own images.
        venue, paper, title: its source.
    """

    id: str
    data: str
    threat: Threat
    eps: Budget | None
    architecture: str
    accuracy: float
    robust: float
    external: float | None
    unreliable: bool | None
    additional_data: bool
    venue: str
    paper: str
    title: str

    @property
    def best_known(self) -> float:
        """The lowest robust accuracy that anybody has published: each is an upper bound of the true one."""
        return self.robust if self.external is None else min(self.robust, self.external)

    @property
    def images(self) -> int:
        """How many images it was evaluated on."""
        return IMAGES[self.data]


@cache
def entries() -> tuple[Entry, ...]:
    """All published entries, in the order of the file."""
    text = (resources.files("atodds.analysis") / "data" / "leaderboard.csv").read_text(encoding="utf-8")
    return tuple(_entry(row) for row in csv.DictReader(text.splitlines()))


def matching(data: str, threat: str, eps: EpsLike | None = None) -> tuple[Entry, ...]:
    """The entries that were evaluated on this data set, in this norm, at this eps; none where there are none.

    Args:
        data: "cifar10", "cifar100", "imagenet", or any other name.
        threat: "linf", "l2", "l1" or "corruptions".
        eps: None for corruptions. 0.031 is not 8/255: see `nearby`.

    Raises:
        ThreatError: a norm or an eps that means nothing.
    """
    norm, budget = _asked(threat, eps)
    return tuple(entry for entry in entries() if (entry.data, entry.threat) == (data, norm) and _same(entry, budget))


def nearby(data: str, threat: str, eps: EpsLike | None = None) -> tuple[Entry, ...]:
    """The entries that RobustBench shows on the same board as `matching` ones, though they were attacked at another
    eps: 0.031 beside 8/255, which makes them look a little better than they are."""
    norm, budget = _asked(threat, eps)
    if budget is None:
        return ()
    beside = (entry for entry in entries() if (entry.data, entry.threat) == (data, norm) and not _same(entry, budget))
    return tuple(entry for entry in beside if entry.eps and math.isclose(entry.eps.value, budget.value, rel_tol=_NEAR))


def published_frontier(
    data: str, threat: str, eps: EpsLike | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Frontier:
    """The Pareto set of the published entries: accuracy against the best known robust accuracy.

    Their verdicts on single images are not published, so what each entry would have had on other images is drawn from
    the numbers that it has: of n images, so many right and robust, right only, or neither (multinomial). Entries are
    drawn independently of each other, though they saw the same images: the probabilities are cautious, nearer to one
    half than paired ones would be.

    Args:
        data, threat, eps: as for `matching`.
        seed: of the draws.
        resamples: how many.

    Raises:
        EmptyDataError: no such entry; the message names the boards that there are.
        UnknownNameError: no entry of such a data set.
        ThreatError: a norm or an eps that means nothing.
    """
    known = sorted({entry.data for entry in entries()})
    if data not in known:
        raise UnknownNameError.among("data", data, known)
    found = matching(data, threat, eps)
    if not found:
        boards = sorted({_board(entry) for entry in entries() if entry.data == data})
        asked = f"{threat} {eps}" if eps is not None else threat
        raise EmptyDataError(f"No published entry on {data} for {asked}. There are some for {', '.join(boards)}.")
    rng = np.random.default_rng(seed)
    drawn = [_drawn(entry, rng, resamples) for entry in found]
    return frontier_of(
        tuple(entry.id for entry in found),
        tuple(_rate(entry.accuracy, entry.images) for entry in found),
        tuple(_rate(entry.best_known, entry.images) for entry in found),
        np.stack([accuracy for accuracy, _ in drawn], 1),
        np.stack([robust for _, robust in drawn], 1),
        eps=found[0].eps,
    )


def _drawn(entry: Entry, rng: np.random.Generator, resamples: int) -> tuple[Floats, Floats]:
    n, robust = entry.images, min(entry.best_known, entry.accuracy)
    counts = rng.multinomial(n, [robust, entry.accuracy - robust, 1 - entry.accuracy], size=resamples)
    return (counts[:, 0] + counts[:, 1]) / n, counts[:, 0] / n


def _rate(share: float, n: int) -> Rate:
    """A published share with the interval that its n gives; the share itself is shown as it was published."""
    interval = wilson(round(share * n), n)
    return Rate(share, interval.low, interval.high, n)


def _asked(threat: str, eps: EpsLike | None) -> tuple[Threat, Budget | None]:
    if threat.strip().lower() == CORRUPTIONS:
        return "corruptions", None
    norm = parse_norm(threat, "threat")
    return norm, None if eps is None else parse_eps(eps, norm)


def _same(entry: Entry, budget: Budget | None) -> bool:
    if entry.eps is None or budget is None:
        return entry.eps is budget
    return math.isclose(entry.eps.value, budget.value, rel_tol=SLACK)


def _board(entry: Entry) -> str:
    return f"{entry.threat} {entry.eps}" if entry.eps else entry.threat


def _entry(row: dict[str, str]) -> Entry:
    threat, _ = _asked(row["threat"], None)
    return Entry(
        id=row["id"],
        data=row["dataset"],
        threat=threat,
        eps=None if threat == CORRUPTIONS else parse_eps(row["eps"], threat),
        architecture=row["architecture"],
        accuracy=_share(row["clean"]),
        robust=_share(row["robust"]),
        external=_share(row["external"]) if row["external"] else None,
        unreliable={"True": True, "False": False}.get(row["unreliable"]),
        additional_data=row["additional_data"] == "True",
        venue=row["venue"],
        paper=row["paper"],
        title=row["title"],
    )


def _share(percent: str) -> float:
    return round(float(percent) / 100, 6)


_NEAR = 0.05
"""Budgets that a board takes for one."""
