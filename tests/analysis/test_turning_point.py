"""Curves whose form is known, and noise that must be called flat as often as is said."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import table

from atodds.analysis.turning_point import (
    FORMS,
    robust_accuracy_over_sizes,
    robustness_over_sizes,
    turning_point,
)
from atodds.errors import ArgumentError, EmptyDataError

SIZES = (500, 1000, 2000, 5000, 10_000, 20_000)
Floats = npt.NDArray[np.float64]


def made(means: tuple[float, ...], *, n: int = 150, noise: float = 0.1, seed: int = 0) -> Floats:
    """Distances of images that are unlike each other, and move together from one size to the next."""
    draw = np.random.default_rng(seed)
    images = draw.gamma(4, 0.1, (n, 1))
    values: Floats = images + np.array(means) + noise * draw.normal(size=(n, len(means)))
    return values


CURVES = {
    "turning": (1.0, 1.2, 1.4, 1.5, 1.3, 1.1),
    "rising": (1.0, 1.1, 1.2, 1.3, 1.4, 1.5),
    "falling": (1.5, 1.4, 1.3, 1.2, 1.1, 1.0),
    "flat": (1.2, 1.2, 1.2, 1.2, 1.2, 1.2),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_told_where_the_curve_has_it(form: str) -> None:
    found = turning_point(made(CURVES[form]), SIZES)
    assert found.form == form
    assert (found.probability > 0.9) == (form == "turning")
    assert found.n == 150


def test_a_turning_point_is_found_where_it_is() -> None:
    found = turning_point(made(CURVES["turning"], noise=0.02), SIZES)
    assert (found.peak, found.peak_low, found.peak_high) == (5000, 5000, 5000)
    assert found.probability == 1
    assert found.rise is not None
    assert found.fall is not None
    assert found.rise.clear
    assert found.fall.clear
    assert (found.rise.start, found.rise.stop, found.fall.start, found.fall.stop) == (500, 5000, 5000, 20_000)
    assert found.rise.value == pytest.approx(0.5, abs=0.01)


def test_the_peak_has_an_interval_where_two_sizes_are_nearly_equal() -> None:
    found = turning_point(made((1.0, 1.3, 1.5, 1.5, 1.3, 1.0)), SIZES)
    assert found.form == "turning"
    assert (found.peak_low, found.peak_high) == (2000, 5000)


def test_a_plateau_at_the_end_is_no_turn() -> None:
    assert turning_point(made((1.0, 1.3, 1.5, 1.5, 1.5, 1.5)), SIZES).form == "rising"
    assert turning_point(made((1.5, 1.5, 1.5, 1.5, 1.3, 1.0)), SIZES).form == "falling"


def test_pairing_sees_what_differences_between_images_would_hide() -> None:
    """Images differ a hundred times more than sizes do; unpaired, 150 of them would tell nothing."""
    values = made((1.0, 1.004, 1.008, 1.004, 1.0, 0.996), noise=0.004)
    assert values.std(0).min() > 20 * 0.008
    assert turning_point(values, SIZES).form == "turning"


def test_noise_alone_is_called_flat_in_nineteen_of_twenty() -> None:
    trials = 300
    wrong = [turning_point(made(CURVES["flat"], n=60, seed=seed), SIZES, resamples=400).form for seed in range(trials)]
    rate = 1 - wrong.count("flat") / trials
    deviation = math.sqrt(0.05 * 0.95 / trials)
    assert 0.05 - 3 * deviation < rate < 0.05 + 3 * deviation


def test_skewed_noise_is_called_flat_too() -> None:
    trials, draw = 200, np.random.default_rng(5)
    forms = [
        turning_point(draw.exponential(1, (60, 1)) + draw.exponential(0.3, (60, 6)), SIZES, resamples=400).form
        for _ in range(trials)
    ]
    assert forms.count("flat") / trials > 0.95 - 3 * math.sqrt(0.05 * 0.95 / trials)


def test_noise_alone_has_no_turning_point_with_any_probability() -> None:
    shares = [
        turning_point(made(CURVES["flat"], n=60, seed=seed), SIZES, resamples=400).probability for seed in range(40)
    ]
    assert np.mean(shares) < 0.1


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says() -> None:
    trials, hits = 200, 0
    for seed in range(trials):
        draw = np.random.default_rng(seed)
        found = turning_point(draw.normal(2, 0.5, (80, 2)), (1, 2), resamples=400)
        hits += found.means[0].low <= 2 <= found.means[0].high
    assert hits / trials > 0.95 - 3.5 * math.sqrt(0.05 * 0.95 / trials)


def test_a_flat_curve_says_to_within_what() -> None:
    coarse, fine = (turning_point(made(CURVES["flat"], noise=noise), SIZES) for noise in (0.1, 0.01))
    assert coarse.resolution == pytest.approx(10 * fine.resolution, rel=0.01)
    half = 3 * 0.1 * math.sqrt(2 / 150) / 1.6  # about three standard errors, over the mean
    assert coarse.resolution == pytest.approx(half, rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.sampled_from(sorted(CURVES)))
def test_order_of_the_images_and_unit_do_not_matter(seed: int, unit: float, form: str) -> None:
    values = made(CURVES[form], n=40, seed=seed)
    found, scaled = (turning_point(table, SIZES, resamples=200) for table in (values, unit * values))
    assert (found.form, found.peak, found.probability) == (scaled.form, scaled.peak, scaled.probability)
    turned = turning_point(values[::-1], SIZES, resamples=2000)
    assert [mean.value for mean in turned.means] == pytest.approx([mean.value for mean in found.means])


def test_equal_and_constant_columns_have_no_noise() -> None:
    same = np.repeat(np.linspace(1, 2, 20)[:, None], 3, 1)
    assert turning_point(same, (1, 2, 3)).form == "flat"
    assert turning_point(same + np.array([0, 1, 0]), (1, 2, 3)).form == "turning"
    assert turning_point(np.zeros((9, 3)), (1, 2, 3)).form == "flat"


def test_equation_4_is_over_the_images_that_all_models_have_right() -> None:
    found = {name: [1.0 + k, 2.0 + k, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf] for k, name in enumerate("abc")}
    rows = table(found, {"a": [2], "b": [], "c": [2]})
    ids = rows["model"].unique(maintain_order=True).to_list()
    said = robustness_over_sizes(rows, "l2", ids, (10, 20, 30))
    assert (said.common, said.missed, said.curve.n) == (7, 1, 6)
    assert [mean.value for mean in said.curve.means] == pytest.approx([25 / 6, 27 / 6, 29 / 6])
    share = robust_accuracy_over_sizes(rows, "l2", ids, (10, 20, 30), 3.5)
    assert [mean.value for mean in share.means] == pytest.approx([5 / 8, 5 / 8, 6 / 8])


@pytest.mark.parametrize(
    ("values", "sizes", "message"),
    [
        (np.ones((9, 3)), (1, 3, 2), "ascend"),
        (np.ones((9, 3)), (1, 2, 2), "ascend"),
        (np.ones((9, 1)), (1,), "ascend"),
        (np.ones((9, 3)), (1, 2), "column for each"),
        (np.full((9, 2), np.inf), (1, 2), "not finite"),
    ],
)
def test_what_is_no_curve_is_refused(values: Floats, sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        turning_point(values, sizes)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(EmptyDataError, match="4 images"):
        turning_point(np.ones((4, 3)), (1, 2, 3))
