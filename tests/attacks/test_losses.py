"""Losses are what their formulas say, and grow towards the wrong answer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from atodds.attacks import losses
from atodds.errors import ArgumentError, UnknownNameError

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 1])


def test_each_loss_is_its_formula() -> None:
    probability = LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)
    expected = -torch.stack([probability[0, 0], probability[1, 1]]).log()
    torch.testing.assert_close(losses.cross_entropy(LOGITS, CLASSES), expected)
    assert losses.logit(LOGITS, CLASSES).tolist() == [-2.0, 0.0]
    assert losses.margin(LOGITS, CLASSES).tolist() == [0.5 - 2.0, 3.0 - 0.0]
    assert losses.of(LOGITS, CLASSES).tolist() == [2.0, 0.0]


def test_the_margin_is_positive_exactly_where_the_prediction_is_another() -> None:
    logits = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(200) % 4
    assert torch.equal(losses.margin(logits, classes) > 0, logits.argmax(1) != classes)


@pytest.mark.parametrize("name", ["cross-entropy", "logit", "margin"])
def test_an_objective_is_raised_untargeted_and_turned_round_for_targets(name: str) -> None:
    labels, targets = torch.tensor([9, 0, 1]) % 3, torch.tensor([1, 1, 2])
    positions = torch.tensor([2, 1])
    function = losses.named(name)
    untargeted = losses.objective(name, labels, None)
    torch.testing.assert_close(untargeted(LOGITS, positions), function(LOGITS, labels[positions]))
    targeted = losses.objective(name, labels, targets)
    torch.testing.assert_close(targeted(LOGITS, positions), -function(LOGITS, targets[positions]))
    closer = LOGITS.clone()
    closer[0, 2] += 1  # towards the first one's target, away from its label
    assert float(targeted(closer, positions)[0]) > float(targeted(LOGITS, positions)[0])


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean cross-entropy"):
        losses.objective("crossentropy", CLASSES, None)


@pytest.mark.parametrize(
    ("labels", "targets", "argument"),
    [
        (torch.tensor([0, 12]), None, "labels=12"),
        (torch.tensor([0, 12]), torch.tensor([1, 2]), "labels=12"),
        (torch.tensor([0, 1]), torch.tensor([1, 3]), "targets=3"),
    ],
)
def test_a_class_without_a_logit_is_refused_before_anything_is_looked_up(
    labels: Tensor, targets: Tensor | None, argument: str
) -> None:
    ask = losses.objective("margin", labels, targets)
    with pytest.raises(ArgumentError, match=f"{argument}: no such class: the model returns 3 logits"):
        ask(LOGITS, torch.tensor([0]))


# --- DLR ---------------------------------------------------------------------------------------------------------


def test_dlr_is_its_formula() -> None:
    logits = torch.tensor([[4.0, 1.0, 3.0, -2.0], [4.0, 1.0, 3.0, -2.0], [0.0, 5.0, 1.0, 2.0]], dtype=torch.float64)
    labels, targets = torch.tensor([0, 3, 1]), torch.tensor([3, 1, 0])
    # right: less the lead over the third; wrong: how far behind the first
    by_hand = [-(4 - 3) / (4 - 1), -(-2 - 4) / (4 - 1), -(5 - 2) / (5 - 1)]
    torch.testing.assert_close(losses.dlr(logits, labels), torch.tensor(by_hand, dtype=torch.float64))
    targeted = [-(4 + 2) / (4 - (1 - 2) / 2), -(-2 - 1) / (4 - (1 - 2) / 2), -(5 - 0) / (5 - (1 + 0) / 2)]
    found = losses.dlr_targeted(logits, labels, targets)
    torch.testing.assert_close(found, torch.tensor(targeted, dtype=torch.float64))
    objective = losses.objective("dlr", labels, targets)
    assert torch.equal(objective(logits[[2, 0]], torch.tensor([2, 0])), found[[2, 0]])


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
def test_dlr_does_not_change_when_all_logits_are_scaled_and_shifted(scale: float, shift: float, seed: int) -> None:
    logits = torch.randn(6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels, targets = torch.arange(6), (torch.arange(6) + 2) % 7
    other = logits * scale + shift
    torch.testing.assert_close(losses.dlr(other, labels), losses.dlr(logits, labels), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        losses.dlr_targeted(other, labels, targets), losses.dlr_targeted(logits, labels, targets), rtol=1e-5, atol=1e-7
    )


def test_dlr_has_the_sign_of_the_margin_and_a_finite_slope_where_logits_are_equal() -> None:
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 5
    assert torch.equal(losses.dlr(logits, labels) > 0, losses.margin(logits, labels) > 0)
    same = torch.zeros(1, 5, requires_grad=True)
    for value in (losses.dlr(same, labels[:1]), losses.dlr_targeted(same, labels[:1], labels[1:2])):
        (slope,) = torch.autograd.grad(value.sum(), same)
        assert bool(value.isfinite().all() and slope.isfinite().all())


@pytest.mark.parametrize(("classes", "targets"), [(2, None), (3, torch.tensor([1, 0])), (2, torch.tensor([1, 0]))])
def test_dlr_with_too_few_classes_is_refused_with_the_way_out(classes: int, targets: Tensor | None) -> None:
    ask = losses.objective("dlr", torch.tensor([0, 1]), targets)
    least = 3 if targets is None else 4
    with pytest.raises(ArgumentError, match=f"needs {least} classes, and the model has {classes}.*loss=margin"):
        ask(torch.randn(2, classes), torch.tensor([0, 1]))
