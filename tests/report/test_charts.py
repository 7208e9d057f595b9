"""Every chart of the registry states its finding, says how many images it shows, and has words and tables behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import vl_convert
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds import analysis
from atodds.report import colours
from atodds.report.charts import CHARTS, Figure
from atodds.report.charts.labels import broken, shortened, spread
from atodds.report.facts import Facts, gather
from atodds.report.page import vega_lite_version
from atodds.report.words import plain

if TYPE_CHECKING:
    from tests.report.conftest import MadeModel, MadeRun, Make

    from atodds.analysis import Traits


@pytest.fixture(scope="module")
def facts(run: MadeRun) -> Facts:
    return gather(run)


@pytest.fixture(scope="module")
def many_facts(many: MadeRun, traits: dict[str, Traits]) -> Facts:
    return gather(many, traits)


Draw = Callable[[str], Figure]


def drawer(facts: Facts) -> Draw:
    charts = {chart.name: chart for chart in CHARTS}

    @cache
    def drawn(name: str) -> Figure:
        figure = charts[name].draw(facts, colours.variables(len(facts.attacks)))
        assert figure is not None
        return figure

    return drawn


@pytest.fixture(scope="module")
def draw(facts: Facts) -> Draw:
    return drawer(facts)


@pytest.fixture(scope="module")
def draw_many(many_facts: Facts) -> Draw:
    return drawer(many_facts)


ROWS = [  # name, section, the run that it is drawn of, its panels, its tables
    ("robust-accuracy", "curves", "two models", 1, 2),
    ("frontier", "tradeoff", "many models", 2, 2),
    ("mixtures", "tradeoff", "many models", 2, 2),
    ("scaling", "tradeoff", "many models", 1, 2),
    ("factors", "tradeoff", "many models", 3, 4),
    ("classes", "classes", "two models", 2, 3),
    ("attacks", "attacks", "two models", 4, 4),
    ("optimality", "attacks", "many models", 1, 5),
    ("bounds", "bounds", "many models", 6, 8),
    ("transfer", "transfer", "many models", 2, 6),
]


def test_the_registry_holds_these_charts() -> None:
    assert [(chart.name, chart.section) for chart in CHARTS] == [row[:2] for row in ROWS]


def test_every_chart_has_a_row_in_the_documentation() -> None:
    told = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    rows = [
        line.split("|")[1].strip(" `") for line in told.partition("## Charts")[2].splitlines() if line.startswith("| `")
    ]
    assert rows == [chart.name for chart in CHARTS]


@pytest.mark.parametrize(("name", "section", "of", "panels", "tables"), ROWS)
def test_a_chart_states_its_finding_its_n_and_its_numbers(
    draw: Draw, draw_many: Draw, name: str, section: str, of: str, panels: int, tables: int
) -> None:
    figure = (draw if of == "two models" else draw_many)(name)
    assert any(digit in plain(figure.title) for digit in "0123456789")
    assert ("500" if of == "two models" else "200") in figure.subtitle or name == "transfer"
    assert "image" in figure.subtitle
    assert len(figure.panels) == panels
    assert len(figure.tables) == tables
    assert all(panel.alternative.endswith(".") and len(panel.alternative) > 60 for panel in figure.panels)
    assert all(len(row) == len(table.head) for table in figure.tables for row in table.rows)
    assert all(panel.heading for panel in figure.panels) or len(figure.panels) == 1
    assert section


@pytest.mark.parametrize(("name", "of"), [(name, of) for name, _, of, _, _ in ROWS])
def test_a_chart_is_one_that_vega_lite_understands(draw: Draw, draw_many: Draw, name: str, of: str) -> None:
    for panel in (draw if of == "two models" else draw_many)(name).panels:
        spec = panel.drawing.properties(width=300).to_dict()
        vega = vl_convert.vegalite_to_vega(spec, vl_version=vega_lite_version())
        assert vega["marks"]
        titles = [axis["title"] for axis in vega["axes"] if "title" in axis]
        assert titles


@pytest.mark.parametrize("name", [name for name, _, of, _, _ in ROWS if of == "many models"])
def test_two_models_under_attacks_in_sequence_have_none_of_what_several_have(facts: Facts, name: str) -> None:
    (chart,) = [chart for chart in CHARTS if chart.name == name]
    assert chart.draw(facts, colours.variables(len(facts.attacks))) is None


CLASSES, ATTACKS = (next(c for c in CHARTS if c.name == name) for name in ("classes", "attacks"))


def specification(figure: Figure, place: int = 0) -> dict[str, Any]:
    return dict(figure.panels[place].drawing.to_dict())


def values(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The data of a specification, and of its layers."""
    found = [spec["data"]["values"]] if "values" in spec.get("data", {}) else []
    found += [rows for layer in spec.get("layer", []) for rows in values(layer)]
    return found + list(spec.get("datasets", {}).values())


