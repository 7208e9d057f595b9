"""The page: complete, in order, self-contained, true to the analysis, and safe from the names that come with data."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from atodds import analysis
from atodds.errors import RunError
from atodds.evaluation.manifest import Finding
from atodds.report import render, write
from atodds.report.facts import gather
from atodds.report.page import SECTIONS, leaderboard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.report.conftest import MadeModel, MadeRun, Make, Page

    from atodds.analysis import Traits

ALWAYS = ("leaderboard", "curves", "classes", "attacks", "images", "audit", "provenance")
"""The sections that every page has."""
EVIL = "</script><img src=x onerror=alert(1)>"
FINDINGS = (
    Finding("masked <gradients>", "error", "resnet20@00000000", "measured 1", "meaning 1", "advice 1"),
    Finding("rounding", "note", "smallresnet_robust@00000001", "measured 2", "meaning 2", "advice 2"),
)


@pytest.fixture(scope="module")
def html(run: MadeRun) -> str:
    return render(replace(run, said=FINDINGS))


@pytest.fixture(scope="module")
def page(html: str, read: Callable[[str], Page]) -> Page:
    return read(html)


def test_the_answer_comes_first_and_the_sections_follow_in_order(page: Page) -> None:
    ids = [found["id"] for tag, found in page.elements if "id" in found and tag in ("div", "section")]
    assert ids == ["answer", *ALWAYS]
    links = [found["href"] for found in page.all("a")]
    assert links == [f"#{name}" for name in ALWAYS]


def test_what_only_several_models_have_stands_in_sections_of_its_own(
    many: MadeRun, traits: dict[str, Traits], read: Callable[[str], Page]
) -> None:
    html = render(replace(many, manifest=replace(many.manifest, keep=False)), traits)
    page = read(html)
    assert [found["id"] for found in page.all("section")] == list(SECTIONS)
    assert [found["href"] for found in page.all("a")] == [f"#{name}" for name in SECTIONS]
    assert set(SECTIONS) - set(ALWAYS) == {"tradeoff", "bounds", "transfer"}
    assert len(html.encode()) < 5_000_000
    frames = [found for found in page.all("div") if "min-width" in found.get("style", "")]
    assert len(frames) == 2
    for (_, frame), (_, drawing) in pairwise(page.elements):  # a matrix scrolls inside a frame of its own
        if "min-width" in drawing.get("style", ""):
            assert frame["class"] == "frame"
            assert frame["tabindex"] == "0"


def test_the_page_loads_nothing(page: Page, html: str) -> None:
    loaded = [(tag, found[name]) for tag, found in page.elements for name in ("src", "href", "data") if name in found]
    assert loaded
    assert all(target.startswith(("data:", "#")) for _, target in loaded)
    assert not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "base", "audio", "video", "form"}
    style = page.within("style")
    assert "url(" not in style
    assert "@import" not in style
    assert len(html.encode()) < 5_000_000


def test_the_policy_allows_the_two_scripts_of_the_page_and_nothing_else(page: Page) -> None:
    (policy,) = [found["content"] for found in page.all("meta") if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    (scripts,) = [part.split()[1:] for part in policy.split("; ") if part.startswith("script-src")]
    inside = ["".join(texts) for texts in _scripts(page)]
    expected = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inside]
    assert scripts == [f"'sha256-{digest}'" for digest in expected]
    assert len(inside) == 2


def _scripts(page: Page) -> list[list[str]]:
    """The text of each script that runs."""
    return [[text] for inside, text in page.texts if inside and inside[-1] == "script"]


def test_the_runtime_is_embedded_once(html: str, page: Page) -> None:
    assert html.count("window.vegaEmbed") == 1
    assert sum(len(text) > 100_000 for inside, text in page.texts if inside[-1:] == ("script",)) == 1


def test_every_chart_has_words_tables_and_a_drawing(page: Page) -> None:
    places = [found for found in page.all("div") if "data-drawing" in found]
    drawings = json.loads("".join(text for inside, text in page.texts if "script#drawings" in inside))
    assert sorted(found["data-drawing"] for found in places) == sorted(drawings)
    assert all(found["role"] == "img" and len(found["aria-label"]) > 60 for found in places)
    assert [found["id"] for found in page.all("figure")] == ["chart-robust-accuracy", "chart-classes", "chart-attacks"]
    for name in ("chart-robust-accuracy", "chart-classes", "chart-attacks"):
        inside = [place for place, _ in page.texts if f"figure#{name}" in place]
        assert any("table" in place and "details" in place for place in inside)
    assert all(spec["width"] == "container" for spec in drawings.values())


def test_every_picture_has_words_and_the_gallery_can_be_walked_with_keys(page: Page) -> None:
    pictures = page.all("img")
    assert len(pictures) == 3 * sum(found.get("class") == "shot" for found in page.all("li"))
    assert all(len(found["alt"]) > 10 for found in pictures)
    stops = [found["tabindex"] for found in page.all("li") if found.get("class") == "shot"]
    assert stops.count("0") == 2  # one a model
    assert set(stops) == {"0", "-1"}


def test_the_numbers_of_the_page_are_those_of_the_analysis(run: MadeRun, page: Page) -> None:
    board, table = page.within("section#leaderboard"), page.within("figure#chart-robust-accuracy")
    for model in run.manifest.models:
        shown = [analysis.accuracy(run.table(), model.id)]
        shown += [analysis.robust_accuracy(run.table(), model.id, "linf", eps) for eps in ("1/255", "4/255", "8/255")]
        for rate in shown:
            assert str(rate) in board
        for rate in analysis.curve(run.table(), model.id, "linf", "0:8/255:1/255").rates:
            assert str(rate) in table
    classes = page.within("figure#chart-classes")
    for curve in analysis.per_class(
        run.table(), "resnet20@00000000", "linf", "1/255", run.manifest.data.classes
    ).curves:
        assert str(curve.rates[0]) in classes
    attacks = page.within("figure#chart-attacks")
    for share in analysis.attack_shares(run.table(), "resnet20@00000000", "linf", "8/255").attacks:
        assert str(share.added[0]) in attacks
        assert f"{share.forwards:,}" in attacks


def test_the_best_is_bold_only_where_its_interval_clears_all_others(make: Make, model: type[MadeModel]) -> None:
    facts = gather(make([model("a", 0.9, 4.0), model("b", 0.92, 4.2), model("c", 0.9, 0.2)]))
    for row in leaderboard(facts):
        for place, cell in enumerate(row.rates):
            others = [other.rates[place].rate for other in leaderboard(facts) if other is not row]
            assert cell.best == all(cell.rate.low > other.high for other in others)
    assert not any(cell.best for row in leaderboard(gather(make([model("a", 0.9, 4.0)]))) for cell in row.rates)


def test_models_with_the_very_same_numbers_are_both_plain(make: Make, model: type[MadeModel]) -> None:
    facts = gather(make([model("a", 1.0, 1e6), model("b", 1.0, 1e6)], n=50))
    assert {cell.rate for row in leaderboard(facts) for cell in row.rates} == {analysis.wilson(50, 50)}
    assert not any(cell.best or row.best_median for row in leaderboard(facts) for cell in row.rates)


def test_bars_stand_on_one_scale(run: MadeRun, page: Page) -> None:
    bands = [found for found in page.all("rect") if found.get("class") == "band"]
    rates = [cell.rate for row in leaderboard(gather(run)) for cell in row.rates]
    assert len(bands) == len(rates) == 8
    for band, rate in zip(bands, rates, strict=True):
        assert float(band["x"]) == pytest.approx(100 * rate.low, abs=0.01)
        assert float(band["width"]) == pytest.approx(100 * (rate.high - rate.low), abs=0.01)


def test_the_audit_shows_each_finding_by_word_and_mark(page: Page) -> None:
    text = page.within("section#audit")
    for finding in FINDINGS:
        for said in (finding.check, finding.severity, finding.measured, finding.meaning, finding.advice):
            assert said in text
    assert "✕" in text
    assert "●" in text
    assert "Do not use these numbers yet: the audit found 1 error." in page.within("div#answer")
    assert "✕ 1 error" in page.within("section#leaderboard")
    assert "✓ 0 warnings" in page.within("section#leaderboard")


def test_an_audit_without_findings_says_so(run: MadeRun, read: Callable[[str], Page]) -> None:
    assert "no finding on any of these models: 0 errors, 0 warnings, 0 notes" in read(render(run)).within(
        "section#audit"
    )


def test_how_it_was_made_is_folded_and_complete(run: MadeRun, page: Page) -> None:
    text, manifest = page.within("section#provenance"), run.manifest
    for said in (
        manifest.command,
        manifest.commit,
        manifest.created,
        "torch 2.13.0",
        manifest.data.fingerprint,
        "made up",
    ):
        assert said in text
    for model in manifest.models:
        assert model.fingerprint in text
    assert [found for found in page.all("details") if found.get("class") == "provenance"] == [{"class": "provenance"}]
    assert "command" in [found.get("data-copy") for found in page.all("button")]


def test_names_from_models_and_data_are_shown_and_never_run(
    make: Make, model: type[MadeModel], read: Callable[[str], Page]
) -> None:
    names = [EVIL, "{{ 7 * 7 }}\"'><svg onload=alert(2)>"]
    run = make(
        [model(names[0], 0.9, 1.0), model(names[1], 0.8, 4.0)],
        classes=[f"</script><b onclick=alert({k})>" for k in range(10)],
        attacks=("<i>pgd</i>", "<!--<script>"),
        findings=[Finding(EVIL, "warning", f"{EVIL}@00000000", EVIL, EVIL, EVIL)],
        command=f"atodds bench '{EVIL}'",
        commit=EVIL,
        versions={EVIL: EVIL},
        machine={EVIL: EVIL},
        created=EVIL,
    )
    html = render(run)
    page = read(html)
    tags = {tag for tag, _ in page.elements}
    assert {"img", "svg", "script"} <= tags
    assert all(not name.startswith("on") for _, found in page.elements for name in found)
    assert all(found["src"].startswith("data:image/png;base64,") for found in page.all("img"))
    assert len(page.all("script")) == 3
    assert len(page.all("svg")) == len(read(render(make())).all("svg"))
    for part in ("div#answer", "section#leaderboard", "section#audit", "section#provenance", "title"):
        assert EVIL in page.within(part)
    assert "49" not in page.within("h1")
    drawings = "".join(text for inside, text in page.texts if "script#drawings" in inside)
    assert "<" not in drawings
    rows = json.dumps(json.loads(drawings))
    assert EVIL in rows


@pytest.mark.parametrize(
    "options",
    [
        {"eps": "0", "n": 20},
        {"eps": "8/255", "n": 1},
        {"eps": "0.5,1", "norm": "l2", "n": 30},
        {"attacks": (), "n": 30},
        {"classes": ["only"], "n": 12},
        {"classes": [], "n": 12},
        {"classes": ["twice", "twice", "once"], "n": 30},
        {"n": 30, "keep": False},
        {"n": 30, "command": "", "commit": ""},
    ],
    ids=str,
)
def test_every_run_has_a_page(make: Make, read: Callable[[str], Page], options: dict[str, object]) -> None:
    if options.get("classes") == []:
        run = make(n=12)
        run = replace(run, manifest=replace(run.manifest, data=replace(run.manifest.data, classes=())))
    else:
        run = make(**options)
    page = read(render(run))
    assert [found["id"] for found in page.all("section")] == list(ALWAYS)
    assert "nan" not in page.within("main").lower()


def test_a_run_of_minimum_norm_attacks_only_gets_a_grid_of_its_own(make: Make) -> None:
    run = make(n=100)
    none = replace(run, manifest=replace(run.manifest, budgets=()))
    budgets = gather(none).budgets
    assert len(budgets) == 9
    assert budgets[-1].value == pytest.approx(8 / 255)


def test_a_model_that_is_never_right_has_a_page_too(make: Make, model: type[MadeModel]) -> None:
    html = render(make([model("hopeless", 0.0, 1.0)], n=30))
    assert "none right" in html
    assert "No attack fooled it on an image that it classifies rightly." in html


def test_a_dozen_models_keep_their_places(make: Make, model: type[MadeModel]) -> None:
    facts = gather(make([model(f"m{k}", 0.9, 1 + k) for k in range(12)], n=40, eps="1/255,8/255"))
    assert sorted(m.place for m in facts.models) == list(range(12))
    assert [m.at(facts.key).value for m in facts.models] == sorted(
        (m.at(facts.key).value for m in facts.models), reverse=True
    )


def test_a_page_for_large_images_and_many_classes_stays_small(make: Make, model: type[MadeModel]) -> None:
    models = [model(f"model{k}", 0.8, 1.0 + k) for k in range(3)]
    html = render(make(models, n=300, classes=[f"class {k}" for k in range(150)], shape=(3, 224, 224)))
    assert len(html.encode()) < 5_000_000


def test_a_page_is_written_and_folders_are_made(run: MadeRun, tmp_path: Path) -> None:
    path = write(run, tmp_path / "new" / "page.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_page_that_cannot_be_written_is_an_error(run: MadeRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        write(run, tmp_path / "file" / "page.html")
