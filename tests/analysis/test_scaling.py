"""Distortion on ln(error): exact on exact data, and honest about what it leaves out."""

import math

import numpy as np
import pytest
from tests.analysis.made import seen, table

from atodds.analysis import scaling, wilson
from atodds.analysis.scaling import PUBLISHED, scaling_of
from atodds.errors import ArgumentError, EmptyDataError

ERRORS = (0.5, 0.4, 0.25, 0.2, 0.1, 0.05)


def exact(errors: tuple[float, ...] = ERRORS, n: int = 20) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Models whose images all lie at 3 + 0.5 ln(error)."""
    found = {f"m{k}": [3 + 0.5 * math.log(error)] * n for k, error in enumerate(errors)}
    return found, {f"m{k}": list(range(round(error * n))) for k, error in enumerate(errors)}


def test_the_line_is_in_the_natural_logarithm_of_the_error() -> None:
    fit = scaling(table(*exact()), "l2")
    assert (fit.line.slope, fit.line.intercept) == pytest.approx((0.5, 3))
    assert fit.line.r_squared == pytest.approx(1)
    assert fit.at(0.3)[0] == pytest.approx(3 + 0.5 * math.log(0.3))
    assert [point.error.value for point in fit.points] == pytest.approx(ERRORS)
    assert fit.n == 20
    assert fit.slope_over_models == pytest.approx((0.5, 0.5))
    low, high = fit.slope_over_images  # other images give other errors at the same distances
    assert low < 0.5 < high


def test_the_mean_counts_what_was_fooled_and_the_median_what_is_right() -> None:
    found, wrong = exact()
    found["m5"][-6:] = [math.inf] * 6  # of 19 right images
    mean, median = (scaling(table(found, wrong), "l2", measure=measure) for measure in ("mean", "median"))
    assert mean.line.slope == median.line.slope == pytest.approx(0.5)
    assert (mean.points[5].distortion.fooled, mean.points[5].distortion.n) == (13, 19)
    found["m5"][5:] = [math.inf] * 15
    left = scaling(table(found, wrong), "l2", measure="median")
    assert [out.model for out in left.excluded] == ["m5"]
    assert "infinite" in left.excluded[0].why
    assert len(left.points) == 5


def test_models_that_cannot_stand_on_a_line_are_left_out_and_named() -> None:
    found, wrong = exact()
    found |= {"perfect": [1.0] * 20, "hopeless": [1.0] * 20, "never": [math.inf] * 20}
    wrong |= {"hopeless": list(range(20)), "never": [0]}
    fit = scaling(table(found, wrong), "l2")
    assert fit.line.slope == pytest.approx(0.5)
    whys = {out.model: out.why for out in fit.excluded}
    assert "no error on 20 images, and 0 has no logarithm" in whys["perfect"]
    assert "no image right" in whys["hopeless"]
    assert "nothing fooled it on 19 images" in whys["never"]
    assert all(point.model.startswith("m") for point in fit.points)


def test_too_few_models_are_an_error_that_says_why_the_others_do_not_count() -> None:
    found, wrong = exact(ERRORS[:2])
    with pytest.raises(EmptyDataError, match=r"2 of 3 models can stand on a line, and it takes 3\. perfect: it makes"):
        scaling(table(found | {"perfect": [1.0] * 20}, wrong), "l2")
    found, wrong = exact((0.2, 0.2, 0.2))
    with pytest.raises(EmptyDataError, match="at one x"):
        scaling(table(found, wrong), "l2")
    with pytest.raises(ArgumentError, match="mean or median"):
        scaling(table(*exact()), "l2", measure="mode")  # type: ignore[arg-type]


def test_the_interval_over_images_is_that_of_drawing_images_and_fitting_anew() -> None:
    rng = np.random.default_rng(0)
    n, errors = 300, np.array([0.4, 0.2, 0.1, 0.05])
    wrong = rng.random((4, n)) < errors[:, None]
    values = rng.exponential(1 + errors[:, None], size=(4, n))
    both = seen(values.tolist(), wrong.tolist())
    fit = scaling_of(both, resamples=3000)
    slopes = []
    for _ in range(1500):
        pick = rng.integers(0, n, n)
        x = np.log(wrong[:, pick].mean(1))
        y = [values[k, pick][~wrong[k, pick]].mean() for k in range(4)]
        slopes.append(np.polyfit(x, y, 1)[0])
    spread = float(np.std(slopes))
    assert fit.slope_over_images == pytest.approx(np.quantile(slopes, [0.025, 0.975]), abs=spread / 4)


def test_a_resample_without_an_error_leaves_its_model_out() -> None:
    """One wrong image of twenty: a third of the resamples have none."""
    fit = scaling(table(*exact()), "l2", resamples=200)
    assert all(math.isfinite(end) for end in (*fit.slope_over_images, *fit.intercept_over_images))


def test_errors_of_more_images_take_the_place_of_those_that_were_attacked() -> None:
    found, wrong = exact()
    verdicts = table(found, wrong)
    twice = {f"m{k}": wilson(round(error * 2000), 4000) for k, error in enumerate(ERRORS)}
    fit = scaling(verdicts, "l2", errors=twice)
    assert fit.line.slope == pytest.approx(0.5)
    assert fit.line.intercept == pytest.approx(3 + 0.5 * math.log(2))
    assert [point.error for point in fit.points] == list(twice.values())
    narrow, wide = (ends[1] - ends[0] for ends in (fit.slope_over_images, scaling(verdicts, "l2").slope_over_images))
    assert 0 < narrow < wide / 3  # the error of 4,000 images is known better than that of 20
    with pytest.raises(ArgumentError, match="errors='m5'"):
        scaling(verdicts, "l2", errors={name: rate for name, rate in twice.items() if name != "m5"})


def test_the_published_fits_say_where_they_are_from() -> None:
    assert [(fit.measure, fit.norm) for fit in PUBLISHED] == [("I-FGSM", "linf"), ("C&W", "l2"), ("CLEVER", "linf")]
    assert all("unverified" in fit.source for fit in PUBLISHED)
    ifgsm = PUBLISHED[0]
    assert ifgsm.intercept + ifgsm.slope * math.log(0.25) == pytest.approx((2.9 * math.log(0.25) + 6.2) * 1e-2)


def test_errors_of_more_images_take_the_place_of_those_of_the_attacked_ones() -> None:
    found = {f"m{k}": [1.0 + 0.5 * math.log(0.01 * (k + 1))] * 10 for k in range(6)}
    rows = table(found)
    with pytest.raises(EmptyDataError):
        scaling(rows, "l2")  # none of them is wrong on any of the ten
    errors = {f"m{k}": wilson(100 * (k + 1), 10_000) for k in range(6)}
    fit = scaling(rows, "l2", errors=errors)
    assert fit.line.slope == pytest.approx(0.5)
    assert fit.points[0].error.n == 10_000
    low, high = fit.slope_over_images
    assert low < 0.5 < high
    assert high - low < 0.2