def test_the_line_goes_through_the_rates_of_the_analysis(run: MadeRun, draw: Draw) -> None:
    rows = max(values(specification(draw("robust-accuracy"))), key=len)
    for model in run.manifest.models:
        curve = analysis.curve(run.table(), model.id, "linf", list(run.manifest.budgets))
        mine = [row for row in rows if row["model"] == model.name]
        assert [(row["rate"], row["low"], row["high"]) for row in mine] == [
            (rate.value, rate.low, rate.high) for rate in curve.rates
        ]
        assert [row["eps"] for row in mine] == pytest.approx(range(9))


def test_rates_run_from_zero_to_one_and_eps_from_zero(draw: Draw) -> None:
    text = json.dumps(specification(draw("robust-accuracy")), ensure_ascii=False)
    assert '"domain": [0, 1]' in text
    assert '"domain": [0, 8.0]' in text
    assert "ε in l∞ (1/255)" in text


def test_ticks_are_written_as_they_were_typed(make: Make) -> None:
    facts = gather(make(eps="0,0.05,0.250,1e-1", n=20))
    figure = CHARTS[0].draw(facts, colours.variables(3))
    assert figure is not None
    assert json.dumps('["0", "0.05", "1e-1", "0.250"]')[1:-1] in json.dumps(specification(figure))


def test_a_model_has_its_colour_and_shape_wherever_it_stands(make: Make) -> None:
    """The robust model comes first on the page, and second in the run: it keeps the second colour."""
    facts = gather(make())
    assert [m.place for m in facts.models] == [1, 0]
    figure = CHARTS[0].draw(facts, colours.values(3))
    assert figure is not None
    scales = json.dumps(specification(figure))
    assert (
        f'"domain": ["resnet20", "smallresnet_robust"], "range": ["{colours.MODELS[0]}", "{colours.MODELS[1]}"]'
        in scales
    )


def test_the_stack_adds_up_to_what_is_lost(facts: Facts, draw: Draw) -> None:
    for place, model in enumerate(facts.models):
        (rows,) = values(specification(draw("attacks"), 2 * place))
        for budget in facts.budgets:
            tops = [row["top"] for row in rows if row["at"] == budget.text]
            assert max(tops) == pytest.approx(1 - model.at(budget).value)


def test_heatmaps_share_their_colours_and_the_order_of_their_classes(draw: Draw) -> None:
    first, second = (specification(draw("classes"), place) for place in (0, 1))
    orders = []
    for spec in (first, second):
        text = json.dumps(spec)
        assert '"domain": [0, 1]' in text
        assert '"#440154"' in text
        orders.append(spec["layer"][0]["encoding"]["y"]["scale"]["domain"])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 10


