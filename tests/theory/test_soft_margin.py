"""The soft-margin SVM and its adversarial twin: theorem 2.2, every region, and an independent solver."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import NonlinearConstraint, minimize
from scipy.stats import norm

from atodds.errors import ArgumentError
from atodds.theory import soft_margin
from atodds.theory.soft_margin import expected_loss, fitted, hinge, phases, svm
from atodds.theory.tsipras import DataModel, accuracy, sample

IN_RANGE = {"p": st.floats(0.5, 0.975), "strength": st.floats(4, 9), "features": st.integers(50, 2000)}


def test_the_examples_in_the_documentation_run() -> None:
    assert doctest.testmod(soft_margin).failed == 0


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (2.0, 0.5), (-1.0, 3.0), (0.5, 0.0), (2.0, 0.0)])
def test_the_hinge_loss_is_the_integral(mean: float, deviation: float) -> None:
    if deviation:
        exact, _ = quad(lambda m: max(0.0, 1 - m) * norm.pdf(m, mean, deviation), mean - 12 * deviation, 1)
    else:
        exact = max(0.0, 1 - mean)
    assert hinge(mean, deviation) == pytest.approx(exact, rel=1e-6)


def test_the_expected_loss_is_the_mean_over_draws() -> None:
    model = DataModel(0.8, 0.2, 9)
    drawn = sample(model, 50_000, seed=1)
    weights = np.concatenate([[0.5], np.full(9, 0.3)])
    margins = drawn.labels.numpy() * (drawn.features.numpy() @ weights) - 0.1 * np.abs(weights).sum()
    assert expected_loss(model, 0.5, 0.9, eps=0.1) == pytest.approx(np.maximum(0, 1 - margins).mean(), rel=0.02)


@pytest.mark.parametrize(("p", "strength", "eps"), [(0.95, 4, 0), (0.7, 5, 0), (0.95, 4, 0.2), (0.9, 1, 0.05)])
def test_no_other_weights_in_the_unit_ball_lose_less(p: float, strength: float, eps: float) -> None:
    """Against a general solver, which may give each weak feature a weight of its own sign and size."""
    model = DataModel.of_strength(p, strength, 16)
    found = svm(model, eps)

    def loss(w: np.ndarray) -> float:
        drift = model.shift * w[1:].sum() - eps * np.abs(w).sum()
        deviation = float(np.linalg.norm(w[1:]))
        return p * hinge(w[0] + drift, deviation) + (1 - p) * hinge(-w[0] + drift, deviation)

    other = minimize(
        loss, np.full(17, 0.1), method="SLSQP", tol=1e-12, constraints=NonlinearConstraint(lambda w: w @ w, 0, 1)
    )  # fmt: skip
    assert found.loss <= other.fun + 1e-9
    assert found.loss == pytest.approx(other.fun, abs=1e-6)
    assert found.classifier.norm <= 1 + 1e-9


@settings(max_examples=15)
@given(**IN_RANGE, more=st.floats(1, 2))
def test_the_svm_is_right_beyond_99_percent_and_under_attack_below_1(
    p: float, strength: float, features: int, more: float
) -> None:
    model = DataModel.of_strength(p, strength, features)
    found = svm(model).classifier
    assert found.norm == pytest.approx(1)
    assert accuracy(model, found) > 0.99
    assert accuracy(model, found, 2 * more * model.shift) < 0.01


@given(p=st.floats(0.55, 0.975), strength=st.floats(4, 9), features=st.integers(5000, 50_000))
def test_its_twin_has_accuracy_p_with_and_without_an_attack(p: float, strength: float, features: int) -> None:
    model = DataModel.of_strength(p, strength, features)
    eps = 2 * model.shift
    found = svm(model, eps)
    if eps >= 2 * p - 1:
        assert found.region == "nothing"
        return
    assert found.region == "first feature"
    assert accuracy(model, found.classifier) == pytest.approx(p)
    assert accuracy(model, found.classifier, eps) == pytest.approx(p)


@given(p=st.floats(0.5, 0.99), beyond=st.floats(1e-3, 1))
def test_beyond_2p_minus_1_nothing_is_learnt(p: float, beyond: float) -> None:
    model = DataModel(p, 0.001, 1000)
    found = svm(model, 2 * p - 1 + beyond)
    assert (found.region, found.classifier.norm, found.loss) == ("nothing", 0, 1)
    assert accuracy(model, found.classifier) == 0.5


@given(p=st.floats(0.5, 0.99), eps=st.floats(0.05, 0.99), first=st.floats(0, 1), rest=st.floats(-1, 1))
def test_the_stated_regions_lose_no_more_than_other_weights(p: float, eps: float, first: float, rest: float) -> None:
    """What is stated for eps of η and more, against any weights of the unit ball."""
    model = DataModel(p, 0.05, 100)
    shrink = max(1.0, math.hypot(first, rest))
    assert svm(model, eps).loss <= expected_loss(model, first / shrink, rest / shrink, eps) + 1e-12


def test_below_the_shift_the_weak_features_are_used() -> None:
    model = DataModel(0.9, 0.1, 1000)
    assert svm(model, 0.099).region == "weak features"
    assert float(svm(model, 0.05).classifier.rest.sum()) > 0
    assert svm(model, 0.1).region == "first feature"


def test_scikit_learn_finds_the_same_machine_in_draws() -> None:
    model = DataModel.of_strength(0.9, 2, 10)
    whole, drawn = svm(model).classifier, fitted(model, 6000, seed=2)
    a, b = (np.concatenate([[one.first], one.rest]) for one in (whole, drawn))
    assert a @ b / (whole.norm * drawn.norm) > 0.995
    assert drawn.norm == pytest.approx(1, abs=0.05)
    assert accuracy(model, drawn) == pytest.approx(accuracy(model, whole), abs=0.003)


def test_the_diagram_holds_every_place_in_order() -> None:
    found = phases([0.6, 0.95], [1, 4], [0.0, 0.3, 0.95], features=100)
    assert [(one.p, one.strength, one.eps) for one in found[:4]] == [
        (0.6, 1, 0.0), (0.6, 1, 0.3), (0.6, 1, 0.95), (0.6, 4, 0.0)
    ]  # fmt: skip
    assert found[0].standard == found[0].adversarial
    assert [one.region for one in found[6:9]] == ["weak features", "first feature", "nothing"]
    assert all(one.adversarial[1] >= one.standard[1] - 1e-9 for one in found if one.region != "nothing")


def test_what_is_out_of_range_is_named() -> None:
    with pytest.raises(ArgumentError, match="eps"):
        svm(DataModel(0.9, 0.1, 3), -1)
    with pytest.raises(ArgumentError, match="λ"):
        fitted(DataModel(0.5, 0.01, 3), 10)
