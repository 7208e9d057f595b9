"""Lower bounds beside distances: which contradict, and what is said of them."""

import math

import pytest

from atodds.bounds import beside
from atodds.errors import ArgumentError


def test_images_whose_bound_is_above_the_distance_are_listed_the_widest_first() -> None:
    found = beside(
        [10, 11, 12, 13, 14],
        [0.1, 0.5, 0.3, 0.0, 9.0],
        [0.2, 0.4, 0.1, 0.0, math.inf],
        method="clever",
        certified=False,
        low=[0.0, 0.3, 0.2, 0.0, 1.0],
    )
    assert (found.n, found.unknown, found.below, found.holds) == (3, 1, 1, False)
    assert [crossing.image for crossing in found.crossings] == [12, 11]
    wide, narrow = (" ".join(crossing.reasons) for crossing in found.crossings)
    assert "at least 3 times as large" in wide
    assert "ends at 0.2" in wide
    assert "reaches down to 0.3" in narrow
    assert str(found) == "clever: the estimate is at most the distance found for 1 of 3 images, and above it for 2."


def test_a_bound_that_equals_the_distance_up_to_rounding_is_below_it() -> None:
    assert beside([1], [0.3 * (1 + 1e-7)], [0.3], method="clever", certified=False).holds


def test_what_is_known_of_the_fit_is_said() -> None:
    found = beside(
        [1], [2.0], [1.0], method="clever", certified=False, p_value=[0.01], endless=[True], radius=[2.0]
    )  # fmt: skip
    text = str(found.crossings[0])
    for part in ("fit is poor (p = 0.01)", "no upper end", "the radius itself"):
        assert part in text


def test_nothing_is_said_of_a_fit_that_was_not_made() -> None:
    found = beside([1], [2.0], [1.0], method="clever", certified=False, p_value=[math.nan], endless=[False])
    assert len(found.crossings[0].reasons) == 1


def test_a_certificate_that_is_contradicted_is_another_matter_than_an_estimate() -> None:
    found = beside([1, 2], [2.0, 0.5], [1.0, 1.0], method="smoothing(sigma=0.25)", certified=True)
    assert "of the smoothed classifier" in str(found.crossings[0])
    assert str(found).startswith("smoothing(sigma=0.25): the certificate of the smoothed classifier is at most")


def test_another_number_of_values_than_of_images_is_refused() -> None:
    with pytest.raises(ArgumentError, match="low"):
        beside([1, 2], [0.1, 0.2], [1, 1], method="clever", certified=False, low=[0.1])
