"""Lower bounds beside distances, on tables whose answers are known by heart."""

import math

import polars as pl
import pytest

from atodds.analysis import certified_accuracy, lower_upper, lower_uppers
from atodds.errors import EmptyDataError, UnknownNameError

Row = dict[str, object]


def verdict(image: int, distance: float, *, wrong: bool = False, clean: bool = False) -> Row:
    fooled = math.isfinite(distance)
    return {
        "model": "a@1", "data": "made", "image": image, "label": 0, "clean": int(wrong), "attack":
        "clean" if clean else "pgd", "norm": "linf", "eps": 0.0, "target": None, "prediction": int(fooled),
        "fooled": fooled, "l0": 1.0, "l1": 10 * distance, "l2": 2 * distance, "linf": distance,
        "forwards": 1, "backwards": 0, "seed": 0,
    }  # fmt: skip


def bound(image: int, lower: float, *, method: str = "clever", norm: str = "linf", prediction: int = 0) -> Row:
    return {
        "model": "a@1", "data": "made", "image": image, "label": 0, "prediction": prediction, "norm": norm,
        "method": method, "certified": method != "clever", "target": None, "lower": lower, "low": lower / 2,
        "high": 2 * lower, "radius": None, "p_value": 0.5, "endless": False, "forwards": 10, "backwards": 9, "seed": 0,
    }  # fmt: skip


VERDICTS = pl.DataFrame(
    [
        *(verdict(image, math.inf, clean=True) for image in (1, 2, 3, 4)),
        verdict(5, 0.0, wrong=True, clean=True),
        *(verdict(image, far) for image, far in ((1, 0.2), (2, 0.3), (3, 0.1), (4, math.inf))),
    ]
)
BOUNDS = pl.DataFrame(
    [
        *(bound(image, far) for image, far in ((3, 0.15), (1, 0.1), (2, 0.3), (4, 0.5), (5, 0.0))),
        *(bound(image, far, method="smoothing", norm="l2") for image, far in ((1, 0.3), (2, 0.5), (3, 0.1))),
        bound(4, 0.0, method="smoothing", norm="l2", prediction=-1),
        bound(5, 0.0, method="smoothing", norm="l2", prediction=1),
    ]
)


def test_images_are_held_against_their_own_distance_in_image_order() -> None:
    found = lower_upper(BOUNDS, VERDICTS, "a@1", "clever")
    assert found.image.tolist() == [1, 2, 3, 4]
    assert found.lower.tolist() == [0.1, 0.3, 0.15, 0.5]
    assert found.upper.tolist() == [0.2, 0.3, 0.1, math.inf]
    assert [crossing.image for crossing in found.beside.crossings] == [3]
    assert found.below is not None
    assert (found.below.value, found.below.n) == (2 / 3, 3)
    assert found.median_lower.value == pytest.approx(0.225)
    assert found.passes == 4 * 19
    assert not found.certified


def test_a_certificate_in_l2_is_held_against_distances_in_l2() -> None:
    found = lower_upper(BOUNDS, VERDICTS, "a@1", "smoothing")
    assert found.norm == "l2"
    assert found.upper.tolist() == pytest.approx([0.4, 0.6, 0.2, math.inf])
    assert found.beside.holds


def test_certified_accuracy_counts_all_images_and_falls_with_the_radius() -> None:
    curve = certified_accuracy(BOUNDS, "a@1", "smoothing", [0, 0.1, 0.2, 0.5, 0.6])
    assert [rate.value for rate in curve.rates] == pytest.approx([0.6, 0.6, 0.4, 0.2, 0])
    assert {rate.n for rate in curve.rates} == {5}
    with pytest.raises(EmptyDataError, match="no certificates"):
        certified_accuracy(BOUNDS, "a@1", "clever", 0.1)


def test_what_is_not_there_is_said() -> None:
    assert [one.method for one in lower_uppers(BOUNDS, VERDICTS, "a@1")] == ["clever", "smoothing"]
    assert lower_uppers(BOUNDS, VERDICTS.filter(pl.col("image") == 5), "a@1") == ()
    assert lower_uppers(BOUNDS.clear(), VERDICTS, "a@1") == ()
    with pytest.raises(UnknownNameError, match="model"):
        lower_upper(BOUNDS, VERDICTS, "b@2", "clever")
    with pytest.raises(UnknownNameError, match="method"):
        lower_upper(BOUNDS, VERDICTS, "a@1", "cleverer")
    with pytest.raises(EmptyDataError, match="rightly"):
        lower_upper(BOUNDS.filter(pl.col("image") == 5), VERDICTS, "a@1", "clever")
