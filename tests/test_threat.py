"""Norms and budgets are read as the field writes them; what cannot work is refused with the way out."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atodds.errors import ThreatError
from atodds.threat import NORMS, Budget, Threat, parse_eps, parse_eps_list, parse_norm


@pytest.mark.parametrize(
    ("typed", "value", "text"),
    [
        ("8/255", 8 / 255, "8/255"),
        (" 8 / 255 ", 8 / 255, "8/255"),
        ("0.03", 0.03, "0.03"),
        (".5/255", 0.5 / 255, ".5/255"),
        ("1e-3", 0.001, "1e-3"),
        ("0", 0.0, "0"),
        ("-0", 0.0, "0"),
        ("0/255", 0.0, "0"),
        ("1", 1.0, "1"),
        (0.03, 0.03, "0.03"),
        (8 / 255, 8 / 255, "0.0313725"),
        (1, 1.0, "1"),
        (-0.0, 0.0, "0"),
        (np.float32(0.25), 0.25, "0.25"),
        (np.int64(0), 0.0, "0"),
        (Fraction(8, 255), 8 / 255, "8/255"),
        (Budget(0.5, "half"), 0.5, "half"),
    ],
)
def test_a_budget_has_its_value_and_the_text_it_was_typed_as(typed: str | float, value: float, text: str) -> None:
    budget = parse_eps(typed)
    assert (budget.value, budget.text) == (value, text)
    assert float(budget) == value
    assert str(budget) == text
    assert math.copysign(1, budget.value) == 1


@given(st.integers(0, 255), st.integers(1, 100_000))
def test_a_fraction_is_the_nearest_float_to_it(above: int, below: int) -> None:
    assert parse_eps(f"{above}/{below}", "l2").value == above / below


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("8", "Did you mean 8/255?"),
        (8, "Did you mean 8/255?"),
        ("8/1", "Did you mean 8/255?"),
        (255.0, "Did you mean 255/255?"),
        ("1.5", "Did you mean 1.5/255?"),
        (300, "Give at most 1, such as 8/255."),
    ],
)
def test_pixels_of_0_to_255_are_recognised_in_linf(typed: str | float, advice: str) -> None:
    with pytest.raises(ThreatError, match=r"pixels lie in \[0, 1\]") as caught:
        parse_eps(typed, "linf")
    assert advice in str(caught.value)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_lengths_above_1_are_fine_in_the_other_norms(norm: str) -> None:
    assert parse_eps("8", norm).value == 8.0


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("-1/255", "a negative distance. Did you mean 1/255?"),
        (-0.5, "a negative distance. Did you mean 0.5?"),
        ("nan", "not a number"),
        (math.nan, "not a finite number"),
        ("inf", "not a number"),
        (math.inf, "not a finite number"),
        (-math.inf, "not a finite number"),
        (10**400, "not a finite number"),
        ("", "not a number"),
        ("  ", "not a number"),
        ("eight", "not a number"),
        ("8/", "not a number"),
        ("/255", "not a number"),
        ("8/0", "not a number"),
        ("1/2/3", "not a number"),
        ("0x10", "not a number"),
        ("8/255:", "not a number"),
        ("1e-400", "not a number"),
        ("1e999999999", "not a number"),  # as an exact number it would fill the memory
        ("1/1e999999999", "not a number"),
        ("9" * 5000, "not a number"),
        (True, "not a budget"),
        (None, "not a budget"),
        (1j, "not a budget"),
        ([0.1], "not a budget"),
        (torch.tensor(0.1), "not a budget"),
    ],
)
def test_nonsense_is_refused_with_the_argument_and_a_way_out(typed: object, problem: str) -> None:
    for norm in NORMS:
        with pytest.raises(ThreatError) as caught:
            parse_eps(typed, norm, "--eps")  # type: ignore[arg-type]
        assert problem in str(caught.value)
        assert str(caught.value).startswith("--eps=")
        assert isinstance(caught.value, ValueError)


def texts(eps: object, norm: str = "linf") -> list[str]:
    return [budget.text for budget in parse_eps_list(eps, norm)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("0:8/255:1/255", ["0", *(f"{k}/255" for k in range(1, 9))]),
        ("8/255", ["8/255"]),
        ("4/255,8/255,1/255", ["1/255", "4/255", "8/255"]),
        ("4/255, 4/255,,", ["4/255"]),
        ("0,2/255:4/255:1/255,0.5", ["0", "2/255", "3/255", "4/255", "0.5"]),
        (["8/255", 0.5, 0], ["0", "8/255", "0.5"]),
        ([["1/255"], ("2/255:3/255:1/255",)], ["1/255", "2/255", "3/255"]),
        (0.03, ["0.03"]),
        (np.linspace(0, 0.2, 3), ["0", "0.1", "0.2"]),
        ("0:0.3:0.1", ["0", "0.1", "0.2", "0.3"]),
        ("0:1/255:0.5/255", ["0", "0.5/255", "1/255"]),
        ("0:2/255:1/510", ["0", "1/510", "2/510", "3/510", "4/510"]),
        ("1/3:1/2:1/8", ["8/24", "11/24"]),
        ("0:8/255:3/255", ["0", "3/255", "6/255"]),
        ("1/255:1/255:1/255", ["1/255"]),
        (Budget(0.1, "a tenth"), ["a tenth"]),
    ],
)
def test_lists_and_ranges_are_ascending_and_show_what_was_typed(typed: object, shown: list[str]) -> None:
    assert texts(typed) == shown


def test_the_values_of_a_range_carry_no_rounding_noise() -> None:
    assert [b.value for b in parse_eps_list("0:8/255:1/255")] == [k / 255 for k in range(9)]
    assert [b.value for b in parse_eps_list("0:0.3:0.1")] == [0.0, 0.1, 0.2, 0.3]


def test_a_range_typed_with_rounded_decimals_still_ends_at_its_stop() -> None:
    assert texts("0:0.0313725:0.00392157")[-1] == "0.0313725"  # 8 steps are 0.00000006 too long
    assert texts("0:0.0313726:0.00392157")[-1] == "0.0313726"  # and here too short
    assert len(parse_eps_list("0:0.0313725:0.00392157")) == len(parse_eps_list("0:0.0313726:0.00392157")) == 9


def test_the_same_budget_twice_is_one_whatever_rounding_did_to_it() -> None:
    assert texts([0.1 + 0.2, "0.3", 0.3]) == ["0.3"]
    assert texts([8 / 255, "8/255"]) == texts(["8/255", 8 / 255]) == ["8/255"]
    assert texts([0, "0", 0.0, "0/255"]) == ["0"]
    assert texts([0, 1e-12, 2e-12], "l2") == ["0", "1e-12", "2e-12"]


@given(st.integers(1, 20), st.integers(1, 400), st.integers(0, 30), st.integers(0, 5))
def test_every_text_of_a_range_reads_back_as_its_value(step: int, below: int, count: int, start: int) -> None:
    typed = f"{start}/{below}:{start + step * count}/{below}:{step}/{below}"
    found = parse_eps_list(typed, "l2")
    assert len(found) == count + 1
    for k, budget in enumerate(found):
        assert budget.value == (start + step * k) / below
        assert parse_eps(budget.text, "l2").value == budget.value


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("", "no budget named"),
        (" , ", "no budget named"),
        ([], "no budget named"),
        (None, "not a budget"),
        ({0.1: 1}, "not a budget"),
        (b"8", "not a budget"),
        (np.array(0.1), "not a budget"),
        ([[0.1], None], "not a budget"),
        ("0:8/255", "not a range"),
        ("0:1:1:1", "not a range"),
        ("a:b:c", "not a number"),
        ("::", "not a number"),
        ("0:1:0", "does not advance"),
        ("0:1:-1/255", "does not advance"),
        ("8/255:0:1/255", "does not advance"),
        ("0:1:1e-300", "more than 1000"),
        ("0:1:1/1000", "more than 1000"),
        ("0:8:1", "Did you mean 2/255?"),
        ("-1/255:0:1/255", "negative"),
        ("8/255,nan", "not a number"),
    ],
)
def test_a_list_that_cannot_work_is_refused(typed: object, problem: str) -> None:
    with pytest.raises(ThreatError) as caught:
        texts(typed)
    assert problem in str(caught.value)


def test_a_range_may_have_1000_budgets() -> None:
    assert len(parse_eps_list("0:999:1", "l2")) == 1000


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        budgets = parse_eps_list(text, "l2")
    except ThreatError:
        return
    values = [budget.value for budget in budgets]
    assert values == sorted(set(values))
    assert all(math.isfinite(value) and value >= 0 for value in values)


@pytest.mark.parametrize(
    ("typed", "norm"),
    [
        ("l1", "l1"), ("L2", "l2"), ("linf", "linf"), ("Linf", "linf"), ("l-inf", "linf"), ("l_inf", "linf"),
        ("inf", "linf"), ("l∞", "linf"), (" l2 ", "l2"), (2, "l2"), (1, "l1"), (math.inf, "linf"), ("infinity", "linf"),
    ],
)  # fmt: skip
def test_norms_are_read_as_people_write_them(typed: str, norm: str) -> None:
    assert parse_norm(typed) == norm


@pytest.mark.parametrize("typed", ["", "l", "l0", "l3", "l22", "ll2", "2l", "l-1.5", "two", None])
def test_another_norm_is_refused(typed: str) -> None:
    with pytest.raises(ThreatError, match="Choose one of l1, l2, linf"):
        parse_norm(typed)


def test_a_threat_checks_its_budget_in_its_own_norm() -> None:
    assert Threat("L2", "8").eps == 8.0
    assert Threat("l-inf", Budget(0.1, "x")) == Threat("linf", 0.1)
    with pytest.raises(ThreatError, match="8/255"):
        Threat("linf", 8)
    with pytest.raises(ThreatError, match="norm='l7'"):
        Threat("l7", 0.1)


def test_a_threat_is_a_value() -> None:
    threat = Threat("linf", "8/255")
    assert pickle.loads(pickle.dumps(threat)) == threat  # noqa: S301 - our own bytes
    assert hash(threat) == hash(Threat("linf", 8 / 255))
    assert str(threat) == "linf 0.0313725"
    with pytest.raises(AttributeError):
        threat.eps = 1.0  # type: ignore[misc]
