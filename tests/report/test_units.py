"""ε and distances are written as they were typed."""

import math

from atodds.analysis import Median
from atodds.report.units import unit_of
from atodds.threat import Budget, parse_eps_list


def test_budgets_typed_over_one_denominator_share_it() -> None:
    unit = unit_of("linf", parse_eps_list("0:8/255:1/255"))
    assert unit.denominator == 255
    assert unit.axis == "ε in l∞ (1/255)"
    assert [unit.tick(budget) for budget in parse_eps_list("0,0.5/255,8/255")] == ["0", "0.5", "8"]
    assert unit.number(4 / 255) == 4
    assert unit.distance(0.9871 / 255) == "0.987/255"
    assert unit.distance(0.0) == "0"


def test_budgets_typed_otherwise_stay_as_they_are() -> None:
    for typed in ("0.03,0.1", "8/255,0.1", "1/255,1/10"):
        unit = unit_of("l2", parse_eps_list(typed))
        assert unit.denominator is None
        assert unit.axis == "ε in l2 (pixels in [0, 1])"
    assert unit.tick(Budget(0.1, "0.1")) == "0.1"
    assert unit.distance(0.0312456) == "0.0312"


def test_a_median_beyond_all_budgets_says_so() -> None:
    unit, largest = unit_of("linf", parse_eps_list("8/255")), Budget(8 / 255, "8/255")
    assert unit.median(Median(2 / 255, 1.5 / 255, 3 / 255, 9), largest) == ("2.00/255", "(1.50–3.00/255)")
    assert unit.median(Median(2 / 255, 1.5 / 255, math.inf, 9), largest) == ("2.00/255", "(1.50–> 8/255)")
    assert unit.median(Median(math.inf, math.inf, math.inf, 9), largest) == ("> 8/255", "")
