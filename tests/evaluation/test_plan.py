"""Lanes cover every image once, and a job's name changes with everything that decides its result."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds.attacks import registry
from atodds.data import ImageSet
from atodds.evaluation import plan as planning
from atodds.evaluation.manifest import ModelInfo
from atodds.evaluation.plan import Lane, Question, plan
from atodds.threat import parse_eps_list

FIRST = ModelInfo("first@aaaaaaaa", "first", "", "a" * 64, 10)
SECOND = ModelInfo("second@bbbbbbbb", "second", "", "b" * 64, 10)
QUESTION = Question("linf", seed=0, precision="full", eot=1, alone=False)


def a_set(count: int, *, first: int = 0, level: int = 0) -> ImageSet:
    pixels = np.full((count, 1, 2, 2), level, np.uint8)
    return ImageSet.from_arrays(pixels, [0] * count, ids=range(first, first + count), classes=("a", "b"))


def lanes(
    *,
    models: Sequence[ModelInfo] = (FIRST,),
    images: ImageSet | None = None,
    eps: str = "0,1/255,2/255",
    attacks: str = "fgsm,pgd",
    question: Question = QUESTION,
    chunk: int = 4,
) -> tuple[Lane, ...]:
    specs = registry.parse(attacks, question.norm)
    return plan(models, images or a_set(4), parse_eps_list(eps, question.norm), specs, question, chunk=chunk)


def keys(found: Sequence[Lane]) -> list[str]:
    return [job.key for lane in found for job in lane.jobs]


@settings(deadline=None)
@given(count=st.integers(1, 60), chunk=st.integers(1, 70), models=st.sampled_from([(FIRST,), (FIRST, SECOND)]))
def test_lanes_cover_every_image_exactly_once_a_model(count: int, chunk: int, models: tuple[ModelInfo, ...]) -> None:
    found = lanes(models=models, images=a_set(count), chunk=chunk)
    for model in models:
        mine = [lane.positions for lane in found if lane.model == model.id]
        assert [position for positions in mine for position in positions] == list(range(count))
        assert all(1 <= len(positions) <= chunk for positions in mine)
        assert len(mine) == -(-count // chunk)
        assert max(map(len, mine)) - min(map(len, mine)) <= 1
    assert len(set(keys(found))) == len(keys(found))


def test_models_take_turns() -> None:
    found = lanes(models=(FIRST, SECOND), images=a_set(8))
    assert [lane.model for lane in found] == [FIRST.id, SECOND.id] * 2


def test_budgets_ascend_and_attacks_keep_their_order() -> None:
    (lane,) = lanes(eps="2/255,0,1/255")
    assert [(job.attack, *(round(level * 255) for level in job.levels)) for job in lane.jobs] == [
        ("clean",), ("fgsm", 1), ("pgd", 1), ("fgsm", 2), ("pgd", 2),
    ]  # fmt: skip


def test_attacks_that_adapt_to_the_ball_choose_their_budget_for_each_image() -> None:
    (lane,) = lanes(eps="2/255,0,1/255", attacks="auto_pgd,square")
    assert [(job.attack, *(round(level * 255) for level in job.levels)) for job in lane.jobs] == [
        ("clean",), ("fab(steps=10,classes=1,enough=1/255)",), *[("auto_pgd", 1, 2), ("square", 1, 2)] * 2,
    ]  # fmt: skip
    assert len({job.key for job in lane.jobs}) == 6
    for attacks, eps, alone in (("auto_pgd,square", "0,1/255", False), ("auto_pgd,fgsm", "1/255,2/255", False),
                                ("auto_pgd,square", "1/255,2/255", True)):  # fmt: skip
        (lane,) = lanes(eps=eps, attacks=attacks, question=replace(QUESTION, alone=alone))
        assert [len(job.levels) for job in lane.jobs] == [0, *[1] * (len(lane.jobs) - 1)]


def test_in_a_cascade_every_earlier_job_is_a_parent() -> None:
    (lane,) = lanes()
    for place, job in enumerate(lane.jobs):
        assert job.parents == tuple(earlier.key for earlier in lane.jobs[:place])


def test_alone_only_the_clean_images_and_the_same_attack_are_parents() -> None:
    (lane,) = lanes(question=replace(QUESTION, alone=True))
    clean, fgsm1, pgd1, fgsm2, pgd2 = lane.jobs
    assert [job.parents for job in (fgsm1, pgd1)] == [(clean.key,), (clean.key,)]
    assert fgsm2.parents == (clean.key, fgsm1.key)
    assert pgd2.parents == (clean.key, pgd1.key)


def test_one_attack_with_two_settings_is_two_attacks() -> None:
    (lane,) = lanes(attacks="pgd,pgd(steps=10)", question=replace(QUESTION, alone=True))
    assert [job.attack for job in lane.jobs] == ["clean", *["pgd", "pgd(steps=10)"] * 2]
    assert len(set(keys([lane]))) == 5
    assert lane.jobs[4].parents == (lane.jobs[0].key, lane.jobs[2].key)


OTHERS: dict[str, tuple[Lane, ...]] = {
    "weights": lanes(models=(replace(FIRST, fingerprint="c" * 64),)),
    "name": lanes(models=(replace(FIRST, id="other@aaaaaaaa"),)),
    "pixels": lanes(images=a_set(4, level=1)),
    "ids": lanes(images=a_set(4, first=1)),
    "norm": lanes(question=replace(QUESTION, norm="l2")),
    "seed": lanes(question=replace(QUESTION, seed=1)),
    "precision": lanes(question=replace(QUESTION, precision="bfloat16")),
    "eot": lanes(question=replace(QUESTION, eot=2)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_no_job_keeps_its_name_when_what_all_share_changes(what: str) -> None:
    assert not set(keys(lanes())) & set(keys(OTHERS[what]))


@pytest.mark.parametrize(
    "changed",
    [
        lanes(attacks="fgsm(loss=margin),pgd"),
        lanes(attacks="fgsm(loss=logit),pgd"),
        lanes(attacks="pgd,fgsm"),
        lanes(attacks="random_noise,fgsm,pgd"),
        lanes(eps="0,1.5/255,2.5/255"),
    ],
)
def test_only_the_clean_job_keeps_its_name_when_settings_order_or_budgets_change(changed: Sequence[Lane]) -> None:
    assert set(keys(lanes())) & set(keys(changed)) == {lanes()[0].jobs[0].key}


def test_the_order_of_images_counts() -> None:
    images = ImageSet.from_arrays(np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2), [0, 1, 0, 1])
    turned = images.take([3, 2, 1, 0])
    assert not set(keys(lanes(images=images))) & set(keys(lanes(images=turned)))


def test_a_later_version_of_an_attack_takes_no_earlier_results(monkeypatch: pytest.MonkeyPatch) -> None:
    before = lanes()[0].jobs
    monkeypatch.setitem(registry.ATTACKS, "pgd", replace(registry.ATTACKS["pgd"], version=99))
    after = lanes()[0].jobs
    assert [old.key == new.key for old, new in zip(before, after, strict=True)] == [True, True, False, False, False]


def test_a_later_version_of_the_evaluation_takes_no_earlier_results(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(lanes())
    monkeypatch.setattr(planning, "_CODE", 99)
    assert not set(before) & set(keys(lanes()))


def test_names_are_the_same_tomorrow() -> None:
    """Results are kept for years: a change here means that old runs are computed again."""
    assert lanes()[0].jobs[0].key == "7da281f5f8a781aa92ffbc0643f53bb7"


def test_the_same_budget_in_other_words_is_the_same_job() -> None:
    assert keys(lanes(eps="0.00392156862745098")) == keys(lanes(eps="1/255"))
    assert keys(lanes(attacks="pgd(steps=40)")) == keys(lanes(attacks="pgd"))


def test_what_is_added_at_the_end_leaves_earlier_jobs_their_names() -> None:
    assert keys(lanes(eps="0,1/255,2/255,3/255"))[:5] == keys(lanes())
    alone = replace(QUESTION, alone=True)
    assert set(keys(lanes(question=alone))) < set(keys(lanes(attacks="fgsm,pgd,random_noise", question=alone)))
    assert set(keys(lanes())) < set(keys(lanes(models=(FIRST, SECOND))))


def test_weights_count_the_most_passes() -> None:
    (lane,) = lanes(attacks="fgsm,pgd(steps=3,restarts=2)", eps="1/255")
    assert [job.weight for job in lane.jobs] == [4, 4 * 3, 4 * (2 * (2 * 3 + 1) + 1)]


def closest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make "closest" a minimum-norm attack."""
    fgsm = registry.ATTACKS["fgsm"]
    attack = replace(fgsm, name="closest", minimum_norm=True, passes=lambda _: 50)
    monkeypatch.setitem(registry.ATTACKS, "closest", attack)


