"""The page of the study of accuracy against robustness, from a small study and from made numbers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atodds import data
from atodds.analysis import wilson
from atodds.analysis.crossing import crossing
from atodds.errors import RunError
from atodds.evaluation.conduct import Settings
from atodds.models import build
from atodds.models.classifier import Classifier
from atodds.report import colours
from atodds.report.charts.lines import Line, Mark, lines
from atodds.report.charts.odds import samples
from atodds.report.charts.odds_cheaper import cheaper
from atodds.report.odds_page import ARGUMENT, render_odds, sections, write_odds
from atodds.report.sheets import Cell, Row, Sheet, svg, write_sheet
from atodds.studies import odds, odds_pictures
from atodds.studies.cheaper import SETUPS, Trial, summary
from atodds.studies.odds import OddsStudy, carry_out
from atodds.studies.odds_plan import EFFORTS, Variant, planned
from atodds.studies.odds_training import Curve
from atodds.threat import Budget

TRAIN, TEST = data.load("digits", split="train"), data.load("digits")
PAINT = colours.values(1)


def trials() -> list[Trial]:
    rates = {"pgd": (0.5, 0.6), "skip <30 %>": (0.49, 0.61)}
    return [
        Trial(rule, epochs, seed, 10.0 * epochs / (2 if rule != "pgd" else 1), 100 * epochs, 0.9, rate, 100)
        for rule, found in rates.items()
        for epochs, rate in zip((1, 2), found, strict=True)
        for seed in (0, 1, 2)
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> OddsStudy:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atodds.studies.odds_plan.EFFORTS", {"laptop": replace(EFFORTS["laptop"], least=10, inner=1)})
        patch.setattr(odds_pictures, "EACH", 1)
        patch.setattr(odds_pictures, "STEPS", 2)
        patch.setattr(odds, "DRAWS", 200)
        plan = planned(
            TRAIN, data="digits", networks=["linear"], sizes=[50, 100], against={"linf": "0.1"}, seeds=1
        )  # fmt: skip
        found = carry_out(
            TRAIN, TEST, tmp_path_factory.mktemp("odds"), Settings(progress=False, command="atodds study odds '<b>'"),
            data="digits", plan=plan, models={"<b>other": Classifier(build("linear", (1, 8, 8), 10), name="<b>other")},
            limit=10, attacks="fgsm",
        )  # fmt: skip
    return replace(found, cheaper=summary(replace(SETUPS["digits"], epochs=(1, 2)), trials()))


@pytest.fixture(scope="module")
def page(study: OddsStudy) -> str:
    return render_odds(study)


def test_the_page_has_every_section_and_draws_every_figure(study: OddsStudy, page: str) -> None:
    assert [section.name for section in sections(study, PAINT)] == list(ARGUMENT)
    for section in sections(study, PAINT):
        assert f'<section id="{section.name}">' in page
        assert section.figures or section.sheets
    drawings = json.loads(re.findall(r'id="drawings">(.*?)</script>', page, re.DOTALL)[0])
    wanted = re.findall(r'data-drawing="([^"]+)"', page)
    assert set(drawings) == set(wanted)
    assert len(wanted) == len(set(wanted))


def test_the_page_loads_nothing_and_is_small_and_its_pixels_are_crisp(page: str) -> None:
    assert len(page.encode()) < 8_000_000
    html = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert "image-rendering:pixelated" in page
    images = re.findall(r"<img [^>]*>", html)
    assert len(images) > 100
    assert all(re.search(r'alt="[^"]+"', image) for image in images)


def test_names_and_commands_are_escaped(page: str) -> None:
    assert "&lt;b&gt;other" in page
    assert "<b>other" not in page
    assert "atodds study odds &#39;&lt;b&gt;&#39;" in page


def test_every_figure_has_a_title_made_from_numbers_words_and_tables(study: OddsStudy) -> None:
    for section in sections(study, PAINT):
        for drawn in section.figures:
            assert drawn.figure.title
            assert "95 %" in drawn.figure.subtitle or section.name in ("theory", "cheaper")
            assert all(panel.alternative for panel in drawn.figure.panels)
            assert all(len(row) == len(table.head) for table in drawn.figure.tables for row in table.rows)
            assert drawn.figure.tables


def test_every_figure_is_written_alone_as_png_and_svg(study: OddsStudy, tmp_path: Path) -> None:
    few = replace(study, theory=None, features=None, trades=(), cheaper=None)
    written = write_odds(few, tmp_path / "deep" / "report.html", tmp_path / "figures")
    assert written[0].is_file()
    names = {path.stem for path in written[1:]}
    assert {"samples", "alignment", "gradients", "far", "classes", "interpolation"} <= names
    assert {path.name for path in written[1:]} == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert all(path.stat().st_size > 500 for path in written)


def test_a_page_that_cannot_be_written_is_an_error(study: OddsStudy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_odds(replace(study, pictures=None), tmp_path / "file" / "report.html")


def test_the_pixels_of_a_sheet_keep_their_colours_and_edges_in_a_file(tmp_path: Path) -> None:
    board = np.indices((8, 8)).sum(0) % 2
    cell = Cell(board[None].astype(np.float32), "a < b", "a board")
    sheet = Sheet("one", ("A <board>",), "Of eight.", (Row("row & label", (cell, cell)),))
    drawn = svg(sheet, PAINT)
    assert "A &lt;board&gt;" in drawn
    assert "row &amp; label" in drawn
    with Image.open(write_sheet(sheet, PAINT, tmp_path / "one.png")) as opened:
        pixels = np.asarray(opened.convert("L"))
    found = re.findall(r'<image x="(\d+)" y="(\d+)" width="(\d+)"', drawn)
    left, top, width = (2 * int(part) for part in found[0])
    shown = pixels[top : top + width, left : left + width]
    assert shown.shape == (128, 128)
    exact = (255 * board).repeat(16, 0).repeat(16, 1)
    assert (shown == exact).all()


def test_the_title_of_samples_counts_where_training_helps_and_costs() -> None:
    n, sizes = 400, (10, 100)
    few, many = np.arange(n) < 200, np.arange(n) < 300
    plain, robust = np.stack([few, many])[None], np.stack([many, few])[None]
    alone = crossing(plain, np.zeros_like(plain), sizes).gaps
    curves = [
        Curve(Variant("linear", {}), alone, None, {}),
        Curve(Variant("linear", {}, "linf", Budget(0.1, "0.1")), alone, crossing(robust, plain, sizes), {}),
    ]
    figure = samples(curves, 1, n, PAINT)
    assert "learned nothing" not in figure.subtitle
    assert "raises standard accuracy for 1 of 1 networks" in figure.title[0]
    assert "costs it for 1 at 100 samples" in figure.title[0]


def test_trainings_that_learned_nothing_are_counted_and_named(study: OddsStudy) -> None:
    curves = [replace(study.curves[0], dead={(50, 0): wilson(40, 400)}), *study.curves[1:]]
    figure = samples(curves, 1, 400, PAINT)
    assert "1 of the 4 trainings learned nothing" in figure.subtitle
    assert figure.tables[-1].rows == (("linear-standard", "50", "0", str(wilson(40, 400))),)


def test_the_title_of_cheaper_training_names_what_pays_or_says_that_nothing_does() -> None:
    setup = replace(SETUPS["digits"], epochs=(1, 2))
    assert "takes 0.5" in cheaper(summary(setup, trials()), PAINT).title[0]
    dear = [replace(one, seconds=30.0 * one.epochs) if one.rule != "pgd" else one for one in trials()]
    assert cheaper(summary(setup, dear), PAINT).title[0].startswith("No rule takes less processor time than PGD")


def test_lines_show_a_rule_only_within_their_axis() -> None:
    marks = tuple(Mark(x, 0.5, 0.4, 0.6, "50 %") for x in (1, 10))
    inside, outside = (
        lines([Line("a", 0, marks, rule)], ("x", "y"), PAINT, log=True).to_dict() for rule in (3.0, 30.0)
    )
    assert '"strokeDash": [1, 3]' in json.dumps(inside)
    assert '"strokeDash": [1, 3]' not in json.dumps(outside)
