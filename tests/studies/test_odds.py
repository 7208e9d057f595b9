"""The study of accuracy against robustness: its plan, its parts, and that it goes on where it was stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atodds import data
from atodds.errors import ArgumentError, ThreatError, UnknownNameError
from atodds.evaluation.conduct import Settings
from atodds.models import build
from atodds.models.classifier import Classifier
from atodds.studies import odds_pictures, trainings
from atodds.studies.odds import PARTS, carry_out, check_parts, known, linear_task
from atodds.studies.odds_pictures import pictures
from atodds.studies.odds_plan import EFFORTS, Plan, entry, planned, subsets

TRAIN, TEST = data.load("digits", split="train"), data.load("digits")
QUIET = Settings(progress=False, keep=False)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    small = replace(EFFORTS["laptop"], least=20, inner=2)
    monkeypatch.setattr("atodds.studies.odds_plan.EFFORTS", {"laptop": small})
    return planned(
        TRAIN, data="digits", networks=["linear"], sizes=[100, 600], against={"linf": "0.1,0.2", "l2": "1"}, seeds=2
    )


def test_every_network_is_trained_as_it_is_and_against_every_radius(plan: Plan) -> None:
    assert [variant.name for variant in plan.variants] == [
        "linear-standard", "linear-linf-0.1", "linear-linf-0.2", "linear-l2-1"
    ]  # fmt: skip
    jobs = plan.trainings()
    assert len(jobs) == 4 * 2 * 2
    assert [(job.seed, job.size) for job in jobs[::4]] == [(0, 600), (0, 100), (1, 600), (1, 100)]
    assert len({job.entry.name for job in jobs}) == len(jobs)
    for job in jobs:
        assert job.entry.recipe.eps == (job.variant.value or None)
        assert job.entry.recipe.seed == job.seed


def test_the_networks_of_a_repetition_learn_from_the_same_nested_samples(plan: Plan) -> None:
    first, second = (plan.subsets[seed] for seed in plan.seeds)
    assert set(first[0].ids) < set(first[1].ids)
    assert set(first[0].ids) != set(second[0].ids)


def test_the_largest_size_may_be_all_images_balanced_or_not() -> None:
    whole = subsets(TRAIN, [100, len(TRAIN)], 0)[-1]
    assert whole is TRAIN
    with pytest.raises(ArgumentError, match="sizes"):
        subsets(TRAIN, [100, len(TRAIN) - 1], 0)


def test_small_subsets_take_the_least_number_of_steps(plan: Plan) -> None:
    effort = EFFORTS["laptop"]
    recipe = entry(plan.variants[0], plan.subsets[0][0], effort, 0).recipe
    assert recipe.epochs * np.ceil(100 / recipe.batch_size) >= effort.least


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"preset": "huge"}, UnknownNameError, "preset"),
        ({"data": "mine"}, ArgumentError, "nothing is usual"),
        ({"seeds": 0}, ArgumentError, "seeds"),
        ({"networks": ["lineal"]}, UnknownNameError, "linear"),
        ({"sizes": [100]}, ArgumentError, "no curve"),
        ({"sizes": [600, 100]}, ArgumentError, "sizes"),
        ({"against": {"linf": "8"}}, ThreatError, "8/255"),
        ({"against": {"l3": "1"}}, UnknownNameError, "l3"),
        ({"against": {"linf": "0"}}, ArgumentError, "nothing to train against"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_first(given: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        planned(TRAIN, **{"data": "digits", **given})  # type: ignore[arg-type]


class _StoppedError(Exception):
    """Stands for a kill."""


def test_a_study_that_is_stopped_goes_on_to_the_same_numbers(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(plan, variants=plan.variants[:2], seeds=(0,), budgets={"linf": plan.budgets["linf"]})
    parts = ("samples", "attacks")

    def study(place: Path) -> object:
        found = carry_out(
            TRAIN, TEST, place, QUIET, data="digits", plan=one, parts=parts, limit=20, attacks="fgsm"
        )  # fmt: skip
        rows = [[(row.standard, row.robust) for row in trade.rows] for trade in found.trades]
        return [(curve.accuracy, curve.crossing) for curve in found.curves], rows

    whole = study(tmp_path / "whole")
    real, done = trainings._one, list[str]()

    def stopped(*arguments: object) -> None:
        done.append(str(arguments[0]))
        if len(done) == 3:
            raise _StoppedError
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainings, "_one", stopped)
    with pytest.raises(_StoppedError):
        study(tmp_path / "again")
    assert study(tmp_path / "again") == whole
    assert len(done) == 5  # four trainings, one of which was stopped


def test_the_curves_are_the_accuracies_of_the_networks(plan: Plan, tmp_path: Path) -> None:
    one = replace(plan, variants=plan.variants[:2], seeds=(0, 1))
    found = carry_out(TRAIN, TEST, tmp_path, QUIET, data="digits", plan=one, parts=["samples"])
    standard, robust = found.curves
    assert standard.crossing is None
    assert robust.crossing is not None
    for place, gap in enumerate(robust.crossing.gaps):
        assert gap.value == pytest.approx(robust.accuracy[place].value - standard.accuracy[place].value)
    assert (robust.crossing.n, robust.crossing.seeds) == (355, 2)
    assert standard.accuracy[1].value > 0.7


def test_the_theory_lies_below_its_bound_and_within_its_draws() -> None:
    found = known(draws=4000)
    assert len(found.points) == 5
    for point in found.points:
        for exact, counted in zip((point.standard, point.robust), point.counted, strict=True):
            assert abs(exact - counted.value) < 3.5 * max(exact * (1 - exact) / 4000, 1e-6) ** 0.5
    assert {phase.region for phase in found.phases} == {"weak features", "first feature", "nothing"}


def test_the_linear_task_tells_what_the_paper_tells() -> None:
    found = linear_task(TRAIN, TEST)
    (standard, attacked), (robust_standard, robust) = found.rates
    assert standard.value >= robust_standard.value
    assert robust.value > attacked.value
    assert found.robust.used.sum() < found.standard.used.sum()
    assert found.steps[0].robust.value > found.steps[-1].robust.value


def test_pictures_compare_with_the_first_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odds_pictures, "EACH", 1)
    models = {name: Classifier(build("linear", TEST.shape, 10, seed=k), name=name) for k, name in enumerate("ab")}
    found = pictures(models, TEST.limit(20), TRAIN, data="digits", steps=2)
    first, second = found.models
    assert (first.correlation, first.share, first.agreed) == (None, None, None)
    assert second.correlation is not None
    assert second.correlation.value == pytest.approx(
        second.alignment.correlation.value - first.alignment.correlation.value
    )
    assert len(set(found.labels)) == len(found.labels) == odds_pictures.SHOWN
    assert second.agreed is not None
    assert second.agreed.n == 10


def test_parts_stand_in_the_order_of_the_page_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    assert check_parts(["pictures", "theory"]) == ("theory", "pictures")
    with pytest.raises(UnknownNameError):
        check_parts(["theorie"])
    with pytest.raises(ArgumentError, match="nothing to do"):
        check_parts([])
    for parts, said in ((["samples"], "no networks to train"), (["pictures"], "nothing to look with")):
        with pytest.raises(ArgumentError, match=said):
            carry_out(TRAIN, TEST, tmp_path, QUIET, data="digits", parts=parts)
    assert set(check_parts(list(PARTS))) == set(PARTS)
