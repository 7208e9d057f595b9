"""The charts of a page as PNG and SVG, for papers and slides."""

import os
import textwrap
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from atodds.errors import RunError
from atodds.report import colours
from atodds.report.charts import CHARTS, Drawing, Figure, Panel, theme
from atodds.report.facts import gather
from atodds.report.page import vega_lite_version
from atodds.report.source import Source
from atodds.report.words import plain

COLUMNS = {"wide": 1, "grid": 3, "pairs": 2}
"""How many panels stand beside each other, by layout."""
LETTERS = {"title": 8.2, "subtitle": 5.6}
"""Mean widths of a letter in pixels, by which titles break into lines."""
SCALE = 2.0
"""Pixels of a PNG for each pixel of its drawing."""


def write_figures(run: Source, folder: str | os.PathLike[str]) -> list[Path]:
    """Write every chart of a finished run as NAME.svg and NAME.png, and give their paths back.

    Raises:
        RunError: the run is not finished or not whole, or the folder cannot be written.
    """
    facts = gather(run)
    paint = colours.values(len(facts.attacks))
    figures = [(chart.name, figure) for chart in CHARTS if (figure := chart.draw(facts, paint)) is not None]
    place = Path(folder)
    paths: list[Path] = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, figure in figures:
            spec = static(figure, paint)
            paths += [place / f"{name}.svg", place / f"{name}.png"]
            svg = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite_version())
            paths[-2].write_text(svg, encoding="utf-8")
            paths[-1].write_bytes(vl_convert.svg_to_png(svg, scale=SCALE))
    except OSError as error:
        problem = f"Figures cannot be written to {place}: {error.strerror or error}."
        raise RunError(f"{problem} Give another folder.") from error
    return paths


def static(figure: Figure, paint: colours.Paint) -> dict[str, Any]:
    """A whole figure as one Vega-Lite specification of fixed size, with its title and subtitle in it."""
    columns = COLUMNS[figure.layout]
    rows = [figure.panels[k : k + columns] for k in range(0, len(figure.panels), columns)]
    drawn = alt.vconcat(*(alt.hconcat(*(_sized(panel) for panel in row), spacing=28) for row in rows), spacing=28)
    width = max(sum(panel.width + 150 for panel in row) for row in rows)
    title = alt.TitleParams(
        text=textwrap.wrap(plain(figure.title), round(width / LETTERS["title"])),
        subtitle=textwrap.wrap(figure.subtitle, round(width / LETTERS["subtitle"])),
    )
    if figure.scale:
        drawn = drawn.resolve_scale(color="shared")
    spec = drawn.properties(title=title).to_dict()
    return {**spec, "config": theme(paint), "background": paint.paper, "padding": 16}


def _sized(panel: Panel) -> Drawing:
    drawing = panel.drawing.properties(width=panel.width)
    if not panel.heading:
        return drawing
    heading = alt.TitleParams(plain(panel.heading), fontSize=12, fontWeight="normal", offset=8)
    return drawing.properties(title=heading)
