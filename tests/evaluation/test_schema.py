"""Proposals are judged by what they are: distances in closed form, and nothing counts that is no image."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atodds.evaluation.schema import NO_CLASS, SCHEMA, Judged, answers, judge, ranks, verdicts, within


def judged(image: Tensor, proposal: Tensor, logits: list[float], label: int = 0) -> Judged:
    return judge(image[None], proposal[None], torch.tensor([label]), torch.tensor([logits]))


def test_distances_are_those_of_the_definition() -> None:
    image, proposal = torch.zeros(1, 2, 2), torch.tensor([[[0.75, 0.0], [0.25, 0.5]]])
    found = judged(image, proposal, [0.0, 1.0])
    assert {name: float(value) for name, value in found.distances.items()} == pytest.approx(
        {"l0": 3, "l1": 1.5, "l2": math.sqrt(0.5625 + 0.0625 + 0.25), "linf": 0.75}
    )
    assert found.fooled.tolist() == [True]
    assert found.answers.prediction.tolist() == [1]
    assert float(found.answers.confidence) == pytest.approx(1 / (1 + math.exp(-1)))


def test_distances_are_measured_in_float64_whatever_the_images_are() -> None:
    image, proposal = torch.full((1, 100, 100), 0.1), torch.full((1, 100, 100), 0.9)
    far = judged(image, proposal, [0.0, 1.0]).distances
    gap = float(proposal[0, 0, 0].double() - image[0, 0, 0].double())
    assert far["l1"].dtype == torch.float64
    assert float(far["l1"]) == pytest.approx(10_000 * gap, rel=1e-12)
    assert float(far["l2"]) == pytest.approx(100 * gap, rel=1e-12)


def test_a_proposal_that_does_not_fool_is_infinitely_far() -> None:
    found = judged(torch.zeros(1, 2, 2), torch.ones(1, 2, 2), [1.0, 0.0])
    assert found.fooled.tolist() == [False]
    assert all(float(value) == math.inf for value in found.distances.values())


@pytest.mark.parametrize("value", [1 + 1e-6, -1e-6, math.nan, math.inf, -math.inf])
def test_a_proposal_outside_the_box_does_not_count(value: float) -> None:
    proposal = torch.full((1, 2, 2), 0.5)
    proposal[0, 1, 1] = value
    found = judged(torch.full((1, 2, 2), 0.5), proposal, [0.0, 1.0])
    assert found.fooled.tolist() == [False]
    assert float(found.distances["linf"]) == math.inf


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_the_edge_of_the_box_belongs_to_it(edge: float) -> None:
    assert judged(torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), edge), [0.0, 1.0]).fooled.tolist() == [True]


@pytest.mark.parametrize("logits", [[math.nan, 1.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_outputs_that_are_not_numbers_are_no_class(logits: list[float]) -> None:
    found = judged(torch.zeros(1, 2, 2), torch.ones(1, 2, 2), logits)
    assert found.answers.prediction.tolist() == [NO_CLASS]
    assert found.fooled.tolist() == [True]
    assert 0 <= float(found.answers.confidence) <= 1


def aimed(logits: list[float], target: int) -> Judged:
    """What is judged of an image of label 0 that was made for a target."""
    image = torch.zeros(1, 1, 2, 2)
    return judge(image, image + 0.5, torch.tensor([0]), torch.tensor([logits]), torch.tensor([target]))


@pytest.mark.parametrize(
    ("logits", "fooled", "wrong", "rank"),
    [
        ([0.0, 3.0, 1.0, 2.0], False, True, 2),  # another wrong class
        ([0.0, 1.0, 3.0, 2.0], True, True, 0),
        ([3.0, 1.0, 2.0, 0.0], False, False, 1),  # the label
        ([math.nan, 0.0, 3.0, 0.0], False, True, NO_CLASS),
        ([-math.inf, 2.0, -math.inf, 2.0], False, True, 2),  # equal logits do not exceed each other
    ],
)
def test_a_target_is_reached_or_missed_and_the_answer_right_or_wrong(
    logits: list[float], fooled: bool, wrong: bool, rank: int
) -> None:
    found = aimed(logits, 2)
    assert found.fooled.tolist() == [fooled]
    assert found.wrong.tolist() == [wrong]
    assert found.answers.rank.tolist() == [rank]
    assert float(found.distances["linf"]) == (0.5 if wrong else math.inf)


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.5]), min_size=2, max_size=6), st.integers(0, 5))
def test_the_rank_is_how_many_logits_exceed_that_of_the_class(logits: list[float], label: int) -> None:
    said = answers(torch.tensor([logits]), torch.tensor([label]))
    expected = sum(value > logits[label] for value in logits) if label < len(logits) else NO_CLASS
    assert said.rank.tolist() == [expected]
    assert ranks(said) == [None if expected == NO_CLASS else expected]


def test_a_class_that_is_never_meant_does_not_keep_others_from_being_meant() -> None:
    found = judged(torch.zeros(1, 2, 2), torch.ones(1, 2, 2), [-math.inf, 1.0])
    assert found.answers.prediction.tolist() == [1]
    assert float(found.answers.confidence) == 1


def test_images_are_judged_one_by_one() -> None:
    images = torch.zeros(3, 1, 2, 2)
    proposals = torch.stack([images[0], images[0] + 0.5, images[0] + 2])
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = judge(images, proposals, torch.tensor([0, 0, 0]), logits)
    assert found.fooled.tolist() == [False, True, False]
    assert found.answers.prediction.tolist() == [0, 1, 1]


def test_a_table_has_the_declared_columns_and_takes_large_ids_and_no_images() -> None:
    logits, image = torch.tensor([[0.0, 1.0]]), torch.zeros(1, 1, 2, 2)
    for count, targeted in ((0, False), (1, False), (0, True), (1, True)):
        ids = torch.tensor([2**62])[:count]
        some = judge(image[:count], image[:count], ids * 0, logits[:count])
        table = verdicts(
            model="m", data="d", images=ids, labels=ids * 0, clean=ids * 0, attack="a", norm="l2",
            eps=torch.full((count,), torch.inf), targets=ids * 0 + 1 if targeted else None,
            judged=some, passes=(ids, ids), seed=-(2**63),
        )  # fmt: skip
        assert table.schema.equals(SCHEMA)
        assert table["image"].to_pylist() == [2**62] * count
        assert table["eps"].to_pylist() == [None] * count
        assert table["target"].to_pylist() == [1 if targeted else None] * count
        assert table["rank"].to_pylist() == [1] * count


@settings(deadline=None)
@given(st.floats(1e-6, 1.0))
def test_within_lets_rounding_pass_and_nothing_else(eps: float) -> None:
    around = torch.tensor([eps, float(np.float32(eps)), eps * (1 + 1e-5), math.inf], dtype=torch.float64)
    assert within(around, eps).tolist() == [True, True, False, False]
