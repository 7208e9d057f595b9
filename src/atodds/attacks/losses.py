"""What an attack raises: for each image a number that grows as the model comes closer to the wrong answer.

Every loss takes logits (N, K) and classes (N,) and gives (N,). Untargeted, the classes are the labels and the loss is
raised; targeted, they are the targets and the loss is lowered.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from atodds.errors import ArgumentError, UnknownNameError
from atodds.oracle import Objective

LossName = Literal["cross-entropy", "logit", "margin"]
Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """-log softmax(z)_y."""
    return functional.cross_entropy(logits, classes, reduction="none")


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    """-z_y: the loss of I-FGSM in the study of 18 models (Su et al., ECCV 2018)."""
    return -of(logits, classes)


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """max over i≠y of z_i, less z_y (Carlini & Wagner 2017): positive exactly where the prediction is not y."""
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.amax(1) - of(logits, classes)


_LOSSES: dict[LossName, Loss] = {"cross-entropy": cross_entropy, "logit": logit, "margin": margin}


def named(name: str) -> Loss:
    """The loss of that name.

    Raises:
        UnknownNameError: there is none.
    """
    for known in get_args(LossName):
        if name == known:
            return _LOSSES[known]
    raise UnknownNameError.among("loss", name, get_args(LossName))


def objective(loss: str, labels: Tensor, targets: Tensor | None) -> Objective:
    """What to raise for images at given positions of a pool: the loss on the labels, or minus the loss on targets.

    Raises:
        UnknownNameError: no such loss.
        ArgumentError: when it is asked, a class that the model has no logit for.
    """
    function, most = named(loss), highest(labels, targets)

    def raised(logits: Tensor, positions: Tensor) -> Tensor:
        known(logits, *most)
        if targets is None:
            return function(logits, labels[positions])
        return -function(logits, targets[positions])

    return raised


def highest(labels: Tensor, targets: Tensor | None) -> tuple[int, str]:
    """The highest class among labels and targets, and which of them it is from."""
    found = (int(labels.max()), "labels")
    return found if targets is None else max(found, (int(targets.max()), "targets"))


def known(logits: Tensor, most: int, argument: str) -> None:
    """Nothing, where the model has a logit for the highest class.

    Raises:
        ArgumentError: it has not.
    """
    if most >= logits.shape[1]:
        problem = f"no such class: the model returns {logits.shape[1]} logits"
        way_out = f"Classes count from 0 to {logits.shape[1] - 1}: check that images and model belong together."
        raise ArgumentError(argument, most, problem, way_out)


def of(logits: Tensor, classes: Tensor) -> Tensor:
    """(N,) the logit of each row's class."""
    return logits.gather(1, classes[:, None]).squeeze(1)
