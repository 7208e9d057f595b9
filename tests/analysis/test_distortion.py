"""Success rates and distances of each attack, on tables whose answers are known by heart."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from atodds import analysis
from atodds.analysis.distortion import attack_distortions, common_images
from atodds.errors import ArgumentError, EmptyDataError, UnknownNameError

Row = dict[str, object]
INF = math.inf


def verdict(image: int, attack: str, distance: float, **changed: object) -> Row:
    """One row: label 0, and class 1 at a distance that is ten times as long in l1, twice in l2."""
    wrong = math.isfinite(distance)
    usual: Row = {
        "model": "m", "data": "d", "image": image, "label": 0, "clean": 0, "attack": attack, "norm": "l2",
        "eps": None, "target": None, "prediction": int(wrong), "fooled": wrong,
        "l0": 5.0 if wrong else INF, "l1": 10 * distance, "l2": 2 * distance, "linf": distance,
    }  # fmt: skip
    return usual | changed


def table(rows: Sequence[Row]) -> pl.DataFrame:
    images = {row["image"] for row in rows}
    clean = [verdict(int(str(image)), "clean", INF) for image in images]
    return pl.DataFrame([*clean, *rows], infer_schema_length=None)


FOUND = [0.5, 1.0, 1.5, INF, INF]
CARLINI = [verdict(image, "carlini_wagner", distance) for image, distance in enumerate(FOUND)]


def test_success_mean_deviation_and_median_are_those_of_the_successes() -> None:
    (found,) = attack_distortions(table(CARLINI), "m", "l2")
    assert (found.attack, found.target) == ("carlini_wagner", "")
    assert (found.success.value, found.success.n, found.on_all) == (3 / 5, 5, True)
    assert found.l2 is not None
    assert found.linf is not None
    assert found.l0 is not None
    assert (found.l2.mean, found.l2.median, found.l2.n) == (2.0, 2.0, 3)
    assert found.l2.std == pytest.approx(np.std([1, 2, 3], ddof=1))
    assert (found.linf.mean, found.l0.mean, found.l0.std) == (1.0, 5.0, 0.0)
    assert 1.0 <= found.l2.low < 2.0 < found.l2.high <= 3.0
    assert (found.l0.low, found.l0.high) == (5.0, 5.0)
    assert str(found.l2).startswith("2.00 (")
    assert found.of("L2") == found.l2


def test_the_interval_is_that_of_the_mean() -> None:
    draw = np.random.default_rng(0)
    values = draw.exponential(1.0, 400)
    (found,) = attack_distortions(table([verdict(k, "a", float(v)) for k, v in enumerate(values)]), "m", "linf")
    assert found.linf is not None
    error = values.std(ddof=1) / 20
    assert found.linf.high - found.linf.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found.linf.low < values.mean() < found.linf.high


def test_an_attack_without_a_success_has_no_distances() -> None:
    (found,) = attack_distortions(table([verdict(k, "fab", INF) for k in range(4)]), "m", "l1")
    assert (found.success.value, found.success.n) == (0, 4)
    assert found.l0 is found.l1 is found.l2 is found.linf is None


def test_one_success_has_no_spread() -> None:
    (found,) = attack_distortions(table([verdict(0, "fab", 0.25)]), "m", "linf")
    assert found.linf is not None
    assert (found.linf.mean, found.linf.low, found.linf.high, found.linf.std) == (0.25, 0.25, 0.25, 0.0)


def test_of_several_successes_the_closest_counts_and_an_image_once() -> None:
    rows = [verdict(0, "pgd", 0.4, eps=0.4), verdict(0, "pgd", 0.2, eps=0.3), verdict(0, "pgd", INF, eps=0.1)]
    (found,) = attack_distortions(table(rows), "m", "linf")
    assert found.success.n == 1
    assert found.linf is not None
    assert (found.linf.mean, found.linf.n) == (0.2, 1)


def test_only_what_the_attack_wanted_is_a_success() -> None:
    missed = verdict(1, "pgd(target=second)", 0.1, target=2, fooled=False)
    reached = verdict(0, "pgd(target=second)", 0.3, target=1)
    (found,) = attack_distortions(table([reached, missed]), "m", "linf")
    assert (found.success.value, found.success.n, found.target) == (0.5, 2, "second")
    assert found.linf is not None
    assert found.linf.mean == 0.3
    assert analysis.distances(table([reached, missed]), "m", "linf").values.tolist() == [0.3, 0.1]  # the worst case


def test_targets_are_read_from_the_name() -> None:
    names = ["cw(steps=10,target=least-likely)", "cw(target=random)", "cw(steps=10)"]
    found = attack_distortions(table([verdict(0, name, 0.1) for name in names]), "m", "l2")
    assert [(one.attack, one.target) for one in found] == list(zip(names, ["least-likely", "random", ""], strict=True))


def test_within_a_budget_only_what_lies_in_it_is_a_success() -> None:
    for eps, count in ((0.5, 0), (1.0, 1), (2.5, 2), (9, 3)):
        (found,) = attack_distortions(table(CARLINI), "m", "l2", eps=eps)
        assert (found.success.value, found.success.n) == (count / 5, 5)


def test_only_the_images_that_count_are_counted() -> None:
    (found,) = attack_distortions(table(CARLINI), "m", "l2", images=np.array([1, 3, 77]))
    assert (found.success.value, found.success.n) == (1 / 2, 2)
    wrong = [verdict(9, "clean", 0.0, clean=1), verdict(9, "carlini_wagner", 0.0, clean=1)]
    (found,) = attack_distortions(pl.concat([table(CARLINI), pl.DataFrame(wrong)], how="vertical_relaxed"), "m", "l2")
    assert found.success.n == 5


def test_attacks_come_in_the_order_that_is_asked_for() -> None:
    rows = table([*CARLINI, verdict(0, "fab", 0.1)])
    assert [one.attack for one in attack_distortions(rows, "m", "l2")] == ["carlini_wagner", "fab"]
    (fab,) = attack_distortions(rows, "m", "l2", attacks=["fab"])
    assert (fab.attack, fab.success.n, fab.on_all) == ("fab", 1, False)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"attacks='pgd'.*Attacks of the table: carlini_wagner"):
        attack_distortions(table(CARLINI), "m", "l2", attacks=["pgd"])
    with pytest.raises(EmptyDataError, match="was attacked"):
        attack_distortions(table(CARLINI), "m", "l2", images=[99])
    with pytest.raises(UnknownNameError):
        attack_distortions(table(CARLINI), "n", "l2")


def test_common_images_are_those_that_all_models_have_right() -> None:
    rows = [
        verdict(image, "clean", 0.0 if image in wrong else INF, model=model, clean=int(image in wrong))
        for model, wrong in (("a", {1, 2}), ("b", {2, 4}), ("c", {0, 1, 2, 3, 4, 5}))
        for image in range(6)
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    assert common_images(frame, ["a", "b"]).tolist() == [0, 3, 5]
    assert common_images(frame, ["a"]).tolist() == [0, 3, 4, 5]
    assert common_images(frame.filter(pl.col("model") != "c")).tolist() == [0, 3, 5]
    with pytest.raises(EmptyDataError, match="classified rightly by all of a, b, c"):
        common_images(frame)
    with pytest.raises(EmptyDataError, match="no verdicts"):
        common_images(frame.clear())
    with pytest.raises(UnknownNameError):
        common_images(frame, ["d"])
