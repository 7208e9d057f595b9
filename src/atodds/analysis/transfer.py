"""Whether what fools one model fools another: every ordered pair of models, and families of them.

An image counts for a pair where it fooled the source and the target classifies its original rightly. It transfers

- "untargeted", where the target's prediction changes,
- "targeted", where the target predicts the very class that the source was driven to,
- "top-5", where that class is among the target's five largest logits.

D. Su et al. (2018), "Is robustness the cost of accuracy?", section 4.4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from atodds.analysis.accuracy import reach
from atodds.analysis.intervals import Bools, Floats, Rate, wilson
from atodds.analysis.numbers import percent
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.errors import ArgumentError, EmptyDataError
from atodds.threat import Budget, EpsLike, Norm, parse_eps, parse_norm

Kind = Literal["untargeted", "targeted", "top-5"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FIRST = 5
"""Among how many of the target's largest logits a class must be to count for "top-5"."""
PERMUTATIONS = 9999


@dataclass(frozen=True)
class MeanRate:
    """A mean of the rates of some ordered pairs, each pair counting the same, with its bootstrap interval over images.
    A difference of two such means is one too, with the pairs of both."""

    value: float
    low: float
    high: float
    pairs: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{percent(self.value)} % ({percent(self.low)}–{percent(self.high)})"


@dataclass(frozen=True)
class Block:
    """The pairs from the models of one family to those of another, or of the same one."""

    source: str
    target: str
    rate: MeanRate


@dataclass(frozen=True)
class FamilyEffect:
    """Transfer within families and across them.

    `contrast` is within - across; its interval is over images, the models as they are. `p` is over models: the share of
    random assignments of the models to families of the same sizes whose contrast is at least as large, the true one
    among them.
    """

    within: MeanRate
    across: MeanRate
    contrast: MeanRate
    p: float
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Sender:
    """A model with the mean rate over all its pairs, as a source or as a target."""

    model: str
    rate: MeanRate


@dataclass(frozen=True)
class TransferMatrix:
    """The rate of every ordered pair of models.

    Attributes:
        kind: what counts as transferred.
        norm, eps, attack: what fooled the sources; without an eps, at any distance.
        models: in the order of the rows and columns: family by family where families are known.
        families: of the models, in their order; empty where they are not known.
        common: whether all pairs are measured on the same images.
        rates: a source a row and a target a column; None for a model with itself, and where no image counts.
        sources: the best first. targets: the easiest first.
        family: None where families are not known, or where there is nothing to compare: no family of two, or no two
            families.
    """

    kind: Kind
    norm: Norm
    eps: Budget | None
    attack: str
    models: tuple[str, ...]
    families: tuple[str, ...]
    common: bool
    rates: tuple[tuple[Rate | None, ...], ...]
    sources: tuple[Sender, ...]
    targets: tuple[Sender, ...]
    family: FamilyEffect | None

    @property
    def pairs(self) -> int:
        """How many ordered pairs have a rate."""
        return sum(rate is not None for row in self.rates for rate in row)


