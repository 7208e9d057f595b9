"""Draws of images: as many as there are, each as likely, the same for the same seed."""

import numpy as np
import pytest

from atodds.analysis.resampling import bounds, image_draws, resampled
from atodds.errors import ArgumentError, EmptyDataError


def test_every_resample_has_as_many_images_as_there_are() -> None:
    draws = np.concatenate(list(image_draws(7, resamples=500)))
    assert draws.shape == (500, 7)
    assert (draws.sum(1) == 7).all()
    assert draws.mean(0) == pytest.approx(np.ones(7), abs=0.15)


def test_draws_repeat_with_their_seed_and_do_not_depend_on_what_is_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = np.concatenate(list(image_draws(5, resamples=40, seed=3)))
    monkeypatch.setattr("atodds.analysis.resampling._AT_ONCE", 35)
    parts = list(image_draws(5, resamples=40, seed=3))
    assert [len(part) for part in parts] == [7] * 5 + [5]
    assert (np.concatenate(parts) == whole).all()
    assert (np.concatenate(list(image_draws(5, resamples=40, seed=4))) != whole).any()


def test_the_spread_of_a_mean_is_that_of_the_theory() -> None:
    values = np.random.default_rng(1).normal(size=400)
    drawn = resampled(lambda draws: draws @ values / 400, 400, resamples=4000)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.003)
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_ends_hold_the_middle_and_leave_out_what_was_not_measured() -> None:
    values = np.stack([np.arange(1000.0), np.full(1000, np.nan)], 1)
    values[::2, 0] = np.nan
    low, high = bounds(values, 0.9)
    assert low[0] == pytest.approx(50, abs=3)
    assert high[0] == pytest.approx(950, abs=3)
    assert np.isnan([low[1], high[1]]).all()
    assert bounds(np.array([1.0, np.inf, np.inf]))[1] == np.inf


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(EmptyDataError, match="0 images"):
        next(image_draws(0))
    with pytest.raises(ArgumentError, match="at least 1"):
        next(image_draws(3, resamples=0))
