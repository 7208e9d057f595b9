"""What mixtures of two models are worth: the line that they trace between the two, and whether it bends outwards.

Who has two models needs no mixture to stand between them: asking one of them, drawn by lot for every image, gives in
expectation every point of the straight line between the two. A mixture is worth its second pass where it lies beyond
that line, on the side of more accuracy and more robust accuracy.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from atodds.analysis.intervals import Difference, Floats, Rate, wilson
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.analysis.together import Together, together
from atodds.errors import ArgumentError
from atodds.evaluation.manifest import ModelInfo
from atodds.threat import Budget, EpsLike, parse_eps

Verdict = Literal["above", "below", "cannot tell"]
SAID: Mapping[Verdict, str] = {
    "above": "lie above the straight line between",
    "below": "lie below the straight line between",
    "cannot tell": "do not lie clearly above the straight line between",
}
_SOURCE = re.compile(r"(mix|mix-weights)\(.*@(?P<first>[0-9a-f]{8}),.*@(?P<second>[0-9a-f]{8}),(?P<alpha>[0-9.e-]+)\)")


@dataclass(frozen=True)
class Mixed:
    """The mixtures of two models in a run: (alpha, id) from the first model at 0 to the second at 1, each id as the
    table's `model` column has it. `by` is "outputs" or "weights"."""

    by: str
    members: tuple[tuple[float, str], ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The ids alone."""
        return tuple(model for _, model in self.members)


@dataclass(frozen=True)
class MixturePoint:
    """One model of the line. `gap` is its distance from the straight line between the ends, in the plane of accuracy
    and robust accuracy, positive on the better side; the intervals of all gaps hold together."""

    model: str
    alpha: float
    accuracy: Rate
    robustness: Rate
    gap: Difference


@dataclass(frozen=True)
class MixtureFrontier:
    """The line that mixtures trace at one eps, in the order of alpha.

    `gap` is the mean distance from the straight line between the ends: the area between the two, over the straight
    line's length.
    """

    eps: Budget
    by: str
    points: tuple[MixturePoint, ...]
    gap: Difference
    resamples: int

    @property
    def verdict(self) -> Verdict:
        """Whether the line lies above the straight one, below it, or neither can be told, on average over it."""
        return "above" if self.gap.low > 0 else "below" if self.gap.high < 0 else "cannot tell"

    @property
    def said(self) -> str:
        """The verdict as a sentence."""
        ends = f"{_plain(self.points[0].model)} and {_plain(self.points[-1].model)}"
        what = "mixtures" if self.by == "outputs" else "networks between the weights"
        return f"At {self.eps} the {what} of {ends} {SAID[self.verdict]} the two: {self.gap} from it on average."

    @property
    def clear(self) -> tuple[MixturePoint, ...]:
        """The mixtures that lie above the straight line by themselves, the furthest first."""
        return tuple(sorted((point for point in self.points if point.gap.low > 0), key=lambda point: -point.gap.value))


def mixed_in(models: Sequence[ModelInfo]) -> tuple[Mixed, ...]:
    """The families of mixtures among the models of a run, of those whose two ends are models of it too."""
    whole = {info.id.rpartition("@")[2]: info.id for info in models}
    found: dict[tuple[str, str, str], dict[float, str]] = {}
    for info in models:
        told = _SOURCE.fullmatch(info.source)
        ends = (whole.get(told["first"]), whole.get(told["second"])) if told else (None, None)
        share = _number(told["alpha"]) if told else None
        if told and share is not None and ends[0] and ends[1]:
            by = "outputs" if told[1] == "mix" else "weights"
            found.setdefault((by, ends[0], ends[1]), {})[share] = info.id
    return tuple(
        Mixed(by, ((0.0, first), *sorted(inner.items()), (1.0, second))) for (by, first, second), inner in found.items()
    )


def mixture_frontier(
    table: pl.DataFrame,
    norm: str,
    eps: EpsLike,
    mixed: Mixed,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> MixtureFrontier:
    """Where the mixtures of two models lie, and whether beyond the straight line between the two.

    With the points P0 to PK in order of alpha, c = PK - P0 and x the cross product, the gap of point k is
    (Pk - P0) x c / |c|, and the mean gap is half the sum of (Pk - P0) x (P(k+1) - P0) / |c|, both with the sign that
    makes the side of more accuracy and more robust accuracy positive. Where one end has more of both, positive is the
    side of more robust accuracy. Intervals are those of a paired bootstrap over images, which draws the same images for
    all models; those of the single gaps hold for all of them at once: each is the gap plus and minus c standard errors,
    with the c within which the largest deviation of any of them stays in 95 % of the resamples.

    Args:
        table: the verdict table.
        norm: "l1", "l2" or "linf".
        eps: a budget.
        mixed: the models, as `mixed_in` finds them.
        seed: of the draws.
        resamples: how many.

    Raises:
        ArgumentError: no mixture between the ends, or ends that lie in the same point, between which there is no line.
        EmptyDataError, UnknownNameError, ThreatError: as for `together`.

    References:
        B. Efron, R. J. Tibshirani (1993), "An introduction to the bootstrap", chapters 6 and 13.
        J. L. Montiel Olea, M. Plagborg-Moller (2019), "Simultaneous confidence bands", algorithm 2.
    """
    budget = parse_eps(eps, norm)
    if len(mixed.members) < 3:
        raise ArgumentError("mixed", mixed, "no mixture between the ends", "Give at least one alpha between 0 and 1.")
    seen = together(table, norm, mixed.models)
    return mixture_frontier_of(seen, budget, mixed, seed=seed, resamples=resamples)


def mixture_frontier_of(
    seen: Together, eps: Budget, mixed: Mixed, *, seed: int = 0, resamples: int = RESAMPLES
) -> MixtureFrontier:
    """`mixture_frontier` from distances that are at hand, of the models of `mixed` in their order."""
    n, count = len(seen), len(seen.models)
    standing = seen.standing(eps.value)
    both = np.hstack([seen.correct, standing]).astype(np.float64)
    right, robust = seen.correct.sum(0), standing.sum(0)
    if right[0] == right[-1] and robust[0] == robust[-1]:
        way_out = "Choose an eps at which they differ."
        raise ArgumentError("eps", eps.text, "the two models are equally accurate and equally robust there", way_out)
    # The more accurate end is to the right of the other, the less robust one where both are equally accurate.
    sign = 1.0 if (right[0], -robust[0]) > (right[-1], -robust[-1]) else -1.0
    here = _gaps(both.sum(0)[None] / n, count, sign)[0]
    drawn = resampled(lambda draws: _gaps(draws @ both / n, count, sign), n, resamples=resamples, seed=seed)
    low, high = bounds(drawn[:, 0])
    reach = _simultaneous(drawn[:, 1:], here[1:])
    points = tuple(
        MixturePoint(
            model=model,
            alpha=alpha,
            accuracy=wilson(int(right[k]), n),
            robustness=wilson(int(robust[k]), n),
            gap=Difference(float(here[k + 1]), float(here[k + 1] - reach[k]), float(here[k + 1] + reach[k]), n),
        )
        for k, (alpha, model) in enumerate(mixed.members)
    )
    return MixtureFrontier(eps, mixed.by, points, Difference(float(here[0]), float(low), float(high), n), resamples)


def mixture_frontiers(seen: Together, budgets: Iterable[Budget], mixed: Mixed) -> tuple[MixtureFrontier, ...]:
    """`mixture_frontier_of` at each budget at which there is a line: where the two ends are not equal."""
    lines = []
    for budget in budgets:
        with suppress(ArgumentError):
            lines.append(mixture_frontier_of(seen, budget, mixed))
    return tuple(lines)


def _gaps(shares: Floats, count: int, sign: float) -> Floats:
    """(b, 1 + count) mean gap and gaps, from (b, 2 count) accuracies and robust accuracies; NaN where the ends meet."""
    across, up = shares[:, :count] - shares[:, :1], shares[:, count:] - shares[:, count : count + 1]
    length = np.hypot(across[:, -1:], up[:, -1:])
    single = across * up[:, -1:] - up * across[:, -1:]
    area = (across[:, :-1] * up[:, 1:] - up[:, :-1] * across[:, 1:]).sum(1, keepdims=True) / 2
    whole = sign * np.hstack([area, single])
    return np.divide(whole, length, out=np.full_like(whole, np.nan), where=length > 0)


def _simultaneous(drawn: Floats, here: Floats, confidence: float = 0.95) -> Floats:
    """(count,) how far the intervals reach to both sides, so that together they hold all gaps; 0 at the ends."""
    drawn = drawn[~np.isnan(drawn).any(1)]
    error = drawn.std(0)
    deviation = np.divide(abs(drawn - here), error, out=np.zeros_like(drawn), where=error > 1e-12)
    return np.asarray(np.quantile(deviation.max(1), confidence, method="higher") * np.where(error > 1e-12, error, 0.0))


def _plain(model: str) -> str:
    """A name without the digits behind it."""
    return model.rpartition("@")[0] or model


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < 1 else None
