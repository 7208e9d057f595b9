"""Cheaper adversarial training: costs at equal robust accuracy, from trials and from trainings."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from atodds import data
from atodds.errors import ArgumentError
from atodds.studies import cheaper
from atodds.studies.cheaper import RULES, SETUPS, Trial, cost_at, measure, summary

TRAIN, TEST = data.load("digits", split="train"), data.load("digits", limit=20)


def test_costs_are_read_over_the_logarithm() -> None:
    assert cost_at([1, 100], [0.2, 0.4], 0.3) == pytest.approx(10)
    assert cost_at([1, 100], [0.2, 0.4], 0.1) == 1
    assert cost_at([1, 100], [0.2, 0.4], 0.5) == math.inf
    assert cost_at([1, 2, 4], [0.2, 0.1, 0.3], 0.3) == pytest.approx(4)


def trial(rule: str, epochs: int, seed: int, seconds: float, robust: float) -> Trial:
    return Trial(rule, epochs, seed, seconds, int(10 * seconds), 0.9, robust, 100)


def test_a_rule_pays_where_every_seed_is_cheaper_at_equal_robust_accuracy() -> None:
    setup = replace(SETUPS["digits"], epochs=(1, 2))
    trials = [
        *(trial("pgd", 1, seed, 10, 0.5) for seed in (0, 1, 2)),
        *(trial("pgd", 2, seed, 20, 0.6) for seed in (0, 1, 2)),
        *(trial("half", 1, seed, 5, 0.5) for seed in (0, 1, 2)),
        *(trial("half", 2, seed, 10, 0.6) for seed in (0, 1, 2)),
        *(trial("luck", 1, seed, 5, 0.5 if seed else 0.3) for seed in (0, 1, 2)),
        *(trial("luck", 2, seed, 10, 0.6 if seed else 0.4) for seed in (0, 1, 2)),
        *(trial("never", 3, seed, 15 + seed, 0.4) for seed in (0, 1, 2)),
    ]
    found = summary(setup, trials)
    assert found.target == pytest.approx(0.5)
    assert found.pays == ("half",)
    assert (found.seconds["half"].value, found.seconds["half"].high) == pytest.approx((0.5, 0.5))
    assert found.passes["half"].value == pytest.approx(0.5)
    assert found.seconds["luck"].high == math.inf
    assert str(found.seconds["luck"]) == "0.50 (0.50 to not reached)"
    assert str(found.seconds["never"]) == "not reached, for 1.50 or more"
    assert str(found.passes["never"]) == "not reached, for 1.50 or more"
    assert str(found.seconds["pgd"]) == "1.00 (1.00 to 1.00)"


def test_rules_are_compared_at_what_plain_training_reaches_with_every_seed() -> None:
    setup = replace(SETUPS["digits"], epochs=(1, 2))
    reached = {0: (0.6, 0.7), 1: (0.6, 0.7), 2: (0.4, 0.45)}
    trials = [
        one
        for seed, (first, second) in reached.items()
        for one in (trial("pgd", 1, seed, 10, first), trial("pgd", 2, seed, 20, second), trial("half", 1, seed, 5, 0.7))
    ]
    found = summary(setup, trials)
    assert found.target == pytest.approx(0.45)
    assert (found.seconds["half"].low, found.seconds["half"].high) == pytest.approx((0.25, 0.5))


def test_trials_are_kept_and_count_their_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(SETUPS["digits"].recipe, attack_steps=3)
    setup = replace(SETUPS["digits"], network="linear", settings={}, samples=60, recipe=recipe, epochs=(1,))
    monkeypatch.setattr(cheaper, "SETUPS", {"digits": setup})
    found = measure("digits", TRAIN, TEST, tmp_path, seeds=[0])
    by_rule = {one.rule: one for one in found.trials}
    assert set(by_rule) == set(RULES)
    assert by_rule["pgd"].passes == by_rule["freeze"].passes == 60 * 4
    assert by_rule["fast"].epochs == RULES["fast"].longer == 3
    assert by_rule["fast"].passes == 60 * 2 * 3
    assert 60 * 2 < by_rule["skip 60 %"].passes < by_rule["skip 30 %"].passes < 60 * 4
    assert all(one.n == 20 and one.robust <= one.standard for one in found.trials)
    monkeypatch.setattr(cheaper, "train", None)  # nothing is trained again
    assert measure("digits", TRAIN, TEST, tmp_path, seeds=[0]) == found


def test_unknown_data_and_no_seed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="set up"):
        measure("mine", TRAIN, TEST, tmp_path, seeds=[0])
    with pytest.raises(ArgumentError, match="nothing to train"):
        measure("digits", TRAIN, TEST, tmp_path, seeds=[])
