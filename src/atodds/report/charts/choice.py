"""Two charts of a choice: who is best for which share and ε, and what each model costs as attacks get more frequent."""

from dataclasses import dataclass

import altair as alt

from atodds.analysis.decision import Decision
from atodds.analysis.numbers import percent
from atodds.report.charts.figure import RATES, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import broken, shortened, spread
from atodds.report.choice_words import amount, crossing, eps_crossing, share_text, thousand, unit
from atodds.report.colours import MODELS, Paint
from atodds.report.units import Unit, unit_of
from atodds.report.words import Name, Sentence

HEIGHT = 320
LINE = 15
WIDE, NARROW = 30, 13
HEIGHTS = (0.5, 0.7, 0.3, 0.86)
"""Where the names of areas stand in them, one after the other, so that those of narrow neighbours do not meet."""
MOST_ROWS = 60
"""Rows of the table behind the map; a map with more columns shows those at which the choice changes."""


def best_map(decision: Decision, paint: Paint) -> Figure | None:
    """Who is best for which share of attacked inputs and ε; nothing where only one model meets the need."""
    choice = decision.choice
    if len(choice.options) < 2 or not choice.columns:
        return None
    scale = _unit(decision)
    shown = [
        model for model in choice.models if any(model in _winners(decision, k) for k in range(len(choice.columns)))
    ]
    title: Sentence
    if len(shown) == 1:
        title = (Name(decision.name(shown[0])), " is the best for every share of attacks and every ε")
    else:
        title = (f"{len(shown)} of {len(choice.models)} models are the best somewhere",)
    step = "up to each ε that was attacked" if not decision.candidates.anywhere else "at every ε"
    return Figure(
        title=title,
        subtitle=f"The model with the least expected {unit(choice)}, {step}, over {choice.n:,} images; its borders are "
        "exact crossings. The bar is what the need asks for.",
        panels=(Panel(_map(decision, scale, paint), _map_words(decision), width=640),),
        tables=(_map_table(decision),),
    )


def cost_lines(decision: Decision, paint: Paint) -> Figure:
    """Expected cost of each model over the share of attacked inputs, at the need's ε."""
    choice = decision.choice
    return Figure(
        title=_lines_title(decision),
        subtitle=f"Expected {unit(choice)} per 1,000 inputs, over {choice.n:,} images, paired. The band is the share "
        "that the need asks for.",
        panels=(Panel(_lines(decision, paint), _lines_words(decision), width=640),),
        tables=(_flip_table(decision), _line_table(decision)),
    )


def _unit(decision: Decision) -> Unit:
    return unit_of(decision.candidates.seen.norm, decision.candidates.measured)


def _winners(decision: Decision, column: int) -> list[str]:
    choice = decision.choice
    return [choice.models[piece.line] for piece in choice.columns[column].stretches]


def places(decision: Decision) -> dict[str, int]:
    """The place of each model on the page, which fixes its colour: first those that are the best somewhere, so
    that no two of them look the same, then the others, the cheapest first, then those that were left out."""
    choice = decision.choice
    ranked = [option.model for option in choice.options]
    somewhere = {model for column in range(len(choice.columns)) for model in _winners(decision, column)}
    somewhere |= {choice.best.model}
    ranked.sort(key=lambda model: model not in somewhere)
    return {model: place for place, model in enumerate([*ranked, *(one.model for one in choice.excluded)])}


def _colour(decision: Decision, paint: Paint) -> alt.Color:
    found = places(decision)
    colours = [paint.models[place % len(MODELS)] for place in found.values()]
    domain = [decision.name(model) for model in found]
    return alt.Color("model:N", scale=alt.Scale(domain=domain, range=colours), legend=None)


@dataclass
class _Area:
    """A piece of the map: a model is the best for these shares, from one ε to another."""

    model: str
    left: float
    right: float
    low: float
    high: float


def _areas(decision: Decision, scale: Unit) -> list[_Area]:
    """The map in rectangles; columns with the same borders are one."""
    done: list[_Area] = []
    open_now: list[_Area] = []
    for column in decision.choice.columns:
        found = [
            _Area(decision.name(decision.choice.models[p.line]), scale.number(column.start), scale.number(column.stop),
                  p.start, p.stop)
            for p in column.stretches
        ]  # fmt: skip
        if [(a.model, a.low, a.high) for a in open_now] == [(a.model, a.low, a.high) for a in found]:
            for area in open_now:
                area.right = scale.number(column.stop)
        else:
            done += open_now
            open_now = found
    return done + open_now


