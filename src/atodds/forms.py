"""The folded form of a model, made when it is first asked for, and held against the model itself now and then."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atodds import noise
from atodds.folding import fold
from atodds.outputs import logits_of, same

log = logging.getLogger("atodds")

_COMPARED = 8
"""Images of a comparison, at most; each also with noise upon it."""
_EVERY = 500
"""One call in so many is preceded by a comparison, and so is the first."""
_SLOPE = 1e-3
"""Gradients may differ by this share of their length, in the middle of the images: now and then one of them lies where
a rectifier begins, or two values of a pool are equal."""
_OFF, _DIGITS = 8, 64
"""Logits may differ by so many times as much as in comparisons, and by so many last digits of the largest there."""


class Forms:
    """What answers for a model: its folded form, for images of each shape, where there is one that says the same.

    Args:
        model: read only.

    Attributes:
        slack: by how much a form's logits may be off.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known: dict[torch.Size, nn.Module | None] = {}
        self._calls: dict[torch.Size, int] = {}
        self.slack = 0.0

    @property
    def used(self) -> bool:
        """Whether a form has answered for the model."""
        return any(form is not None for form in self._known.values())

    def forget(self) -> None:
        """Make the forms anew, of a model that has changed."""
        self._known, self._calls = {}, {}

    def doubt(self) -> None:
        """Compare the forms once more, before they answer again."""
        self._calls = {}

    def of(self, images: Tensor, device: torch.device, dtype: torch.dtype, most: int | None = None) -> nn.Module | None:
        """The form for images (N, C, H, W). None where the model must answer for itself.

        Args:
            images: with some of which form and model are compared now and then.
            device, dtype: the model's.
            most: images that it takes at once, where that is limited.
        """
        shape = images.shape[1:]
        calls = self._calls[shape] = self._calls.get(shape, -1) + 1
        if calls % _EVERY == 0 and self._known.get(shape, self._model) is not None:
            with torch.inference_mode(False), _left_alone(device) as drawn:
                few = images[:_COMPARED].detach().clone().to(device, dtype)
                form = self._known[shape] if shape in self._known else fold(self._model, few)
                if form is not None and not (self._agree(form, few, most or 2 * _COMPARED) and not drawn()):
                    log.debug("The folded form of the model may differ from it, and the model answers for itself.")
                    form = None
            self._known[shape] = form
        return self._known[shape]

    def _agree(self, form: nn.Module, images: Tensor, most: int) -> bool:
        """Whether a form gives the model's logits, with gradients and without, and the gradients."""
        ids = torch.arange(len(images), device=images.device)
        away = noise.uniform(ids, images.shape[1:], seed=0, stream="forms", low=-0.5, high=0.5, dtype=images.dtype)
        for given in (images, (images + away).clamp_(0, 1)):
            try:
                (logits, slopes), (others, slants) = (_asked(each, given, most) for each in (self._model, form))
                with torch.no_grad():
                    plain, silent = (_logits(each, given, most) for each in (self._model, form))
            except Exception as error:  # noqa: BLE001 - the model's own code may fail where nobody asks for gradients
                log.debug("The model and its folded form cannot be compared: %s", error)
                return False
            off, length = (slopes - slants).flatten(1).norm(dim=1), slopes.flatten(1).norm(dim=1)
            if not (same(logits, others) and same(plain, silent)):
                return False
            if 2 * int((off <= _SLOPE * length).sum()) < len(images):
                return False
            digits = _DIGITS * torch.finfo(logits.dtype).eps * logits.abs().nan_to_num(0, 0).amax(1).median()
            self.slack = max(self.slack, float(digits), _OFF * float((logits - others).abs().nan_to_num(0, 0).max()))
        return True


def _logits(model: Callable[[Tensor], Any], images: Tensor, most: int) -> Tensor:
    return torch.cat([logits_of(model(part.clone()), len(part)) for part in images.split(most)])


def _asked(model: Callable[[Tensor], Any], images: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Logits, and gradients of the largest one less the others' mean; 0 where there are none."""
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_(True)
        answers, slopes = [], []
        for part in leaf.split(most):
            logits = _logits(model, part, most)
            lead = (logits.amax(1) - logits.mean(1)).sum()
            found = torch.autograd.grad(lead, part, allow_unused=True)[0] if lead.requires_grad else None
            slopes.append(torch.zeros_like(part) if found is None else found.nan_to_num(0, 0, 0))
            answers.append(logits.detach())
    return torch.cat(answers), torch.cat(slopes)


@contextmanager
def _left_alone(device: torch.device) -> Iterator[Callable[[], bool]]:
    """Tells whether any of the generators that a process shares was drawn from, and leaves them as they were."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.empty(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 - what models draw from

    def drawn() -> bool:
        same_here = torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
        there = torch.cuda.get_rng_state(device) if device.type == "cuda" else cuda
        return not (same_here and torch.equal(there, cuda) and str(np.random.get_state()) == str(before[2]))  # noqa: NPY002

    try:
        yield drawn
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])  # noqa: NPY002
        if device.type == "cuda":
            torch.cuda.set_rng_state(cuda, device)
