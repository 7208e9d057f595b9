"""The chart of bounds shows what the analysis says, and names what contradicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from atodds import analysis
from atodds.report import colours
from atodds.report.charts import bounds
from atodds.report.charts.figure import Figure
from atodds.report.facts import Facts, gather
from atodds.report.words import plain

if TYPE_CHECKING:
    from tests.report.conftest import MadeRun, Make


@pytest.fixture(scope="module")
def facts(many: MadeRun) -> Facts:
    return gather(many)


@pytest.fixture(scope="module")
def figure(facts: Facts) -> Figure:
    drawn = bounds.draw(facts, colours.variables(len(facts.attacks)))
    assert drawn is not None
    return drawn


def test_the_title_counts_what_contradicts_and_names_the_worst(many: MadeRun, facts: Facts, figure: Figure) -> None:
    below, table = many.bounds(), many.table()
    found = [one for info in many.manifest.models for one in analysis.lower_uppers(below, table, info.id)]
    wrong, n = sum(len(one.beside.crossings) for one in found), sum(one.beside.n for one in found)
    assert wrong > 3
    assert plain(figure.title).startswith(f"{wrong} of {n} bounds are above the distance found: at most 1.2 times, by")
    assert len(facts.further.bounds) == len(found) == 6


def test_every_image_is_in_a_table_those_that_contradict_first(facts: Facts, figure: Figure) -> None:
    for found, table in zip(facts.further.bounds, figure.tables[1:], strict=False):
        assert len(table.rows) == len(found)
        first = [row for row in table.rows if row[3]]
        assert list(table.rows[: len(first)]) == first
        assert [row[0] for row in first] == [str(one.image) for one in found.beside.crossings]


def test_a_certificate_is_said_to_be_of_the_smoothed_classifier(figure: Figure) -> None:
    assert "two classifiers" in figure.subtitle
    kinds = {row[2] for row in figure.tables[0].rows}
    assert kinds == {"estimate", "certificate, of the smoothed classifier"}
    certified = figure.tables[-1]
    assert "certified accuracy" in certified.caption
    assert certified.rows[0][0] == "0"


def test_a_run_without_bounds_has_no_such_chart(make: Make) -> None:
    facts = gather(make(n=20))
    assert bounds.draw(facts, colours.variables(len(facts.attacks))) is None
