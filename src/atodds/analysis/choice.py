"""Which model serves a need best: expected costs, how surely, where the decision flips, what it costs to be wrong.

At an attack share r, a model costs (1 - r) times what its errors on the images themselves cost, plus r times what its
errors under attack cost, averaged over the need's budgets by their weights. That is a line in r for each model; the
lower envelope of the lines says who is best where. Every interval and probability comes from one paired bootstrap over
images, the same for all models (Efron & Tibshirani 1993, chapter 6): it says how much the draw of images matters, and
nothing of attacks that are too weak.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from scipy import stats

from atodds.analysis.accuracy import Integers, reach
from atodds.analysis.envelope import Stretch, crossings, lower_envelope
from atodds.analysis.intervals import CONFIDENCE, Floats, Rate, wilson
from atodds.analysis.limits import Excluded, Traits, image_costs, meeting
from atodds.analysis.need import Need
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.analysis.together import Together
from atodds.threat import Budget

POWER = 0.8
"""The chance that a further measurement of the size that is named settles a close call, if the truth is as measured."""
MOST_COLUMNS = 256
"""Places on the ε axis that the interval of a flip is searched over, at most; the flip itself is exact."""


@dataclass(frozen=True)
class Amount:
    """A cost of one input, or a difference of two, with its bootstrap interval."""

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Option:
    """A model that meets the need's limits.

    Attributes:
        model: as the table says it.
        cost: expected, of one input, at the middle of the attacked shares.
        at_zero, at_one: the same if nothing, and if everything were attacked: the ends of its line.
        clean: accuracy on the images themselves; `robust` at each of the need's budgets.
        regret: what it costs more than the best, paired over images.
        worst_regret: the most that it costs more than the best for a share, over the range of attacked shares.
        probability: share of resamples in which it costs least.
        meets: share of resamples in which it has the need's least clean accuracy; 1 where none is asked for.
        traits: parameters and latency.
    """

    model: str
    cost: Amount
    at_zero: float
    at_one: float
    clean: Rate
    robust: tuple[Rate, ...]
    regret: Amount
    worst_regret: float
    probability: float
    meets: float
    traits: Traits


@dataclass(frozen=True)
class Flip:
    """From this share of attacked inputs on, `after` costs less than `before`; `low` and `high` may lie outside [0, 1],
    infinite, where resamples leave one of the two ahead everywhere."""

    share: float
    low: float
    high: float
    before: str
    after: str


@dataclass(frozen=True)
class EpsFlip:
    """At the middle of the attacked shares, `after` costs less than `before` from `eps` on; the order was seen last at
    `last`. `low` and `high`: the first budget at which it does so, over resamples; infinite where it never does."""

    eps: Budget
    last: Budget
    low: float
    high: float
    before: str
    after: str


@dataclass(frozen=True)
class Column:
    """The envelope for one ε: who is best for which share. It holds for budgets from `start` to `stop`, and was
    measured at `eps`."""

    eps: Budget
    start: float
    stop: float
    stretches: tuple[Stretch, ...]

    def best(self, share: float) -> int:
        """The place of the model that is best at an attacked share."""
        return next(piece.line for piece in self.stretches if share <= piece.stop)


@dataclass(frozen=True)
class Settling:
    """What would settle the call between the best model and a rival: `images` in all, by the paired variance that was
    seen; None where both cost the same. `where` is the budget ("clean" for none) that most of this variance is from,
    `share` how much of it."""

    rival: str
    images: int | None
    where: str
    share: float


@dataclass(frozen=True)
class Choice:
    """The answer to a need.

    Attributes:
        need: that was asked.
        n: images that all models have.
        options: the models that meet the limits, the cheapest first.
        excluded: the others.
        flips: where the decision flips over the attacked share, at the need's budgets.
        eps_flips: where it flips over ε, at the middle of the attacked shares.
        columns: the map: for each ε, who is best for which share; places are those of `models`.
        models: the options in the order of the table.
        settling: what would settle each close call with the best, the closest first.
        resamples: of the bootstrap.
    """

    need: Need
    n: int
    options: tuple[Option, ...]
    excluded: tuple[Excluded, ...]
    flips: tuple[Flip, ...]
    eps_flips: tuple[EpsFlip, ...]
    columns: tuple[Column, ...]
    models: tuple[str, ...]
    settling: tuple[Settling, ...]
    resamples: int

    @property
    def best(self) -> Option:
        """The model to choose."""
        return self.options[0]

    @property
    def close(self) -> bool:
        """Whether another model is not clearly worse than the best."""
        return bool(self.settling)


def choose(
    seen: Together,
    labels: Integers,
    classes: Sequence[str],
    need: Need,
    traits: Mapping[str, Traits],
    *,
    measured: Sequence[Budget],
    anywhere: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Choice:
    """The model with the least expected cost among those that meet the need's limits.

    Args:
        seen: distances of the models over the images that all of them have; the need's budgets were looked at.
        labels: (n,) true classes of these images.
        classes: their names, by label.
        need: what is asked.
        traits: parameters and latency, by model.
        measured: the budgets that all models were attacked at: the columns of the map.
        anywhere: whether every model was searched at any distance: then the map has a column wherever any cost changes,
            as far as the largest of `measured`.
        seed: of the draws.
        resamples: how many.

    Raises:
        UnknownNameError: costs of a class that does not exist.
        NeedError: no model meets the limits, or costs that are all 0.
    """
    weight = image_costs(labels, classes, need)
    n = len(seen)
    kept, excluded = meeting(seen, need, traits)
    wrong = weight[:, None] * ~seen.correct[:, kept]
    fallen = sum(
        (share * weight[:, None] * ~seen.standing(eps.value)[:, kept] for eps, share in need.weights), 0 * wrong
    )
    right = seen.correct[:, kept].astype(np.float64)
    drawn = resampled(lambda times: times @ np.hstack([wrong, fallen, right]) / n, n, resamples=resamples, seed=seed)
    count = len(kept)
    zero, one, r = wrong.mean(0), fallen.mean(0), need.share
    drawn_zero, drawn_one = drawn[:, :count], drawn[:, count : 2 * count]
    cost, costs = (1 - r) * zero + r * one, (1 - r) * drawn_zero + r * drawn_one
    order = np.lexsort((zero, cost))
    best = int(order[0])
    models = tuple(seen.models[place] for place in kept)
    low, high = bounds(costs)
    regrets = costs - costs[:, [best]]
    regret_low, regret_high = bounds(regrets)
    wins = _wins(costs)
    ends = [(1 - end) * zero + end * one for end in need.attacked]
    worst = np.max([end - end.min() for end in ends], axis=0)
    least = 0.0 if need.min_clean is None else need.min_clean
    options = tuple(
        Option(
            model=models[k],
            cost=Amount(float(cost[k]), float(low[k]), float(high[k])),
            at_zero=float(zero[k]),
            at_one=float(one[k]),
            clean=wilson(int(seen.correct[:, kept[k]].sum()), n),
            robust=tuple(wilson(int(seen.standing(b.value)[:, kept[k]].sum()), n) for b in need.budgets),
            regret=Amount(float(cost[k] - cost[best]), float(regret_low[k]), float(regret_high[k])),
            worst_regret=float(worst[k]),
            probability=float(wins[k]),
            meets=float((drawn[:, 2 * count + k] >= least - 1e-12).mean()),
            traits=traits[models[k]],
        )
        for k in order.tolist()
    )
    columns = _columns(seen, kept, weight, zero, measured, anywhere)
    return Choice(
        need=need,
        n=n,
        options=options,
        excluded=excluded,
        flips=_flips(models, zero, one, drawn_zero, drawn_one),
        eps_flips=_eps_flips(seen, kept, weight, columns, r, seed, resamples),
        columns=columns,
        models=models,
        settling=_settling(seen, kept, weight, need, order.tolist(), regret_low),
        resamples=resamples,
    )


def images_needed(difference: float, deviation: float, *, power: float = POWER, confidence: float = CONFIDENCE) -> int:
    """How many pairs tell a mean difference of one from 0, in a two-sided test, with this chance.

    n = ((z of (1 + confidence) / 2) + (z of power))² (deviation / difference)², rounded up.

    References:
        P. Armitage, G. Berry, J. N. S. Matthews (2002), "Statistical methods in medical research", section 4.6.
    """
    both = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return math.ceil((both * deviation / difference) ** 2)


def _wins(costs: Floats) -> Floats:
    """(models,) share of (resamples, models) in which each costs least; those that tie share it."""
    least = costs <= costs.min(1, keepdims=True) + 1e-12
    wins: Floats = (least / least.sum(1, keepdims=True)).mean(0)
    return wins


def _flips(models: Sequence[str], zero: Floats, one: Floats, drawn_zero: Floats, drawn_one: Floats) -> tuple[Flip, ...]:
    found = []
    for before, after in pairwise(lower_envelope(zero, one)):
        i, j = before.line, after.line
        low, high = bounds(crossings(drawn_zero[:, i], drawn_one[:, i], drawn_zero[:, j], drawn_one[:, j]))
        found.append(Flip(after.start, float(low), float(high), models[i], models[j]))
    return tuple(found)


def _columns(
    seen: Together, kept: list[int], weight: Floats, zero: Floats, measured: Sequence[Budget], anywhere: bool
) -> tuple[Column, ...]:
    """The envelope for each budget. Between two that were attacked nothing was looked for, so a budget's column reaches
    back to the one before it; where every distance was searched for, a column lasts until a cost changes."""
    if anywhere:
        far, end = seen.values[:, kept], max((budget.value for budget in measured), default=0.0)
        steps = np.unique(np.concatenate([[0.0], far[np.isfinite(far) & (far <= end)]]))
        places = [Budget(float(step), f"{step:.4g}") for step in steps]
        spans = list(pairwise([*steps.tolist(), max(end, float(steps[-1]))]))
    else:
        places = list(measured)
        spans = list(pairwise([0.0, *(budget.value for budget in places)]))
    levels = _levels(seen, kept, weight, [place.value for place in places])
    return tuple(
        Column(eps, start, stop, lower_envelope(zero, level))
        for eps, level, (start, stop) in zip(places, levels, spans, strict=True)
        if stop > start
    )


def _levels(seen: Together, kept: list[int], weight: Floats, steps: Sequence[float]) -> Floats:
    """(steps, models) expected costs if everything were attacked: one sort a model, then one search a step."""
    found = np.empty((len(steps), len(kept)))
    for at, place in enumerate(kept):
        right = seen.correct[:, place]
        order = np.argsort(seen.values[right, place], kind="stable")
        upto = np.concatenate([[0.0], np.cumsum(weight[right][order])])
        fallen = np.searchsorted(seen.values[right, place][order], [reach(step) for step in steps], side="right")
        found[:, at] = (weight[~right].sum() + upto[fallen]) / len(seen)
    return found


def _fallen(seen: Together, kept: list[int], weight: Floats, eps: Budget) -> Floats:
    """(n, models) what an attack at eps costs on each image."""
    return np.asarray(weight[:, None] * ~seen.standing(eps.value)[:, kept])


def _eps_flips(
    seen: Together, kept: list[int], weight: Floats, columns: Sequence[Column], r: float, seed: int, resamples: int
) -> tuple[EpsFlip, ...]:
    found = []
    wrong = weight[:, None] * ~seen.correct[:, kept]
    for place, (last, here) in enumerate(pairwise(columns), 1):
        i, j = last.best(r), here.best(r)
        if i == j:
            continue
        few = np.linspace(0, len(columns) - 1, min(len(columns), MOST_COLUMNS)).round().astype(np.int64)
        looked = [columns[k] for k in np.unique(np.append(few, place)).tolist()]
        fallen = np.stack([_fallen(seen, kept, weight, column.eps)[:, [i, j]] for column in looked], 1)
        gap = (1 - r) * (wrong[:, i] - wrong[:, j])[:, None] + r * (fallen[:, :, 0] - fallen[:, :, 1])
        ahead = resampled(partial(_weighted, gap), len(seen), resamples=resamples, seed=seed) > 1e-9
        at = np.array([column.eps.value for column in looked])
        first = np.where(ahead.any(1), at[ahead.argmax(1)], math.inf)
        low, high = bounds(first)
        model = [seen.models[k] for k in kept]
        found.append(EpsFlip(here.eps, last.eps, float(low), float(high), model[i], model[j]))
    return tuple(found)


def _weighted(values: Floats, times: Floats) -> Floats:
    return np.asarray(times @ values)


def _settling(
    seen: Together, kept: list[int], weight: Floats, need: Need, order: list[int], regret_low: Floats
) -> tuple[Settling, ...]:
    """For each rival whose regret may be 0: the images that would tell, and where the variance is from."""
    r, best = need.share, order[0]
    parts = [("clean", (1 - r) * weight[:, None] * ~seen.correct[:, kept])]
    parts += [(eps.text, r * share * _fallen(seen, kept, weight, eps)) for eps, share in need.weights]
    found = []
    for rival in order[1:]:
        if regret_low[rival] > 0:
            continue
        gaps = [part[:, rival] - part[:, best] for _, part in parts]
        whole = np.sum(gaps, axis=0)
        difference, deviation = float(whole.mean()), float(whole.std())
        variance = whole.var()
        shares = [float(np.cov(gap, whole, bias=True)[0, 1] / variance) if variance else 0.0 for gap in gaps]
        most = int(np.argmax(shares))
        images = images_needed(difference, deviation) if difference > 1e-12 else None
        if images is not None:
            images = max(images, len(seen) + 1)
        found.append(Settling(seen.models[kept[rival]], images, parts[most][0], shares[most]))
    return tuple(found)
