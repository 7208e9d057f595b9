"""Accuracy against robust accuracy: every model with its intervals, the frontier, and the published entries behind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import altair as alt

from atodds.analysis import Entry, Frontier, FrontierPoint
from atodds.analysis.numbers import percent
from atodds.report.charts.figure import RATES, Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.scatter import Spot, intervals, lettering, with_narrow
from atodds.report.colours import MODELS, Paint, shape_of
from atodds.report.facts import Facts
from atodds.report.further import FrontierFacts
from atodds.report.words import MOST_NAMED, Name, Sentence, conjunction, counted

HEIGHT = 340
LABELLED = 8
"""With more models than these, only those on the frontier are labelled."""
NEAR = 0.05
"""Published entries that are on the frontier in at least this share of resamples are named."""
AROUND = 0.01
"""What is left free around them, as a share of images."""
ROOM = 0.06
"""Of the range of a coordinate, what is left free beyond its ends."""


@dataclass(frozen=True)
class Mark:
    """A model in the drawing: its point, its place in the run (for colour and shape), and whether it gets a label."""

    point: FrontierPoint
    name: str
    place: int
    labelled: bool


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing for fewer than three models."""
    found = facts.further.frontiers
    if not found:
        return None
    return Figure(
        title=_title(facts, found[0].frontier),
        subtitle=_subtitle(facts, found),
        panels=tuple(
            Panel(
                _drawing(_marks(facts, one.frontier), one.published, one.members, one.frontier, paint),
                _words(facts, one),
                (f"At {one.frontier.eps}",) if len(found) > 1 else (),
                width=640 if len(found) == 1 else 420,
            )
            for one in found
        ),
        tables=tuple(_table(facts, one) for one in found),
        layout="halves" if len(found) > 1 else "wide",
    )


CHART = Chart("frontier", "tradeoff", draw)


def published_figure(frontier: Frontier, entries: Sequence[Entry], board: str, paint: Paint) -> Figure:
    """The frontier of published entries alone; `board` says which: "CIFAR-10, l∞, 8/255"."""
    members, images = frontier.members, entries[0].images
    near = [point for point in frontier.points if point.member or point.probability >= NEAR]
    near.sort(key=lambda point: (not point.member, -point.robustness.value))
    marks = [Mark(point, point.model, place, labelled=True) for place, point in enumerate(near)]
    inside = {point.model for point in near}
    others = [entry for entry in entries if entry.id not in inside]
    left = min(point.accuracy.low for point in near) - AROUND
    low = min(point.robustness.low for point in near) - AROUND
    close = [entry for entry in others if entry.accuracy > left and entry.best_known > low]
    whole = _drawing([replace(mark, labelled=False) for mark in marks], others, (), frontier, paint)
    zoomed = _drawing(marks, close, (), frontier, paint, corner=(left, low))
    said = ", ".join(_said(mark) for mark in marks if mark.point.member)
    make = "makes" if len(members) == 1 else "make"
    subtitle = (
        f"Accuracy against the lowest published robust accuracy, each of {images:,} images; bars: 95 % Wilson "
        f"intervals. Connected: the frontier. In colour: those on it in at least {percent(NEAR, 0)} % of resamples."
    )
    rows = tuple(
        (entry.id, f"{percent(entry.accuracy, 2)} %", f"{percent(entry.best_known, 2)} %",
         f"{percent(frontier.point(entry.id).probability)} %")
        for entry in sorted(entries, key=lambda entry: -entry.best_known)
    )  # fmt: skip
    head = ("entry", "accuracy", "robust accuracy", "on the frontier in")
    return Figure(
        title=(f"{len(members)} of {len(entries)} published entries {make} the frontier of {board}",),
        subtitle=subtitle,
        panels=(
            Panel(whole, f"Scatter plot of {len(entries)} published entries. On the frontier: {said}.", ("All",), 400),
            Panel(zoomed, f"The same around the frontier: {said}.", ("Around the frontier",), 400),
        ),
        tables=(Table("Published entries", head, rows),),
        layout="halves",
    )


def _marks(facts: Facts, frontier: Frontier) -> list[Mark]:
    place = {model.info.id: model.place for model in facts.models}
    few = len(frontier.points) <= LABELLED
    return [
        Mark(point, facts.name(point.model), place[point.model], labelled=few or point.member)
        for point in frontier.points
    ]


