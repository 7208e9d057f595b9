"""The charts of what networks see: weights against correlation, and how well gradients agree with images."""

from typing import Literal

import altair as alt
import numpy as np

from atodds.analysis.numbers import significant
from atodds.report.charts.figure import RATES, Figure, Panel, Table, inline
from atodds.report.charts.lines import Line, Mark, lines, words
from atodds.report.colours import Paint
from atodds.report.words import Name, Sentence, conjunction
from atodds.studies.odds import Features
from atodds.studies.odds_pictures import Pictures


def weights(found: Features, paint: Paint) -> Figure:
    """Weights against correlation, and what more pixels do."""
    size = np.abs(found.train.correlations)
    rows = []
    for name, one in (("standard", found.standard), (f"against {found.eps:g}", found.robust)):
        largest = float(np.abs(one.weights).max())
        rows += [
            {"name": name, "x": round(float(c), 4), "y": round(abs(float(w)) / largest, 4)}
            for c, w, moves in zip(size, one.weights, size > 0, strict=True)
            if moves
        ]
    names = list(dict.fromkeys(str(row["name"]) for row in rows))
    colour = alt.Color(
        "name:N", scale=alt.Scale(domain=names, range=list(paint.models[:2])),
        legend=alt.Legend(title=None, orient="top"),
    )  # fmt: skip
    shape = alt.Shape("name:N", scale=alt.Scale(domain=names, range=["circle", "square"]), legend=None)
    cloud = (
        alt.Chart(inline(rows))
        .mark_point(size=22, filled=True, opacity=0.55)
        .encode(
            alt.X("x:Q", title="correlation of the pixel with the label, without its sign"),
            alt.Y("y:Q", title="weight, share of the largest", scale=alt.Scale(domain=[0, 1]), axis=RATES),
            colour,
            shape,
        )
        .properties(height=240)
    )
    drawn = [
        Line(
            name,
            place + 2,
            tuple(
                Mark(step.pixels, rate.value, rate.low, rate.high, str(rate))
                for step, rate in zip(found.steps, rates, strict=True)
            ),
        )
        for place, (name, rates) in enumerate(
            (
                ("standard accuracy", [step.standard for step in found.steps]),
                (f"robust at {found.eps:g}", [step.robust for step in found.steps]),
            )
        )
    ]
    titles = ("pixels, the best-correlated first", "accuracy")
    panels = (
        Panel(cloud, "Scatter plot of weights over correlations.", ("weights",), width=420),
        Panel(lines(drawn, titles, paint, log=True), words(drawn, titles), ("standard training",), width=360),
    )  # fmt: skip
    first, second = found.classes
    used = [int(one.used.sum()) for one in (found.standard, found.robust)]
    least = float(size[found.robust.used].min())
    title = (
        f"{first} against {second}: the standard classifier uses {used[0]} pixels, the robust one {used[1]}, none of "
        f"them correlated less than {least:.2f}",
    )
    n = len(found.test.labels)
    subtitle = (
        f"Linear classifiers on {len(found.train.labels):,} images, measured on {n:,}; training and attack are exact. "
        f"Robust at {found.eps:g} in l∞. Bands: 95 % intervals."
    )
    rates = Table(
        f"Accuracy on {n:,} images, with 95 % intervals",
        ("classifier", "standard", f"robust at {found.eps:g}", "pixels used"),
        tuple(
            (name, str(pair[0]), str(pair[1]), str(count))
            for name, pair, count in zip(("standard", f"against {found.eps:g}"), found.rates, used, strict=True)
        ),
    )
    steps = Table(
        "Standard classifiers on the best-correlated pixels",
        ("pixels", "least correlation", "standard", f"robust at {found.eps:g}"),
        tuple((f"{s.pixels:,}", f"{s.least:.3f}", str(s.standard), str(s.robust)) for s in found.steps),
    )
    return Figure(title, subtitle, panels, (rates, steps), layout="halves")


