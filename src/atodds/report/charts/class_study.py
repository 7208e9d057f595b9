"""Two charts of the study of classes: what each class loses, averaged over models, and what it is mistaken for."""

import altair as alt
import numpy as np

from atodds.analysis.classes import ClassCurvesOfMany, MeanDrop, ModelClasses
from atodds.analysis.intervals import Floats
from atodds.analysis.numbers import percent
from atodds.report.charts.figure import RATES, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import shortened
from atodds.report.colours import VIRIDIS, WHITE_BELOW, Paint
from atodds.report.units import unit_of
from atodds.report.words import Name, counted
from atodds.studies.class_curves import ClassStudy, taken_most

ROW = 22
LONGEST = 14
MOST = 24
"""The most classes that a drawing has rows for; the tables have all of them."""
CELL = 24
"""The narrowest cell that a number fits into, in pixels."""
WIDTH = 300


def mean_drops(study: ClassStudy, paint: Paint) -> Figure:
    """What each class loses from the first ε to the last, averaged over models, the most first."""
    curves = study.curves
    rows = sorted(curves.mean_drops, key=lambda drop: -drop.value)
    first, last = rows[0], rows[-1]
    most, least = curves.classes[first.label], curves.classes[last.label]
    title = f"{most} loses most, {percent(first.value)} points, and {least} least, {percent(last.value)}"
    over = f", averaged over {len(curves.models)} models" if len(curves.models) > 1 else ""
    drawn = rows if len(rows) <= MOST else [*rows[: MOST // 2], *rows[-MOST // 2 :]]
    return Figure(
        title=(title,),
        subtitle=f"Share of a class that falls from ε = 0 to {curves.budgets[-1]}{over}, with 95 % bootstrap intervals "
        f"over the images of the class, {_sizes(curves)} each.",
        panels=(Panel(_bars(curves, drawn, paint), _bar_words(curves, rows), width=560, most=760),),
        tables=(
            Table(
                f"Points lost from ε = 0 to {curves.budgets[-1]}{over}",
                ("class", "images", "lost", "interval"),
                tuple(
                    (curves.classes[r.label], f"{r.n:,}", percent(r.value), f"{percent(r.low)}–{percent(r.high)}")
                    for r in rows
                ),
            ),
        ),
    )


def mistaken(study: ClassStudy, paint: Paint) -> Figure | None:
    """What each class is mistaken for at the middle ε; nothing where there are more classes than fit."""
    curves = study.curves
    if len(curves.labels) > MOST:
        return None
    at = curves.budgets.index(curves.middle)
    return Figure(
        title=(_often(study, at),),
        subtitle=f"Share of a class, in %, that is taken for another at ε = {curves.middle}: a misclassified image as "
        f"it is, a fooled one in the closest image that fooled. {_sizes(curves).capitalize()} a class.",
        panels=tuple(
            Panel(
                _matrix(curves, one, at, paint), _matrix_words(study, one, at), (Name(study.names[one.model]),), WIDTH
            )
            for one in curves.models
        ),
        tables=tuple(_taken(study, one) for one in curves.models),
        layout="grid",
        scale=True,
    )


def _sizes(curves: ClassCurvesOfMany) -> str:
    sizes = sorted({drop.n for drop in curves.mean_drops})
    return counted(sizes[0], "image") if len(sizes) == 1 else f"{sizes[0]} to {counted(sizes[-1], 'image')}"


def _bars(curves: ClassCurvesOfMany, drawn: list[MeanDrop], paint: Paint) -> Drawing:
    names = [shortened(curves.classes[drop.label], LONGEST) for drop in drawn]
    rows = [
        {"class": name, "drop": drop.value, "low": drop.low, "high": drop.high, "n": drop.n,
         "shown": f"{percent(drop.value)} % ({percent(drop.low)}–{percent(drop.high)})"}
        for name, drop in zip(names, drawn, strict=True)
    ]  # fmt: skip
    y = alt.Y("class:N", title=None, scale=alt.Scale(domain=names), sort=None,
              axis=alt.Axis(domain=False, ticks=False, labelPadding=6))  # fmt: skip
    x = alt.X("drop:Q", title="share of the class that falls", scale=alt.Scale(domain=[0, 1], nice=False), axis=RATES)
    tooltip = [alt.Tooltip("class:N"), alt.Tooltip("shown:N", title="falls"), alt.Tooltip("n:Q", title="images")]
    base = alt.Chart(inline(rows))
    bars = base.mark_bar(height=12, color=paint.models[0], opacity=0.75).encode(x, y, tooltip=tooltip)
    rules = base.mark_rule(color=paint.ink, strokeWidth=1.5).encode(alt.X("low:Q"), y, alt.X2("high:Q"))
    return alt.layer(bars, rules).properties(height=ROW * len(rows))


def _bar_words(curves: ClassCurvesOfMany, rows: list[MeanDrop]) -> str:
    said = [f"{curves.classes[row.label]} {percent(row.value)} %" for row in rows]
    return f"Bars of the share of each class that falls from ε = 0 to {curves.budgets[-1]}: {', '.join(said)}."


def _shares(curves: ClassCurvesOfMany, one: ModelClasses, at: int) -> Floats:
    """(classes, classes) share of each class that is taken for each other."""
    sizes = np.array([row.n for row in one.rows], dtype=np.float64)
    shares: Floats = one.mistakes[at][:, list(curves.labels)] / sizes[:, None]
    return shares


def _matrix(curves: ClassCurvesOfMany, one: ModelClasses, at: int, paint: Paint) -> Drawing:
    names = [shortened(curves.classes[label], LONGEST) for label in curves.labels]
    shares = _shares(curves, one, at)
    rows = [
        {"class": names[row], "other": names[column], "share": float(shares[row, column]),
         "cell": percent(float(shares[row, column]), 0).replace(" ", "") if shares[row, column] else "",
         "shown": f"{percent(float(shares[row, column]))} %", "n": one.rows[row].n}
        for row in range(len(names))
        for column in range(len(names))
        if row != column
    ]  # fmt: skip
    base = alt.Chart(inline(rows)).encode(
        alt.X("other:N", title="taken for", scale=alt.Scale(domain=names), sort=None,
              axis=alt.Axis(labelAngle=-45, domain=False, ticks=False)),
        alt.Y("class:N", title=None, scale=alt.Scale(domain=names), sort=None,
              axis=alt.Axis(domain=False, ticks=False, labelPadding=6)),
        tooltip=[alt.Tooltip("class:N"), alt.Tooltip("other:N", title="taken for"),
                 alt.Tooltip("shown:N", title="share"), alt.Tooltip("n:Q", title="images")],
    )  # fmt: skip
    scale = alt.Scale(domain=[0, 1], range=list(VIRIDIS), clamp=True)
    legend = None if paint.page else alt.Legend(title="share", format="%", gradientLength=120)
    room = f"{'width' if paint.page else WIDTH} / {len(names)} >= {CELL} ? 1 : 0"
    cells = base.mark_rect().encode(alt.Color("share:Q", scale=scale, legend=legend))
    numbers = base.mark_text(fontSize=10, opacity=alt.expr(room)).encode(
        text="cell:N",
        color=alt.condition(f"datum.share < {WHITE_BELOW}", alt.value("#ffffff"), alt.value("#000000")),
    )
    return alt.layer(cells, numbers).properties(height=ROW * len(names))


def _most(study: ClassStudy, one: ModelClasses, at: int) -> tuple[str, str, float]:
    """The commonest mistake of a model: class, what it is taken for, and the share of the class."""
    curves = study.curves
    shares = _shares(curves, one, at)
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    names = [curves.classes[label] for label in curves.labels]
    return names[int(row)], names[int(column)], float(shares[row, column])


def _often(study: ClassStudy, at: int) -> str:
    """The commonest mistake of all models together."""
    curves = study.curves
    shares = np.mean([_shares(curves, one, at) for one in curves.models], axis=0)
    if not shares.any():
        return f"No image is mistaken at {curves.middle}"
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    a, b = (curves.classes[curves.labels[int(place)]] for place in (row, column))
    whose = ", on average over the models" if len(curves.models) > 1 else ""
    return f"The commonest mistake at {curves.middle}: {a} for {b}, {percent(float(shares.max()), 0)} % of them{whose}"


def _matrix_words(study: ClassStudy, one: ModelClasses, at: int) -> str:
    a, b, share = _most(study, one, at)
    start = f"Matrix of what {study.names[one.model]} takes each class for at {study.curves.middle}"
    return f"{start}. The commonest mistake: {a} for {b}, {percent(share)} % of them."


def _taken(study: ClassStudy, one: ModelClasses) -> Table:
    """The commonest mistake of each class at every ε."""
    curves = study.curves
    rows = []
    for place, row in enumerate(one.rows):
        cells = []
        for at in range(len(curves.budgets)):
            most, times = taken_most(one.mistakes[at, place])
            cells.append(f"{curves.classes[most]} ({times} of {int(one.mistakes[at, place].sum())})" if times else "")
        rows.append((curves.classes[row.label], *cells))
    unit = unit_of(curves.norm, curves.budgets)
    head = ("class", *(f"ε = {budget}" for budget in curves.budgets))
    caption = f"{study.names[one.model]}: what most of the fallen images of a class are taken for ({unit.symbol})"
    return Table(caption, head, tuple(rows))