def test_many_classes_are_cut_to_the_worst_and_the_best(make: Make) -> None:
    facts = gather(make(classes=[f"a class of images that is called number {k} of them" for k in range(60)], n=600))
    figure = CLASSES.draw(facts, colours.variables(3))
    assert figure is not None
    assert "The 12 best and the 12 worst of 60 classes." in figure.subtitle
    names = specification(figure)["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert len(set(names)) == 24
    assert all(len(name) <= 20 for name in names)
    assert {len(table.rows) for table in figure.tables} == {24}


def test_a_single_class_has_no_heatmap(make: Make) -> None:
    assert CLASSES.draw(gather(make(classes=["only"], n=20)), colours.variables(3)) is None


def test_what_attacks_find_alone_is_shown_only_where_they_ran_alone(make: Make, draw: Draw) -> None:
    figure = ATTACKS.draw(gather(make(alone=True, n=100)), colours.variables(3))
    assert figure is not None
    assert sum("alone" in table.caption for table in figure.tables) == 2
    assert not any("alone" in table.caption for table in draw("attacks").tables)


def test_the_frontier_stands_where_the_analysis_says(many: MadeRun, many_facts: Facts, draw_many: Draw) -> None:
    found = analysis.frontier(many.table(), "linf", many_facts.key)
    rows = max((rows for rows in values(specification(draw_many("frontier"))) if "often" in rows[0]), key=len)
    assert {row["name"]: (row["x"], row["y"]) for row in rows} == {
        many_facts.name(point.model): (point.accuracy.value, point.robustness.value) for point in found.points
    }
    table = draw_many("frontier").tables[0]
    assert [row[0] for row in table.rows[: len(found.members)]] == [many_facts.name(p.model) for p in found.members]
    for row in table.rows:
        (point,) = [p for p in found.points if many_facts.name(p.model) == row[0]]
        assert (row[4] == "none") == point.member


def test_published_entries_stand_behind_where_data_norm_and_eps_match(
    make: Make, model: type[MadeModel], many_facts: Facts, draw_many: Draw
) -> None:
    one = many_facts.further.frontiers[1]
    assert str(one.frontier.eps) == "8/255"
    assert len(one.published) == 93
    assert "93 entries of the published leaderboard at 8/255" in draw_many("frontier").subtitle
    text = json.dumps(specification(draw_many("frontier"), 1))
    assert "Bartoldson2024Adversarial_WRN-94-16" in text
    assert "Bartoldson" not in json.dumps(specification(draw_many("frontier"), 0))
    three = [model(f"m{k}", 0.8, 4.0) for k in range(3)]
    for other in ({"eps": "1/255,7/255"}, {"norm": "l2", "eps": "0.25,1"}):
        assert not any(one.published for one in gather(make(three, n=60, **other)).further.frontiers)


def test_models_that_keep_nothing_are_not_held_beside_the_published_ones(make: Make, model: type[MadeModel]) -> None:
    weak = gather(make([model(f"m{k}", 0.8, 0.2) for k in range(3)], n=60, eps="0.1/255,8/255"))
    assert [str(one.frontier.eps) for one in weak.further.frontiers] == ["0.1/255"]


def test_the_line_is_that_of_the_analysis_and_says_on_whom_it_stands(many_facts: Facts, draw_many: Draw) -> None:
    fit = many_facts.further.scaling
    assert fit is not None
    figure = draw_many("scaling")
    band = next(rows for rows in values(specification(figure)) if "low" in rows[0])
    for row in band:
        assert row["y"] == pytest.approx(255 * fit.at(row["x"])[0])
    assert fit.line.footing.standing in ("too few", "no relation")
    assert "too few" in plain(figure.title)


def test_the_title_of_the_line_names_the_models_that_it_stands_on(make: Make, model: type[MadeModel]) -> None:
    models = [model(f"m{k}", 0.8, 1.0) for k in range(8)] + [model("strong", 0.4, 9.0), model("tough", 0.38, 9.3)]
    facts = gather(make(models, n=300, eps="60/255", attacks=("pgd",), exact=True))
    figure = drawer(facts)("scaling")
    fit = facts.further.scaling
    assert fit is not None
    assert fit.line.footing.standing == "stands on two"
    assert plain(figure.title).startswith("That distance rises with ln(error) stands on ")
    assert {"strong", "tough"} <= set(plain(figure.title).replace(":", "").split())


def test_the_matrix_shows_each_pair_and_parts_the_families(many_facts: Facts, draw_many: Draw) -> None:
    matrix = many_facts.further.transfers[0]
    assert matrix.families == ("cnn", "cnn", "mlp", "mlp", "vgg")
    figure = draw_many("transfer")
    rows = max(values(specification(figure)), key=len)
    assert len(rows) == 5 * 4
    place = {many_facts.name(model): k for k, model in enumerate(matrix.models)}
    for row in rows:
        rate = matrix.rates[place[row["from"]]][place[row["to"]]]
        assert rate is not None
        assert (row["rate"], row["n"]) == (rate.value, rate.n)
    assert "also fools one of its family" in plain(figure.title)
    assert figure.panels[0].least >= 5 * 27
    assert {"mlp", "cnn", "vgg"} <= {row["family"] for rows in values(specification(figure)) for row in rows
                                     if "family" in row}  # fmt: skip


def test_without_families_a_matrix_ranks_its_models(many: MadeRun) -> None:
    facts = gather(many)
    figure = drawer(facts)("transfer")
    assert "fools the others most often" in plain(figure.title)
    assert facts.further.factors is None


def test_optimality_stands_beside_passes(many_facts: Facts, draw_many: Draw) -> None:
    found = many_facts.further.optimality
    assert found is not None
    rows = next(rows for rows in values(specification(draw_many("optimality"))) if "attack" in rows[0])
    assert {row["attack"]: (row["y"], row["x"]) for row in rows} == {
        one.attack: (one.optimality.value, one.passes) for one in found.attacks
    }


def test_factors_show_differences_in_the_unit_of_the_page(many_facts: Facts, draw_many: Draw) -> None:
    found = many_facts.further.factors
    assert found is not None
    within, across, shares = (max(values(specification(draw_many("factors"), k)), key=len) for k in range(3))
    assert [row["difference"] for row in within] == pytest.approx([255 * c.difference for c in found.within])
    assert [row["pair"] for row in within] == ["cnn-14 − cnn-8", "mlp-3 − mlp-2"]
    assert len(across) == 3
    assert [row["share"] for row in shares] == [one.share for one in found.explained]


def test_three_models_may_have_the_very_same_numbers(make: Make, model: type[MadeModel]) -> None:
    """No spread on any axis: everything is drawn, or is not, without an error."""
    same = make([model(f"m{k}", 1.0, 1e6) for k in range(3)], n=30, alone=True)
    facts = gather(same)
    for chart in CHARTS:
        chart.draw(facts, colours.variables(3))


places = st.lists(st.tuples(st.floats(0, 300), st.floats(5, 30)), min_size=1, max_size=9)


@settings(deadline=None)
@given(places)
def test_labels_never_cover_each_other_and_stay_within_the_plot(wanted: list[tuple[float, float]]) -> None:
    centres, heights = [centre for centre, _ in wanted], [height for _, height in wanted]
    found = spread(centres, heights, 0, 300)
    order = sorted(range(len(found)), key=lambda k: found[k])
    for before, after in pairwise(order):
        assert found[after] - found[before] >= (heights[before] + heights[after]) / 2 - 1e-6
    assert min(f - h / 2 for f, h in zip(found, heights, strict=True)) >= -1e-6
    assert max(f + h / 2 for f, h in zip(found, heights, strict=True)) <= 300 + 1e-6


def test_labels_with_room_stay_where_they_are_and_crowded_ones_move_least() -> None:
    assert spread([10, 100, 200], [15, 15, 15], 0, 300) == pytest.approx([10, 100, 200])
    assert spread([100, 100], [20, 20], 0, 300) == pytest.approx([90, 110])
    assert spread([298, 299], [10, 10], 0, 300) == pytest.approx([285, 295])


def test_long_names_break_where_names_break() -> None:
    assert broken("cifar10_smallresnet_robust", 14) == ["cifar10_", "smallresnet_", "robust"]
    assert broken("abcdefghijklmno", 6) == ["abcdef", "ghijkl", "mno"]
    assert broken("short", 14) == ["short"]
    assert broken("", 14) == [""]
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abcde", 5) == "abcde"


def test_text_on_the_heatmap_can_be_read() -> None:
    """Contrast of at least 4.5 against white below the threshold, and against black above it (WCAG 2.2, 1.4.3)."""
    scale = [colour for a, b in pairwise(colours.VIRIDIS) for colour in colours.ramp(a, b, 11)[:10]]
    for place, colour in enumerate(scale):
        text = "#ffffff" if place / 100 < colours.WHITE_BELOW else "#000000"
        assert contrast(colour, text) >= 4.4


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_stands_out_from_the_paper(theme: str) -> None:
    paint = colours.values(6, theme)
    assert contrast(paint.ink, paint.paper) >= 7
    assert contrast(paint.soft, paint.paper) >= 4.5
    accents = colours.ACCENTS[theme]
    assert min(contrast(accents[name], paint.paper) for name in ("bad", "caution", "focus")) >= 4.5


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""
    bright, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