def alignment(seen: Pictures, paint: Paint) -> Figure:
    """How well gradients agree with images, for each network."""
    kinds = [("correlation with the image", [one.alignment.correlation for one in seen.models])]
    shares = [one.alignment.share for one in seen.models]
    if all(share is not None for share in shares):
        kinds.append(("share of energy on the object", [share for share in shares if share is not None]))
    panels = []
    areas = seen.models[0].alignment.areas
    area = 0.0 if areas is None else float(np.mean(areas))
    names = [one.name for one in seen.models]
    for title, found in kinds:
        top = max(mean.high for mean in found) * 1.15
        rows = [
            {"name": name, "value": m.value, "low": m.low, "high": m.high, "said": str(m)}
            for name, m in zip(names, found, strict=True)
        ]
        x = alt.X("value:Q", title=title, scale=alt.Scale(domain=[0, top], nice=False), axis=alt.Axis(tickCount=5))
        y = alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=130))
        colour = alt.Color("name:N", scale=alt.Scale(domain=names, range=_many(paint, len(names))), legend=None)
        base = alt.Chart(inline(rows))
        bars = base.mark_rule(strokeWidth=3, opacity=0.5).encode(
            alt.X("low:Q", title=title), alt.X2("high:Q"), y, colour
        )
        dots = base.mark_point(size=60, filled=True, opacity=1).encode(x, y, colour, tooltip=["name:N", "said:N"])
        text = base.mark_text(dy=-11, fontSize=11, text=alt.expr("format(datum.value, '.3f')")).encode(x, y)
        if title.startswith("share"):
            rule = alt.Chart(inline([{"value": area}])).mark_rule(strokeDash=[2, 3], color=paint.soft).encode(x)
            drawing = alt.layer(rule, bars, dots, text)
        else:
            drawing = alt.layer(bars, dots, text)
        said = "; ".join(f"{name} {mean}" for name, mean in zip(names, found, strict=True))
        panels.append(Panel(drawing.properties(height=34 * len(names)), f"{title}: {said}.", (title,), width=320))
    rows_ = tuple(
        (
            one.name, str(one.alignment.correlation), str(one.correlation or ""), str(one.alignment.share or ""),
            str(one.share or ""),
        )
        for one in seen.models
    )  # fmt: skip
    head = ("network", "correlation", "less that of the first", "share on the object", "less that of the first")
    subtitle = (
        f"Gradient of the loss in the image, on {seen.n:,} test images. Bars: 95 % bootstrap intervals; "
        "differences are of the same images."
        + (" Dotted: the area of the object, which a gradient that knows nothing gets." if len(kinds) > 1 else "")
    )
    covered = "" if areas is None else f"; the object covers {area:.3f} of the pixels on average"
    table = Table(f"Alignment over {seen.n:,} images, with 95 % intervals{covered}", head, rows_)
    layout: Literal["halves", "wide"] = "halves" if len(kinds) > 1 else "wide"
    return Figure(_alignment_title(seen), subtitle, tuple(panels), (table,), layout=layout)


def _alignment_title(seen: Pictures) -> Sentence:
    first = seen.models[0]
    if len(seen.models) == 1:
        return (
            "Gradients of ",
            Name(first.name),
            f" correlate {significant(first.alignment.correlation.value)} with the image",
        )
    pieces: list[str] = []
    for one in seen.models[1:]:
        said = [
            word
            for measured, more, less in (
                (one.correlation, "a higher correlation with the image", "a lower correlation with the image"),
                (one.share, "more energy on the object", "less energy on the object"),
            )
            if measured is not None and measured.clear
            for word in (more if measured.value > 0 else less,)
        ]
        pieces += ["; those of " if pieces else "Gradients of ", Name(one.name)]
        pieces.append(f" have {conjunction(said)}" if said else " do not clearly differ")
    return (*pieces, ", beside those of ", Name(first.name))


def _many(paint: Paint, count: int) -> list[str]:
    return [paint.models[k % len(paint.models)] for k in range(count)]