def _map(decision: Decision, scale: Unit, paint: Paint) -> Drawing:
    choice, found = decision.choice, _areas(decision, scale)
    rows = [
        {
            "model": a.model, "left": a.left, "right": a.right, "low": a.low, "high": a.high,
            "at": f"{scale.distance(_back(scale, a.left))} to {scale.distance(_back(scale, a.right))}",
            "shares": f"{share_text(a.low)} to {share_text(a.high)} %",
        }
        for a in found
    ]  # fmt: skip
    largest = {model: max((a for a in found if a.model == model), key=_size) for model in {a.model for a in found}}
    middles = [
        {
            "model": shortened(area.model, WIDE), "x": (area.left + area.right) / 2,
            "y": area.low + (area.high - area.low) * HEIGHTS[place % len(HEIGHTS)],
            "lines": broken(shortened(area.model, 3 * NARROW), NARROW),
        }
        for place, area in enumerate(sorted(largest.values(), key=lambda area: area.left))
    ]  # fmt: skip
    end = scale.number(choice.columns[-1].stop)
    x = alt.X("left:Q", title=scale.axis, scale=alt.Scale(domain=[0, end], nice=False), axis=alt.Axis(grid=False))
    y = alt.Y("low:Q", title="share of inputs attacked", scale=alt.Scale(domain=[0, 1], nice=False), axis=RATES)
    tooltip = [
        alt.Tooltip("model:N"), alt.Tooltip("at:N", title="ε"), alt.Tooltip("shares:N", title="best for shares of"),
    ]  # fmt: skip
    areas = (
        alt.Chart(inline(rows))
        .mark_rect(opacity=0.75, strokeWidth=0)
        .encode(x, y, alt.X2("right:Q"), alt.Y2("high:Q"), _colour(decision, paint), tooltip=tooltip)
    )
    labels = alt.Chart(inline(middles)).encode(alt.X("x:Q"), alt.Y("y:Q"))
    told = alt.expr("narrow ? datum.lines : datum.model")
    words = [
        labels.mark_text(text=told, lineHeight=LINE - 2, fontWeight=600, color=paint.paper, stroke=paint.paper,
                         strokeWidth=4, strokeJoin="round"),
        labels.mark_text(text=told, lineHeight=LINE - 2, fontWeight=600, color=paint.ink),
    ]  # fmt: skip
    return (
        alt.layer(areas, *_asked(decision, scale, paint), *words)
        .add_params(alt.param(name="narrow", value=False))
        .properties(height=HEIGHT)
    )


def _size(area: _Area) -> float:
    return (area.right - area.left) * min(area.high - area.low, 0.25)


def _back(scale: Unit, number: float) -> float:
    return number / scale.denominator if scale.denominator else number


def _asked(decision: Decision, scale: Unit, paint: Paint) -> list[alt.Chart]:
    """The need itself: a bar over its shares at each of its budgets, in ink on a rim of paper."""
    need = decision.choice.need
    low, high = need.attacked
    rows = [
        {"x": scale.number(b.value), "low": max(0.0, low - 0.008), "high": min(1.0, high + 0.008)} for b in need.budgets
    ]
    base = alt.Chart(inline(rows)).encode(alt.X("x:Q"), alt.Y("low:Q"), alt.Y2("high:Q"))
    return [base.mark_rule(color=paint.paper, strokeWidth=9), base.mark_rule(color=paint.ink, strokeWidth=5)]


def _lines(decision: Decision, paint: Paint) -> Drawing:
    choice = decision.choice
    top = max(max(option.at_zero, option.at_one) for option in choice.options) * 1000 or 1.0
    rows = [
        {"model": decision.name(o.model), "share": share, "cost": 1000 * cost, "shown": f"{thousand(cost)} per 1,000"}
        for o in choice.options
        for share, cost in ((0.0, o.at_zero), (1.0, o.at_one))
    ]
    x = alt.X("share:Q", title="share of inputs attacked", scale=alt.Scale(domain=[0, 1], nice=False), axis=RATES)
    title = f"expected {unit(choice)} per 1,000 inputs"
    y = alt.Y(
        "cost:Q", title=title, scale=alt.Scale(domain=[0, top], nice=False), axis=alt.Axis(tickCount=5, ticks=False)
    )
    colour = _colour(decision, paint)
    tooltip = [alt.Tooltip("model:N"), alt.Tooltip("share:Q", format=".0%"), alt.Tooltip("shown:N", title="cost")]
    base = alt.Chart(inline(rows))
    low, high = choice.need.attacked
    rim = 0.002 if low == high else 0.0
    band = alt.Chart(inline([{"low": max(0.0, low - rim), "high": min(1.0, high + rim)}])).mark_rect(
        color=paint.soft, opacity=0.25
    )
    marks = [{"share": flip.share, "cost": 1000 * _cost_at(decision, flip.after, flip.share)} for flip in choice.flips]
    layers = [
        band.encode(alt.X("low:Q"), alt.X2("high:Q")),
        base.mark_line(strokeWidth=2).encode(x, y, colour),
        base.mark_point(size=40, filled=True, opacity=1).encode(x, y, colour, tooltip=tooltip),
        alt.Chart(inline(marks)).mark_point(size=70, filled=False, color=paint.ink, opacity=1).encode(x, y),
        *_line_labels(decision, top, paint, x, y, colour),
    ]
    return alt.layer(*layers).add_params(alt.param(name="narrow", value=False)).properties(height=HEIGHT)


