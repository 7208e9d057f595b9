"""Transfer: what fooled the model of a row, shown to the model of a column; families stand together."""

from collections.abc import Sequence

import altair as alt

from atodds.analysis import TransferMatrix
from atodds.analysis.numbers import percent, points
from atodds.report.charts.figure import Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import LETTER, shortened
from atodds.report.colours import VIRIDIS, WHITE_BELOW, Paint
from atodds.report.facts import Facts
from atodds.report.words import Name, Sentence, counted

ROW = 24
CELL = 27
"""The narrowest cell that a number fits into, in pixels."""
WIDEST = 56
FEW = 6
"""Matrices of so few models stand beside each other."""
LONGEST = 20
FAMILY = 12
"""The longest name of a family, in letters."""
NAMED = 3
KINDS = {
    "untargeted": "the other model's answer changes",
    "targeted": "the other model gives the very class that the attack wanted",
    "top-5": "that class is among the other model's five likeliest",
}


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing for a run without transfers."""
    found = facts.further.transfers
    if not found:
        return None
    return Figure(
        title=_title(facts, found[0]),
        subtitle=_subtitle(found),
        panels=tuple(
            Panel(
                _drawing(facts, matrix, paint),
                _words(facts, matrix),
                _heading(matrix, alone=len(found) == 1),
                width=CELL * len(matrix.models),
                least=_width(facts, matrix, CELL),
                most=_width(facts, matrix, WIDEST),
            )
            for matrix in found
        ),
        tables=tuple(table for matrix in found for table in _tables(facts, matrix)),
        layout="grid" if len(found[0].models) <= FEW and len(found) > 1 else "wide",
        scale=True,
    )


CHART = Chart("transfer", "transfer", draw)


def _title(facts: Facts, matrix: TransferMatrix) -> Sentence:
    best, worst, effect = matrix.sources[0], matrix.sources[-1], matrix.family
    if effect is not None:
        within, across = (f"{percent(rate.value)} %" for rate in (effect.within, effect.across))
        if effect.contrast.low > 0:
            return (f"What fools a model also fools one of its family {within} of the time, one of another {across}",)
        return (f"Transfer within families ({within}) is not clearly above transfer across them ({across})",)
    name, other = Name(facts.name(best.model)), Name(facts.name(worst.model))
    ends = (" fools the others most often (", f"{percent(best.rate.value)} %), what fools ", other, " least")
    return ("What fools ", name, *ends, f" ({percent(worst.rate.value)} %)")


def _subtitle(found: Sequence[TransferMatrix]) -> str:
    sizes = sorted(rate.n for matrix in found for row in matrix.rates for rate in row if rate)
    each = counted(sizes[0], "image") if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {counted(sizes[-1], 'image')}"
    pairs = found[0].pairs
    text = (
        "Share in % of the images that fooled the model of the row and that the model of the column has right, on "
        f"which {KINDS[found[0].kind]}; {each} in each of {pairs} ordered pairs."
    )
    if found[0].families:
        text += " Lines part the families."
    return text


def _heading(matrix: TransferMatrix, *, alone: bool) -> Sentence:
    where = f"within {matrix.eps}" if matrix.eps else "at any distance"
    if alone:
        return ()
    return (f"{matrix.attack}, {where}: {KINDS[matrix.kind]}",)


def _width(facts: Facts, matrix: TransferMatrix, cell: int) -> int:
    """The width of the whole drawing with cells of so many pixels."""
    longest = max(len(name) for name in _names(facts, matrix))
    beside = FAMILY * LETTER if matrix.families else 0
    return round(cell * len(matrix.models) + LETTER * longest + beside + 40)


def _names(facts: Facts, matrix: TransferMatrix) -> list[str]:
    """Short names, no two of them the same."""
    names = [shortened(facts.name(model), LONGEST) for model in matrix.models]
    return [
        shortened(f"{k} {facts.name(model)}", LONGEST) if names.count(name) > 1 else name
        for k, (model, name) in enumerate(zip(matrix.models, names, strict=True), start=1)
    ]


def _drawing(facts: Facts, matrix: TransferMatrix, paint: Paint) -> Drawing:
    names = _names(facts, matrix)
    rows = [
        {
            "source": names[s],
            "target": names[t],
            "from": facts.name(matrix.models[s]),
            "to": facts.name(matrix.models[t]),
            "rate": rate.value,
            "cell": percent(rate.value, 0).replace(" ", ""),
            "shown": str(rate),
            "n": rate.n,
        }
        for s, row in enumerate(matrix.rates)
        for t, rate in enumerate(row)
        if rate is not None
    ]
    domain = alt.Scale(domain=names, paddingInner=0, paddingOuter=0)
    limit = round(LETTER * LONGEST)
    top = alt.Axis(orient="top", labelAngle=-90, domain=False, ticks=False, labelPadding=5, labelLimit=limit)
    left = alt.Axis(domain=False, ticks=False, labelPadding=5, labelLimit=limit)
    x = alt.X("target:O", title="shown to", scale=domain, sort=None, axis=top)
    y = alt.Y("source:O", title="fooled", scale=domain, sort=None, axis=left)
    base = alt.Chart(inline(rows)).encode(
        x,
        y,
        tooltip=[
            alt.Tooltip("from:N", title="fooled"),
            alt.Tooltip("to:N", title="shown to"),
            alt.Tooltip("shown:N", title="transferred"),
            alt.Tooltip("n:Q", title="images"),
        ],
    )
    scale = alt.Scale(domain=[0, 1], range=list(VIRIDIS), clamp=True)
    legend = None if paint.page else alt.Legend(title="transferred", format="%", gradientLength=120)
    layers: list[alt.Chart] = [
        base.mark_rect().encode(alt.Color("rate:Q", scale=scale, legend=legend)),
        base.mark_text(fontSize=10.5).encode(
            text="cell:N",
            color=alt.condition(f"datum.rate < {WHITE_BELOW}", alt.value("#ffffff"), alt.value("#000000")),
        ),
    ]
    if matrix.families:
        layers += _families(matrix, names, y, paint)
    return alt.layer(*layers).properties(height=ROW * len(names))


def _families(matrix: TransferMatrix, names: Sequence[str], y: alt.Y, paint: Paint) -> list[alt.Chart]:
    """Lines between families, and their names right of their rows."""
    starts = [k for k, name in enumerate(matrix.families) if k and name != matrix.families[k - 1]]
    edges = alt.Chart(inline([{"source": names[k], "target": names[k]} for k in starts]))
    rule = edges.mark_rule(strokeWidth=3, color=paint.paper)
    across, down = alt.Y("source:O", sort=None, bandPosition=0), alt.X("target:O", sort=None, bandPosition=0)
    spans = [(start, stop) for start, stop in zip([0, *starts], [*starts, len(names)], strict=True)]
    middles = [
        {"source": names[(start + stop - 1) // 2], "family": shortened(matrix.families[start], FAMILY),
         "shift": ROW / 2 if (stop - start) % 2 == 0 else 0}
        for start, stop in spans
    ]  # fmt: skip
    lettering = alt.Chart(inline(middles)).mark_text(
        align="left", baseline="middle", dx=8, dy=alt.expr("datum.shift"), fontSize=11, color=paint.soft
    )
    return [
        rule.encode(across),
        rule.encode(down),
        lettering.encode(y, x=alt.value("width"), text="family:N"),
    ]


def _tables(facts: Facts, matrix: TransferMatrix) -> list[Table]:
    where = f"within {matrix.eps}" if matrix.eps else "at any distance"
    what = f"{matrix.attack}, {where}, {matrix.kind}"
    names = [facts.name(model) for model in matrix.models]
    rows = tuple(
        (names[s], *("" if rate is None else f"{rate}, n = {rate.n:,}" for rate in row))
        for s, row in enumerate(matrix.rates)
    )
    tables = [Table(f"{what}: fooled (row), shown to (column), with 95 % intervals", ("", *names), rows)]
    target = {sender.model: sender for sender in matrix.targets}
    ranked = tuple(
        (facts.name(sender.model), str(sender.rate), str(target[sender.model].rate)) for sender in matrix.sources
    )
    tables.append(Table(f"{what}: mean over pairs", ("model", "as the one fooled", "as the one shown"), ranked))
    effect = matrix.family
    if effect is not None:
        blocks = [
            (f"{block.source} → {block.target}", str(block.rate), f"{block.rate.pairs}") for block in effect.blocks
        ]
        low, high = points(effect.contrast.low), points(effect.contrast.high)
        contrast = f"{points(effect.contrast.value)} points ({low} to {high}), p = {effect.p:.4f} over models"
        total = [
            ("within families", str(effect.within), f"{effect.within.pairs}"),
            ("across families", str(effect.across), f"{effect.across.pairs}"),
            ("within − across", contrast, f"{effect.contrast.pairs}"),
        ]
        tables.append(Table(f"{what}: families", ("from → to", "mean", "pairs"), (*total, *blocks)))
    return tables


def _words(facts: Facts, matrix: TransferMatrix) -> str:
    first = ", ".join(f"{facts.name(s.model)} {percent(s.rate.value)} %" for s in matrix.sources[:NAMED])
    easy = ", ".join(f"{facts.name(s.model)} {percent(s.rate.value)} %" for s in matrix.targets[:NAMED])
    text = f"Heatmap of {matrix.kind} transfer between {len(matrix.models)} models. Best sources: {first}"
    text += f". Easiest targets: {easy}."
    if matrix.family is not None:
        text += f" Within families {matrix.family.within}, across families {matrix.family.across}."
    return text
