"""Losses are what their formulas say, and grow towards the wrong answer."""

import pytest
import torch
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
