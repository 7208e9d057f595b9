"""Class by class: counts by hand, tests by other means, and corrections that hold what they promise."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy import stats

from atodds.analysis.classes import EVERY, ClassCurvesOfMany, class_curves, corrected
from atodds.errors import EmptyDataError
from atodds.threat import Budget

BUDGETS = (Budget(0.0, "0"), Budget(1.0, "1"), Budget(2.0, "2"))
CLASSES = ("cat", "dog", "owl")


def verdicts(model: str, label: np.ndarray, clean: np.ndarray, far: np.ndarray, taken: np.ndarray) -> pl.DataFrame:
    """The table of a model: labels, predictions, and for each image how far the closest fooling image is and as what it
    is taken; a second attack found another class further away."""
    rows = []
    for image in range(len(label)):
        same = {"model": model, "data": "made", "image": image, "label": int(label[image]), "clean": int(clean[image])}
        wrong = label[image] != clean[image]
        rows.append(same | {"attack": "clean", "prediction": int(clean[image]), "l2": 0.0 if wrong else np.inf})
        if not wrong:
            rows.append(same | {"attack": "far", "prediction": int(label[image] + 1) % 3, "l2": far[image] + 0.4})
            rows.append(same | {"attack": "near", "prediction": int(taken[image]), "l2": far[image]})
    return pl.DataFrame(rows)


def by_hand() -> ClassCurvesOfMany:
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    clean = np.array([0, 0, 0, 2, 1, 1, 1, 1])
    far = np.array([0.5, 1.5, 9, 0, 9, 9, 1.5, 9], dtype=float)
    taken = np.array([1, 2, 1, 0, 0, 0, 2, 0])
    other = verdicts("b@2", label, label, np.full(8, 1.5), np.where(label == 0, 2, 0))
    table = pl.concat([verdicts("a@1", label, clean, far, taken), other])
    return class_curves(table, "l2", BUDGETS, CLASSES, names=["a", "b"], resamples=200)


def test_rates_steps_and_totals_are_those_counted_by_hand() -> None:
    found = by_hand()
    assert found.labels == (0, 1)
    cat, dog = found.models[0].rows
    assert [rate.value for rate in cat.rates] == [0.75, 0.5, 0.25]
    assert [rate.value for rate in cat.steps] == [0.25, 0.25]
    assert (cat.total.value, cat.n) == (0.5, 4)
    assert [rate.value for rate in dog.rates] == [1, 1, 0.75]
    for one in found.models:
        for row in one.rows:
            assert [step.value for step in row.steps] == [a.value - b.value for a, b in pairwise(row.rates)]
    assert [(drop.label, drop.value) for drop in found.mean_drops] == [(0, 0.75), (1, 0.625)]
    assert all(drop.low <= drop.value <= drop.high for drop in found.mean_drops)


def test_best_worst_and_gap_are_those_of_each_budget() -> None:
    gaps = by_hand().models[0].gaps
    assert [(gap.best, gap.worst, gap.difference.value) for gap in gaps] == [(1, 0, 0.25), (1, 0, 0.5), (1, 0, 0.5)]
    assert all(gap.difference.low <= gap.difference.value <= gap.difference.high for gap in gaps)


def test_mistakes_are_the_prediction_itself_or_that_of_the_closest_fooling_image() -> None:
    mistakes = by_hand().models[0].mistakes
    assert mistakes[0].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert mistakes[1].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert mistakes[2].tolist() == [[0, 1, 2], [0, 0, 1]]


def simulated(seed: int, n: int, shift: float) -> ClassCurvesOfMany:
    """Two models alike on three classes, one of which falls more often by a shift."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(3), n)
    tables = [
        verdicts(name, label, label, np.where(rng.random(3 * n) < 0.4 + shift * (label == 2), 0.5, 9), (label + 1) % 3)
        for name in ("a@1", "b@2")
    ]
    return class_curves(pl.concat(tables), "l2", BUDGETS, CLASSES, names=["a", "b"], resamples=50)


def test_p_values_are_those_of_fisher_and_mcnemar_corrected_together() -> None:
    found = simulated(0, 40, 0.3)
    assert len(found.between_classes) == 3 * 3
    assert len(found.between_models) == 1 + 3
    lost = {(one.model, row.label): round(row.total.value * row.n) for one in found.models for row in one.rows}
    plain = []
    for model in ("a@1", "b@2"):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            k, m = lost[model, i], lost[model, j]
            plain.append(stats.fisher_exact(np.array([[k, 40 - k], [m, 40 - m]])).pvalue)
    assert {test.of for test in found.between_classes} == {"a", "b", EVERY}
    rising = np.array([test.p_value for test in found.between_classes[:6]])[np.argsort(plain)]
    assert (np.diff(rising) >= 0).all()
    assert rising[0] >= min(plain)
    # Benjamini and Yekutieli by their own definition
    p = np.array([0.001, 0.02, 0.03, 0.6])
    harmonic = sum(1 / k for k in range(1, 5))
    raw = p * 4 * harmonic / np.arange(1, 5)
    assert corrected(p.tolist()) == pytest.approx(np.minimum(1, np.minimum.accumulate(raw[::-1])[::-1]))
    assert corrected([]) == []


def test_classes_and_models_that_are_alike_are_hardly_ever_called_different() -> None:
    any_found = sum(
        any(test.clear for test in (*found.between_classes, *found.between_models))
        for found in (simulated(seed, 30, 0.0) for seed in range(12))
    )
    assert any_found <= 3  # 5 % of each of two families at most


def test_a_class_that_falls_more_often_is_found_and_its_direction_is_right() -> None:
    found = simulated(1, 150, 0.4)
    clear = {(test.of, test.a, test.b): test.difference for test in found.between_classes if test.clear}
    assert (EVERY, "cat", "owl") in clear
    assert (EVERY, "cat", "dog") not in clear
    assert all(difference < 0 for (_, _, b), difference in clear.items() if b == "owl")


def test_models_of_other_images_are_refused() -> None:
    label = np.zeros(4, dtype=int)
    table = verdicts("a@1", label, label, np.ones(4), label + 1)
    fewer = table.filter(pl.col("image") < 2).with_columns(model=pl.lit("b@2"))
    with pytest.raises(EmptyDataError, match="different images"):
        class_curves(pl.concat([table, fewer]), "l2", BUDGETS, CLASSES)
    with pytest.raises(EmptyDataError, match="no verdicts"):
        class_curves(table.clear(), "l2", BUDGETS, CLASSES)
