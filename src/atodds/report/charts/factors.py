"""What drives robustness: paired differences within and between families, and what each factor explains."""

import math
from collections.abc import Sequence

import altair as alt

from atodds.analysis import Comparison, Factors
from atodds.analysis.numbers import percent
from atodds.report.charts.figure import RATES, Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import LETTER, shortened
from atodds.report.colours import Paint
from atodds.report.facts import Facts
from atodds.report.words import Sentence, counted

ROW = 21
LONGEST = 30
NAMES = {"family": "family", "depth": "depth", "size": "number of parameters", "accuracy": "error"}


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing where the families of models are not known, or none of them has two."""
    found = facts.further.factors
    if found is None:
        return None
    panels = []
    for contests, what in (
        (found.within, "Within families: the deeper or larger minus the other"),
        (found.across, "Between families: the first minus the second"),
    ):
        if shown := [c for c in contests if not math.isnan(c.difference)]:
            panels.append(Panel(_forest(facts, shown, paint), _forest_words(facts, shown), (what,), 430))
    if found.explained:
        panels.append(Panel(_shares(found, paint), _share_words(found), ("Share of the differences explained",), 430))
    if not panels:
        return None
    return Figure(
        title=_title(found),
        subtitle=_subtitle(facts, found),
        panels=tuple(panels),
        tables=_tables(facts, found),
        layout="halves" if len(panels) > 1 else "wide",
    )


CHART = Chart("factors", "tradeoff", draw)


def _title(found: Factors) -> Sentence:
    clear = [one for one in found.explained if one.adjusted < 0.05]
    if clear:
        first, *others = sorted(clear, key=lambda one: -(one.share - one.chance))
        text = (
            f"The {NAMES[first.factor]} explains {percent(first.share, 0)} % of how models differ in distance "
            f"({percent(first.chance, 0)} % by chance)"
        )
        rest = ", ".join(f"the {NAMES[one.factor]} {percent(one.share, 0)} %" for one in others)
        return (f"{text}; {rest}" if rest else text,)
    steps = [c for c in found.within if c.clear]
    if found.explained:
        return (
            f"No factor explains more of how {len(found.models)} models differ than chance does; "
            f"{len(steps)} of {len(found.within)} steps within families are clear",
        )
    return (f"{len(steps)} of {len(found.within)} steps within families change the distance clearly",)


def _subtitle(facts: Facts, found: Factors) -> str:
    text = (
        f"Distance to the closest fooling image, of {counted(facts.n, 'image')} and {len(found.models)} models. "
        "Differences: means over the images that both have right and were fooled on, with 95 % intervals; filled where "
        "a sign test is clear after Holm's correction. Shares: over models; ticks: what chance explains on average."
    )
    if facts.further.fewer:
        text += f" Left out: {', '.join(facts.name(model) for model in facts.further.fewer)}."
    return text


def _shares(found: Factors, paint: Paint) -> Drawing:
    rows = [
        {
            "factor": NAMES[one.factor],
            "share": one.share,
            "chance": one.chance,
            "label": f"{percent(one.share, 0)} %, p {_equals(one.adjusted)}",
            "clear": one.adjusted < 0.05,
        }
        for one in found.explained
    ]
    y = alt.Y("factor:O", title=None, sort=None, axis=alt.Axis(domain=False, ticks=False, labelPadding=6))
    title = "share of the variance over models"
    x = alt.X("share:Q", title=title, scale=alt.Scale(domain=[0, 1], nice=False), axis=RATES)
    base = alt.Chart(inline(rows)).encode(y)
    fill = alt.condition("datum.clear", alt.value(paint.models[0]), alt.value(paint.none))
    bars = base.mark_bar(height=13).encode(x, color=fill)
    ticks = base.mark_tick(thickness=2, height=19, color=paint.ink).encode(alt.X("chance:Q", title=title))
    shift = alt.expr("datum.share > 0.6 ? -6 : 6")
    side = alt.expr("datum.share > 0.6 ? 'right' : 'left'")
    text = base.mark_text(fontSize=11, dx=shift, align=side).encode(
        x,
        text="label:N",
        color=alt.condition("datum.share > 0.6 && datum.clear", alt.value("#ffffff"), alt.value(paint.ink)),
    )
    return alt.layer(bars, ticks, text).properties(height=2 * ROW * len(rows))


def _forest(facts: Facts, contests: Sequence[Comparison], paint: Paint) -> Drawing:
    number = facts.unit.number
    rows = [
        {
            "pair": _pair(facts, c, k),
            "family": c.family,
            "difference": number(c.difference),
            "low": number(c.low),
            "high": number(c.high),
            "shown": _shown(facts, c),
            "ahead": str(c.ahead) if c.ahead else "on none",
            "p": _p(c.adjusted),
            "n": c.n,
            "clear": c.clear,
        }
        for k, c in enumerate(contests)
    ]
    names = [str(row["pair"]) for row in rows]
    bare = alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=round(LETTER * LONGEST))
    y = alt.Y("pair:O", title=None, scale=alt.Scale(domain=names), sort=None, axis=bare)
    title = f"difference of distances in {facts.unit.axis.removeprefix('ε in ')}"
    axis = alt.Axis(tickCount=5, domain=False, ticks=False, grid=False)
    x = alt.X("difference:Q", title=title, axis=axis)
    base = alt.Chart(inline(rows)).encode(y)
    tooltip = [
        alt.Tooltip("pair:N"),
        alt.Tooltip("shown:N", title="difference"),
        alt.Tooltip("ahead:N", title="further on"),
        alt.Tooltip("p:N", title="p, corrected"),
        alt.Tooltip("n:Q", title="images"),
    ]
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(color=paint.soft, strokeDash=[3, 3]).encode(
        alt.X("zero:Q", title=title)
    )  # fmt: skip
    fill = alt.condition("datum.clear", alt.value(paint.models[0]), alt.value(paint.paper))
    bars = base.mark_rule(strokeWidth=2, color=paint.models[0]).encode(alt.X("low:Q", title=title), alt.X2("high:Q"))
    points = base.mark_point(size=55, filled=True, opacity=1, stroke=paint.models[0], strokeWidth=1.5)
    targets = base.mark_point(size=400, filled=True, opacity=0).encode(x, tooltip=tooltip)
    return alt.layer(zero, bars, points.encode(x, fill=fill), targets).properties(height=ROW * len(rows))


def _pair(facts: Facts, c: Comparison, place: int) -> str:
    """Two names side by side; the place keeps two cut pairs apart."""
    each = (LONGEST - 3) // 2
    text = f"{shortened(facts.name(c.upper), each)} − {shortened(facts.name(c.lower), each)}"
    return text if len(facts.name(c.upper)) <= each and len(facts.name(c.lower)) <= each else f"{place + 1} {text}"


def _shown(facts: Facts, c: Comparison) -> str:
    if math.isnan(c.difference):
        return "no image that both were fooled on"
    return f"{_signed(facts, c.difference)} ({_signed(facts, c.low)} to {_signed(facts, c.high)})"


def _signed(facts: Facts, value: float) -> str:
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{facts.unit.distance(abs(value))}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else "1" if p > 0.9995 else f"{p:.3f}"


def _equals(p: float) -> str:
    text = _p(p)
    return text if text.startswith("<") else f"= {text}"


def _tables(facts: Facts, found: Factors) -> tuple[Table, ...]:
    head = ("pair", "difference", "images", "further on", "p", "p, corrected")
    tables = []
    for contests, what in ((found.within, "Within families, by depth or size"), (found.across, "Between families")):
        if contests:
            rows = tuple(
                (
                    f"{facts.name(c.upper)} − {facts.name(c.lower)}"
                    + (f" ({', '.join(c.factors)})" if c.family else ""),
                    _shown(facts, c),
                    f"{c.n:,}",
                    str(c.ahead) if c.ahead else "on none",
                    _p(c.p),
                    _p(c.adjusted),
                )
                for c in contests
            )
            tables.append(Table(what, head, rows))
    explained = [
        (NAMES[one.factor], f"{percent(one.share)} %", f"{percent(one.chance)} %", _p(one.p), _p(one.adjusted))
        for one in found.explained
    ]
    explained += [(text, "not looked at", "", "", "") for text in found.skipped]
    tables.append(Table(f"Share of the variance of the {found.measure} distance over models",
                        ("factor", "share", "by chance", "p", "p, corrected"), tuple(explained)))  # fmt: skip
    if found.trends:
        trends = tuple((f"larger {NAMES[t.factor]}", f"{t.concordant} of {t.pairs}", _p(t.p)) for t in found.trends)
        tables.append(Table("Pairs of one family in which the model with the larger trait is the more robust",
                            ("trait", "pairs", "p"), trends))  # fmt: skip
    return tuple(tables)


def _share_words(found: Factors) -> str:
    said = [
        f"{NAMES[one.factor]} {percent(one.share, 0)} %, {percent(one.chance, 0)} % by chance"
        for one in found.explained
    ]
    start = f"Bars of the share of the variance over {len(found.models)} models that each factor explains"
    return f"{start}: {'; '.join(said)}."


def _forest_words(facts: Facts, contests: Sequence[Comparison]) -> str:
    clear = [c for c in contests if c.clear]
    start = f"Forest plot of {len(contests)} paired differences of distances; {len(clear)} of them are clear"
    said = [f"{facts.name(c.upper)} minus {facts.name(c.lower)} {_shown(facts, c)}" for c in clear[:3]]
    return f"{start}{': ' if said else ''}{'; '.join(said)}."
