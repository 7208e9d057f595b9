"""Accuracy and robustness over the number of training images: three panels for each network, on the same scales."""

from collections.abc import Mapping, Sequence

import altair as alt

from atodds.analysis.numbers import percent
from atodds.analysis.turning_point import TurningPoint
from atodds.report.charts.figure import RATES, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import shortened, spread
from atodds.report.charts.scatter import round_values
from atodds.report.colours import Paint, shape_of
from atodds.report.units import SYMBOLS
from atodds.report.words import Name, Sentence, conjunction, counted
from atodds.studies.data_size import NORMS, Curve, DataSizeStudy
from atodds.studies.data_size_claims import interval, short
from atodds.threat import Norm

HEIGHT = 230
LINE = 14
LONGEST = 16
KINDS = ((False, False), (True, False), (False, True), (True, True))
"""Whether a curve is of augmented, and of adversarial training: fixes its colour and shape over the whole page."""

Row = dict[str, object]


def groups(study: DataSizeStudy) -> tuple[tuple[Curve, ...], ...]:
    """The curves of each network, with and without augmentation, in the order of the plan."""
    names = dict.fromkeys(curve.variant.network for curve in study.curves)
    return tuple(tuple(curve for curve in study.curves if curve.variant.network == name) for name in names)


def place_of(curve: Curve) -> int:
    """What fixes the colour of a curve."""
    return KINDS.index((curve.variant.augmented, curve.variant.adversarial))


def three_panels(curves: Sequence[Curve], tops: Mapping[Norm, float], paint: Paint) -> Figure:
    """Accuracy, l2 robustness and l-inf robustness of one network over the sizes."""
    panels = [_panel("accuracy", "accuracy", curves, _accuracies(curves), 1.0, paint)]
    for norm in NORMS:
        means = {curve.variant.name: curve.robustness[norm].curve for curve in curves}
        title = f"mean {SYMBOLS[norm]} distance"
        panels.append(_panel(title, title, curves, _means(means), tops[norm], paint, means))
    each = [(curve.robustness["l2"].curve.n, curve.variant.name) for curve in curves]
    counts = conjunction([f"{n} ({name})" for n, name in each]) if len(each) > 1 else str(each[0][0])
    subtitle = (
        f"Accuracy on test images, dashed on the training images; mean distance to the fooling images over {counts} "
        "images that the networks of all sizes classify rightly and were fooled on. Bands: 95 % intervals over images. "
        "Dotted: a turning point."
    )
    return Figure(_title(curves), subtitle, tuple(panels), _tables(curves), layout="grid")


def standing(study: DataSizeStudy, paint: Paint) -> Figure:
    """Robust accuracy at the study's ε, a panel for each network."""
    panels = []
    for curves in groups(study):
        means = {curve.variant.name: curve.standing for curve in curves}
        heading = (Name(curves[0].variant.network),)
        panels.append(_panel("", "robust accuracy", curves, _means(means), 1.0, paint, means, heading))
    n = study.curves[0].standing.n
    subtitle = (
        f"Share of {counted(n, 'test image')} that are classified rightly and that {study.plan.effort.fixed} did not "
        f"fool within {study.plan.eps} in l∞. Bands: 95 % bootstrap intervals. Dotted: a turning point."
    )
    pieces: list[str] = [f"Robust accuracy at {study.plan.eps}: "]
    for k, curve in enumerate(study.curves):
        pieces += ["; " if k else "", Name(curve.variant.name), f" {short(curve.standing)}"]
    rows = tuple(
        (f"{size:,}", *(_rate(curve.standing, k) for curve in study.curves)) for k, size in enumerate(study.plan.sizes)
    )
    head = ("training images", *(curve.variant.name for curve in study.curves))
    table = Table(f"Robust accuracy at {study.plan.eps} in l∞, with 95 % bootstrap intervals", head, rows)
    return Figure(tuple(pieces), subtitle, tuple(panels), (table,), layout="grid")


def tops(study: DataSizeStudy) -> dict[Norm, float]:
    """The upper end of the axis of each norm: the same for all networks."""
    return {
        norm: 1.04 * max(mean.high for curve in study.curves for mean in curve.robustness[norm].curve.means)
        for norm in NORMS
    }


def _title(curves: Sequence[Curve]) -> Sentence:
    pieces: list[str] = []
    for k, curve in enumerate(curves):
        forms = ", ".join(f"{SYMBOLS[norm]} {short(curve.robustness[norm].curve)}" for norm in NORMS)
        pieces += ["; " if k else "", Name(curve.variant.name), f": {forms}"]
    return tuple(pieces)


def _accuracies(curves: Sequence[Curve]) -> list[Row]:
    rows = []
    for curve in curves:
        for what, rates in (("test", curve.test), ("training", curve.train)):
            for mean, rate in zip(curve.accuracy.means, rates, strict=True):
                rows.append(
                    {
                        "name": curve.variant.name, "what": what, "size": mean.size, "value": rate.value,
                        "low": rate.low, "high": rate.high, "shown": f"{rate}, n = {rate.n:,}",
                    }
                )  # fmt: skip
    return rows


def _means(found: Mapping[str, TurningPoint]) -> list[Row]:
    return [
        {
            "name": name, "what": "test", "size": mean.size, "value": mean.value, "low": mean.low, "high": mean.high,
            "shown": f"{mean}, n = {curve.n:,}",
        }
        for name, curve in found.items()
        for mean in curve.means
    ]  # fmt: skip


