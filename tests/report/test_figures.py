"""Charts as files say the same as on the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from atodds.errors import RunError
from atodds.report import colours, write_figures
from atodds.report.charts import CHARTS
from atodds.report.charts.figure import Figure, Panel
from atodds.report.charts.lines import Line, Mark, lines
from atodds.report.facts import gather
from atodds.report.figures import LETTERS, drawing, static
from atodds.report.words import curve_title, plain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import MadeModel, MadeRun, Make

    from atodds.analysis import Traits


def test_every_chart_becomes_an_svg_and_a_png(make: Make, model: type[MadeModel], tmp_path: Path) -> None:
    run = make([model("smallresnet_robust", 0.8, 4.0)], n=60, eps="1/255,4/255")
    paths = write_figures(run, tmp_path / "figures")
    names = ("robust-accuracy", "classes", "attacks")
    assert {path.name for path in paths} == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    curves = (tmp_path / "figures" / "robust-accuracy.svg").read_text(encoding="utf-8")
    assert plain(curve_title(gather(run))) in curves
    assert "ε in l∞ (1/255)" in curves
    assert "smallresnet_robust" in curves
    assert "var(--" not in curves
    for path in paths:
        if path.suffix == ".png":
            pixels = np.asarray(Image.open(path).convert("RGB"))
            assert min(pixels.shape[:2]) > 300
            assert (pixels[0, 0] == 255).all()
            assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_what_several_models_have_is_drawn_too(many: MadeRun, traits: dict[str, Traits], tmp_path: Path) -> None:
    paths = write_figures(many, tmp_path, traits)
    assert {path.name for path in paths} == {f"{chart.name}.{kind}" for chart in CHARTS for kind in ("svg", "png")}
    drawn = (tmp_path / "transfer.svg").read_text(encoding="utf-8")
    assert "transferred" in drawn
    assert "vgg-11" in drawn
    assert "var(--" not in drawn


def test_a_folder_that_cannot_be_made_is_an_error(run: MadeRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        write_figures(run, tmp_path / "file" / "figures")


PAINT = colours.values(0)


def panel(*names: str, width: int) -> Panel:
    drawn = [Line(name, k, tuple(Mark(x, 0.5, 0.4, 0.6, "") for x in (1.0, 2.0))) for k, name in enumerate(names)]
    return Panel(lines(drawn, ("x", "y"), PAINT), "", ("a panel",), width=width)


def test_panels_beside_each_other_keep_their_own_colours() -> None:
    """The second line of each panel has the second colour, whatever it is called."""
    panels = (panel("plain", "first", "second", width=200), panel("plain", "third", width=200))
    svg = drawing(Figure(("A title",), "", panels, (), layout="grid"), PAINT)
    drawn = [svg.lower().count(f'stroke="{PAINT.models[k].lower()}"') for k in range(3)]
    assert drawn[0] == drawn[1] == 2 * drawn[2] > 0


def test_subtitles_end_inside_the_drawing() -> None:
    words = "Ten letters in every line of a subtitle that is long enough to need several of them. " * 6
    panels = tuple(panel("plain", width=300) for _ in range(3))
    spec = static(Figure(("A title",), words, panels, (), layout="grid"), PAINT)
    found = re.search(r'width="(\d+)"', drawing(Figure(("A title",), "", panels, (), layout="grid"), PAINT))
    assert found is not None
    assert max(len(line) for line in spec["title"]["subtitle"]) * LETTERS["subtitle"] < int(found[1])
