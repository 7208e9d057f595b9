"""Robust accuracy of each class at each ε: one heatmap a model, all with the same colours and order of classes."""

from collections import Counter
from collections.abc import Sequence

import altair as alt

from atodds.analysis import Curve
from atodds.analysis.numbers import percent, points
from atodds.report.charts.figure import Chart, Drawing, Figure, Panel, Table, inline
from atodds.report.charts.labels import shortened
from atodds.report.colours import VIRIDIS, WHITE_BELOW, Paint
from atodds.report.facts import Facts, ModelFacts
from atodds.report.words import Name, Sentence, classes_title, counted, extremes, share, widest

MOST = 24
"""The most classes that are drawn and listed; with more of them, the best half and the worst half of these."""
ROW = 21
WIDTH = 280
LONGEST = 20
CELL = 26
"""The narrowest cell that a number fits into, in pixels."""


def draw(facts: Facts, paint: Paint) -> Figure | None:
    """The figure; nothing for a single class."""
    labels = _order(facts)
    if len(labels) < 2:
        return None
    kept = labels if len(labels) <= MOST else labels[: MOST // 2] + labels[-MOST // 2 :]
    return Figure(
        title=classes_title(facts),
        subtitle=_subtitle(facts, labels, kept),
        panels=tuple(
            Panel(_drawing(facts, model, kept, paint), _words(facts, model), _heading(model), width=WIDTH)
            for model in facts.models
        ),
        tables=(*(_table(facts, model, kept) for model in facts.models), _losses(facts, kept)),
        layout="grid",
        scale=True,
    )


CHART = Chart("classes", "classes", draw)


def _order(facts: Facts) -> list[int]:
    """Labels that all models have images of, the best over all models and budgets first."""
    common = [label for label in facts.models[0].classes.labels if all(label in m.classes.labels for m in facts.models)]
    means = {label: sum(_curve(model, label).mean for model in facts.models) for label in common}
    return sorted(common, key=lambda label: -means[label])


def _curve(model: ModelFacts, label: int) -> Curve:
    return model.classes.curves[model.classes.labels.index(label)]


def _subtitle(facts: Facts, labels: list[int], kept: list[int]) -> str:
    sizes = sorted({curve.rates[0].n for model in facts.models for curve in model.classes.curves})
    each = counted(sizes[0], "image") if len(sizes) == 1 else f"{sizes[0]} to {counted(sizes[-1], 'image')}"
    text = (
        f"Robust accuracy in %, of {each} a class, {facts.n:,} in all. Best class on top, by the mean over all panels."
    )
    if len(kept) < len(labels):
        text += f" The {MOST // 2} best and the {MOST // 2} worst of {len(labels)} classes."
    missing = len(facts.models[0].classes.missing)
    return text + (f" Classes without images: {missing}." if missing else "")


def _drawing(facts: Facts, model: ModelFacts, kept: list[int], paint: Paint) -> Drawing:
    names = _short(facts, kept)
    ticks = [facts.unit.tick(budget) for budget in facts.budgets]
    rows = [
        {
            "class": names[label],
            "name": facts.classes[label],
            "eps": facts.unit.tick(budget),
            "at": budget.text,
            "rate": rate.value,
            "cell": percent(rate.value, 0).replace(" ", ""),
            "shown": str(rate),
            "n": rate.n,
        }
        for label in kept
        for budget, rate in zip(model.curve.budgets, _curve(model, label).rates, strict=True)
    ]
    base = alt.Chart(inline(rows)).encode(
        alt.X("eps:O", title=facts.unit.axis, scale=alt.Scale(domain=ticks), sort=None,
              axis=alt.Axis(labelAngle=0, labelOverlap=True, domain=False, ticks=False)),
        alt.Y("class:O", title=None, scale=alt.Scale(domain=list(names.values())), sort=None,
              axis=alt.Axis(domain=False, ticks=False, labelPadding=6)),
        tooltip=[
            alt.Tooltip("name:N", title="class"),
            alt.Tooltip("at:N", title="ε"),
            alt.Tooltip("shown:N", title="robust accuracy"),
            alt.Tooltip("n:Q", title="images"),
        ],
    )  # fmt: skip
    scale = alt.Scale(domain=[0, 1], range=list(VIRIDIS), clamp=True)
    legend = None if paint.page else alt.Legend(title="robust accuracy", format="%", gradientLength=120)
    rectangles = base.mark_rect().encode(alt.Color("rate:Q", scale=scale, legend=legend))
    room = f"{'width' if paint.page else WIDTH} / {len(ticks)} >= {CELL} ? 1 : 0"
    numbers = base.mark_text(fontSize=11, opacity=alt.expr(room)).encode(
        text="cell:N",
        color=alt.condition(f"datum.rate < {WHITE_BELOW}", alt.value("#ffffff"), alt.value("#000000")),
    )
    return alt.layer(rectangles, numbers).properties(height=ROW * len(kept))


def _short(facts: Facts, kept: Sequence[int]) -> dict[int, str]:
    """Names of classes that fit beside the plot, no two of them the same."""
    names = {label: shortened(facts.classes[label], LONGEST) for label in kept}
    times = Counter(names.values())
    return {
        label: shortened(f"{label} {facts.classes[label]}", LONGEST) if times[name] > 1 else name
        for label, name in names.items()
    }


def _heading(model: ModelFacts) -> Sentence:
    worst, best = (shortened(model.classes.classes[place], LONGEST) for place in extremes(model))
    return (Name(model.name), f": worst {worst}, best {best}")


def _table(facts: Facts, model: ModelFacts, kept: list[int]) -> Table:
    rows = []
    for label in kept:
        rates = _curve(model, label).rates
        rows.append((facts.classes[label], f"{rates[0].n:,}", *(str(rate) for rate in rates)))
    head = ("class", "images", *(f"ε = {budget}" for budget in facts.budgets))
    return Table(f"{model.name}: robust accuracy of each class, with 95 % intervals", head, tuple(rows))


def _losses(facts: Facts, kept: list[int]) -> Table:
    """The points that each class loses in total, by model and averaged over the models."""
    rows = []
    for label in kept:
        lost = [_curve(model, label).drop for model in facts.models]
        mean = [points(-sum(lost) / len(lost))] if len(lost) > 1 else []
        rows.append((facts.classes[label], *(points(-value) for value in lost), *mean))
    head = ("class", *(model.name for model in facts.models), *(["mean"] if len(facts.models) > 1 else []))
    return Table(f"Change from ε = 0 to {facts.budgets[-1]}, in points", head, tuple(rows))


def _words(facts: Facts, model: ModelFacts) -> str:
    at = widest(model)
    said = [
        f"{model.classes.classes[place]} is the {word} class, {share(model.classes.curves[place].rates[0])} without an "
        f"attack and {share(model.classes.curves[place].rates[at])} at {facts.budgets[at]}"
        for place, word in zip(extremes(model), ("worst", "best"), strict=True)
    ]
    return f"Heatmap of the robust accuracy of {model.name} by class and ε. {'. '.join(said)}."
