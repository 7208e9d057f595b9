"""Linear classifiers of two classes: exact attacks, exact training, and what their weights rest on."""

import doctest
from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from atodds import data
from atodds.errors import ArgumentError, UnknownNameError
from atodds.explain import features
from atodds.explain.features import PENALTY, Task, Weights, by_pixels, pair, trained

TRAIN, TEST = (pair(data.load("digits", split=split), "5", "7") for split in ("train", "test"))


def test_the_examples_in_the_documentation_run() -> None:
    assert doctest.testmod(features).failed == 0


def test_correlations_are_those_of_numpy() -> None:
    found = TRAIN.correlations
    moving = TRAIN.pixels.std(0) > 0
    exact = [np.corrcoef(TRAIN.pixels[:, k], TRAIN.labels)[0, 1] for k in np.flatnonzero(moving)]
    assert found[moving] == pytest.approx(exact)
    assert not found[~moving].any()


def test_robust_accuracy_is_that_against_every_corner_of_ball_and_box() -> None:
    rng = np.random.default_rng(0)
    task = Task(rng.random((40, 4)), np.where(rng.random(40) < 0.5, -1.0, 1.0))
    classifier, eps = Weights(np.array([0.7, -0.5, 0.2, 0.0]), 0.05, 0.0), 0.3
    stands = np.ones(40, bool)
    for corner in product((-eps, eps), repeat=4):
        moved = np.clip(task.pixels + np.array(corner), 0, 1)
        stands &= task.labels * (moved @ classifier.weights + classifier.bias) > 0
    assert classifier.kept(task, eps).value == stands.mean()


def test_standard_training_is_logistic_regression() -> None:
    other = LogisticRegression(C=1 / (len(TRAIN.labels) * PENALTY), max_iter=5000, tol=1e-8)
    other.fit(TRAIN.pixels, TRAIN.labels)
    found = trained(TRAIN, steps=3000)
    assert found.weights == pytest.approx(other.coef_[0], abs=0.03)
    assert found.bias == pytest.approx(float(other.intercept_[0]), abs=0.03)


def test_adversarial_training_keeps_more_under_attack_and_uses_fewer_pixels() -> None:
    standard, robust = trained(TRAIN), trained(TRAIN, eps=0.2)
    assert robust.kept(TEST, 0.2).value > standard.kept(TEST, 0.2).value + 0.3
    assert standard.kept(TEST).value >= robust.kept(TEST).value
    assert robust.used.sum() < standard.used.sum()
    weak = np.abs(TRAIN.correlations) < 0.2
    assert not (robust.used & weak).any()
    assert (standard.used & weak).any()


def test_no_other_weights_lose_less_under_attack() -> None:
    """The adversarial loss is convex: no step from its minimum lowers it."""
    eps = 0.1
    found = trained(TRAIN, eps=eps, steps=3000)

    def loss(weights: np.ndarray, bias: float) -> float:
        moved = np.clip(TRAIN.pixels - eps * TRAIN.labels[:, None] * np.sign(weights), 0, 1)
        margins = TRAIN.labels * (moved @ weights + bias)
        return float(np.logaddexp(0, -margins).mean() + PENALTY / 2 * weights @ weights)

    best, rng = loss(found.weights, found.bias), np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(20):
            step = rng.standard_normal(len(found.weights)) * size
            assert loss(found.weights + step, found.bias + float(step[0])) > best - 1e-6


def test_more_pixels_bring_accuracy_and_cost_robustness() -> None:
    steps = by_pixels(TRAIN, TEST, [3, 64], 0.2)
    assert [step.pixels for step in steps] == [3, 64]
    assert steps[0].least > steps[1].least
    assert steps[1].standard.value > steps[0].standard.value
    assert steps[1].robust.value < steps[0].robust.value


def test_only_the_pixels_that_are_given_carry_weight() -> None:
    found = trained(TRAIN, pixels=[20, 21])
    assert not np.delete(found.weights, [20, 21]).any()


def test_what_means_nothing_is_refused() -> None:
    images = data.load("digits")
    with pytest.raises(UnknownNameError):
        pair(images, "5", "eleven")
    with pytest.raises(ArgumentError, match="twice"):
        pair(images, "5", "5")
    with pytest.raises(ArgumentError, match="not both"):
        pair(images.take(np.flatnonzero(images.labels == 5)), "5", "7")
    with pytest.raises(ArgumentError, match="eps"):
        trained(TRAIN, eps=-1)
    with pytest.raises(ArgumentError, match="pixels"):
        trained(TRAIN, pixels=[])
    with pytest.raises(ArgumentError, match="counts"):
        by_pixels(TRAIN, TEST, [65], 0.1)
    with pytest.raises(ArgumentError, match="eps"):
        trained(TRAIN).kept(TEST, -0.1)
