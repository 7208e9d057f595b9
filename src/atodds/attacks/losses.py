"""What an attack raises: for each image a number that grows as the model comes closer to the wrong answer.

Every loss takes logits (N, K) and classes (N,) and gives (N,). Untargeted, the classes are the labels and the loss is
raised; targeted, they are the targets and the loss is lowered.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from atodds.errors import UnknownNameError
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
    """What to raise for images at given positions of a pool: the loss on the labels, or minus the loss on targets."""
    function = named(loss)
    if targets is None:
        return lambda logits, positions: function(logits, labels[positions])
    return lambda logits, positions: -function(logits, targets[positions])


def of(logits: Tensor, classes: Tensor) -> Tensor:
    """(N,) the logit of each row's class."""
    return logits.gather(1, classes[:, None]).squeeze(1)
