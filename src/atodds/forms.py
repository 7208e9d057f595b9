"""The folded form of a model, made when it is first asked for, and held against the model itself now and then."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atodds.folding import fold
from atodds.outputs import logits_of, same

log = logging.getLogger("atodds")

_COMPARED = 16
"""Images of a comparison, at most."""
_EVERY = 500
"""One call in so many is preceded by a comparison, and so is the first."""
_SLOPE = 1e-3
"""Gradients may differ by this share of their length, in the middle of the images: now and then one of them lies where
a rectifier begins, or two values of a pool are equal."""


class Forms:
    """What answers for a model: its folded form, for images of each shape, where there is one that says the same.

    Args:
        model: read only.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known: dict[torch.Size, nn.Module | None] = {}
        self._calls: dict[torch.Size, int] = {}

    @property
    def used(self) -> bool:
        """Whether a form has answered for the model."""
        return any(form is not None for form in self._known.values())

    def forget(self) -> None:
        """Make the forms anew, of weights that have changed."""
        self._known, self._calls = {}, {}

    def of(self, images: Tensor, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
        """The form for images (N, C, H, W), with some of which it is compared now and then, on the model's device and
        in its type. None where the model must answer for itself."""
        shape = images.shape[1:]
        calls = self._calls[shape] = self._calls.get(shape, -1) + 1
        if calls == 0 or (calls % _EVERY == 0 and self._known[shape] is not None):
            with torch.inference_mode(False):
                few = images[:_COMPARED].detach().clone().to(device, dtype)
                form = self._known[shape] if calls else fold(self._model, few)
                self._known[shape] = form if form is None or self._agree(form, few) else None
        return self._known[shape]

    def _agree(self, form: nn.Module, images: Tensor) -> bool:
        """Whether a form gives the model's logits and gradients."""
        try:
            (logits, slopes), (others, slants) = _asked(self._model, images), _asked(form, images)
        except Exception as error:  # noqa: BLE001 - the model's own code may fail where nobody asks for gradients
            log.debug("The model and its folded form cannot be compared, and it answers for itself: %s", error)
            return False
        off, length = (slopes - slants).flatten(1).norm(dim=1), slopes.flatten(1).norm(dim=1)
        agree = same(logits, others) and bool((off <= _SLOPE * length).double().median() == 1)
        if not agree:
            log.debug("The folded form of the model differs from it, and it answers for itself.")
        return agree


def _asked(model: Callable[[Tensor], Any], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and gradients of the largest one less the others' mean; 0 where there are none."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = images.detach().clone().requires_grad_(True)
        logits = logits_of(model(leaf.clone()), len(images))
        lead = (logits.amax(1) - logits.mean(1)).sum()
        if not lead.requires_grad:
            return logits, torch.zeros_like(images)
        (slopes,) = torch.autograd.grad(lead, leaf, allow_unused=True)
    return logits.detach(), torch.zeros_like(images) if slopes is None else slopes.nan_to_num(0, 0, 0)
