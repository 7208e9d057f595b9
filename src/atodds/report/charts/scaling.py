"""Distortion against the logarithm of the error: every model, the line through them, and on whom it stands."""

import math

import altair as alt
import numpy as np

from atodds.analysis import Scaling
from atodds.analysis.line import TELLING
from atodds.analysis.numbers import percent, significant
from atodds.report.charts.figure import Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.scatter import Spot, intervals, lettering, round_values, with_narrow
from atodds.report.colours import MODELS, Paint, shape_of
from atodds.report.facts import Facts
from atodds.report.words import Name, Sentence, counted

HEIGHT = 320
LABELLED = 8
"""With more models than these, only the most influential ones are labelled."""
NAMED = 3
"""How many of the most influential models are labelled then, beside those that the line stands on."""
STEPS = 24
"""Places at which the band is drawn."""


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing where fewer than three models have an error and a distance."""
    fit = facts.further.scaling
    if fit is None:
        return None
    return Figure(
        title=_title(facts, fit),
        subtitle=_subtitle(facts, fit),
        panels=(Panel(_drawing(facts, fit, paint), _words(facts, fit)),),
        tables=(_coefficients(facts, fit), _points(facts, fit)),
    )


CHART = Chart("scaling", "tradeoff", draw)


def _title(facts: Facts, fit: Scaling) -> Sentence:
    """What the line says, and on how many models it rests."""
    line, count = fit.line, len(fit.points)
    way = "rises" if line.slope > 0 else "falls"
    if line.footing.standing == "no relation":
        low, high = (_number(facts, end) for end in line.slope_interval)
        if count < TELLING:
            return (f"{count} models are too few to show how distance moves with ln(error): slope {low} to {high}",)
        return (f"Over {count} models no relation of distance and ln(error) shows: slope {low} to {high}",)
    if line.footing.standing == "too few":
        return (f"Distance {way} with ln(error) over {count} models, too few to say on how many that rests",)
    if line.footing.standing == "stands":
        slope = _number(facts, line.slope)
        return (
            f"Distance {way} by {slope.lstrip('−')} for each unit of ln(error) over {count} models, whichever two are "
            "left out",
        )
    on = [Name(facts.name(model)) for model in line.footing.on]
    who = (on[0],) if len(on) == 1 else (on[0], " and ", on[1])
    rest = "its R² is undefined" if math.isnan(line.footing.r_squared) else f"R² is {line.footing.r_squared:.2f}"
    start = f"That distance {way} with ln(error) stands on "
    return (start, *who, f": without {'it' if len(on) == 1 else 'them'} {rest}, not {line.r_squared:.2f}")


def _subtitle(facts: Facts, fit: Scaling) -> str:
    what = "mean over the images that were fooled" if fit.measure == "mean" else "median over the images that are right"
    text = (
        f"Distance to the closest fooling image, {what}, against the top-1 error, of {counted(fit.n, 'image')}. Bars: "
        "95 % intervals over images; band: 95 % interval of the line."
    )
    if fit.excluded:
        names = ", ".join(facts.name(out.model) for out in fit.excluded)
        text += f" Not on the line: {names}."
    return text


def _number(facts: Facts, value: float) -> str:
    """A distance or a slope in the page's unit, with its sign where negative."""
    text = facts.unit.distance(abs(value))
    return f"−{text}" if value < 0 else text


def _drawing(facts: Facts, fit: Scaling, paint: Paint) -> Drawing:
    place = {model.info.id: model.place for model in facts.models}
    rows = _rows(facts, fit)
    names = [str(row["name"]) for row in rows]
    places = [place[point.model] for point in fit.points]
    lows, highs = [p.error.low for p in fit.points], [p.error.high for p in fit.points]
    left, right = min(lows) * 0.93, min(1.0, max(highs) * 1.07)
    grid = np.geomspace(left, right, STEPS)
    band = [dict(zip(("y", "low", "high"), map(facts.unit.number, fit.at(x)), strict=True), x=float(x)) for x in grid]
    tops = [facts.unit.number(p.distortion.high) for p in fit.points if math.isfinite(p.distortion.high)]
    top = 1.08 * max([*tops, *(facts.unit.number(p.distortion.value) for p in fit.points)])
    titles = ("top-1 error (logarithmic)", f"distance in {facts.unit.axis.removeprefix('ε in ')}")
    axis = alt.Axis(
        labelExpr="format(100 * datum.value, '~r') + ' %'",
        values=round_values(left, right),
        ticks=False,
        labelPadding=7,
    )
    x = alt.X("x:Q", title=titles[0], axis=axis, scale=alt.Scale(type="log", domain=[left, right], nice=False))
    scale = alt.Scale(domain=[0, top], nice=False)
    y = alt.Y("y:Q", title=titles[1], scale=scale, axis=alt.Axis(tickCount=5, domain=False, ticks=False))
    colours = alt.Scale(domain=names, range=[paint.models[k % len(MODELS)] for k in places])
    shapes = alt.Scale(domain=names, range=[shape_of(k) for k in places])
    colour = alt.Color("name:N", scale=colours, legend=None)
    through, base = alt.Chart(inline(band)), alt.Chart(inline(rows))
    around = through.mark_area(opacity=0.18, color=paint.soft, clip=True)
    points = base.mark_point(size=60, filled=True, opacity=1).encode(x, y, colour)
    tooltip = [
        alt.Tooltip("name:N", title="model"),
        alt.Tooltip("error:N", title="top-1 error"),
        alt.Tooltip("distance:N"),
        alt.Tooltip("cook:N", title="Cook's distance"),
        alt.Tooltip("leverage:N"),
    ]
    layers = [
        around.encode(x, alt.Y("low:Q", title=titles[1], scale=scale), alt.Y2("high:Q")),
        through.mark_line(strokeWidth=1.5, color=paint.ink, clip=True).encode(x, y),
        *intervals(base, x, y, colour, titles),
        points.encode(alt.Shape("name:N", scale=shapes, legend=None)),
        base.mark_point(size=500, filled=True, opacity=0).encode(x, y, tooltip=tooltip),
        *lettering(_spots(facts, fit, left, right, top), x, y, HEIGHT),
    ]
    return with_narrow(layers, HEIGHT)


