"""What rules that choose training images do beside random subsets of the same size: four panels for each network."""

import altair as alt

from atodds.analysis.arms import Arm, Between
from atodds.analysis.numbers import percent, points, significant
from atodds.report.charts.figure import Drawing, Figure, Panel, Table, inline
from atodds.report.colours import Paint
from atodds.report.words import Name, Sentence, conjunction
from atodds.studies.data_selection import Measured, Selected, SelectionPlan

STEP = 34
SHARES: tuple[Measured, ...] = ("accuracy", "fixed")
MEASURED: tuple[Measured, ...] = ("accuracy", "l2", "linf", "fixed")


def words(plan: SelectionPlan) -> dict[Measured, str]:
    """What each thing that is measured is called."""
    fixed = f"robust accuracy at {plan.study.eps}"
    return {"accuracy": "accuracy", "l2": "mean l2 distance", "linf": "mean l∞ distance", "fixed": fixed}


def selection(one: Selected, plan: SelectionPlan, paint: Paint) -> Figure:
    """The rules against random, of one network."""
    panels = tuple(
        Panel(
            _drawing(one.found[what], what in SHARES, paint), _alternative(one.found[what], title, what), (title,), 300
        )
        for what, title in words(plan).items()
    )
    each = f"each trained {plan.repeats} times" if plan.repeats > 1 else "trained once"
    subtitle = (
        f"Difference from random subsets, {plan.keep:,} of {len(plan.pool):,} training images, {each}; accuracy on "
        f"{one.n['accuracy']:,} test images, distances over {one.n['l2']} (l2) and {one.n['linf']} (l∞), robust "
        f"accuracy on {one.n['fixed']}. Bars: 95 % intervals over images and trainings, for all rules together. Small "
        "dots: each training."
    )
    return Figure(_title(one), subtitle, panels, (_table(one, plan),), layout="halves")


def told(one: Selected) -> str:
    """What is clear about the rules for a network, in one line."""
    said = [
        f"{arm.name} {conjunction(clear)}"
        for k, arm in enumerate(one.found["accuracy"])
        if (clear := _clear(one, k)) and arm.gap is not None
    ]
    return "; ".join(said) or "no rule is clearly apart from random"


def gap(found: Between | None, share: bool) -> str:
    """A difference with its interval."""
    if found is None:
        return "—"
    if share:
        return f"{points(found.value)} ({points(found.low)} to {points(found.high)})"
    return f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})"


def signed(value: float) -> str:
    """A difference of distances."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{significant(abs(value))}"


def _clear(one: Selected, place: int) -> list[str]:
    """What a rule moves clearly, in words."""
    short: dict[Measured, str] = {"accuracy": "accuracy", "l2": "l2", "linf": "l∞", "fixed": "robust accuracy"}
    said = []
    for what, name in short.items():
        found = one.found[what][place].gap
        if found is not None and found.clear:
            said.append(f"{name} {points(found.value) + ' points' if what in SHARES else signed(found.value)}")
    return said


def _title(one: Selected) -> Sentence:
    return (Name(one.variant.name), f": {told(one)}")


def _drawing(found: tuple[Arm, ...], share: bool, paint: Paint) -> Drawing:
    factor = 100 if share else 1
    base, names = found[0].mean.value, [arm.name for arm in found[1:]]
    rows = [
        {
            "rule": arm.name, "value": factor * arm.gap.value, "low": factor * arm.gap.low,
            "high": factor * arm.gap.high, "shown": gap(arm.gap, share),
        }
        for arm in found
        if arm.gap is not None
    ]  # fmt: skip
    dots = [{"rule": arm.name, "value": factor * (each - base)} for arm in found[1:] for each in arm.each]
    y = alt.Y("rule:N", sort=names, title=None, axis=alt.Axis(domain=False, ticks=False, grid=False))
    title = "percentage points more than random" if share else "more than random"
    x = alt.X(
        "value:Q",
        title=title,
        axis=alt.Axis(tickCount=4, domain=False, ticks=False),
        scale=alt.Scale(zero=True, padding=12),
    )
    chart, apart = alt.Chart(inline(rows)), [alt.Tooltip("rule:N"), alt.Tooltip("shown:N", title="difference")]
    colour = paint.models[0]
    drawn: Drawing = alt.layer(
        alt.Chart(inline([{"value": 0}])).mark_rule(color=paint.soft, strokeDash=[3, 3]).encode(x),
        chart.mark_rule(strokeWidth=2, color=colour).encode(y, alt.X("low:Q", title=title), alt.X2("high:Q")),
        alt.Chart(inline(dots)).mark_point(size=14, filled=True, opacity=0.7, color=paint.soft).encode(x, y),
        chart.mark_point(size=60, filled=True, opacity=1, color=colour).encode(x, y),
        chart.mark_point(size=400, filled=True, opacity=0).encode(x, y, tooltip=apart),
    ).properties(height=STEP * len(names))
    return drawn


def _value(what: Measured, found: Between) -> str:
    if what in SHARES:
        return f"{percent(found.value)} % ({percent(found.low)}–{percent(found.high)})"
    return f"{significant(found.value)} ({significant(found.low)}–{significant(found.high)})"


def _table(one: Selected, plan: SelectionPlan) -> Table:
    named = words(plan)
    head = ["rule"]
    for what in MEASURED:
        head += [named[what], "against random"]
    rows = []
    for k, arm in enumerate(one.found["accuracy"]):
        cells = [arm.name]
        for what in MEASURED:
            found = one.found[what][k]
            cells += [_value(what, found.mean), gap(found.gap, what in SHARES)]
        rows.append(tuple(cells))
    return Table(f"{one.variant.name}, {plan.keep:,} training images, with 95 % intervals", tuple(head), tuple(rows))


def _alternative(found: tuple[Arm, ...], title: str, what: Measured) -> str:
    said = ", ".join(f"{arm.name} {gap(arm.gap, what in SHARES)}" for arm in found[1:])
    return f"Differences of {title} from random subsets: {said}."
