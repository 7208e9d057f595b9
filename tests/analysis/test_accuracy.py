"""Accuracy, robust accuracy, classes and attacks, on tables whose answers are known by heart."""

import math
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds import analysis
from atodds.analysis.accuracy import CLEAN
from atodds.errors import ArgumentError, EmptyDataError, ThreatError, UnknownNameError
from atodds.evaluation import schema

Row = dict[str, object]


def row(model: str, image: int, label: int, attack: str, distance: float, *, clean: int = 0, eps: float = 0.0) -> Row:
    """One verdict; fooled where the distance is finite, and then l2 is twice and l1 ten times the l-inf distance."""
    fooled = math.isfinite(distance)
    return {
        "model": model, "data": "made", "image": image, "label": label, "clean": clean, "attack": attack,
        "norm": "linf", "eps": eps, "target": None, "prediction": 1 - label if fooled else label, "fooled": fooled,
        "l0": 1.0 if fooled else math.inf, "l1": 10 * distance, "l2": 2 * distance, "linf": distance,
        "forwards": 10 if attack != "clean" else 1, "backwards": 5 if attack != "clean" else 0, "seed": 0,
    }  # fmt: skip


def verdicts(model: str, found: dict[int, dict[str, float]], labels: dict[int, int], wrong: set[int]) -> list[Row]:
    """The rows of one model: what each attack found for each image, at which distance."""
    rows = []
    for image, label in labels.items():
        clean = 1 - label if image in wrong else label
        rows.append(row(model, image, label, "clean", 0.0 if image in wrong else math.inf, clean=clean))
        for attack, distance in found.get(image, {}).items():
            rows.append(row(model, image, label, attack, distance, clean=clean, eps=0.3))
    return rows


LABELS = {10: 0, 11: 0, 12: 1, 13: 1, 14: 1}
TABLE = pl.DataFrame(
    verdicts(
        "a@1",
        {
            10: {"pgd": 0.1, "square": 0.05},
            11: {"pgd": math.inf, "square": 0.2},
            12: {"pgd": math.inf, "square": math.inf},
        },
        LABELS,
        wrong={13},
    )
    + verdicts("b@2", {10: {"pgd": 0.1}, 14: {"pgd": 0.02}}, LABELS, wrong=set())
)  # image 14 of a@1 was attacked by nothing


def test_the_clean_images_are_those_of_the_verdict_table() -> None:
    assert CLEAN == schema.CLEAN


def test_accuracy_counts_the_images_that_are_classified_rightly() -> None:
    rate = analysis.accuracy(TABLE, "a@1")
    assert (rate.value, rate.n) == (4 / 5, 5)
    assert analysis.accuracy(TABLE, "b@2").value == 1


def test_the_smallest_distance_is_over_all_attacks_and_zero_for_the_misclassified() -> None:
    found = analysis.distances(TABLE, "a@1", "linf")
    assert found.image.tolist() == [10, 11, 12, 13, 14]
    assert found.label.tolist() == [0, 0, 1, 1, 1]
    assert found.values.tolist() == [0.05, 0.2, math.inf, 0.0, math.inf]
    assert found.correct.tolist() == [True, True, True, False, True]


def test_any_norm_can_be_asked_for() -> None:
    assert analysis.distances(TABLE, "a@1", "l2").values.tolist() == [0.1, 0.4, math.inf, 0.0, math.inf]
    assert analysis.robust_accuracy(TABLE, "a@1", "L2", 0.3).value == 3 / 5


@pytest.mark.parametrize(("eps", "value"), [(0, 0.8), (0.049, 0.8), (0.05, 0.6), (0.2, 0.4), (1, 0.4)])
def test_robust_accuracy_counts_the_images_that_stand(eps: float, value: float) -> None:
    assert analysis.robust_accuracy(TABLE, "a@1", "linf", eps).value == value


def test_rounding_does_not_save_an_image_on_the_sphere() -> None:
    rounded = TABLE.with_columns(pl.when(pl.col("image") == 10).then(0.05 * (1 + 5e-7)).otherwise("linf").alias("linf"))
    beyond = TABLE.with_columns(pl.when(pl.col("image") == 10).then(0.05 * (1 + 2e-6)).otherwise("linf").alias("linf"))
    assert analysis.robust_accuracy(rounded, "b@2", "linf", 0.05).value == 0.6
    assert analysis.robust_accuracy(beyond, "b@2", "linf", 0.05).value == 0.8


