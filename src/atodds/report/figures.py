"""The charts of a page as PNG and SVG, for papers and slides."""

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import altair as alt
import vl_convert

from atodds.analysis import Traits
from atodds.errors import RunError
from atodds.report import colours
from atodds.report.charts import CHARTS, Drawing, Figure, Panel, theme
from atodds.report.facts import gather
from atodds.report.page import vega_lite_version
from atodds.report.source import Source
from atodds.report.words import plain

COLUMNS = {"wide": 1, "grid": 3, "pairs": 2, "halves": 2}
"""How many panels stand beside each other, by layout."""
LETTERS = {"title": 9.0, "subtitle": 6.5}
"""Mean widths of a letter in pixels in a wide font, by which titles break into lines."""
AXIS = 50
"""What a panel takes beside its width, at least: its axis."""
SCALE = 2.0
"""Pixels of a PNG for each pixel of its drawing."""


def write_figures(
    run: Source, folder: str | os.PathLike[str], traits: Mapping[str, Traits] | None = None
) -> list[Path]:
    """Write every chart of a finished run as NAME.svg and NAME.png, and give their paths back.

    Args:
        run: to be read.
        folder: made where it is not there.
        traits: as for the page.

    Raises:
        RunError: the run is not finished or not whole, or the folder cannot be written.
    """
    facts = gather(run, traits)
    paint = colours.values(len(facts.attacks))
    figures = [(chart.name, figure) for chart in CHARTS if (figure := chart.draw(facts, paint)) is not None]
    place = Path(folder)
    paths = [place / f"{name}.{kind}" for name, _ in figures for kind in ("svg", "png")]
    for (_, figure), svg, png in zip(figures, paths[::2], paths[1::2], strict=True):
        drawn = drawing(figure, paint)
        save(svg, drawn.encode())
        save(png, vl_convert.svg_to_png(drawn, scale=SCALE))
    return paths


def write_figure(figure: Figure, paint: colours.Paint, path: str | os.PathLike[str]) -> Path:
    """Write one figure as SVG, or as PNG where the file ends so, and give its path back.

    Raises:
        RunError: the file cannot be written.
    """
    place = Path(path)
    drawn = drawing(figure, paint)
    save(place, vl_convert.svg_to_png(drawn, scale=SCALE) if place.suffix == ".png" else drawn.encode())
    return place


def drawing(figure: Figure, paint: colours.Paint) -> str:
    """A whole figure as SVG."""
    return str(vl_convert.vegalite_to_svg(static(figure, paint), vl_version=vega_lite_version()))


def save(path: Path, content: bytes) -> None:
    """Write a figure's file.

    Raises:
        RunError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        problem = f"Figures cannot be written to {path.parent}: {error.strerror or error}."
        raise RunError(f"{problem} Give another folder.") from error


def static(figure: Figure, paint: colours.Paint) -> dict[str, Any]:
    """A whole figure as one Vega-Lite specification of fixed size, with its title and subtitle in it."""
    columns = COLUMNS[figure.layout]
    rows = [figure.panels[k : k + columns] for k in range(0, len(figure.panels), columns)]
    # Beside each other, panels would share one list of colours and shapes, and lines of different names look alike.
    colour: Literal["shared", "independent"] = "shared" if figure.scale else "independent"
    beside = [alt.hconcat(*(_sized(panel) for panel in row), spacing=28) for row in rows]
    own = [one.resolve_scale(color=colour, shape="independent") for one in beside]
    drawn = alt.vconcat(*own, spacing=28).resolve_scale(color=colour, shape="independent")
    width = max(sum(panel.width + AXIS for panel in row) for row in rows)
    title = alt.TitleParams(
        text=textwrap.wrap(plain(figure.title), round(width / LETTERS["title"])),
        subtitle=textwrap.wrap(figure.subtitle, round(width / LETTERS["subtitle"])),
    )
    spec = drawn.properties(title=title).to_dict()
    return {**spec, "config": theme(paint), "background": paint.paper, "padding": 16}


def _sized(panel: Panel) -> Drawing:
    drawing = panel.drawing.properties(width=panel.width)
    if not panel.heading:
        return drawing
    heading = alt.TitleParams(plain(panel.heading), fontSize=12, fontWeight="normal", offset=8)
    return drawing.properties(title=heading)
