"""The charts of robust training against data: accuracy over samples, and over the radius that is trained against."""

from collections.abc import Sequence

from atodds.analysis import Rate
from atodds.analysis.crossing import Gap
from atodds.analysis.numbers import percent
from atodds.report.charts.figure import Figure, Panel, Table
from atodds.report.charts.lines import Line, Mark, lines, words
from atodds.report.colours import Paint
from atodds.report.units import SYMBOLS
from atodds.report.words import Name, Sentence
from atodds.studies.odds_training import Curve, Kept, Trade


def samples(curves: Sequence[Curve], seeds: int, n: int, paint: Paint) -> Figure:
    """Standard accuracy over the number of training samples, by the radius that is trained against."""
    panels, rows = [], []
    for group in _groups(curves):
        drawn = [_line(curve, place) for place, curve in enumerate(group)]
        titles = ("training samples", "standard accuracy")
        heading = (Name(group[0].variant.network), f", {SYMBOLS[group[-1].variant.norm or 'linf']}")
        panels.append(Panel(lines(drawn, titles, paint, log=True), words(drawn, titles), heading, width=300))
    for curve in curves:
        cells = (f"{percent(gap.value)} % ({percent(gap.low)}–{percent(gap.high)})" for gap in curve.accuracy)
        rows.append((curve.variant.name, *cells, str(curve.crossing) if curve.crossing else ""))
    sizes = [gap.size for gap in curves[0].accuracy]
    head = ("trained against", *(f"{size:,}" for size in sizes), "stops helping at")
    differences = Table(
        "Standard accuracy beside that of the standard network of the same samples and seeds",
        ("trained against", *(f"{size:,}" for size in sizes)),
        tuple((c.variant.name, *(str(gap) for gap in c.crossing.gaps)) for c in curves if c.crossing),
    )
    subtitle = (
        f"On {n:,} test images, mean of {seeds} {'repetition' if seeds == 1 else 'repetitions'} (samples, weights, "
        "order). Bands: 95 % bootstrap intervals over images and repetitions. Dotted: where training against ε stops "
        "being more accurate than standard training."
    )
    tables = [Table("Standard accuracy, with 95 % intervals", head, tuple(rows)), differences]
    if lost := _lost(curves):
        of = len(curves) * len(sizes) * seeds
        subtitle += f" {len(lost)} of the {of} trainings learned nothing, and the means hold them all the same."
        tables.append(Table("Trainings that learned nothing", ("trained against", "samples", "seed", "accuracy"), lost))
    return Figure(_samples_title(curves), subtitle, tuple(panels), tuple(tables), layout="grid")


def _lost(curves: Sequence[Curve]) -> tuple[tuple[str, ...], ...]:
    """A row for each training that learned nothing."""
    return tuple(
        (curve.variant.name, f"{size:,}", str(seed), str(rate))
        for curve in curves
        for (size, seed), rate in curve.dead.items()
    )


def trade(trades: Sequence[Trade], attacks: str, paint: Paint) -> Figure:
    """Standard and robust accuracy by the radius that was trained against."""
    panels, tables = [], []
    for one in trades:
        names = ["standard accuracy", *(f"robust at {eps.text}" for eps in one.budgets)]
        drawn = [Line(name, place, _kept(one.rows, place, one)) for place, name in enumerate(names)]
        titles = (f"ε in training, {SYMBOLS[one.norm]}", "accuracy")
        heading = (Name(one.network), f", {SYMBOLS[one.norm]}")
        panels.append(Panel(lines(drawn, titles, paint), words(drawn, titles), heading, width=300))
        rows = tuple(
            (row.variant.name, str(row.standard), *(str(rate) for rate in row.robust.values())) for row in one.rows
        )
        tables.append(
            Table(f"{one.network}, {SYMBOLS[one.norm]}, with 95 % intervals", ("trained against", *names), rows)
        )
    n = trades[0].rows[0].standard.n
    subtitle = (
        f"Networks of the largest training set and the first seed on {n:,} test images, attacked by {attacks}. "
        "Bands: 95 % intervals over images."
    )
    return Figure(_trade_title(trades), subtitle, tuple(panels), tuple(tables), layout="grid")


def _samples_title(curves: Sequence[Curve]) -> Sentence:
    adversarial = [curve for curve in curves if curve.crossing]
    helped = [curve for curve in adversarial if curve.crossing and curve.crossing.helps]
    last = curves[0].accuracy[-1].size
    costly = [curve for curve in adversarial if curve.crossing and last in curve.crossing.costs]
    return (
        f"Training against an attack clearly raises standard accuracy for {len(helped)} of {len(adversarial)} networks "
        f"at some size, and clearly costs it for {len(costly)} at {last:,} samples",
    )


def _trade_title(trades: Sequence[Trade]) -> Sentence:
    one = trades[-1] if len(trades) == 1 else max(trades, key=lambda t: len(t.rows))
    eps = one.budgets[-1].text
    plain, best = one.rows[0], max(one.rows, key=lambda row: row.robust[eps].value)
    if best is plain:
        return (f"No training keeps more than standard training at {eps}",)
    return (
        Name(one.network), f": training against {best.variant.eps} takes standard accuracy from "
        f"{percent(plain.standard.value)} % to {percent(best.standard.value)} %, and robust accuracy at {eps} from "
        f"{percent(plain.robust[eps].value)} % to {percent(best.robust[eps].value)} %",
    )  # fmt: skip


def _groups(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Each network and norm, its standard curve first."""
    found: list[list[Curve]] = []
    for network in dict.fromkeys(curve.variant.network for curve in curves):
        mine = [curve for curve in curves if curve.variant.network == network]
        norms = dict.fromkeys(curve.variant.norm for curve in mine if curve.variant.norm)
        found += [[curve for curve in mine if curve.variant.norm in (None, norm)] for norm in norms]
    return found


def _line(curve: Curve, place: int) -> Line:
    name = f"ε = {curve.variant.eps}" if curve.variant.eps else "standard"
    rule = curve.crossing.value if curve.crossing else None
    return Line(name, place, tuple(_mark(gap) for gap in curve.accuracy), rule)


def _mark(gap: Gap) -> Mark:
    said = f"{percent(gap.value)} % ({percent(gap.low)}–{percent(gap.high)})"
    return Mark(gap.size, gap.value, gap.low, gap.high, said)


def _kept(rows: Sequence[Kept], place: int, one: Trade) -> tuple[Mark, ...]:
    rates: list[Rate] = [row.standard if place == 0 else row.robust[one.budgets[place - 1].text] for row in rows]
    return tuple(
        Mark(row.variant.value, rate.value, rate.low, rate.high, str(rate))
        for row, rate in zip(rows, rates, strict=True)
    )