def _panel(
    heading: str,
    title: str,
    curves: Sequence[Curve],
    rows: list[Row],
    top: float,
    paint: Paint,
    found: Mapping[str, TurningPoint] | None = None,
    named: Sentence = (),
) -> Panel:
    sizes = [mean.size for mean in curves[0].accuracy.means]
    domain = [sizes[0] / 1.08, sizes[-1] * 1.08]
    ticks = alt.Axis(values=round_values(*domain), format="~s", grid=False, labelOverlap=True)
    x = alt.X("size:Q", title="training images", scale=alt.Scale(type="log", domain=domain, nice=False), axis=ticks)
    axis = RATES if top == 1 else alt.Axis(tickCount=5, domain=False, ticks=False)
    scale = alt.Scale(domain=[0, top], nice=False)
    written = None if heading else title
    y = alt.Y("value:Q", title=written, scale=scale, axis=axis)
    names = [curve.variant.name for curve in curves]
    places = [place_of(curve) for curve in curves]
    colour = alt.Color("name:N", scale=alt.Scale(domain=names, range=[paint.models[k] for k in places]), legend=None)
    shape = alt.Shape("name:N", scale=alt.Scale(domain=names, range=[shape_of(k) for k in places]), legend=None)
    test, training = ([row for row in rows if row["what"] == what] for what in ("test", "training"))
    base = alt.Chart(inline(test))
    tooltip = [
        alt.Tooltip("name:N", title="network"),
        alt.Tooltip("size:Q", title="training images", format=","),
        alt.Tooltip("shown:N", title=title),
    ]
    layers = [
        base.mark_area(opacity=0.16).encode(x, alt.Y("low:Q", title=written, scale=scale), alt.Y2("high:Q"), colour),
        base.mark_line(strokeWidth=2).encode(x, y, colour),
        base.mark_point(size=36, filled=True, opacity=1).encode(x, y, colour, shape),
    ]
    if training:
        dashed = alt.Chart(inline(training)).mark_line(strokeWidth=1.5, strokeDash=[5, 4])
        layers.insert(1, dashed.encode(x, y, colour))
    turns = [
        {"name": name, "size": curve.peak, "value": max(float(mean) for mean in curve.means)}
        for name, curve in (found or {}).items()
        if curve.form == "turning"
    ]
    if turns:
        rule = alt.Chart(inline(turns)).mark_rule(strokeWidth=1.5, strokeDash=[1, 3])
        layers.append(rule.encode(x, y, alt.Y2(datum=0), colour))
    if len(curves) > 1:
        layers.append(_labels(names, test, sizes[-1], top, x, y))
    layers.append(base.mark_point(size=400, filled=True, opacity=0).encode(x, y, tooltip=tooltip))
    drawing: Drawing = alt.layer(*layers).properties(height=HEIGHT)
    return Panel(drawing, _words(title, names, test, sizes), named or (heading,), width=300)


def _labels(names: Sequence[str], rows: Sequence[Row], last: int, top: float, x: alt.X, y: alt.Y) -> alt.Chart:
    """The names of the curves at their ends, none over another."""
    ends = [next(float(str(r["value"])) for r in rows if r["name"] == name and r["size"] == last) for name in names]
    wanted = [HEIGHT * (1 - end / top) for end in ends]
    placed = spread(wanted, [LINE] * len(names), 0, HEIGHT)
    said = [
        {"size": last, "value": end, "label": shortened(name, LONGEST), "shift": to - at}
        for name, end, at, to in zip(names, ends, wanted, placed, strict=True)
    ]
    text = alt.Chart(inline(said)).mark_text(
        align="left", baseline="middle", dx=8, dy=alt.expr("datum.shift"), text=alt.expr("datum.label"), fontSize=11
    )
    drawn: alt.Chart = text.encode(x, y)
    return drawn


def _tables(curves: Sequence[Curve]) -> tuple[Table, ...]:
    tables = []
    for curve in curves:
        l2, linf = (curve.robustness[norm].curve for norm in NORMS)
        rows = tuple(
            (f"{size.size:,}", str(curve.train[k]), str(curve.test[k]), str(l2.means[k]), str(linf.means[k]))
            for k, size in enumerate(curve.accuracy.means)
        )
        head = ("training images", "accuracy on them", "on test images", "mean l2 distance", "mean l∞ distance")
        tables.append(Table(f"{curve.variant.name}, with 95 % intervals", head, rows))
    forms = tuple(
        (
            f"{curve.variant.name}, {what}",
            found.form,
            interval(found),
            f"{percent(found.probability)} %",
            str(found.rise or "none"),
            str(found.fall or "none"),
            f"{percent(min(1.0, found.resolution))} %",
            f"{found.n:,}",
        )
        for curve in curves
        for what, found in (
            ("accuracy", curve.accuracy),
            ("l2", curve.robustness["l2"].curve),
            ("l∞", curve.robustness["linf"].curve),
        )
    )
    wide = ("curve", "form", "largest at", "chance of a turn", "clearest rise", "clearest fall", "seen from", "images")
    caption = "Forms of the curves; rises and falls with intervals that hold for all pairs of sizes at once"
    return (*tables, Table(caption, wide, forms))


def _rate(found: TurningPoint, place: int) -> str:
    mean = found.means[place]
    return f"{percent(mean.value)} % ({percent(mean.low)}–{percent(mean.high)})"


def _words(title: str, names: Sequence[str], rows: Sequence[Row], sizes: Sequence[int]) -> str:
    said = []
    for name in names:
        mine = [row for row in rows if row["name"] == name]
        said.append(f"{name}: {mine[0]['shown']} at {sizes[0]:,}, {mine[-1]['shown']} at {sizes[-1]:,}")
    return f"Line chart of {title} over the number of training images. {'. '.join(said)}."
