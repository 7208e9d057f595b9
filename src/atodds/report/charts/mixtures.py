"""The line that mixtures of two models trace, and the straight one between the two."""

from collections.abc import Sequence

import altair as alt

from atodds.analysis import MixtureFrontier, MixturePoint
from atodds.analysis.mixtures import SAID
from atodds.analysis.numbers import percent, points
from atodds.report.charts.figure import RATES, Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.scatter import Spot, intervals, lettering, with_narrow
from atodds.report.colours import MODELS, Paint
from atodds.report.facts import Facts
from atodds.report.words import Name, Sentence, counted

HEIGHT = 340
ROOM = 0.08
"""Of the range of a coordinate, what is left free beyond its ends."""
MEANT = {"outputs": "probabilities", "weights": "weights"}


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing for a run without mixtures."""
    families = facts.further.mixtures
    if not families:
        return None
    lines = [line for family in families for line in family]
    several = len(families) > 1
    return Figure(
        title=_title(facts, families[0]),
        subtitle=(
            f"Accuracy against robust accuracy of {counted(facts.n, 'image')}; numbers: the share alpha of the second "
            "model; bars: 95 % Wilson intervals. Dashed: what asking one of the two models gives, drawn by lot for "
            "every image. Every mixture was attacked as a whole."
        ),
        panels=tuple(
            Panel(
                _drawing(facts, line, paint),
                _words(facts, line),
                (*(_pair(facts, line) if several else ()), f"{' at ' if several else 'At '}{line.eps}"),
                width=640 if len(lines) == 1 else 420,
            )
            for line in lines
        ),
        tables=tuple(_table(facts, line) for line in lines),
        layout="halves" if len(lines) > 1 else "wide",
    )


CHART = Chart("mixtures", "tradeoff", draw)


def _title(facts: Facts, lines: Sequence[MixtureFrontier]) -> Sentence:
    """What holds at the budget at which the page tells models apart, or else at the first."""
    line = next((line for line in lines if line.eps == facts.key), lines[0])
    first, second = (Name(facts.name(line.points[place].model)) for place in (0, -1))
    gap = f"{points(line.gap.value)} points from it on average ({points(line.gap.low)} to {points(line.gap.high)})"
    return (f"At {line.eps} the mixtures {SAID[line.verdict]} ", first, " and ", second, f": {gap}")


def _pair(facts: Facts, line: MixtureFrontier) -> Sentence:
    first, second = (Name(facts.name(line.points[place].model)) for place in (0, -1))
    return (first, " and ", second, f", {MEANT[line.by]}")


def _drawing(facts: Facts, line: MixtureFrontier, paint: Paint) -> Drawing:
    xs = [end for point in line.points for end in (point.accuracy.low, point.accuracy.high)]
    ys = [end for point in line.points for end in (point.robustness.low, point.robustness.high)]
    left, right = _domain(xs)
    bottom, top = _domain(ys)
    titles = ("accuracy", f"robust accuracy at {line.eps}")
    axis = alt.Axis(labelExpr=RATES.labelExpr, tickCount=6, grid=True, ticks=False, labelPadding=7)
    x = alt.X("x:Q", title=titles[0], scale=alt.Scale(domain=[left, right], nice=False), axis=axis)
    y = alt.Y("y:Q", title=titles[1], scale=alt.Scale(domain=[bottom, top], nice=False), axis=RATES)
    place = {model.info.id: model.place for model in facts.models}
    rows = [_row(facts, point) for point in line.points]
    shade = paint.models[place[line.points[-1].model] % len(MODELS)]
    base = alt.Chart(inline(rows))
    colour = alt.Color("kind:N", legend=None, scale=alt.Scale(domain=["mixture"], range=[shade]))
    tooltip = [
        alt.Tooltip("name:N", title="model"),
        alt.Tooltip("alpha:N"),
        alt.Tooltip("accuracy:N"),
        alt.Tooltip("robustness:N", title="robust accuracy"),
        alt.Tooltip("gap:N", title="from the straight line"),
    ]
    ends = alt.Chart(inline([rows[0], rows[-1]]))
    spots = [
        Spot(
            str(row["label"]),
            point.accuracy.value,
            point.robustness.value,
            HEIGHT * (1 - (point.robustness.value - bottom) / (top - bottom)),
            point.accuracy.value > (left + right) / 2,
        )
        for point, row in zip(line.points, rows, strict=True)
    ]
    layers = [
        ends.mark_line(strokeWidth=1.5, strokeDash=[5, 4], color=paint.soft).encode(x, y, order="order:Q"),
        base.mark_line(strokeWidth=1.5, color=shade).encode(x, y, order="order:Q"),
        *intervals(base, x, y, colour, titles),
        base.mark_point(size=55, filled=True, opacity=1).encode(x, y, colour),
        base.mark_point(size=400, filled=True, opacity=0).encode(x, y, tooltip=tooltip),
        *lettering(spots, x, y, HEIGHT),
    ]
    return with_narrow(layers, HEIGHT)


def _domain(values: Sequence[float]) -> tuple[float, float]:
    room = ROOM * (max(values) - min(values) or 0.1)
    return max(0.0, min(values) - room), min(1.0, max(values) + room)


def _row(facts: Facts, point: MixturePoint) -> dict[str, object]:
    inner = 0 < point.alpha < 1
    return {
        "name": facts.name(point.model),
        "label": f"{point.alpha:g}" if inner else facts.name(point.model),
        "kind": "mixture",
        "order": point.alpha,
        "alpha": f"{point.alpha:g}",
        "x": point.accuracy.value,
        "y": point.robustness.value,
        "xlow": point.accuracy.low,
        "xhigh": point.accuracy.high,
        "ylow": point.robustness.low,
        "yhigh": point.robustness.high,
        "accuracy": str(point.accuracy),
        "robustness": str(point.robustness),
        "gap": str(point.gap) if inner else "an end of it",
    }


def _table(facts: Facts, line: MixtureFrontier) -> Table:
    rows = tuple(
        (
            facts.name(point.model),
            f"{point.alpha:g}",
            str(point.accuracy),
            str(point.robustness),
            str(point.gap) if 0 < point.alpha < 1 else "an end of it",
        )
        for point in line.points
    )
    head = ("model", "alpha", "accuracy", f"robust accuracy at {line.eps}", "from the straight line")
    caption = (
        f"Mixtures of {MEANT[line.by]} at {line.eps}: on average {line.gap} from the straight line; intervals of "
        f"{line.resamples:,} paired resamples of the images, those of the single mixtures for all of them together"
    )
    return Table(caption, head, rows)


def _words(facts: Facts, line: MixtureFrontier) -> str:
    said = [
        f"{point.alpha:g}: {percent(point.accuracy.value)} % and {percent(point.robustness.value)} %"
        for point in line.points
    ]
    first, second = (facts.name(line.points[place].model) for place in (0, -1))
    start = f"Accuracy against robust accuracy at {line.eps} of mixtures of {first} and {second}, by the share of the"
    return f"{start} latter. {'; '.join(said)}."
