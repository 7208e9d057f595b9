"""What is said of each finding of 2019, on curves whose form is known."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from atodds.analysis import wilson
from atodds.analysis.turning_point import Robustness, TurningPoint, turning_point
from atodds.studies import data_size_claims as claims
from atodds.studies.data_size import Curve, DataSizeStudy
from atodds.studies.data_size_plan import Variant

SIZES = (500, 1000, 2000, 5000)
MEANS = {
    "turning": (1.0, 1.4, 1.5, 1.1),
    "early": (1.2, 1.5, 1.3, 1.1),
    "rising": (1.0, 1.2, 1.4, 1.6),
    "falling": (1.6, 1.4, 1.2, 1.0),
    "flat": (1.2, 1.2, 1.2, 1.2),
}


def curve(form: str, noise: float = 0.02) -> TurningPoint:
    draw = np.random.default_rng(1)
    values = draw.gamma(9, 0.05, (120, 1)) + np.array(MEANS[form]) + noise * draw.normal(size=(120, 4))
    return turning_point(values, SIZES, resamples=400)


def network(name: str, form: str, accuracy: str = "rising") -> Curve:
    rates = tuple(wilson(hits, 100) for hits in (60, 70, 80, 90))
    both: dict[Any, Robustness] = {norm: Robustness(curve(form), 120, 0) for norm in ("l2", "linf")}
    return Curve(Variant.parse(name), rates, rates, curve(accuracy), both, curve("flat"), {})


def study(data: str, *curves: Curve) -> DataSizeStudy:
    plan = SimpleNamespace(data=data, sizes=SIZES)
    return DataSizeStudy(cast(Any, plan), curves, 1000)


@pytest.mark.parametrize(
    ("form", "wanted", "verdict"),
    [
        ("turning", "turning", "holds"),
        ("rising", "turning", "does not hold"),
        ("falling", "turning", "does not hold"),
        ("flat", "turning", "does not hold"),
        ("rising", "rising", "holds"),
        ("turning", "rising", "does not hold"),
        ("falling", "rising", "does not hold"),
        ("flat", "flat", "holds"),
        ("rising", "flat", "does not hold"),
        ("rising", "no turn", "holds"),
        ("turning", "no turn", "does not hold"),
    ],
)
def test_a_clear_curve_has_the_form_that_was_found_or_not(form: str, wanted: Any, verdict: str) -> None:
    assert claims.verdict_on(curve(form), wanted) == verdict


@pytest.mark.parametrize("wanted", ["turning", "rising", "flat"])
def test_too_much_noise_leaves_every_form_open(wanted: Any) -> None:
    found = curve("flat", noise=3.0)
    assert found.form == "flat"
    assert claims.verdict_on(found, wanted) == "cannot be told"


def test_accuracy_must_rise_clearly() -> None:
    assert claims.accuracy(network("mlp", "flat")).verdict == "holds"
    assert claims.accuracy(network("mlp", "flat", "turning")).verdict == "does not hold"
    assert claims.accuracy(network("mlp", "flat", "flat")).verdict == "cannot be told"


def test_each_data_set_is_held_against_what_was_found_on_it() -> None:
    assert claims.expected("cifar10", "cnn7", augmented=False) == "turning"
    assert claims.expected("cifar10", "resnet32", augmented=False) == "no turn"
    assert claims.expected("cifar10", "resnet32", augmented=True) == "turning"
    assert claims.expected("mnist", "resnet20", augmented=False) == "flat"
    assert claims.expected("tiny-imagenet", "cnn20", augmented=False) == "rising"
    assert claims.expected("digits", "mlp", augmented=False) == "turning"


def test_turning_points_that_lie_apart_depend_on_the_network() -> None:
    late, early = network("cnn7", "turning"), network("mlp", "early")
    found = claims.apart(study("cifar10", late, early), "l2")
    assert found is not None
    assert found.verdict == "holds"
    assert "cnn7 2,000" in found.measured
    same = claims.apart(study("cifar10", late, network("mlp", "turning")), "l2")
    assert same is not None
    assert same.verdict == "does not hold"
    one = claims.apart(study("cifar10", late, network("mlp", "rising")), "l2")
    assert one is not None
    assert one.verdict == "cannot be told"
    assert claims.apart(study("cifar10", late), "l2") is None


def test_a_range_holds_where_all_intervals_lie_in_it() -> None:
    measured = network("cnn7", "rising")
    assert claims.within(measured, "l2", 1.0, 3.0).verdict == "holds"
    assert claims.within(measured, "l2", 0.3, 0.55).verdict == "does not hold"
    middle = measured.robustness["l2"].curve.means[0].value
    assert claims.within(measured, "l2", middle, 3.0).verdict == "cannot be told"


def test_every_network_has_its_claims_and_cifar_the_ranges() -> None:
    found = claims.claims(study("cifar10", network("cnn7", "turning"), network("mlp", "early")))
    assert len(found) == 2 + 4 + 2 + 1
    assert all(claim.measured for claim in found)
    assert not any("lie from" in claim.claim for claim in claims.claims(study("mnist", network("cnn7", "flat"))))


@pytest.mark.parametrize(
    ("form", "words"),
    [("turning", "turns at 2,000"), ("rising", "still rises at 5,000"), ("falling", "falls from 500 on")],
)
def test_a_form_is_said_in_a_few_words(form: str, words: str) -> None:
    assert claims.short(curve(form)) == words
    assert claims.short(curve("flat")).startswith("is flat to within")