def _title(facts: Facts, frontier: Frontier) -> Sentence:
    members, count = frontier.members, len(frontier.points)
    if len(members) == 1:
        return (Name(facts.name(members[0].model)), f" beats all {count - 1} others in both at {frontier.eps}")
    if len(members) == count:
        return (f"At {frontier.eps} none of the {count} models beats another in both",)
    start = f"{len(members)} of {count} models make the frontier at {frontier.eps}: "
    if len(members) > MOST_NAMED:
        first, last = members[0], members[-1]
        ends = (Name(facts.name(first.model)), " is the most accurate of them, ", Name(facts.name(last.model)))
        return (start, *ends, " the most robust")
    pieces: list[str] = [start]
    for place, member in enumerate(members):
        pieces += ["" if place == 0 else " and " if place == len(members) - 1 else ", ", Name(facts.name(member.model))]
    return tuple(pieces)


def _subtitle(facts: Facts, found: Sequence[FrontierFacts]) -> str:
    text = (
        f"Accuracy against robust accuracy, of {counted(facts.n, 'image')}; bars: 95 % Wilson intervals. Connected: "
        "the frontier, the models that no other beats in both."
    )
    behind = [one for one in found if one.published]
    if behind:
        sizes = sorted({entry.images for one in behind for entry in one.published})
        text += (
            f" Grey: {len(behind[0].published)} entries of the published leaderboard at {behind[0].frontier.eps}, each "
            f"of {' or '.join(f'{size:,}' for size in sizes)} images."
        )
    return text


def _drawing(
    marks: Sequence[Mark],
    published: Sequence[Entry],
    members: Sequence[bool],
    frontier: Frontier,
    paint: Paint,
    corner: tuple[float, float] | None = None,
) -> Drawing:
    """All points; or from a corner (accuracy, robust accuracy) on, with the labels right of their points."""
    xs = [end for mark in marks for end in (mark.point.accuracy.low, mark.point.accuracy.high)]
    ys = [mark.point.robustness.high for mark in marks]
    xs += [entry.accuracy for entry in published]
    ys += [entry.best_known for entry in published]
    room = ROOM * (max(xs) - min(xs) or 0.1)
    left, right = corner[0] if corner else max(0.0, min(xs) - room), min(1.0, max(xs) + room)
    bottom = corner[1] if corner else 0.0
    top = min(1.0, max(ys) + ROOM * (max(ys) - bottom) or 0.1)
    titles = ("accuracy", f"robust accuracy at {frontier.eps}" if frontier.eps else "accuracy under corruptions")
    across, up = alt.Scale(domain=[left, right], nice=False), alt.Scale(domain=[bottom, top], nice=False)
    x = alt.X("x:Q", title=titles[0], scale=across, axis=_axis(right - left))
    y = alt.Y("y:Q", title=titles[1], scale=up, axis=RATES)
    names = [mark.name for mark in marks]
    colours = alt.Scale(domain=names, range=[paint.models[mark.place % len(MODELS)] for mark in marks])
    shapes = alt.Scale(domain=names, range=[shape_of(mark.place) for mark in marks])
    colour = alt.Color("name:N", scale=colours, legend=None)
    front = alt.Chart(inline([_row(mark) for mark in marks if mark.point.member]))
    base = alt.Chart(inline([_row(mark) for mark in marks]))
    points = base.mark_point(size=60, filled=True, opacity=1).encode(x, y, colour)
    tooltip = [
        alt.Tooltip("name:N", title="model"),
        alt.Tooltip("accuracy:N"),
        alt.Tooltip("robustness:N", title="robust accuracy"),
        alt.Tooltip("often:N", title="on the frontier in"),
        alt.Tooltip("beaten:N", title="models that beat it"),
    ]
    layers = [
        *(_behind(published, members, x, y, paint) if published else []),
        front.mark_line(strokeWidth=1.5, color=paint.ink).encode(x, y, order="x:Q"),
        *intervals(base, x, y, colour, titles),
        points.encode(alt.Shape("name:N", scale=shapes, legend=None)),
        base.mark_point(size=500, filled=True, opacity=0).encode(x, y, tooltip=tooltip),
        *lettering(_spots(marks, right if corner else (left + right) / 2, bottom, top), x, y, HEIGHT),
    ]
    return with_narrow(layers, HEIGHT)


