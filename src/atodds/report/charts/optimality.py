"""How near each attack comes to the best of all, against the passes that it took."""

import math

import altair as alt

from atodds.analysis import Optimalities
from atodds.analysis.numbers import count, percent, significant
from atodds.report.charts.figure import RATES, Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.scatter import Spot, lettering, round_values, with_narrow
from atodds.report.colours import Paint
from atodds.report.facts import Facts
from atodds.report.words import Sentence, counted

HEIGHT = 260


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing unless several attacks ran, each alone on every image."""
    found = facts.further.optimality
    if found is None:
        return None
    models = len(found.reach)
    subtitle = (
        f"Area that an attack's curve lies below the accuracy, as a share of that of all attacks together; "
        f"{'mean over ' + counted(models, 'model') + ', ' if models > 1 else ''}{counted(facts.n, 'image')}. Bars: "
        "95 % intervals over images. Every attack ran alone on every image that is classified rightly."
    )
    return Figure(
        title=_title(found),
        subtitle=subtitle,
        panels=(Panel(_drawing(facts, found, paint), _words(found)),),
        tables=tuple(_table(facts, found, model) for model in found.reach),
    )


CHART = Chart("optimality", "attacks", draw)


def _title(found: Optimalities) -> Sentence:
    best = found.attacks[0]
    cheap = min(found.attacks, key=lambda attack: attack.passes)
    said = f"{best.attack} comes nearest to the best of all: {percent(best.optimality.value)} % for "
    text = f"{said}{count(best.passes)} passes an image"
    if cheap.attack == best.attack:
        return (f"{text}, the fewest",)
    return (f"{text}; {cheap.attack} {percent(cheap.optimality.value)} % for {count(cheap.passes)}",)


def _drawing(facts: Facts, found: Optimalities, paint: Paint) -> Drawing:
    passes = [attack.passes for attack in found.attacks]
    left, right = min(passes) / 1.6, max(passes) * 1.6
    rows = [
        {
            "attack": attack.attack,
            "x": attack.passes,
            "y": attack.optimality.value,
            "low": attack.optimality.low,
            "high": attack.optimality.high,
            "shown": str(attack.optimality),
        }
        for attack in found.attacks
    ]
    spots = [
        Spot(
            attack.attack,
            attack.passes,
            attack.optimality.value,
            HEIGHT * (1 - attack.optimality.value),
            attack.passes > math.sqrt(left * right),
        )
        for attack in found.attacks
    ]
    scale = alt.Scale(type="log", domain=[left, right], nice=False)
    axis = alt.Axis(
        labelExpr="format(datum.value, '~s')", values=round_values(left, right), ticks=False, labelPadding=7
    )
    title = "share of the best"
    x = alt.X("x:Q", title="passes an image (logarithmic)", scale=scale, axis=axis)
    y = alt.Y("y:Q", title=title, scale=alt.Scale(domain=[0, 1], nice=False), axis=RATES)
    known = [name for name in facts.attacks if any(row["attack"] == name for row in rows)]
    colours = alt.Scale(domain=known, range=[paint.attacks[facts.attacks.index(name)] for name in known])
    colour = alt.Color("attack:N", scale=colours, legend=None)
    base = alt.Chart(inline(rows))
    tooltip = [
        alt.Tooltip("attack:N"),
        alt.Tooltip("shown:N", title="share of the best"),
        alt.Tooltip("x:Q", title="passes an image", format=",.0f"),
    ]
    layers = [
        base.mark_rule(strokeWidth=2, color=paint.soft).encode(x, alt.Y("low:Q", title=title), alt.Y2("high:Q")),
        base.mark_point(size=80, filled=True, opacity=1, stroke=paint.ink, strokeWidth=0.8).encode(x, y, colour),
        base.mark_point(size=500, filled=True, opacity=0).encode(x, y, tooltip=tooltip),
        *lettering(spots, x, y, HEIGHT, wide=44, narrow=18),
    ]
    return with_narrow(layers, HEIGHT)


def _table(facts: Facts, found: Optimalities, model: str) -> Table:
    rows = []
    for attack in found.attacks:
        local = next(one for one in attack.models if one.model == model)
        rows.append((attack.attack, str(local.optimality), significant(local.passes), f"{local.best_on:,}"))
    n = found.attacks[0].models[list(found.reach).index(model)].optimality.n
    reach = facts.unit.distance(found.reach[model])
    caption = f"{facts.name(model)}: share of the best up to {reach}, of {counted(n, 'image')} classified rightly"
    return Table(caption, ("attack", "share of the best", "passes an image", "closest on"), tuple(rows))


def _words(found: Optimalities) -> str:
    said = [f"{one.attack} {percent(one.optimality.value)} % for {count(one.passes)} passes" for one in found.attacks]
    return f"Scatter plot of the share of the best that each attack reaches, against its passes. {', '.join(said)}."
