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

LossName = Literal["cross-entropy", "logit", "margin", "dlr"]
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


def dlr(logits: Tensor, classes: Tensor) -> Tensor:
    """The margin over the gap between the largest and the third largest logit: -(z_y - max over i≠y of z_i) / (z_π1 -
    z_π3). It does not change when all logits are scaled or shifted (Croce & Hein, ICML 2020, equation 4)."""
    largest = logits.topk(3).values
    return margin(logits, classes) / (largest[:, 0] - largest[:, 2] + _TINY)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """-(z_y - z_t) / (z_π1 - (z_π3 + z_π4) / 2): raised towards a target (Croce & Hein, ICML 2020, equation 6)."""
    largest = logits.topk(4).values
    gap = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return (of(logits, targets) - of(logits, labels)) / (gap + _TINY)


_TINY = 1e-12
"""What keeps the gap of the DLR loss from 0."""
_LOSSES: dict[LossName, Loss] = {"cross-entropy": cross_entropy, "logit": logit, "margin": margin, "dlr": dlr}


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
    """What to raise for images at given positions of a pool: the loss on the labels, or minus the loss on targets; for
    "dlr" with targets, the targeted one.

    Raises:
        UnknownNameError: no such loss.
        ArgumentError: when it is asked, a class that the model has no logit for, or too few classes for the loss.
    """
    function, most = named(loss), highest(labels, targets)
    least = 0 if loss != "dlr" else 3 if targets is None else 4

    def raised(logits: Tensor, positions: Tensor) -> Tensor:
        known(logits, *most)
        if logits.shape[1] < least:
            problem = f"needs {least} classes, and the model has {logits.shape[1]}"
            raise ArgumentError("loss", loss, problem, "Use the margin: loss=margin.")
        if targets is None:
            return function(logits, labels[positions])
        if loss == "dlr":
            return dlr_targeted(logits, labels[positions], targets[positions])
        return -function(logits, targets[positions])

    return raised


def lead(classes: Tensor, others: Tensor) -> Objective:
    """By how much the logit of a class exceeds that of another, for a pool with these classes and others (N,)."""
    return lambda logits, positions: of(logits, classes[positions]) - of(logits, others[positions])


def at(objective: Objective, rows: Tensor) -> Objective:
    """The same objective for a pool that holds only the images at `rows`."""
    return lambda logits, positions: objective(logits, rows[positions])


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