def test_a_curve_is_robust_accuracy_at_each_budget_with_its_interval() -> None:
    curve = analysis.curve(TABLE, "a@1", "linf", ["0.2", 0, "0.05"])
    assert [budget.text for budget in curve.budgets] == ["0", "0.05", "0.2"]
    assert [rate.value for rate in curve.rates] == [0.8, 0.6, 0.4]
    assert curve.rates[1] == analysis.wilson(3, 5)
    assert curve.drops == pytest.approx((0.2, 0.2))
    assert curve.drop == pytest.approx(0.4)
    assert curve.mean == pytest.approx(0.6)


distance = st.one_of(st.floats(0, 1), st.just(math.inf))


@settings(deadline=None)
@given(
    st.lists(st.tuples(distance, distance, st.booleans()), min_size=1, max_size=20),
    st.lists(st.floats(0, 1), min_size=1),
)
def test_robust_accuracy_only_falls_as_eps_grows(images: list[tuple[float, float, bool]], budgets: list[float]) -> None:
    labels = {image: image % 2 for image in range(len(images))}
    found = {image: {"pgd": one, "square": two} for image, (one, two, _) in enumerate(images)}
    table = pl.DataFrame(verdicts("m", found, labels, {image for image, (_, _, wrong) in enumerate(images) if wrong}))
    curve = analysis.curve(table, "m", "linf", budgets)
    values = [rate.value for rate in curve.rates]
    assert values == sorted(values, reverse=True)
    assert values[0] <= analysis.accuracy(table, "m").value
    shares = analysis.attack_shares(table, "m", "linf", budgets)
    for place, value in enumerate(values):
        parts = [shares.misclassified.value, *(attack.added[place].value for attack in shares.attacks)]
        assert sum(parts) == pytest.approx(1 - value)
    classes = analysis.per_class(table, "m", "linf", budgets, ["even", "odd"])
    for place, value in enumerate(values):
        assert sum(c.rates[place].value * c.rates[place].n for c in classes.curves) == pytest.approx(
            value * len(images)
        )


def test_classes_have_their_own_curves() -> None:
    classes = analysis.per_class(TABLE, "a@1", "linf", [0, 0.05, 0.2], ["cat", "dog", "ship"])
    assert (classes.labels, classes.classes) == ((0, 1), ("cat", "dog"))
    assert classes.missing == ("ship",)
    cat, dog = classes.curves
    assert [rate.value for rate in cat.rates] == [1.0, 0.5, 0.0]
    assert [rate.value for rate in dog.rates] == [2 / 3, 2 / 3, 2 / 3]
    assert {rate.n for rate in dog.rates} == {3}


def test_two_classes_of_the_same_name_stay_two() -> None:
    assert len(analysis.per_class(TABLE, "a@1", "linf", [0], ["crane", "crane"]).curves) == 2


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(ArgumentError, match="labels run from 0 to 1"):
        analysis.per_class(TABLE, "a@1", "linf", [0], ["cat"])


def test_an_image_counts_for_the_first_attack_that_fooled_it_within_eps() -> None:
    shares = analysis.attack_shares(TABLE, "a@1", "linf", [0.05, 0.1, 0.2], ["pgd", "square"], alone=True)
    pgd, square = shares.attacks
    assert (pgd.attack, square.attack) == ("pgd", "square")
    assert [rate.value for rate in pgd.added] == [0.0, 0.2, 0.2]
    assert [rate.value for rate in square.added] == [0.2, 0.0, 0.2]
    assert square.alone is not None
    assert [rate.value for rate in square.alone] == [0.2, 0.2, 0.4]
    assert shares.misclassified.value == 0.2
    assert [rate.value for rate in shares.standing] == [0.6, 0.6, 0.4]
    assert (pgd.images, pgd.forwards, pgd.backwards, pgd.passes) == (3, 30, 15, 45)
    assert shares.passes == 5 + 45 + 45


def test_attacks_that_are_not_named_ran_before_those_that_are() -> None:
    first = analysis.attack_shares(TABLE, "a@1", "linf", [0.1], ["square", "pgd", "never run"])
    assert [attack.attack for attack in first.attacks] == ["square", "pgd"]
    assert [attack.added[0].value for attack in first.attacks] == [0.2, 0.0]
    assert first.attacks[0].alone is None
    first = analysis.attack_shares(TABLE, "a@1", "linf", [0.1], ["pgd"])
    assert [attack.attack for attack in first.attacks] == ["square", "pgd"]


