"""A need says what was typed, and refuses what means nothing with the way out."""

from pathlib import Path

import pytest

from atodds.analysis.need import Need, parse_need, read_need
from atodds.errors import ArgumentError, NeedError, ThreatError, UnknownNameError

TOML = """
attacked = [0.01, "10%"]
norm = "linf"
min_clean = 0.9
size_mb = 20
parameters = 1_000_000
latency_ms = 5.5

[eps]
"4/255" = 3
"8/255" = 1

[cost]
cat = 5
"""


def test_a_file_and_a_line_of_options_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "need.toml"
    file.write_text(TOML)
    typed = parse_need(
        {"attacked": "0.01:10%", "norm": "linf", "min_clean": "90%", "size_mb": 20, "parameters": 1e6,
         "latency_ms": "5.5", "eps": "8/255=0.25,4/255=0.75", "cost": "cat=5"}
    )  # fmt: skip
    assert read_need(file) == typed
    assert typed.attacked == (0.01, 0.1)
    assert typed.share == pytest.approx(0.055)
    assert [(budget.text, weight) for budget, weight in typed.weights] == [("4/255", 0.75), ("8/255", 0.25)]


def test_a_list_or_range_of_budgets_has_equal_weights() -> None:
    assert [weight for _, weight in parse_need({"attacked": 1, "eps": "1/255:4/255:1/255"}).weights] == [0.25] * 4
    assert parse_need({"attacked": 0.5, "eps": ["1/255", "2/255"]}) == parse_need(
        {"attacked": 0.5, "eps": {"1/255": 1, "2/255": 1, "3/255": 0}}
    )


def test_where_nothing_is_attacked_no_budget_is_asked_for() -> None:
    assert parse_need({"attacked": 0}) == Need((0.0, 0.0))


@pytest.mark.parametrize(
    ("said", "kind", "match"),
    [
        ({"attackd": 0.1}, UnknownNameError, "Did you mean attacked"),
        ({"attacked": 0.1, "eps": "1/255", "min-clean": 0.5}, UnknownNameError, "Did you mean min_clean"),
        ({}, NeedError, "begins with the share"),
        ({"attacked": 0.1}, NeedError, "not how"),
        ({"attacked": 30, "eps": "1/255"}, ArgumentError, r"Did you mean 0\.3"),
        ({"attacked": "0.4:0.2", "eps": "1/255"}, NeedError, r"Did you mean 0\.2:0\.4"),
        ({"attacked": [0.1, 0.2, 0.3], "eps": "1/255"}, ArgumentError, "two ends"),
        ({"attacked": "often", "eps": "1/255"}, ArgumentError, "not a number"),
        ({"attacked": float("nan"), "eps": "1/255"}, ArgumentError, "not a finite number"),
        ({"attacked": True, "eps": "1/255"}, ArgumentError, "not a number"),
        ({"attacked": 0.1, "norm": "linf", "eps": "8"}, ThreatError, "8/255"),
        ({"attacked": 0.1, "norm": "l3", "eps": "8"}, ThreatError, "norm"),
        ({"attacked": 0.1, "eps": {"8/255": -1}}, ArgumentError, "negative weight"),
        ({"attacked": 0.1, "eps": {"8/255": 0}}, NeedError, "weights that are all 0"),
        ({"attacked": 0.1, "eps": {"1/255": 1, "2/510": 1}}, NeedError, "same budget twice"),
        ({"attacked": 0.1, "eps": "1/255=1,=2"}, ArgumentError, "one name with one number"),
        ({"attacked": 0.1, "eps": "1/255", "min_clean": 90}, ArgumentError, r"Did you mean 0\.9"),
        ({"attacked": 0.1, "eps": "1/255", "cost": {"cat": -1}}, ArgumentError, "cannot earn"),
        ({"attacked": 0.1, "eps": "1/255", "cost": "cat"}, ArgumentError, "CLASS|cat=5"),
        ({"attacked": 0.1, "eps": "1/255", "cost": 3}, ArgumentError, "not costs of classes"),
        ({"attacked": 0.1, "eps": "1/255", "latency_ms": 0}, ArgumentError, "above 0"),
    ],
)
def test_what_means_nothing_is_refused(said: dict[str, object], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        parse_need(said)


def test_a_file_that_is_no_need_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_need(tmp_path / "none.toml")
    file = tmp_path / "need.toml"
    file.write_text("attacked 0.1")
    with pytest.raises(ArgumentError, match="is not TOML"):
        read_need(file)
    file.write_text("attacked = 0.1\nepsilon = '1/255'")
    with pytest.raises(UnknownNameError, match=r"need\.toml='epsilon'.*Known: attacked"):
        read_need(file)
