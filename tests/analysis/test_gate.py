"""A gate fails no model that meets everything more often than it says, and decides as often as it claims."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atodds.analysis.accuracy import Distances
from atodds.analysis.gate import (
    Gate,
    Old,
    Requirement,
    exact,
    gate,
    images_to_decide,
    mcnemar,
    parse_least,
    parse_requirement,
)
from atodds.analysis.gate_text import headline, junit, markdown, sentence
from atodds.errors import ArgumentError, EmptyDataError, ThreatError
from atodds.threat import Budget

EPS = Budget(8 / 255, "8/255")
ROBUST = Requirement(0.45, "linf", EPS)
LEVEL = 0.025


def outcomes(right: np.ndarray, stands: np.ndarray, first: int = 0) -> Distances:
    """Distances of a model that has some images right, and of these lets some stand at every eps."""
    n = len(right)
    label = np.zeros(n, dtype=np.int64)
    values = np.where(right, np.where(stands, np.inf, 0.01), 0.0)
    return Distances("m@1", "linf", np.arange(first, first + n), label, np.where(right, 0, 1), values)


def counted(k: int, n: int) -> Distances:
    """Of n images, k stand, and all are right."""
    return outcomes(np.ones(n, dtype=bool), np.arange(n) < k)


def verdict(k: int, n: int, required: Requirement = ROBUST) -> str:
    return gate([("m", counted(k, n), None)], [required], []).verdict


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.05, 0.45, 0.9]))
def test_a_verdict_is_given_exactly_where_the_interval_leaves_the_requirement_out(
    n: int, share: float, least: float
) -> None:
    k = round(share * n)
    low, high = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    assert (exact(k, n).low, exact(k, n).high) == pytest.approx((low, high), abs=1e-9)
    expected = "not met" if high < least else "met" if low > least else "cannot tell"
    assert verdict(k, n, Requirement(least, "linf", EPS)) == expected


@pytest.mark.parametrize("least", [0.05, 0.45, 0.9])
@pytest.mark.parametrize("n", [10, 60])
def test_a_model_that_just_meets_a_requirement_fails_no_more_often_than_is_said(n: int, least: float) -> None:
    """Exactly, by the sum over all outcomes; and one that just misses it passes no more often."""
    said = [verdict(k, n, Requirement(least, "linf", EPS)) for k in range(n + 1)]
    chances = stats.binom.pmf(np.arange(n + 1), n, least)
    assert chances[[one == "not met" for one in said]].sum() <= LEVEL
    assert chances[[one == "met" for one in said]].sum() <= LEVEL


@settings(max_examples=30, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_the_images_that_are_asked_for_give_the_power_that_is_claimed(rate: float, least: float) -> None:
    if abs(rate - least) < 0.02:
        return
    n = images_to_decide(rate, least, LEVEL, 0.8)
    assert n is not None
    counts = np.arange(n + 1)
    tail = stats.binom.cdf(counts, n, least) if rate < least else stats.binom.sf(counts - 1, n, least)
    assert stats.binom.pmf(counts, n, rate)[tail <= LEVEL].sum() >= 0.8
    if n > 2:  # and one image less does not
        fewer = np.arange(n)
        tail = stats.binom.cdf(fewer, n - 1, least) if rate < least else stats.binom.sf(fewer - 1, n - 1, least)
        assert stats.binom.pmf(fewer, n - 1, rate)[tail <= LEVEL].sum() < 0.8


def test_the_power_is_there_in_simulation() -> None:
    rng = np.random.default_rng(0)
    n = images_to_decide(0.38, 0.45, LEVEL)
    assert n is not None
    found = [verdict(int(rng.binomial(n, 0.38)), n) for _ in range(200)]
    assert found.count("not met") / 200 > 0.8 - 3 * math.sqrt(0.16 / 200)


def false_alarms(runs: int, n: int, seed: int) -> float:
    """How often a model fails that just meets both requirements and is as good as its baseline everywhere."""
    rng = np.random.default_rng(seed)
    failed = 0
    for _ in range(runs):
        pair = []
        hard = rng.random(n)  # an image is as hard for one model as for the other, so that outcomes are paired
        for _ in range(2):
            own = np.where(rng.random(n) < 0.7, hard, rng.random(n))
            pair.append(outcomes(own < 0.9, own < 0.45))
        checks = [Requirement(0.9), ROBUST]
        failed += gate([("m", pair[0], Old("old", pair[1]))], checks, [None, EPS]).verdict == "not met"
    return failed / runs


def test_false_alarms_over_all_checks_together_are_at_most_nominal() -> None:
    assert false_alarms(60, 150, 1) <= LEVEL + 3 * math.sqrt(LEVEL / 60)


@pytest.mark.slow
def test_false_alarms_are_at_most_nominal_over_many_runs() -> None:
    assert false_alarms(3000, 200, 2) <= LEVEL + 3 * math.sqrt(LEVEL / 3000)


def test_a_loss_against_the_baseline_is_found_as_often_as_the_gate_claims() -> None:
    rng = np.random.default_rng(3)
    n, found, claimed = 500, 0, []
    for _ in range(100):
        luck = rng.random(n)
        old = outcomes(np.ones(n, dtype=bool), luck < 0.50)
        new = outcomes(np.ones(n, dtype=bool), (luck < 0.40) | ((luck > 0.50) & (luck < 0.53)))  # 7 points worse
        one = gate([("m", new, Old("old", old))], [], [EPS])
        found += one.verdict == "not met"
        claimed.append(one.checks[0].detectable)
    assert max(filter(None, claimed)) < 0.07  # 7 points are more than what is said to be found in 80 %
    assert found / 100 > 0.8 - 3 * math.sqrt(0.16 / 100)


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (5, 0), (9, 2), (3, 3), (0, 6)])
def test_mcnemar_is_the_exact_binomial_test_on_the_images_that_differ(worse: int, better: int) -> None:
    if worse + better:
        assert mcnemar(worse, better) == pytest.approx(
            stats.binomtest(worse, worse + better, 0.5, alternative="greater").pvalue
        )
    else:
        assert mcnemar(worse, better) == 1


def test_statuses_are_0_met_1_not_met_3_cannot_tell_and_the_gravest_counts() -> None:
    good, bad, open_one = counted(90, 100), counted(20, 100), counted(47, 100)
    assert [gate([("m", one, None)], [ROBUST], []).exit_status for one in (good, bad, open_one)] == [0, 1, 3]
    assert gate([("a", good, None), ("b", open_one, None)], [ROBUST], []).exit_status == 3
    assert gate([("a", bad, None), ("b", open_one, None)], [ROBUST], []).exit_status == 1


def test_what_cannot_be_told_says_how_many_images_are_lacking() -> None:
    (check,) = gate([("m", counted(50, 100), None)], [ROBUST], []).checks
    needed = images_to_decide(0.5, 0.45, LEVEL)
    assert needed is not None
    assert check.more == needed - 100
    (never,) = gate([("m", counted(45, 100), None)], [ROBUST], []).checks
    assert (never.verdict, never.more) == ("cannot tell", None)


def test_a_baseline_is_compared_over_shared_images_only() -> None:
    old, new = counted(100, 100), outcomes(np.ones(100, dtype=bool), np.zeros(100, dtype=bool), first=80)
    (check,) = gate([("m", new, Old("old", old))], [], [EPS]).checks
    assert (check.rate.n, check.verdict) == (20, "not met")
    apart = outcomes(np.ones(5, dtype=bool), np.ones(5, dtype=bool), first=500)
    with pytest.raises(EmptyDataError, match="no image in common"):
        gate([("m", apart, Old("old", old))], [], [None])


def test_requirements_are_read_as_they_are_typed() -> None:
    assert parse_requirement("45%@linf:8/255") == parse_requirement("0.45@inf:8/255") == ROBUST
    assert parse_least(" 90 %".replace(" %", "%")) == 0.9
    for text in ("0.45", "0.45@8/255", "45@linf:8/255", "x@linf:8/255"):
        with pytest.raises(ArgumentError):
            parse_requirement(text)
    with pytest.raises(ThreatError):
        parse_requirement("0.45@linf:8")
    with pytest.raises(ArgumentError, match="nothing to check"):
        gate([("m", counted(1, 2), None)], [], [])
    with pytest.raises(ArgumentError, match="confidence"):
        gate([("m", counted(1, 2), None)], [ROBUST], [], confidence=95)


def nasty() -> Gate:
    name = 'a|b `c` <script>alert(1)</script> & "q" ]]> \x0b @everyone'
    return gate(
        [(name, counted(20, 100), Old("old", counted(60, 100))), ("ok", counted(47, 100), None)], [ROBUST], [EPS]
    )


def test_markdown_keeps_names_as_text_and_rows_whole() -> None:
    said = markdown(nasty(), command="atodds check `x` ```")
    assert "<script>" not in said
    assert "@everyone" not in said
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert said.startswith("### atodds check: ✕ not met\n\nNot met: a\\|b")
    assert "````\natodds check `x` ```\n````" in said


def test_junit_is_whole_xml_with_one_case_a_check() -> None:
    root = ElementTree.fromstring(junit(nasty(), command="atodds check < & \x00"))
    (suite,) = root
    cases = suite.findall("testcase")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped"), suite.get("errors")) == (
        "3",
        "2",
        "1",
        "0",
    )
    assert len(cases) == 3
    assert [case.find("failure") is not None for case in cases] == [True, False, True]
    assert "<script>alert(1)</script>" in str(cases[0].get("classname"))
    assert cases[2].get("name") == "robust accuracy at linf:8/255, against the baseline"


def test_the_headline_answers_first() -> None:
    assert headline(gate([("m", counted(90, 100), None)], [ROBUST], [])).startswith(
        "Met: robust accuracy at linf:8/255 90.0 %"
    )
    assert headline(nasty()).startswith("Not met: a|b")
    assert "more images needed: m, robust" in headline(gate([("m", counted(50, 100), None)], [ROBUST], []))
    assert "more images will not" in headline(gate([("m", counted(45, 100), None)], [ROBUST], []))
    assert sentence(nasty().checks[2]).startswith("robust accuracy at linf:8/255 20.0 % (12.7–29.2), baseline 60.0 %")
