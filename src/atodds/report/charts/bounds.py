"""Lower bounds beside the distances that attacks found: a point an image, above the diagonal where both can be true."""

import math
from collections.abc import Sequence

import altair as alt
import numpy as np

from atodds.analysis import Curve, LowerUpper
from atodds.analysis.numbers import count
from atodds.report.charts.figure import Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.scatter import Spot, lettering, with_narrow
from atodds.report.colours import MODELS, Paint, shape_of
from atodds.report.facts import Facts
from atodds.report.units import Unit
from atodds.report.words import Name, Sentence, counted

HEIGHT = 320
NAMED = 6
"""Points below the diagonal that are labelled, the widest ratio first; the table has them all."""
ROOM = 1.06
"""How far the axes go beyond the largest value."""


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing where the run has no bounds."""
    found = facts.further.bounds
    if not found:
        return None
    return Figure(
        title=_title(facts, found),
        subtitle=_subtitle(facts, found),
        panels=tuple(_panel(facts, one, paint, several=len(found) > 1) for one in found),
        tables=(
            _summary(facts, found),
            *(_images(facts, one) for one in found),
            *(_certified(facts, method, curve) for method, curve in facts.further.certified),
        ),
        layout="halves" if len(found) > 1 else "wide",
    )


CHART = Chart("bounds", "bounds", draw)


def _title(facts: Facts, found: Sequence[LowerUpper]) -> Sentence:
    """For how many images bound and distance contradict each other, and which is the worst of them."""
    n, over = sum(one.beside.n for one in found), [one for one in found if not one.beside.holds]
    if not n:
        return ("No image was fooled: there is no distance to hold the bounds against",)
    wrong = sum(len(one.beside.crossings) for one in over)
    if not wrong:
        return (f"Every bound is at most the distance found, on {counted(n, 'fooled image')}",)
    worst = max(over, key=lambda one: one.beside.crossings[0].lower / one.beside.crossings[0].upper)
    first = worst.beside.crossings[0]
    start = f"{wrong} of {n:,} bounds {'is' if wrong == 1 else 'are'} above the distance found: at most "
    said = f" times, by {worst.method} for image {first.image} of "
    return (start, f"{first.lower / first.upper:.3g}", said, Name(facts.name(worst.model)))


def _subtitle(facts: Facts, found: Sequence[LowerUpper]) -> str:
    text = (
        f"Each point is one of {counted(facts.n, 'image')} that the model classifies rightly. Below the diagonal the "
        "bound is above the distance of an image that fools. Bars: 95 % intervals of the bounds; at the top: images "
        "that nothing fooled."
    )
    if any(not one.certified for one in found):
        text += " CLEVER is an estimate, no certificate."
    if any(one.certified for one in found):
        text += (
            " Smoothing certifies the smoothed classifier, and the distances are those of the model without noise: two "
            "classifiers."
        )
    return text


def _panel(facts: Facts, found: LowerUpper, paint: Paint, *, several: bool) -> Panel:
    heading: Sentence = (Name(facts.name(found.model)), f": {found.method}, {_unit(facts, found).symbol}")
    return Panel(
        _drawing(facts, found, paint), _words(facts, found), heading if several else (), 420 if several else 640
    )


def _drawing(facts: Facts, found: LowerUpper, paint: Paint) -> Drawing:
    unit = _unit(facts, found)
    rows = _rows(found, unit)
    reach = ROOM * max(*(max(float(str(row["x"])), float(str(row["y"]))) for row in rows), 1e-9)
    for row in rows:
        row["y"] = reach if not row["fooled"] else row["y"]
        row["high"] = min(float(str(row["high"])), reach)
    titles = f"lower bound in {unit.axis.partition(' in ')[2]}", "distance found, same unit"
    scale = alt.Scale(domain=[0, reach], nice=False)
    x = alt.X("x:Q", title=titles[0], scale=scale, axis=alt.Axis(grid=False, tickCount=5))
    y = alt.Y("y:Q", title=titles[1], scale=scale, axis=alt.Axis(tickCount=5, domain=False, ticks=False))
    place = next(model.place for model in facts.models if model.info.id == found.model)
    colour, shape = paint.models[place % len(MODELS)], shape_of(place)
    base = alt.Chart(inline(rows))
    ends = alt.Chart(inline([{"x": 0, "y": 0}, {"x": reach, "y": reach}]))
    tooltip = [
        alt.Tooltip("image:Q"),
        alt.Tooltip("bound:N", title="lower bound"),
        alt.Tooltip("found:N", title="distance found"),
    ]
    fooled, over = alt.datum.fooled, alt.datum.over
    layers = [
        ends.mark_line(color=paint.soft, strokeWidth=1, strokeDash=[4, 3]).encode(x, y),
        base.mark_rule(color=colour, strokeWidth=1, opacity=0.35).encode(
            alt.X("low:Q", title=titles[0]), alt.X2("high:Q"), y
        ),
        base.transform_filter(fooled)
        .mark_point(size=42, filled=True, opacity=0.9, color=colour, shape=shape)
        .encode(x, y),
        base.transform_filter("!datum.fooled").mark_point(size=34, color=paint.none, shape="triangle-up").encode(x, y),
        base.transform_filter(over)
        .mark_point(size=90, filled=False, color=paint.ink, strokeWidth=1.6, shape="circle")
        .encode(x, y),
        base.mark_point(size=300, filled=True, opacity=0).encode(x, y, tooltip=tooltip),
        *lettering(_spots(found, unit, reach), x, y, HEIGHT, wide=20, narrow=12),
    ]
    return with_narrow(layers, HEIGHT)


def _rows(found: LowerUpper, unit: Unit) -> list[dict[str, object]]:
    over = {crossing.image for crossing in found.beside.crossings}
    return [
        {
            "image": int(image),
            "x": unit.number(float(lower)),
            "y": unit.number(float(upper)) if math.isfinite(upper) else 0.0,
            "low": unit.number(float(low)),
            "high": unit.number(float(high)) if math.isfinite(high) else math.inf,
            "bound": _interval(found, unit, float(lower), float(low), float(high)),
            "found": unit.distance(float(upper)) if math.isfinite(upper) else "none",
            "fooled": bool(math.isfinite(upper)),
            "over": int(image) in over,
        }
        for image, lower, low, high, upper in zip(
            found.image, found.lower, found.low, found.high, found.upper, strict=True
        )
    ]


def _spots(found: LowerUpper, unit: Unit, reach: float) -> list[Spot]:
    return [
        Spot(
            f"image {crossing.image}",
            unit.number(crossing.lower),
            unit.number(crossing.upper),
            HEIGHT * (1 - unit.number(crossing.upper) / reach),
            unit.number(crossing.lower) > reach / 2,
        )
        for crossing in found.beside.crossings[:NAMED]
    ]


def _summary(facts: Facts, found: Sequence[LowerUpper]) -> Table:
    rows = []
    for one in found:
        unit = _unit(facts, one)
        kind = "certificate, of the smoothed classifier" if one.certified else "estimate"
        rows.append(
            (
                facts.name(one.model),
                one.method,
                kind,
                unit.symbol,
                unit.distance(one.median_lower.value),
                unit.distance(one.median_upper.value),
                f"{one.beside.below} of {one.beside.n}" + (f", {one.below}" if one.below else ""),
                count(one.passes / len(one)),
            )
        )
    head = ("model", "method", "kind", "norm", "median bound", "median distance", "bound at most distance",
            "passes an image")  # fmt: skip
    return Table("Lower bounds beside distances", head, tuple(rows))


def _images(facts: Facts, found: LowerUpper) -> Table:
    """Every image, those that contradict first, with what is known of the reason."""
    unit, why = _unit(facts, found), {one.image: " ".join(one.reasons) for one in found.beside.crossings}
    order = {image: place for place, image in enumerate(why)}
    places = sorted(range(len(found)), key=lambda k: (order.get(int(found.image[k]), len(order)), int(found.image[k])))
    rows = tuple(
        (
            f"{found.image[k]}",
            _interval(found, unit, float(found.lower[k]), float(found.low[k]), float(found.high[k])),
            unit.distance(float(found.upper[k])) if np.isfinite(found.upper[k]) else "none",
            why.get(int(found.image[k]), ""),
        )
        for k in places
    )
    caption = f"{facts.name(found.model)}, {found.method}: each image, in {unit.symbol}"
    return Table(caption, ("image", "lower bound", "distance found", "where the bound is above it"), rows)


def _certified(facts: Facts, method: str, curve: Curve) -> Table:
    rows = tuple((budget.text, str(rate)) for budget, rate in zip(curve.budgets, curve.rates, strict=True))
    caption = (
        f"{facts.name(curve.model)}, {method}: certified accuracy of the smoothed classifier, of "
        f"{counted(curve.rates[0].n, 'image')}"
    )
    return Table(caption, ("radius in l2", "certified accuracy"), rows)


def _interval(found: LowerUpper, unit: Unit, lower: float, low: float, high: float) -> str:
    if found.certified:
        return unit.distance(lower)
    return f"{unit.distance(lower)} ({unit.distance(low).partition('/')[0]}–{unit.distance(high)})"


def _unit(facts: Facts, found: LowerUpper) -> Unit:
    return facts.unit if found.norm == facts.unit.norm else Unit(found.norm, None)


def _words(facts: Facts, found: LowerUpper) -> str:
    unit, named = _unit(facts, found), found.beside.crossings[:NAMED]
    medians = f"{unit.distance(found.median_lower.value)} and {unit.distance(found.median_upper.value)}"
    said = [
        f"Scatter plot of {len(found)} images of {facts.name(found.model)}: the lower bound of {found.method} and the "
        f"distance found, in {unit.symbol}. Medians {medians}."
    ]
    if found.below is not None:
        said.append(f"The bound is at most the distance for {found.beside.below} of {found.beside.n} fooled images.")
    if named:
        said.append(f"Above it, the widest first: image {', '.join(str(one.image) for one in named)}.")
    return " ".join(said)