def _axis(width: float) -> alt.Axis:
    """Ticks of whole percents where they are far enough apart for that."""
    digits = 0 if width > 0.05 else 1
    return alt.Axis(
        labelExpr=f"format(100 * datum.value, '.{digits}f') + ' %'", tickCount=6, grid=True, ticks=False, labelPadding=7
    )


def _behind(published: Sequence[Entry], members: Sequence[bool], x: alt.X, y: alt.Y, paint: Paint) -> list[alt.Chart]:
    rows = [
        {
            "entry": entry.id,
            "x": entry.accuracy,
            "y": entry.best_known,
            "accuracy": f"{percent(entry.accuracy, 2)} %",
            "robustness": f"{percent(entry.best_known, 2)} %",
            "paper": entry.title,
            "member": member,
        }
        for entry, member in zip(published, members or [False] * len(published), strict=True)
    ]
    tooltip = [
        alt.Tooltip("entry:N", title="published"),
        alt.Tooltip("accuracy:N"),
        alt.Tooltip("robustness:N", title="robust accuracy"),
        alt.Tooltip("paper:N"),
    ]
    dots = alt.Chart(inline(rows)).mark_point(size=22, filled=True, opacity=0.8, color=paint.none)
    drawn = [dots.encode(x, y, tooltip=tooltip)]
    if any(members):
        line = alt.Chart(inline([row for row in rows if row["member"]]))
        drawn.insert(0, line.mark_line(strokeWidth=1, color=paint.none).encode(x, y, order="x:Q"))
    return drawn


def _row(mark: Mark) -> dict[str, object]:
    point = mark.point
    return {
        "name": mark.name,
        "x": point.accuracy.value,
        "y": point.robustness.value,
        "xlow": point.accuracy.low,
        "xhigh": point.accuracy.high,
        "ylow": point.robustness.low,
        "yhigh": point.robustness.high,
        "accuracy": str(point.accuracy),
        "robustness": str(point.robustness),
        "often": f"{percent(point.probability)} % of resamples",
        "beaten": str(len(point.dominators)) if point.dominators else "none",
    }


def _spots(marks: Sequence[Mark], middle: float, bottom: float, top: float) -> list[Spot]:
    """Those to be labelled: beyond the middle the label goes to the left."""
    return [
        Spot(
            mark.name,
            mark.point.accuracy.value,
            mark.point.robustness.value,
            HEIGHT * (1 - (mark.point.robustness.value - bottom) / (top - bottom)),
            mark.point.accuracy.value > middle,
        )
        for mark in marks
        if mark.labelled
    ]


def _table(facts: Facts, one: FrontierFacts) -> Table:
    rows = []
    for point in sorted(one.frontier.points, key=lambda point: (not point.member, -point.accuracy.value)):
        beaters = [f"{facts.name(b.model)} ({percent(b.probability, 0)} %)" for b in point.dominators]
        more = f", and {len(beaters) - MOST_NAMED} more" if len(beaters) > MOST_NAMED else ""
        rows.append(
            (
                facts.name(point.model),
                str(point.accuracy),
                str(point.robustness),
                f"{percent(point.probability)} %",
                ", ".join(beaters[:MOST_NAMED]) + more or "none",
            )
        )
    head = ("model", "accuracy", f"robust accuracy at {one.frontier.eps}", "on the frontier in", "beaten by (in)")
    caption = (
        f"The frontier at {one.frontier.eps}; shares of {one.frontier.resamples:,} paired resamples of the images in "
        "which a model is on it, or beats another in both"
    )
    return Table(caption, head, tuple(rows))


def _words(facts: Facts, one: FrontierFacts) -> str:
    said = [
        f"{facts.name(point.model)} {percent(point.accuracy.value)} % and {percent(point.robustness.value)} %"
        for point in one.frontier.members
    ]
    start = (
        f"Scatter plot of accuracy against robust accuracy at {one.frontier.eps} of {len(one.frontier.points)} models"
    )
    return f"{start}. On the frontier: {conjunction(said)}."


def _said(mark: Mark) -> str:
    point = mark.point
    return f"{mark.name} {percent(point.accuracy.value, 2)} % and {percent(point.robustness.value, 2)} %"