def _rows(facts: Facts, fit: Scaling) -> list[dict[str, object]]:
    number = facts.unit.number
    return [
        {
            "name": facts.name(point.model),
            "x": point.error.value,
            "xlow": point.error.low,
            "xhigh": point.error.high,
            "y": number(point.distortion.value),
            "ylow": number(point.distortion.low),
            "yhigh": min(number(point.distortion.high), 1e9),
            "error": str(point.error),
            "distance": _distance(facts, fit, k),
            "cook": significant(fit.line.points[k].cook),
            "leverage": significant(fit.line.points[k].leverage),
        }
        for k, point in enumerate(fit.points)
    ]


def _spots(facts: Facts, fit: Scaling, left: float, right: float, top: float) -> list[Spot]:
    """All of a few models, or the most influential ones and those that the line stands on."""
    ranked = sorted(fit.line.points, key=lambda point: -point.cook)
    chosen = {point.name for point in ranked[:NAMED]} | set(fit.line.footing.on)
    number = facts.unit.number
    return [
        Spot(
            facts.name(point.model),
            point.error.value,
            number(point.distortion.value),
            HEIGHT * (1 - number(point.distortion.value) / top),
            point.error.value > math.sqrt(left * right),
        )
        for point in fit.points
        if len(fit.points) <= LABELLED or point.model in chosen
    ]


def _distance(facts: Facts, fit: Scaling, place: int) -> str:
    distortion = fit.points[place].distortion
    low, high = (facts.unit.distance(end) for end in (distortion.low, distortion.high))
    return f"{facts.unit.distance(distortion.value)} ({low.partition('/')[0]}–{high})"


def _coefficients(facts: Facts, fit: Scaling) -> Table:
    line = fit.line

    def ends(interval: tuple[float, float]) -> str:
        return f"{_number(facts, interval[0])} to {_number(facts, interval[1])}"

    rows = [
        ("slope", _number(facts, line.slope), ends(line.slope_interval), ends(fit.slope_over_images),
         ends(fit.slope_over_models)),
        ("intercept", _number(facts, line.intercept), ends(line.intercept_interval), ends(fit.intercept_over_images),
         ends(fit.intercept_over_models)),
        ("R²", f"{line.r_squared:.3f}", "", "", ""),
    ]  # fmt: skip
    if line.footing.on and not math.isnan(line.footing.slope):
        without = " and ".join(facts.name(model) for model in line.footing.on)
        interval = ends((line.footing.low, line.footing.high))
        rows.append((f"slope without {without}", _number(facts, line.footing.slope), interval, "", ""))
    head = ("", "value", "95 % (t)", "95 % over images", "95 % over models")
    return Table("distance = intercept + slope · ln(error), by least squares", head, tuple(rows))


def _points(facts: Facts, fit: Scaling) -> Table:
    rows = []
    for k, point in enumerate(fit.points):
        influence = fit.line.points[k]
        without = influence.slope_without
        rows.append(
            (
                facts.name(point.model),
                str(point.error),
                _distance(facts, fit, k),
                f"{percent(point.distortion.fooled / max(1, point.distortion.n))} %",
                _number(facts, influence.residual),
                f"{influence.leverage:.2f}",
                significant(influence.cook),
                "none" if without is None else _number(facts, without),
            )
        )
    rows += [(facts.name(out.model), out.why, "", "", "", "", "", "") for out in fit.excluded]
    head = ("model", "top-1 error", f"{fit.measure} distance", "fooled", "residual", "leverage", "Cook's distance",
            "slope without it")  # fmt: skip
    return Table("Each model, and what it does to the line", head, tuple(rows))


def _words(facts: Facts, fit: Scaling) -> str:
    most = fit.line.most_influential
    start = f"Scatter plot of {fit.measure} distance against top-1 error of {len(fit.points)} models, with a line"
    slope = f"slope {_number(facts, fit.line.slope)} for each unit of ln(error), R² {fit.line.r_squared:.2f}"
    return f"{start}: {slope}. The most influential model is {facts.name(most.name)}."
