"""Which class a targeted attack heads for: the least likely, the second most likely, or one drawn at random.

After Su et al., "Is robustness the cost of accuracy?", ECCV 2018, section 3.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from atodds import noise
from atodds.attacks import losses
from atodds.errors import UnknownNameError

Mode = Literal["least-likely", "second", "random"]
MODES: tuple[Mode, ...] = get_args(Mode)


def target_classes(
    logits: Tensor, labels: Tensor, mode: str, *, ids: Tensor | None = None, seed: int = 0
) -> Tensor:  # fmt: skip
    """A class other than the label for each image.

    Args:
        logits: (N, K) of the images themselves.
        labels: (N,) integers.
        mode: "least-likely", "second" (the most likely class but the label) or "random" (every other class alike).
        ids: (N,) int64 stable ids, which decide the random class together with the seed; positions if None. The same
            image has the same random class for every model with as many classes.
        seed: of the random class.

    Returns:
        (N,) int64, on the device of the logits.

    Raises:
        UnknownNameError: no such mode.
        ArgumentError: a label that the model has no logit for.
    """
    if mode not in MODES:
        raise UnknownNameError.among("target", mode, MODES)
    labels = labels.to(logits.device).long()
    losses.known(logits, int(labels.max()), "labels")
    names = torch.arange(len(logits)) if ids is None else ids
    return _CHOICES[mode](logits, labels, names.to(logits.device), seed)


def _likeliest(logits: Tensor, labels: Tensor, _ids: Tensor, _seed: int) -> Tensor:
    others = _numbers(logits).scatter(1, labels[:, None], -torch.inf)
    return others.argmax(1)


def _least_likely(logits: Tensor, labels: Tensor, _ids: Tensor, _seed: int) -> Tensor:
    others = _numbers(logits).scatter(1, labels[:, None], torch.inf)
    return others.argmin(1)


def _random(logits: Tensor, labels: Tensor, ids: Tensor, seed: int) -> Tensor:
    others = logits.shape[1] - 1
    share = noise.uniform(ids, (1,), seed=seed, stream="target", dtype=torch.float64)[:, 0]
    drawn = (share * others).long().clamp_max_(others - 1)
    return drawn + (drawn >= labels)


def _numbers(logits: Tensor) -> Tensor:
    """Finite logits, so that the label alone is further out than all others."""
    far = torch.finfo(logits.dtype).max
    return logits.nan_to_num(-far, far, -far)


_CHOICES: dict[Mode, Callable[[Tensor, Tensor, Tensor, int], Tensor]] = {
    "least-likely": _least_likely,
    "second": _likeliest,
    "random": _random,
}
