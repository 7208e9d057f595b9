"""Robust accuracy over ε: one line a model, with the band of its interval and its name at its end."""

import json
from itertools import pairwise

import altair as alt

from atodds.analysis.numbers import percent
from atodds.report.charts.figure import RATES, Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import broken, shortened, spread
from atodds.report.colours import MODELS, Paint, shape_of
from atodds.report.facts import Facts, ModelFacts
from atodds.report.words import counted, curve_title, share

HEIGHT = 340
LINE = 15
WIDE, NARROW = 34, 14
"""The longest label, in letters, on a wide page and on a narrow one, where it breaks into lines."""
MOST_TICKS = 17


def draw(facts: Facts, paint: Paint) -> Figure:
    """The figure; see the module."""
    largest = facts.budgets[-1]
    subtitle = (
        f"Share of {counted(facts.n, 'image')} that are classified rightly and that no attack within ε could change. "
        "Bands: 95 % Wilson intervals. At ε = 0: accuracy."
    )
    return Figure(
        title=curve_title(facts),
        subtitle=subtitle,
        panels=(Panel(_drawing(facts, paint), _words(facts), width=680),),
        tables=(
            Table(
                f"Robust accuracy at each ε ({facts.unit.symbol}) up to {largest}, with 95 % intervals",
                ("ε", *(model.name for model in facts.models)),
                tuple((budget.text, *(str(model.at(budget)) for model in facts.models)) for budget in facts.budgets),
            ),
            Table(
                "Points lost from one ε to the next",
                ("ε", *(model.name for model in facts.models)),
                tuple(
                    (f"{before} to {after}", *(percent(model.curve.drops[place]) for model in facts.models))
                    for place, (before, after) in enumerate(pairwise(facts.budgets))
                ),
            ),
        ),
    )


CHART = Chart("robust-accuracy", "curves", draw)


def _drawing(facts: Facts, paint: Paint) -> Drawing:
    unit, models = facts.unit, facts.by_place()
    end = unit.number(facts.budgets[-1].value) or 1.0
    names = [model.name for model in models]
    x = alt.X("eps:Q", title=unit.axis, scale=alt.Scale(domain=[0, end], nice=False), axis=_ticks(facts))
    y = alt.Y(
        "rate:Q",
        title="robust accuracy",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=RATES,
    )
    colours = [paint.models[model.place % len(MODELS)] for model in models]
    colour = alt.Color("model:N", scale=alt.Scale(domain=names, range=colours), legend=None)
    shape = alt.Shape("model:N", scale=alt.Scale(domain=names, range=[shape_of(m.place) for m in models]), legend=None)
    base = alt.Chart(inline(_rows(facts)))
    band = base.mark_area(opacity=0.16).encode(x, alt.Y("low:Q", title="robust accuracy"), alt.Y2("high:Q"), colour)
    line = base.mark_line(strokeWidth=2).encode(x, y, colour)
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("at:N", title="ε"),
        alt.Tooltip("shown:N", title="robust accuracy"),
        alt.Tooltip("n:Q", title="images"),
    ]
    points = base.mark_point(size=42, filled=True, opacity=1).encode(x, y, colour, shape)
    targets = base.mark_point(size=500, filled=True, opacity=0).encode(x, y, tooltip=tooltip)
    ends = alt.Chart(inline(_labels(facts)))
    shift = "narrow ? datum.shift_narrow : datum.shift"
    leaders = ends.mark_rule(strokeWidth=1, xOffset=5, x2Offset=14, y2Offset=alt.expr(shift)).encode(
        x, y, alt.X2("eps:Q"), alt.Y2("rate:Q"), colour
    )
    text = ends.mark_text(
        align="left",
        baseline="middle",
        dx=18,
        dy=alt.expr(shift),
        text=alt.expr("narrow ? datum.lines : datum.label"),
        lineHeight=LINE - 2,
    ).encode(x, y)
    layers = alt.layer(band, line, leaders, points, text, targets)
    return layers.add_params(alt.param(name="narrow", value=False)).properties(height=HEIGHT)


def _ticks(facts: Facts) -> alt.Axis:
    """Ticks at the budgets themselves, each written as it was typed; every second, third, ... where there are many."""
    shown = facts.budgets[:: -(-len(facts.budgets) // MOST_TICKS)]
    places = [facts.unit.number(budget.value) for budget in shown]
    texts = json.dumps([facts.unit.tick(budget) for budget in shown])
    written = f"{texts}[indexof({json.dumps(places)}, datum.value)]"
    return alt.Axis(values=places, labelExpr=written, grid=False, labelOverlap=True)


def _rows(facts: Facts) -> list[dict[str, object]]:
    return [
        {
            "model": model.name,
            "eps": facts.unit.number(budget.value),
            "at": budget.text,
            "rate": rate.value,
            "low": rate.low,
            "high": rate.high,
            "shown": str(rate),
            "n": rate.n,
        }
        for model in facts.by_place()
        for budget, rate in zip(model.curve.budgets, model.curve.rates, strict=True)
    ]


def _labels(facts: Facts) -> list[dict[str, object]]:
    """One label a model, moved so that none covers another."""
    models = sorted(facts.models, key=lambda model: (-model.curve.rates[-1].value, -model.curve.mean))
    ends = [HEIGHT * (1 - model.curve.rates[-1].value) for model in models]
    lines = [_lines(model) for model in models]
    wide = spread(ends, [LINE] * len(models), -LINE / 2, HEIGHT + LINE / 2)
    narrow = spread(ends, [LINE * len(name) for name in lines], -LINE / 2, HEIGHT + LINE / 2)
    return [
        {
            "model": model.name,
            "eps": facts.unit.number(facts.budgets[-1].value),
            "rate": model.curve.rates[-1].value,
            "label": shortened(model.name, WIDE),
            "lines": lines[place],
            "shift": wide[place] - ends[place],
            "shift_narrow": narrow[place] - (LINE - 2) * (len(lines[place]) - 1) / 2 - ends[place],
        }
        for place, model in enumerate(models)
    ]


def _lines(model: ModelFacts) -> list[str]:
    return broken(shortened(model.name, 3 * NARROW), NARROW)


def _words(facts: Facts) -> str:
    said = [
        f"{model.name}: {share(model.accuracy)} without an attack, {share(model.at(facts.key))} at {facts.key}, "
        f"{share(model.at(facts.budgets[-1]))} at {facts.budgets[-1]}"
        for model in facts.models
    ]
    start = f"Line chart of robust accuracy over ε in {facts.unit.symbol}, from 0 to {facts.budgets[-1]}"
    return f"{start}. {'. '.join(said)}."
