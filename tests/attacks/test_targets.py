"""Targets are the classes that their names say, never the label, and the same whoever else is there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from atodds.attacks import ensemble, target_classes
from atodds.attacks.targets import MODES
from atodds.errors import ArgumentError, UnknownNameError
from atodds.oracle import Oracle
from atodds.threat import Threat

LOGITS = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 0.0, 2.0]])


def test_least_likely_and_second_leave_the_label_out() -> None:
    right, wrong = torch.tensor([0, 3, 1]), torch.tensor([3, 0, 2])
    assert target_classes(LOGITS, right, "second").tolist() == [1, 2, 3]
    assert target_classes(LOGITS, right, "least-likely").tolist() == [3, 0, 2]
    assert target_classes(LOGITS, wrong, "second").tolist() == [0, 3, 1]
    assert target_classes(LOGITS, wrong, "least-likely").tolist() == [2, 1, 0]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_random_targets_are_all_other_classes_alike(classes: int) -> None:
    count = 6000
    labels = torch.arange(count) % classes
    found = target_classes(torch.zeros(count, classes), labels, "random", seed=3)
    steps = torch.bincount((found - labels) % classes, minlength=classes)
    assert int(steps[0]) == 0
    expected = count / (classes - 1)
    assert float((steps[1:] - expected).abs().max()) < 5 * expected**0.5 * (classes > 2) + 1e-9


def test_a_random_target_depends_on_seed_and_id_and_not_on_the_model() -> None:
    ids, labels = torch.arange(50) * 7, torch.zeros(50, dtype=torch.int64)
    logits = torch.rand(50, 10, generator=torch.Generator().manual_seed(0))
    first = target_classes(logits, labels, "random", ids=ids, seed=1)
    some = torch.tensor([40, 3, 17])
    assert torch.equal(target_classes(-logits[some], labels[some], "random", ids=ids[some], seed=1), first[some])
    assert not torch.equal(target_classes(logits, labels, "random", ids=ids, seed=2), first)
    assert not torch.equal(target_classes(logits, labels, "random", seed=1), first)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([0.0, 1.0, torch.inf, -torch.inf, torch.nan]), min_size=3, max_size=3),
                  min_size=1, max_size=5),
    mode=st.sampled_from(MODES),
)  # fmt: skip
def test_a_target_is_never_the_label_whatever_the_logits(rows: list[list[float]], mode: str) -> None:
    logits, labels = torch.tensor(rows), torch.arange(len(rows)) % 3
    found = target_classes(logits, labels, mode)
    assert found.dtype == torch.int64
    assert bool(((found >= 0) & (found < 3) & (found != labels)).all())


def test_what_cannot_be_a_target_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean least-likely"):
        target_classes(LOGITS, torch.tensor([0, 0, 0]), "least_likely")
    with pytest.raises(ArgumentError, match="from 0 to 3"):
        target_classes(LOGITS, torch.tensor([0, 0, 4]), "second")


def test_an_ensemble_heads_for_the_targets_of_its_attacks() -> None:
    """Three classes on a line: the second and the third most likely lie on opposite sides."""

    class Line(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            place = images.flatten(1)[:, 0].double()
            return torch.stack([-(place - at).square() for at in (0.4, 0.0, 1.0)], 1)

    images, labels = torch.full((3, 1, 1, 1), 0.4, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    for target, side in (("second", -1), ("least-likely", 1)):
        attacks = f"pgd(steps=20,random_start=False,loss=margin,target={target})"
        found = ensemble(Oracle(Line(), batch_size=2), images, labels, Threat("linf", 0.4), attacks=attacks)
        assert bool(((found - images).flatten() * side > 0.15).all())
