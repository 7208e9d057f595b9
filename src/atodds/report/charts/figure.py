"""What a chart is: panels that prove a finding, the finding in words, and the table behind them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt

from atodds.report.colours import Paint
from atodds.report.facts import Facts
from atodds.report.words import Sentence

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
Drawing = alt.Chart | alt.LayerChart | alt.FacetChart


@dataclass(frozen=True)
class Table:
    """A table in text: a caption, a head, and rows whose first cell names them."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Panel:
    """One drawing of a figure, as wide as the page lets it be.

    Args:
        drawing: an Altair chart without a width of its own.
        alternative: the same in words, for those who cannot see it.
        heading: which model or part it shows; empty where the figure has only one.
        width: its width in pixels in a file.
        least, most: the narrowest and the widest that it is drawn on a page, in pixels, 0 for any; where there is less
            room than the narrowest, it scrolls.
    """

    drawing: Drawing
    alternative: str
    heading: Sentence = ()
    width: int = 640
    least: int = 0
    most: int = 0


@dataclass(frozen=True, eq=False)
class Figure:
    """A finding with its proof.

    Args:
        title: the finding, a whole sentence without its full stop.
        subtitle: what is shown, of how many images, with which intervals.
        panels: what is drawn.
        tables: every number that is drawn.
        layout: "wide": each panel takes the whole width; "grid": as many beside each other as fit; "pairs": two and
            two, the first twice as wide; "halves": two and two.
        scale: whether to show the colour scale of rates.
    """

    title: Sentence
    subtitle: str
    panels: tuple[Panel, ...]
    tables: tuple[Table, ...]
    layout: Literal["wide", "grid", "pairs", "halves"] = "wide"
    scale: bool = False


@dataclass(frozen=True)
class Chart:
    """An entry of the registry: the name of its file, the section of the page it stands in, and how to draw it.

    `draw` gives None where the run has nothing for it to show.
    """

    name: str
    section: str
    draw: Callable[[Facts, Paint], Figure | None]


RATES = alt.Axis(labelExpr="format(100 * datum.value, '.0f') + ' %'", tickCount=5, domain=False, ticks=False)
"""The axis of a rate from 0 to 1."""


def inline(rows: Sequence[Mapping[str, object]]) -> alt.InlineData:
    """Rows that travel inside the chart."""
    return alt.InlineData(values=[dict(row) for row in rows])


def theme(paint: Paint) -> dict[str, object]:
    """The Vega-Lite configuration that all charts share."""
    text = {"labelColor": paint.soft, "titleColor": paint.soft, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {**text, "titleFontWeight": "normal", "domainColor": paint.line, "tickColor": paint.line,
                 "gridColor": paint.line, "titlePadding": 8, "labelLimit": 150, "labelFlush": False,
                 "labelSeparation": 5},
        "legend": {**text, "titleFontWeight": "normal"},
        "header": {**text, "titleFontWeight": "normal"},
        "title": {"color": paint.ink, "subtitleColor": paint.soft, "fontSize": 16, "subtitleFontSize": 12,
                  "anchor": "start", "fontWeight": 600, "offset": 14, "subtitlePadding": 6, "lineHeight": 20},
        "text": {"color": paint.ink, "fontSize": 12},
    }  # fmt: skip