def transfer(
    table: pl.DataFrame,
    *,
    kind: Kind = "untargeted",
    attack: str | None = None,
    eps: EpsLike | None = None,
    models: Sequence[str] | None = None,
    families: Mapping[str, str] | None = None,
    common: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> TransferMatrix:
    """The matrix of all ordered pairs, with n and a Wilson interval in each cell.

    Pairs differ in their images: those that fooled the source and that the target has right. So a cell is true of its
    pair, but two cells may differ because their images do. With `common`, every pair is measured on the images that
    fooled every source and that every target has right: fewer, but the same for all.

    Of several images that an attack found for one original, at one eps or at several, the furthest within `eps` counts:
    nearer ones were made to fool the source as closely as possible.

    Args:
        table: the transfer table, with the columns of `evaluation.transfers.SCHEMA`.
        kind: what counts as transferred; all but "untargeted" are about targeted attacks, and about the images that
            reached their target on the source.
        attack: as the table says it; None where there is only one.
        eps: images count that lie within it; None takes all, at any distance.
        models: in the order wanted; None takes the order of the table.
        families: model -> family.
        common: measure all pairs on the same images.
        seed, resamples: of the bootstrap over images and of the permutations of models.

    Raises:
        ArgumentError: several attacks and none chosen, no such kind, norm, model or attack, a model without a family,
            or a targeted question about an attack without targets.
        EmptyDataError: no image that counts.
        ThreatError: an eps that means nothing.
    """
    if kind not in KINDS:
        raise ArgumentError("kind", kind, "not a kind of transfer", f"Choose {', '.join(KINDS)}.")
    rows, norm, budget, name = _chosen(table, attack, eps)
    names = _ordered(rows, models, families)
    labels = tuple(families[model] for model in names) if families else ()
    rows = rows.filter(pl.col("source").is_in(names) & pl.col("model").is_in(names))
    hits, counted = _outcomes(rows.sort(norm, descending=True, maintain_order=True), names, kind)
    if common:
        apart = ~np.eye(len(names), dtype=np.bool_)
        everywhere: Bools = np.asarray(counted[:, apart].all(axis=1))
        counted = counted & everywhere[:, None, None]
        hits = hits & counted
    if not counted.any():
        raise EmptyDataError(
            f"No image that fooled one of {', '.join(names)} is classified rightly by another. Bring more images."
        )
    return _matrix(hits, counted, names, labels, kind, norm, budget, name, common, seed, resamples)


def _chosen(
    table: pl.DataFrame, attack: str | None, eps: EpsLike | None
) -> tuple[pl.DataFrame, Norm, Budget | None, str]:
    """The images of one attack within eps."""
    if table.is_empty():
        raise EmptyDataError("The table holds no transfers. Evaluate several models with transfer=True (--transfer).")
    known = table["attack"].unique().sort().to_list()
    if attack not in known and (attack is not None or len(known) > 1):
        what = "several attacks" if attack is None else "no such attack"
        raise ArgumentError("attack", attack, what, f"Choose one of {', '.join(known)}.")
    rows = table.filter(pl.col("attack") == (known[0] if attack is None else attack))
    norms = rows["norm"].unique().sort().to_list()
    if len(norms) > 1:
        raise ArgumentError("table", ", ".join(norms), "several norms", 'Choose: table.filter(pl.col("norm") == name).')
    norm = parse_norm(norms[0])
    budget = None if eps is None else parse_eps(eps, norm)
    if budget is not None:
        rows = rows.filter(pl.col(norm) <= reach(budget.value))
        if rows.is_empty():
            raise EmptyDataError(f"No image within {budget} fooled a source. Choose a larger eps.")
    return rows, norm, budget, rows["attack"][0]


def _ordered(rows: pl.DataFrame, models: Sequence[str] | None, families: Mapping[str, str] | None) -> tuple[str, ...]:
    """The models, family by family in the order in which families first appear."""
    present = list(dict.fromkeys([*rows["source"].to_list(), *rows["model"].to_list()]))
    names = list(present if models is None else models)
    unknown = [name for name in names if name not in present]
    if unknown or len(set(names)) < len(names) or len(names) < 2:
        problem = f"no transfers of {', '.join(unknown)}" if unknown else "not two models or more, each once"
        raise ArgumentError("models", names, problem, f"Choose from {', '.join(present)}.")
    if not families:
        return tuple(names)
    without = [name for name in names if name not in families]
    if without:
        raise ArgumentError("families", ", ".join(without), "without a family", "Name the family of every model.")
    order = list(dict.fromkeys(families[name] for name in names))
    return tuple(sorted(names, key=lambda name: order.index(families[name])))


def _outcomes(rows: pl.DataFrame, names: Sequence[str], kind: Kind) -> tuple[Bools, Bools]:
    """(images, sources, targets): whether an image transferred, and whether it counts; of several rows, the first."""
    if kind != "untargeted":
        rows = rows.filter(pl.col("target").is_not_null() & pl.col("source_fooled"))
        if rows.is_empty():
            problem = "no image in the table reached a target on its source"
            raise ArgumentError("kind", kind, problem, "Ask for kind='untargeted', or for a targeted attack.")
    rows = rows.unique(["source", "model", "image"], keep="first", maintain_order=True)
    images, row = np.unique(rows["image"].to_numpy(), return_inverse=True)
    place = {name: k for k, name in enumerate(names)}
    source, target = (
        np.array([place[name] for name in rows[column].to_list()], dtype=np.int64) for column in ("source", "model")
    )
    counted = np.zeros((len(images), len(names), len(names)), dtype=np.bool_)
    hits = np.zeros_like(counted)
    match kind:
        case "untargeted":
            hit = pl.col("prediction") != pl.col("clean")
        case "targeted":
            hit = pl.col("prediction") == pl.col("target")
        case "top-5":
            hit = pl.col("rank").is_between(0, FIRST - 1)
    found = rows.select(counted=pl.col("clean") == pl.col("label"), hit=hit.fill_null(value=False))
    counted[row, source, target] = found["counted"].to_numpy()
    hits[row, source, target] = (found["hit"] & found["counted"]).to_numpy()
    return hits, counted


def _matrix(
    hits: Bools,
    counted: Bools,
    names: tuple[str, ...],
    labels: tuple[str, ...],
    kind: Kind,
    norm: Norm,
    eps: Budget | None,
    attack: str,
    common: bool,
    seed: int,
    resamples: int,
) -> TransferMatrix:
    count, n = len(names), len(hits)
    won, out_of = hits.sum(0), counted.sum(0)
    rates = tuple(
        tuple(wilson(int(won[s, t]), int(out_of[s, t])) if s != t and out_of[s, t] else None for t in range(count))
        for s in range(count)
    )
    pairs = np.argwhere(~np.eye(count, dtype=np.bool_))
    sums = np.hstack([kept[:, pairs[:, 0], pairs[:, 1]].reshape(n, -1) for kept in (hits, counted)]).astype(np.float64)

    def pair_rates(draws: Floats) -> Floats:
        both = draws @ sums
        top, bottom = both[:, : len(pairs)], both[:, len(pairs) :]
        return np.divide(top, bottom, out=np.full_like(top, math.nan), where=bottom > 0)

    here = pair_rates(np.ones((1, n)))[0]
    drawn = resampled(pair_rates, n, resamples=resamples, seed=seed)

    def mean(chosen: Bools) -> MeanRate:
        return _mean(here, drawn, chosen)

    ranked = [
        sorted(
            (Sender(name, mean(pairs[:, side] == k)) for k, name in enumerate(names)),
            key=lambda sender: (-np.nan_to_num(sender.rate.value, nan=-1.0), sender.model),
        )
        for side in (0, 1)
    ]
    family = _family(here, drawn, pairs, np.array(labels), seed) if labels else None
    return TransferMatrix(
        kind, norm, eps, attack, names, labels, common, rates, tuple(ranked[0]), tuple(ranked[1]), family
    )


def _mean(here: Floats, drawn: Floats, chosen: Bools) -> MeanRate:
    known = chosen & ~np.isnan(here)
    if not known.any():
        return MeanRate(math.nan, math.nan, math.nan, 0)
    low, high = bounds(_row_means(drawn[:, known]))
    return MeanRate(float(here[known].mean()), float(low), float(high), int(known.sum()))


def _row_means(rates: Floats) -> Floats:
    """(resamples,) means over pairs, of those that a resample left images for."""
    known = ~np.isnan(rates)
    number = known.sum(1)
    total = np.where(known, rates, 0.0).sum(1)
    means: Floats = np.divide(total, number, out=np.full(len(rates), math.nan), where=number > 0)
    return means


def _family(
    here: Floats, drawn: Floats, pairs: np.ndarray[tuple[int, ...], np.dtype[np.int64]], labels: np.ndarray, seed: int
) -> FamilyEffect | None:
    known = ~np.isnan(here)
    inside = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    if not (inside & known).any() or not (~inside & known).any():
        return None
    within, across = _mean(here, drawn, inside), _mean(here, drawn, ~inside)
    low, high = bounds(_row_means(drawn[:, inside & known]) - _row_means(drawn[:, ~inside & known]))
    contrast = MeanRate(within.value - across.value, float(low), float(high), within.pairs + across.pairs)
    order = list(dict.fromkeys(labels.tolist()))
    blocks = []
    for source in order:
        for target in order:
            rate = _mean(here, drawn, (labels[pairs[:, 0]] == source) & (labels[pairs[:, 1]] == target))
            if rate.pairs:
                blocks.append(Block(source, target, rate))
    shuffled = np.random.default_rng(seed).permuted(np.tile(labels, (PERMUTATIONS, 1)), axis=1)
    same = shuffled[:, pairs[known, 0]] == shuffled[:, pairs[known, 1]]
    sums, sizes = same @ here[known], same.sum(1)
    others = (here[known].sum() - sums) / (known.sum() - sizes)
    contrasts = sums / sizes - others
    p = (1 + int((contrasts >= contrast.value - _ROUNDING).sum())) / (1 + PERMUTATIONS)
    return FamilyEffect(within, across, contrast, p, tuple(blocks))


_ROUNDING = 1e-12
