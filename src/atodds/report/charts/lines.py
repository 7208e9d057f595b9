"""Lines of rates with their intervals, each labelled at its end."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from atodds.report.charts.figure import RATES, Drawing, inline
from atodds.report.charts.labels import shortened, spread
from atodds.report.charts.scatter import round_values
from atodds.report.colours import Paint, shape_of

HEIGHT = 240
ROW = 14
LONGEST = 18


@dataclass(frozen=True)
class Mark:
    """A point of a line: where, which rate with its interval, and the same in words."""

    x: float
    value: float
    low: float
    high: float
    said: str


@dataclass(frozen=True)
class Line:
    """A line: its name, the place that fixes its colour and shape, its points in order of x, and where a dotted rule
    stands, if anywhere."""

    name: str
    place: int
    marks: tuple[Mark, ...]
    rule: float | None = None


def lines(drawn: Sequence[Line], titles: tuple[str, str], paint: Paint, *, log: bool = False) -> Drawing:
    """The lines with bands and labels.

    Args:
        drawn: at least one.
        titles: of both axes; the second, a rate from 0 to 1, may be empty.
        paint: colours.
        log: whether the x axis is logarithmic.
    """
    places = [mark.x for line in drawn for mark in line.marks]
    low, high = min(places), max(places)
    if log:
        domain = [low / 1.1, high * 1.1]
        axis = alt.Axis(values=round_values(*domain), format="~s", grid=False, labelOverlap=True)
        scale = alt.Scale(type="log", domain=domain, nice=False)
    else:
        room = 0.04 * (high - low or 1.0)
        axis = alt.Axis(values=sorted(set(places)), format="~g", grid=False, labelOverlap=True)
        scale = alt.Scale(domain=[low - room, high + room], nice=False)
    x = alt.X("x:Q", title=titles[0], scale=scale, axis=axis)
    unit, written = alt.Scale(domain=[0, 1], nice=False), titles[1] or None
    y = alt.Y("value:Q", title=written, scale=unit, axis=RATES)
    names = [line.name for line in drawn]
    colours = [paint.models[line.place % len(paint.models)] for line in drawn]
    colour = alt.Color("name:N", scale=alt.Scale(domain=names, range=colours), legend=None)
    shapes = [shape_of(line.place) for line in drawn]
    shape = alt.Shape("name:N", scale=alt.Scale(domain=names, range=shapes), legend=None)
    base = alt.Chart(
        inline(
            [
                {"name": line.name, "x": m.x, "value": m.value, "low": m.low, "high": m.high, "said": m.said}
                for line in drawn
                for m in line.marks
            ]
        )
    )
    tooltip = [
        alt.Tooltip("name:N", title="line"),
        alt.Tooltip("x:Q", title=titles[0], format=",~r"),
        alt.Tooltip("said:N", title=titles[1] or "rate"),
    ]
    layers = [
        base.mark_area(opacity=0.16).encode(x, alt.Y("low:Q", title=written, scale=unit), alt.Y2("high:Q"), colour),
        base.mark_line(strokeWidth=2).encode(x, y, colour),
        base.mark_point(size=36, filled=True, opacity=1).encode(x, y, colour, shape),
    ]
    rules = [{"name": line.name, "x": line.rule} for line in drawn if line.rule is not None and low < line.rule < high]
    if rules:
        layers.append(alt.Chart(inline(rules)).mark_rule(strokeWidth=1.5, strokeDash=[1, 3]).encode(x, colour))
    layers += [_labels(drawn, x, y), base.mark_point(size=400, filled=True, opacity=0).encode(x, y, tooltip=tooltip)]
    return alt.layer(*layers).properties(height=HEIGHT)


def words(drawn: Sequence[Line], titles: tuple[str, str]) -> str:
    """The same for those who cannot see it."""
    said = [f"{line.name}: {line.marks[0].said} at the left, {line.marks[-1].said} at the right" for line in drawn]
    return f"Line chart of {titles[1] or 'rates'} over {titles[0]}. {'. '.join(said)}."


def _labels(drawn: Sequence[Line], x: alt.X, y: alt.Y) -> alt.Chart:
    wanted = [HEIGHT * (1 - line.marks[-1].value) for line in drawn]
    placed = spread(wanted, [ROW] * len(drawn), 0, HEIGHT)
    rows = [
        {"x": line.marks[-1].x, "value": line.marks[-1].value, "label": shortened(line.name, LONGEST), "dy": to - at}
        for line, at, to in zip(drawn, wanted, placed, strict=True)
    ]
    text = alt.Chart(inline(rows)).mark_text(
        align="left", baseline="middle", dx=8, dy=alt.expr("datum.dy"), text=alt.expr("datum.label"), fontSize=11
    )
    found: alt.Chart = text.encode(x, y)
    return found
