"""The data model of accuracy against robustness: closed forms against draws, and the theorems."""

import doctest
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from atodds.analysis import wilson
from atodds.errors import ArgumentError
from atodds.theory import tsipras
from atodds.theory.tsipras import DataModel, Linear, accuracy, averaging, bound, first_feature, sample, simulated

GRID = list(product((0.5, 0.8, 0.95), (0.05, 0.3), (1, 20, 100), (0.0, 0.05, 0.3)))
"""p, shift, features, eps."""


def mixed(features: int) -> Linear:
    """Weights of both signs, and a bias."""
    rest = np.linspace(-0.2, 1.0, features) / math.sqrt(features)
    return Linear(0.4, rest, bias=0.15)


def test_the_examples_in_the_documentation_run() -> None:
    assert doctest.testmod(tsipras).failed == 0


def test_draws_have_the_moments_of_the_model() -> None:
    model = DataModel(0.8, 0.3, 5)
    drawn = sample(model, 40_000, seed=3)
    y, x = drawn.labels, drawn.features
    assert set(y.tolist()) == {-1.0, 1.0}
    assert float(y.mean()) == pytest.approx(0, abs=0.02)
    assert float((x[:, 0] == y).double().mean()) == pytest.approx(0.8, abs=0.01)
    weak = x[:, 1:] * y[:, None]
    assert weak.mean(0).tolist() == pytest.approx([0.3] * 5, abs=0.025)
    assert np.cov(weak.numpy().T) == pytest.approx(np.eye(5), abs=0.03)


def test_a_sample_goes_on_where_another_ended() -> None:
    model = DataModel(0.8, 0.3, 5)
    whole, later = sample(model, 10, seed=1), sample(model, 4, seed=1, start=6)
    assert (whole.features[6:] == later.features).all()
    assert (whole.labels[6:] == later.labels).all()


def test_simulation_and_closed_form_agree_within_the_interval_over_a_grid() -> None:
    within, n = [], 4000
    for p, shift, features, eps in GRID:
        model, classifier = DataModel(p, shift, features), mixed(features)
        exact = accuracy(model, classifier, eps)
        found = simulated(model, classifier, eps, n=n, seed=5)
        sure = wilson(round(found.value * n), n, 0.9999)
        assert sure.low <= exact <= sure.high, (p, shift, features, eps)
        within.append(found.low <= exact <= found.high)
    assert sum(within) >= 0.87 * len(within)  # 95 % of them are expected to


def test_the_closed_form_is_that_of_the_paper_for_the_averaging_classifier() -> None:
    model = DataModel(0.95, 0.3, 100)
    assert accuracy(model, averaging(model)) == pytest.approx(norm.cdf(3.0))
    assert accuracy(model, averaging(model), 0.6) == pytest.approx(norm.cdf(-3.0))


@given(p=st.floats(0.5, 1), strength=st.floats(3, 20), features=st.integers(1, 500), more=st.floats(1, 3))
def test_averaging_is_right_beyond_99_percent_and_under_attack_below_1(
    p: float, strength: float, features: int, more: float
) -> None:
    model = DataModel.of_strength(p, strength, features)
    assert accuracy(model, averaging(model)) > 0.99
    assert accuracy(model, averaging(model), 2 * more * model.shift) < 0.01


@given(
    p=st.floats(0.5, 0.99),
    shift=st.floats(0, 1),
    weights=st.lists(st.floats(-1, 1), min_size=2, max_size=8),
    bias=st.floats(-1, 1),
    more=st.floats(1, 2),
)
def test_no_linear_classifier_exceeds_the_bound(
    p: float, shift: float, weights: list[float], bias: float, more: float
) -> None:
    model = DataModel(p, shift, len(weights) - 1)
    classifier = Linear(weights[0], np.array(weights[1:]), bias)
    # A margin of exactly 0 is a coin toss in the closed form, which is no classifier of the theorem.
    standard, robust = (accuracy(model, classifier, eps) for eps in (0.0, 2 * more * shift + 1e-9))
    assert robust <= bound(p, standard) + 1e-9


def test_99_percent_at_p_95_leave_19_percent_at_most() -> None:
    assert bound(0.95, 0.99) == pytest.approx(0.19)


@pytest.mark.parametrize("p", [0.5, 0.7, 0.95, 0.999])
def test_the_first_feature_alone_meets_the_bound_at_delta_1_minus_p(p: float) -> None:
    model = DataModel(p, 0.1, 10)
    alone = first_feature(model)
    assert accuracy(model, alone) == pytest.approx(p)
    assert accuracy(model, alone, 0.2) == pytest.approx(bound(p, p)) == pytest.approx(p)


def test_the_bound_is_all_where_the_first_feature_is_never_wrong() -> None:
    assert bound(1.0, 0.5) == 1


def test_a_margin_of_nothing_is_a_coin_toss() -> None:
    model = DataModel(0.9, 0.1, 3)
    assert accuracy(model, Linear(0.0, np.zeros(3))) == 0.5
    assert accuracy(model, Linear(1.0, np.zeros(3)), 1.0) == pytest.approx(0.45)
    assert accuracy(model, Linear(0.0, np.zeros(3), bias=1.0)) == 0.5


def test_the_adversary_of_the_simulation_can_do_no_better_than_its_signs() -> None:
    model, classifier = DataModel(0.8, 0.2, 6), mixed(6)
    drawn = sample(model, 2000, seed=2)
    weights = np.concatenate([[classifier.first], classifier.rest])
    margins = drawn.labels.numpy() * (drawn.features.numpy() @ weights + classifier.bias)
    assert simulated(model, classifier, 0.1, n=2000, seed=2).value == np.mean(margins - 0.1 * classifier.sum > 0)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: DataModel(0.4, 0.1, 3), "p"),
        (lambda: DataModel(0.9, -0.1, 3), "shift"),
        (lambda: DataModel(0.9, 0.1, 0), "features"),
        (lambda: DataModel.of_strength(0.9, 0.1, 0), "features"),
        (lambda: bound(0.3, 0.9), "p"),
        (lambda: bound(0.9, 1.1), "standard"),
        (lambda: accuracy(DataModel(0.9, 0.1, 3), mixed(4)), "classifier"),
        (lambda: accuracy(DataModel(0.9, 0.1, 3), mixed(3), -1), "eps"),
        (lambda: sample(DataModel(0.9, 0.1, 3), 0), "n"),
        (lambda: simulated(DataModel(0.9, 0.1, 3), mixed(3), n=0), "n"),
    ],
)
def test_what_is_out_of_range_is_named(make: object, named: str) -> None:
    assert callable(make)
    with pytest.raises(ArgumentError, match=named):
        make()
