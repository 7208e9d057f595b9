"""What the study of 18 models said, held against the tables of a study: holds, does not hold, or cannot be told.

A claim holds, or does not, only where an interval or a test says so; everything else cannot be told, with the numbers
that leave it open. The claims are those of D. Su et al. (2018), sections 4.2 to 4.4, on ImageNet; on another data set
they are other claims, and said to be about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from atodds import analysis
from atodds.analysis import Factors, Rate, Scaling, Traits, TransferMatrix
from atodds.analysis.accuracy import CLEAN
from atodds.analysis.numbers import percent, significant
from atodds.errors import EmptyDataError
from atodds.studies.compare_models import ModelsStudy
from atodds.threat import Budget, Norm

Verdict = Literal["holds", "does not hold", "cannot be told"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
LEVEL = 0.05

ORDER: tuple[Norm, ...] = ("linf", "l2", "l1")
"""Of the norms."""


@dataclass(frozen=True)
class Claim:
    """A claim, what was found of it, and the numbers."""

    claim: str
    verdict: Verdict
    measured: str


def claims(study: ModelsStudy) -> tuple[Claim, ...]:
    """Every claim that the study can say something of, in the order of the paper."""
    found: list[Claim] = []
    runs = [(norm, study.stores[norm]) for norm in ORDER if norm in study.stores]
    for norm, store in runs:
        found += _of_distances(norm, store.table(), study.traits, study.errors)
    for _, store in runs:
        if store.manifest.transfers:
            found += _of_transfer(store.transfers(), store.manifest.budgets, study.traits)
    return tuple(found)


def untargeted(table: pl.DataFrame) -> pl.DataFrame:
    """The verdicts of attacks without a target, and those on the images themselves."""
    return table.filter(pl.col("target").is_null() | (pl.col("attack") == CLEAN))


def equal_eps(budgets: Sequence[Budget]) -> Budget:
    """The eps at which transfer is compared: the last but one of a run, or its only one."""
    return budgets[-2:][0]


def compared(table: pl.DataFrame, budgets: Sequence[Budget]) -> tuple[str, Budget | None] | None:
    """The attack whose images are shown to other models, and at which eps: the last one without a target that went to
    a given eps, else the first without one at all; None where every attack is aimed.

    Images at a given eps lie as far beyond the boundary as they may; the closest ones barely fool their own model.
    """
    plain = table.filter(pl.col("target").is_null())
    within = plain.filter(pl.col("eps").is_not_null())["attack"].unique(maintain_order=True).to_list()
    closest = plain["attack"].unique(maintain_order=True).to_list()
    if within:
        return within[-1], equal_eps(budgets)
    return (closest[0], None) if closest else None


def _of_distances(
    norm: Norm, table: pl.DataFrame, traits: Mapping[str, Traits], errors: Mapping[str, Rate]
) -> list[Claim]:
    rows = untargeted(table)
    if rows.filter(pl.col("attack") != CLEAN).is_empty():
        return []
    known = _by_id(rows, traits)
    found = []
    try:
        found.append(linear(analysis.scaling(rows, norm, errors=errors)))
    except EmptyDataError as error:
        found.append(Claim(_LINEAR.format(norm=norm), "cannot be told", str(error)))
    if len(known) >= 3:
        try:
            seen = analysis.factors(rows.filter(pl.col("model").is_in(list(known))), norm, known)
        except EmptyDataError:
            return found
        found.append(family_over_size(seen))
        if norm == "linf":
            found.append(depth(seen))
    return found


def _of_transfer(table: pl.DataFrame, budgets: Sequence[Budget], traits: Mapping[str, Traits]) -> list[Claim]:
    chosen = compared(table, budgets)
    if chosen is None:
        return []
    attack, eps = chosen
    known = _by_id(table, traits)
    families = {model: said.family for model, said in known.items()}
    complete = families if {*table["model"].unique(), *table["source"].unique()} <= set(families) else None
    try:
        matrix = analysis.transfer(table, attack=attack, eps=eps, families=complete)
    except EmptyDataError:
        return []
    return [] if matrix.family is None else [within_family(matrix), best_source(matrix)]


_LINEAR = "Distortion grows linearly with ln(error): the more accurate a model, the closer its fooling images ({norm})"


def linear(line: Scaling) -> Claim:
    """Whether the slope of distortion on ln(error) is positive, over models, and stands on more than two of them."""
    slope, (low, high) = line.line.slope, line.line.slope_interval
    footing = line.line.footing
    if low > 0 and footing.standing == "stands":
        verdict: Verdict = "holds"
    elif high < 0 and footing.standing == "stands":
        verdict = "does not hold"
    else:
        verdict = "cannot be told"
    says = {
        "stands": "it stands without any two of them",
        "stands on one": f"it falls without {', '.join(footing.on)}",
        "stands on two": f"it falls without {', '.join(footing.on)}",
        "no relation": "the interval holds 0",
        "too few": "too few models to tell on which it stands",
    }[footing.standing]
    measured = (
        f"slope {significant(slope)} ({significant(low)} to {significant(high)}), "
        f"R² {line.line.r_squared:.2f} over {len(line.points)} models and {line.n} images; {says}"
    )
    return Claim(_LINEAR.format(norm=line.norm), verdict, measured)


def family_over_size(seen: Factors) -> Claim:
    """Whether the family explains distortion, beyond what chance would, and the size does not explain more."""
    claim = f"The architecture matters more than the size ({seen.norm})"
    shares = {said.factor: said for said in seen.explained}
    if "family" not in shares or "size" not in shares:
        return Claim(claim, "cannot be told", "; ".join(seen.skipped) or "family and size are not known")
    family, size = shares["family"], shares["size"]
    verdict: Verdict = "cannot be told"
    if family.adjusted < LEVEL and family.share - family.chance > size.share - size.chance:
        verdict = "holds" if size.adjusted >= LEVEL or family.share > size.share else "cannot be told"
    elif size.adjusted < LEVEL <= family.adjusted:
        verdict = "does not hold"
    measured = "; ".join(
        f"{said.factor} explains {percent(said.share)} % of the variance over {len(seen.models)} models "
        f"({percent(said.chance)} % by chance, p {_p(said.adjusted)})"
        for said in (family, size)
    )
    return Claim(claim, verdict, measured)


def depth(seen: Factors) -> Claim:
    """Whether, within families, the deeper of two networks is the more robust one more often than not."""
    claim = "Within a family, deeper networks are slightly more robust (linf)"
    trend = next((trend for trend in seen.trends if trend.factor == "depth"), None)
    if trend is None or trend.pairs == 0:
        return Claim(claim, "cannot be told", "no two networks of a family differ in depth")
    verdict: Verdict = "cannot be told"
    if trend.p < LEVEL:
        verdict = "holds" if 2 * trend.concordant > trend.pairs else "does not hold"
    share = f"the deeper one is further from its fooling images in {trend.concordant} of {trend.pairs} pairs"
    return Claim(claim, verdict, f"{share}, p {_p(trend.p)}")


def within_family(matrix: TransferMatrix) -> Claim:
    """Whether fooling images transfer more within families than across them."""
    claim = f"Fooling images transfer mostly within a family ({matrix.norm})"
    effect = matrix.family
    if effect is None:
        return Claim(claim, "cannot be told", "families are not known")
    verdict: Verdict = "cannot be told"
    if effect.contrast.low > 0 and effect.p < LEVEL:
        verdict = "holds"
    elif effect.contrast.high < 0:
        verdict = "does not hold"
    measured = (
        f"{_shown(matrix)}: within {effect.within}, across {effect.across}, difference {effect.contrast} over "
        f"{matrix.pairs} ordered pairs; p {_p(effect.p)} over the families"
    )
    return Claim(claim, verdict, measured)


def best_source(matrix: TransferMatrix) -> Claim:
    """Whether a VGG's fooling images transfer best: its interval against the best of another family."""
    claim = f"Fooling images of VGG networks transfer best ({matrix.norm})"
    family = dict(zip(matrix.models, matrix.families, strict=True))
    vgg = next((sender for sender in matrix.sources if "vgg" in family[sender.model].lower()), None)
    other = next((sender for sender in matrix.sources if "vgg" not in family[sender.model].lower()), None)
    if vgg is None or other is None:
        return Claim(claim, "cannot be told", "no VGG among the models, or nothing else")
    verdict: Verdict = "cannot be told"
    if vgg.rate.low > other.rate.high:
        verdict = "holds"
    elif other.rate.low > vgg.rate.high:
        verdict = "does not hold"
    measured = f"{_shown(matrix)}: best VGG {vgg.model} {vgg.rate}, best other {other.model} {other.rate}"
    return Claim(claim, verdict, measured)


def _by_id(table: pl.DataFrame, traits: Mapping[str, Traits]) -> dict[str, Traits]:
    """What is known of the models of a table, which are called NAME@WEIGHTS there."""
    ids = sorted({name for column in ("model", "source") if column in table.columns for name in table[column].unique()})
    return {model: traits[model.rpartition("@")[0]] for model in ids if model.rpartition("@")[0] in traits}


def _shown(matrix: TransferMatrix) -> str:
    return f"{matrix.attack} at {matrix.eps}" if matrix.eps else matrix.attack


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