def _line_labels(
    decision: Decision, top: float, paint: Paint, x: alt.X, y: alt.Y, colour: alt.Color
) -> list[alt.Chart]:
    """A name at the end of each line, moved so that none covers another."""
    options = sorted(decision.choice.options, key=lambda option: -option.at_one)
    names = [decision.name(option.model) for option in options]
    ends = [HEIGHT * (1 - 1000 * option.at_one / top) for option in options]
    lines = [broken(shortened(name, 3 * NARROW), NARROW) for name in names]
    wide = spread(ends, [LINE] * len(names), -LINE / 2, HEIGHT + LINE / 2)
    narrow = spread(ends, [LINE * len(line) for line in lines], -LINE / 2, HEIGHT + LINE / 2)
    rows = [
        {
            "model": name, "share": 1.0, "cost": 1000 * options[k].at_one, "label": shortened(name, WIDE),
            "lines": lines[k], "shift": wide[k] - ends[k],
            "shift_narrow": narrow[k] - (LINE - 2) * (len(lines[k]) - 1) / 2 - ends[k],
        }
        for k, name in enumerate(names)
    ]  # fmt: skip
    shift = "narrow ? datum.shift_narrow : datum.shift"
    ends_of = alt.Chart(inline(rows))
    rule = ends_of.mark_rule(strokeWidth=1, xOffset=5, x2Offset=14, y2Offset=alt.expr(shift)).encode(
        x, y, alt.X2("share:Q"), alt.Y2("cost:Q"), colour
    )
    text = ends_of.mark_text(
        align="left", baseline="middle", dx=18, dy=alt.expr(shift), color=paint.ink, lineHeight=LINE - 2,
        text=alt.expr("narrow ? datum.lines : datum.label"),
    ).encode(x, y)  # fmt: skip
    return [rule, text]


def _cost_at(decision: Decision, model: str, share: float) -> float:
    option = next(option for option in decision.choice.options if option.model == model)
    return (1 - share) * option.at_zero + share * option.at_one


def _lines_title(decision: Decision) -> Sentence:
    flips, best = decision.choice.flips, decision.choice.best
    if not flips:
        return (Name(decision.name(best.model)), " costs least for every share of attacked inputs")
    first = flips[0]
    start = f"The lines first cross at {share_text(first.share)} % attacked: "
    return (
        start,
        Name(decision.name(first.before)),
        " costs less before, ",
        Name(decision.name(first.after)),
        " after",
    )


def _map_words(decision: Decision) -> str:
    choice = decision.choice
    first, last = choice.columns[0], choice.columns[-1]
    said = []
    for column in (first, last):
        best = [f"{decision.name(choice.models[p.line])} from {share_text(p.start)} to {share_text(p.stop)} % attacked"
                for p in column.stretches]  # fmt: skip
        said.append(f"At {column.eps}: {', '.join(best)}")
    return f"Map of the best model by share of attacked inputs and ε. {'. '.join(said)}."


def _lines_words(decision: Decision) -> str:
    said = [
        f"{decision.name(o.model)}: {thousand(o.at_zero)} if nothing is attacked, {thousand(o.at_one)} if everything is"
        for o in decision.choice.options
    ]
    return f"Lines of expected {unit(decision.choice)} per 1,000 inputs. {'. '.join(said)}."


def _map_table(decision: Decision) -> Table:
    columns = decision.choice.columns
    if len(columns) > MOST_ROWS:
        every = [0, *(k for k in range(1, len(columns)) if _winners(decision, k) != _winners(decision, k - 1))]
        columns = tuple(columns[k] for k in every[:MOST_ROWS])
    rows = tuple(
        (
            column.eps.text,
            "; ".join(
                f"{decision.name(decision.choice.models[p.line])} {share_text(p.start)} to {share_text(p.stop)} %"
                for p in column.stretches
            ),
        )
        for column in columns
    )
    return Table("The best model for each ε, and the shares of attacked inputs for which it is", ("ε", "best"), rows)


def _flip_table(decision: Decision) -> Table:
    choice = decision.choice
    rows = [("share attacked", crossing(f), decision.name(f.before), decision.name(f.after)) for f in choice.flips]
    rows += [
        ("ε", eps_crossing(decision, f), decision.name(f.before), decision.name(f.after)) for f in choice.eps_flips
    ]
    head = ("over", "where, with 95 % interval", "before", "after")
    return Table("Where the decision flips", head, tuple(rows or [("", "nowhere", "", "")]))


def _line_table(decision: Decision) -> Table:
    rows = tuple(
        (
            decision.name(o.model), amount(o.cost), thousand(o.at_zero), thousand(o.at_one), amount(o.regret),
            thousand(o.worst_regret), f"{percent(o.probability)} %",
        )
        for o in decision.choice.options
    )  # fmt: skip
    head = ("model", "expected", "nothing attacked", "everything attacked", "regret", "largest regret", "best in")
    return Table(f"Expected {unit(decision.choice)} per 1,000 inputs, with 95 % intervals", head, rows)