def test_a_model_that_nothing_attacked_keeps_what_it_has() -> None:
    clean = TABLE.filter(pl.col("attack") == "clean")
    shares = analysis.attack_shares(clean, "a@1", "linf", [0.1])
    assert shares.attacks == ()
    assert shares.standing[0].value == 0.8


def test_the_median_distance_is_over_the_images_that_are_right() -> None:
    found = analysis.median_distance(TABLE, "a@1", "linf")
    assert (found.value, found.n) == (math.inf, 4)
    assert analysis.median_distance(TABLE.filter(pl.col("image") <= 11), "a@1", "linf").value == pytest.approx(0.125)
    with pytest.raises(EmptyDataError, match="none of 1 images"):
        analysis.median_distance(TABLE.filter(pl.col("image") == 13), "a@1", "linf")


def test_models_are_compared_on_the_images_that_both_have() -> None:
    found = analysis.difference(TABLE, "a@1", "b@2", "linf", 0.02)
    assert (found.value, found.n) == (0.0, 5)  # each lost one image, another one
    fewer = TABLE.filter((pl.col("model") == "a@1") | (pl.col("image") != 13))
    assert analysis.difference(fewer, "a@1", "b@2", "linf", 0.02).value == pytest.approx(1 / 4)
    apart = TABLE.filter((pl.col("model") == "a@1") ^ (pl.col("image") > 12))
    with pytest.raises(EmptyDataError, match="in common"):
        analysis.difference(apart, "a@1", "b@2", "linf", 0.02)


def test_runs_of_the_same_images_in_two_norms_can_be_read_together() -> None:
    assert analysis.curve(pl.concat([TABLE, TABLE]), "a@1", "linf", [0.1]) == analysis.curve(
        TABLE, "a@1", "linf", [0.1]
    )


def test_what_cannot_be_asked_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean a@1"):
        analysis.accuracy(TABLE, "a@11")
    with pytest.raises(ThreatError, match="linf"):
        analysis.robust_accuracy(TABLE, "a@1", "l3", 0.1)
    with pytest.raises(ThreatError, match="Did you mean 8/255"):
        analysis.robust_accuracy(TABLE, "a@1", "linf", 8)
    with pytest.raises(EmptyDataError, match="no verdicts"):
        analysis.accuracy(TABLE.clear(), "a@1")
    with pytest.raises(EmptyDataError, match="on the images themselves"):
        analysis.accuracy(TABLE.filter(pl.col("attack") != "clean"), "a@1")
    both = pl.concat([TABLE, TABLE.with_columns(data=pl.lit("other"))])
    with pytest.raises(ArgumentError, match="several data sets"):
        analysis.accuracy(both, "a@1")


def test_ten_thousand_images_at_twenty_budgets_are_answered_at_once() -> None:
    n, rng = 10_000, np.random.default_rng(0)
    distances = rng.exponential(0.02, size=n)
    images = pl.DataFrame({"image": np.arange(n), "label": rng.integers(0, 10, n).astype(np.int32), "linf": distances})
    budgets = [k / 255 for k in range(20)]
    clean = images.with_columns(attack=pl.lit("clean"), fooled=pl.lit(False), linf=pl.lit(math.inf), eps=pl.lit(0.0))
    lanes = [
        images.with_columns(attack=pl.lit(name), fooled=pl.col("linf") <= eps, eps=pl.lit(eps))
        for eps in budgets
        for name in ("apgd-ce", "fab", "square")
    ]
    table = pl.concat([clean, *(lane.select(clean.columns) for lane in lanes)]).with_columns(
        model=pl.lit("m"), data=pl.lit("d"), clean="label", forwards=pl.lit(10), backwards=pl.lit(10)
    )
    start = time.perf_counter()
    curve = analysis.curve(table, "m", "linf", budgets)
    analysis.per_class(table, "m", "linf", budgets, [str(k) for k in range(10)])
    analysis.attack_shares(table, "m", "linf", budgets)
    assert time.perf_counter() - start < 5  # about 0.3 s on two cores
    expected = [(distances > eps).mean() for eps in budgets]
    assert [rate.value for rate in curve.rates] == pytest.approx(expected, abs=1e-3)
