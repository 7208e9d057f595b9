"""A recipe refuses what cannot be trained, before anything is trained."""

from typing import Any

import pytest

from atodds.errors import ArgumentError, ThreatError, UnknownNameError
from atodds.models import Card
from atodds.threat import Threat
from atodds.training.recipe import SCHEDULES, Recipe


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"objective": "adverserial"}, UnknownNameError, "Did you mean adversarial"),
        ({"schedule": "cosin"}, UnknownNameError, "Did you mean cosine"),
        ({"epochs": 0}, ArgumentError, "epochs=0"),
        ({"epochs": 2.5}, ArgumentError, "epochs"),
        ({"epochs": True}, ArgumentError, "epochs"),
        ({"batch_size": 0}, ArgumentError, "batch_size"),
        ({"attack_steps": -1}, ArgumentError, "attack_steps"),
        ({"lr": 0}, ArgumentError, "lr=0"),
        ({"lr": float("nan")}, ArgumentError, "lr=nan"),
        ({"lr": "0.1"}, ArgumentError, "lr"),
        ({"momentum": 1}, ArgumentError, "momentum"),
        ({"weight_decay": -1e-4}, ArgumentError, "weight_decay"),
        ({"weight_decay": float("inf")}, ArgumentError, "weight_decay"),
        ({"attack_step_size": 0}, ArgumentError, "attack_step_size"),
        ({"beta": -1}, ArgumentError, "beta"),
        ({"shift": 1.5}, ArgumentError, "shift=1.5"),
        ({"rotation": -15}, ArgumentError, "rotation=-15"),
        ({"flip": 1}, ArgumentError, "flip"),
        ({"precision": "float16"}, UnknownNameError, "Did you mean bfloat16"),
        ({"objective": "fast", "eps": 0.1, "attack_steps": 7}, ArgumentError, "a single step"),
        ({"objective": "trades"}, ArgumentError, "no budget to train against"),
        ({"eps_ramp": 1.5}, ArgumentError, "eps_ramp"),
        ({"objective": "adversarial", "eps": 0.1, "skip": 1}, ArgumentError, "skip=1"),
        ({"objective": "adversarial", "eps": 0.1, "freeze": -1}, ArgumentError, "freeze=-1"),
        ({"skip": 0.5}, ArgumentError, "standard training has no use for it"),
        ({"objective": "fast", "eps": 0.1, "freeze": 1.0}, ArgumentError, "fast training has no use for it"),
        ({"objective": "adversarial", "eps": 0.1, "skip": 0.5, "attack_steps": 1}, ArgumentError, "nothing to save"),
        ({"seed": 1.0}, ArgumentError, "seed"),
        ({"seed": 2**70}, ArgumentError, "seed"),
        ({"objective": "adversarial"}, ArgumentError, "no budget to train against"),
        ({"objective": "adversarial", "eps": 0}, ArgumentError, "no budget to train against"),
        ({"eps": "8/255"}, ArgumentError, "standard training has no use for it"),
        ({"objective": "adversarial", "eps": 8}, ThreatError, "Did you mean 8/255"),
        ({"objective": "adversarial", "eps": 0.1, "norm": "l3"}, ThreatError, "l3"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused(settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Recipe(**settings)


def test_text_and_numbers_mean_the_same_budget() -> None:
    text = Recipe(objective="adversarial", eps="8/255", norm="L-inf")
    assert text == Recipe(objective="adversarial", eps=8 / 255, norm="linf")
    assert text.told()["eps"] == 8 / 255


def test_steps_are_two_and_a_half_radii_long_together() -> None:
    inner = Recipe(objective="adversarial", eps=0.2, norm="l2", attack_steps=5).inner()
    assert inner is not None
    assert inner.threat == Threat("l2", 0.2)
    assert inner.steps * inner.step_size == pytest.approx(0.5)
    assert Recipe().inner() is None


@pytest.mark.parametrize(
    ("settings", "steps", "step_size"),
    [
        ({"objective": "adversarial"}, 10, 0.05),
        ({"objective": "adversarial", "attack_steps": 5}, 5, 0.1),
        ({"objective": "trades"}, 10, 0.05),
        ({"objective": "fast"}, 1, 0.25),
        ({"objective": "free"}, 4, 0.2),
        ({"objective": "free", "attack_steps": 8}, 8, 0.2),
        ({"objective": "free", "attack_step_size": 0.1}, 4, 0.1),
    ],
    ids=str,
)
def test_steps_and_their_length_are_those_of_the_papers(settings: dict[str, Any], steps: int, step_size: float) -> None:
    recipe = Recipe(eps=0.2, **settings)
    inner = recipe.inner()
    assert inner is not None
    told = recipe.told()
    assert inner.steps == told["attack_steps"] == steps
    assert inner.step_size == told["attack_step_size"] == pytest.approx(step_size)


def test_eps_rises_over_its_share_of_training() -> None:
    recipe = Recipe(objective="adversarial", eps=0.2, attack_step_size=0.1, eps_ramp=0.5)
    told = [recipe.inner(done) for done in (0.0, 0.25, 0.5, 0.9)]
    assert [inner.threat.eps for inner in told if inner] == pytest.approx([0.0, 0.1, 0.2, 0.2])
    assert [inner.step_size for inner in told if inner] == pytest.approx([0.0, 0.05, 0.1, 0.1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_stays_within_the_learning_rate(schedule: str) -> None:
    shares = [SCHEDULES[schedule](step / 100) for step in range(100)]
    assert all(0 <= share <= 1 for share in shares)
    assert max(shares) == pytest.approx(1)
    assert shares[-1] < 0.02 or schedule == "constant"


def test_a_card_can_hold_a_recipe() -> None:
    for recipe in (Recipe(), Recipe(objective="adversarial", eps="8/255", attack_step_size=0.01, seed=-(2**61))):
        card = Card("mlp", {"width": 1}, (1, 2, 2), ("a", "b"), recipe=recipe.told())
        assert Card.from_json(card.to_json(), "here") == card


def test_cards_from_before_thrift_was_known_say_the_same_training() -> None:
    plain = Recipe(objective="adversarial", eps=0.1)
    assert not {"skip", "freeze"} & set(plain.told())
    thrifty = Recipe(objective="adversarial", eps=0.1, skip=0.5, freeze=2.0).told()
    assert (thrifty["skip"], thrifty["freeze"]) == (0.5, 2.0)
