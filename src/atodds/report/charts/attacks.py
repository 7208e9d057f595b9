"""What each attack added to the ones before it, and the passes that it took: cost and gain seen together."""

import altair as alt

from atodds.analysis.numbers import count, percent
from atodds.report.charts.figure import RATES, Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import LETTER
from atodds.report.colours import Paint
from atodds.report.facts import Facts, ModelFacts
from atodds.report.words import Name, attacks_title, counted, share

HEIGHT = 210
BAR = 26
LONGEST = 26
WRONG = "no attack"


def draw(facts: Facts, paint: Paint) -> Figure:
    """The figure; see the module."""
    pairs: list[Panel] = []
    for model in facts.models:
        pairs.append(
            Panel(_gain(facts, model, paint), _gain_words(facts, model), (Name(model.name), ": share of images"), 430)
        )
        pairs.append(Panel(_cost(facts, model, paint), _cost_words(model), (Name(model.name), ": passes"), 200))
    return Figure(
        title=attacks_title(facts),
        subtitle=f"Share of {counted(facts.n, 'image')} first fooled by each attack, from the bottom up as they ran; "
        f"“{WRONG}” is misclassified as it is; what is left to 100 % is the robust accuracy. "
        "Beside it: forward and backward passes through the model.",
        panels=tuple(pairs),
        tables=tuple(table for model in facts.models for table in _tables(facts, model)),
        layout="pairs",
    )


CHART = Chart("attacks", "attacks", draw)


def _colour(facts: Facts, paint: Paint) -> alt.Color:
    scale = alt.Scale(domain=[WRONG, *facts.attacks], range=[paint.none, *paint.attacks])
    return alt.Color("attack:N", scale=scale, legend=None)


def _gain(facts: Facts, model: ModelFacts, paint: Paint) -> Drawing:
    ticks = [facts.unit.tick(budget) for budget in facts.budgets]
    parts = [(WRONG, [model.shares.misclassified] * len(ticks))]
    parts += [(attack.attack, list(attack.added)) for attack in model.shares.attacks]
    rows = []
    for place, (tick, budget) in enumerate(zip(ticks, facts.budgets, strict=True)):
        bottom = 0.0
        for attack, rates in parts:
            rate = rates[place]
            rows.append(
                {
                    "attack": attack,
                    "eps": tick,
                    "at": budget.text,
                    "bottom": bottom,
                    "top": bottom + rate.value,
                    "shown": str(rate),
                    "n": rate.n,
                }
            )
            bottom += rate.value
    x = alt.X(
        "eps:O",
        title=facts.unit.axis,
        scale=alt.Scale(domain=ticks, paddingInner=0.18, paddingOuter=0.1),
        sort=None,
        axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False),
    )
    y = alt.Y(
        "bottom:Q",
        title="share of images",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=RATES,
    )
    tooltip = [
        alt.Tooltip("attack:N"),
        alt.Tooltip("at:N", title="ε"),
        alt.Tooltip("shown:N", title="first fooled by it"),
        alt.Tooltip("n:Q", title="images"),
    ]
    bars: alt.Chart = alt.Chart(inline(rows), height=HEIGHT).mark_bar(stroke=paint.paper, strokeWidth=0.8)
    return bars.encode(x, y, alt.Y2("top:Q"), _colour(facts, paint), tooltip=tooltip)


def _cost(facts: Facts, model: ModelFacts, paint: Paint) -> Drawing:
    largest = max(
        [share.passes for m in facts.models for share in m.shares.attacks]
        + [m.shares.clean_passes for m in facts.models]
    )
    rows = [{"attack": WRONG, "passes": model.shares.clean_passes, "shown": count(model.shares.clean_passes)}]
    rows += [{"attack": a.attack, "passes": a.passes, "shown": count(a.passes)} for a in model.shares.attacks]
    names = [str(row["attack"]) for row in rows]
    y = alt.Y(
        "attack:O",
        title=None,
        scale=alt.Scale(domain=names),
        sort=None,
        axis=alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=round(LETTER * LONGEST)),
    )
    x = alt.X(
        "passes:Q",
        title="passes",
        scale=alt.Scale(domain=[0, largest or 1], nice=False),
        axis=alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=3, grid=False),
    )
    base = alt.Chart(inline(rows)).encode(x, y)
    bars = base.mark_bar(height=14).encode(
        _colour(facts, paint), tooltip=[alt.Tooltip("attack:N"), alt.Tooltip("passes:Q", format=",")]
    )
    text = base.mark_text(align="left", dx=5).encode(text="shown:N")
    return alt.layer(bars, text).properties(height=BAR * len(rows))


def _tables(facts: Facts, model: ModelFacts) -> list[Table]:
    shares = model.shares
    head = tuple(f"ε = {budget}" for budget in facts.budgets)
    wrong = (WRONG, *([str(shares.misclassified)] * len(head)))
    added = tuple((attack.attack, *(str(rate) for rate in attack.added)) for attack in shares.attacks)
    standing = ("robust accuracy", *(str(rate) for rate in shares.standing))
    tables = [
        Table(
            f"{model.name}: share of images first fooled by each attack", ("attack", *head), (wrong, *added, standing)
        )
    ]
    alone = tuple(
        (attack.attack, *(str(rate) for rate in attack.alone)) for attack in shares.attacks if attack.alone is not None
    )
    if alone:
        tables.append(Table(f"{model.name}: share of images that each attack fools alone", ("attack", *head), alone))
    tables.append(
        Table(
            f"{model.name}: what each attack took",
            ("attack", "images attacked", "forward passes", "backward passes", "seconds"),
            tuple(
                (
                    attack.attack,
                    f"{attack.images:,}",
                    f"{attack.forwards:,}",
                    f"{attack.backwards:,}",
                    f"{model.seconds.get(attack.attack, 0.0):,.1f}",
                )
                for attack in shares.attacks
            ),
        )
    )
    return tables


def _gain_words(facts: Facts, model: ModelFacts) -> str:
    last = facts.budgets[-1]
    said = [f"misclassified without an attack {share(model.shares.misclassified)}"]
    said += [f"{attack.attack} {share(attack.added[-1])}" for attack in model.shares.attacks]
    start = f"Stacked bars of the share of images that each attack was the first to fool {model.name} on, by ε"
    return f"{start}. At {last}: {', '.join(said)}."


def _cost_words(model: ModelFacts) -> str:
    total = model.shares.passes or 1
    said = [f"{a.attack} {count(a.passes)} ({percent(a.passes / total, 0)} %)" for a in model.shares.attacks]
    return f"Bars of the passes that each attack on {model.name} took: {', '.join(said) or 'none'}."