def told(lane: Lane) -> list[tuple[object, ...]]:
    return [(job.attack, *(round(level * 255) for level in job.levels)) for job in lane.jobs]


def test_a_minimum_norm_attack_is_one_job_without_levels_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    closest(monkeypatch)
    (lane,) = lanes(attacks="fgsm,closest,pgd")
    assert told(lane) == [("clean",), ("fgsm", 1), ("closest",), ("pgd", 1), ("fgsm", 2), ("pgd", 2)]
    (lane,) = lanes(attacks="auto_pgd,closest")
    names = [("auto_pgd", 1, 2), ("closest",), ("auto_pgd", 1, 2)]
    assert told(lane) == [("clean",), ("fab(steps=10,classes=1,enough=1/255)",), *names]
    (lane,) = lanes(attacks="closest,auto_pgd")  # it is the search for the closest images
    assert told(lane) == [("clean",), ("closest",), *[("auto_pgd", 1, 2)] * 2]
    for eps in ("0", "1/255", "0,1/255,2/255"):
        (lane,) = lanes(attacks="closest", eps=eps)
        assert told(lane) == [("clean",), ("closest",)]
        assert [job.weight for job in lane.jobs] == [4, 4 * 51]


def test_what_was_found_before_a_minimum_norm_attack_is_nothing_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    closest(monkeypatch)
    (lane,) = lanes(attacks="fgsm,closest,pgd")
    clean, _, search, pgd, *_ = lane.jobs
    assert search.parents == (clean.key,)
    assert search.key in pgd.parents
    (other,) = lanes(attacks="pgd,closest", eps="5/255")
    assert other.jobs[-1].key == search.key
