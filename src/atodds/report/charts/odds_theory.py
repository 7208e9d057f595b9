"""The charts of the theory: what is known of accuracy against robustness without a network."""

from collections.abc import Sequence

import altair as alt
import numpy as np

from atodds.analysis.numbers import percent
from atodds.report.charts.figure import RATES, Figure, Panel, Table, inline
from atodds.report.charts.scatter import Spot, lettering, with_narrow
from atodds.report.colours import VIRIDIS, Paint
from atodds.studies.odds import Theory
from atodds.theory.soft_margin import Phase
from atodds.theory.tsipras import bound

HEIGHT = 320
LEFT = 0.94
"""Where the axis of standard accuracy begins: x1 alone has 95 %."""


def bounded(theory: Theory, paint: Paint) -> Figure:
    """Robust against standard accuracy of linear classifiers, below the bound."""
    p = theory.model.p
    x = alt.X("x:Q", title="standard accuracy", scale=alt.Scale(domain=[LEFT, 1], nice=False), axis=_rates(grid=False))
    risen = f"robust accuracy at ε = 2η = {theory.eps:g}"
    y = alt.Y("y:Q", title=risen, scale=_unit(), axis=RATES)
    edge = [{"x": s, "y": bound(p, s)} for s in np.linspace(p, 1, 41).tolist()]
    family = [{"x": standard, "y": robust, "order": k} for k, (standard, robust) in enumerate(theory.line)]
    rows = [
        {
            "name": point.name, "x": point.standard, "y": point.robust, "ylow": point.counted[1].low,
            "yhigh": point.counted[1].high, "xlow": point.counted[0].low, "xhigh": point.counted[0].high,
            "said": f"{percent(point.standard)} %, {percent(point.robust)} %",
            "counted": f"{point.counted[0]}, {point.counted[1]}",
        }
        for point in theory.points
    ]  # fmt: skip
    marks = alt.Chart(inline(rows))
    tooltip = [
        alt.Tooltip("name:N", title="classifier"),
        alt.Tooltip("said:N", title="closed form"),
        alt.Tooltip("counted:N", title="counted"),
    ]
    spots = [
        Spot(r.name, r.standard, r.robust, HEIGHT * (1 - r.robust), r.standard > (1 + LEFT) / 2) for r in theory.points
    ]
    bars = marks.mark_rule(strokeWidth=4, opacity=0.4, color=paint.models[1], clip=True)
    layers = [
        alt.Chart(inline(edge)).mark_line(strokeWidth=2, strokeDash=[6, 4], color=paint.ink).encode(x, y),
        alt.Chart(inline(family)).mark_line(strokeWidth=1.5, color=paint.soft).encode(x, y, alt.Order("order:Q")),
        bars.encode(x, alt.Y("ylow:Q", title=risen), alt.Y2("yhigh:Q")),
        bars.encode(alt.X("xlow:Q", title="standard accuracy"), alt.X2("xhigh:Q"), y),
        marks.mark_point(size=50, filled=True, opacity=1, color=paint.models[0]).encode(x, y),
        *lettering(spots, x, y, HEIGHT, wide=36, narrow=22),
        marks.mark_point(size=400, filled=True, opacity=0).encode(x, y, tooltip=tooltip),
    ]
    table = Table(
        f"Closed form beside {theory.draws:,} draws each, with 95 % intervals",
        ("classifier", "standard", "counted", "robust", "counted"),
        tuple(
            (r.name, f"{percent(r.standard)} %", str(r.counted[0]), f"{percent(r.robust)} %", str(r.counted[1]))
            for r in theory.points
        ),
    )
    title = (f"No classifier with 99 % standard accuracy keeps more than {percent(bound(p, 0.99))} %",)
    model = theory.model
    subtitle = (
        f"p = {p:g}, η√d = {model.strength:g}, d = {model.features}. Dashed: the bound of theorem 2.1, met by the "
        "first feature alone. Line: linear classifiers between that and the mean of the others. Bars: 95 % intervals "
        f"of {theory.draws:,} draws."
    )
    drawing = with_narrow(layers, HEIGHT)
    said = "Robust against standard accuracy: the bound falls from 95 % to 0, and every classifier lies below it."
    return Figure(title, subtitle, (Panel(drawing, said, most=760),), (table,))


def phases(theory: Theory) -> Figure:
    """What the adversarial SVM keeps, over p, η√d and ε."""
    panels = []
    for name, place in (("standard", 0), ("robust", 1)):
        for p in dict.fromkeys(one.p for one in theory.phases):
            mine = [one for one in theory.phases if one.p == p]
            said = f"{name} accuracy, p = {p:g}"
            panels.append(Panel(_heat(mine, place), f"Heatmap: {said}.", (said,), width=280))
    title = ("Training against ε gives up all weak features at ε = η, and everything at ε = 2p − 1",)
    subtitle = (
        "The adversarially trained soft-margin SVM in closed form, d = 100: standard accuracy above, robust accuracy "
        "at the same ε below. Yellow at the left: weak features are used; one colour between: the first feature alone, "
        "accuracy p; right of 2p − 1: w = 0, accuracy 50 %."
    )
    shown = [one for one in theory.phases if one.strength in (1.0, 3.0, 6.0) and round(20 * one.eps) % 4 == 0]
    table = Table(
        "Some places of the diagram",
        ("p, η√d, ε", "rests on", "standard", "robust", "SVM standard", "SVM robust"),
        tuple(
            (
                f"{one.p:g}, {one.strength:g}, {one.eps:.2g}",
                one.region,
                *(f"{percent(value)} %" for value in (*one.adversarial, *one.standard)),
            )
            for one in shown
        ),
    )
    return Figure(title, subtitle, tuple(panels), (table,), layout="grid", scale=True)


def _heat(found: Sequence[Phase], place: int) -> alt.Chart:
    rows = [
        {
            "eps": round(one.eps, 3), "strength": round(one.strength, 3), "value": round(one.adversarial[place], 4),
            "on": one.region,
        }
        for one in found
    ]  # fmt: skip
    axis = alt.Axis(labelOverlap=True, format="~g", labelAngle=0, ticks=False, domain=False)
    tooltip = [
        alt.Tooltip("eps:O", title="ε"),
        alt.Tooltip("strength:O", title="η√d"),
        alt.Tooltip("value:Q", title="accuracy", format=".1%"),
        alt.Tooltip("on:N", title="rests on"),
    ]
    drawn: alt.Chart = (
        alt.Chart(inline(rows))
        .mark_rect()
        .encode(
            alt.X("eps:O", title="ε", axis=axis),
            alt.Y("strength:O", title="η√d", sort="descending", axis=axis),
            alt.Color("value:Q", scale=alt.Scale(domain=[0, 1], range=list(VIRIDIS)), legend=None),
            tooltip=tooltip,
        )
        .properties(height=200)
    )
    return drawn


def _unit() -> alt.Scale:
    return alt.Scale(domain=[0, 1], nice=False)


def _rates(grid: bool) -> alt.Axis:
    return alt.Axis(
        labelExpr="format(100 * datum.value, '.0f') + ' %'", tickCount=5, domain=False, ticks=False, grid=grid
    )
