"""What models return: the logits in it, and whether two answers are the same."""

import torch
from torch import Tensor

from atodds.errors import LogitsError

FULL = (torch.float32, torch.float64)
"""The types in which logits are read as they are."""
_DIGITS = 1024
"""Two ways of computing logits may differ by so many last digits of an image's largest, or of what is usual for it
where all of an image's are near 0: in float32, by 0.0001 of it."""


def logits_of(output: object, count: int) -> Tensor:
    """The logits in what a model returned for so many images: (N, K), float32 or float64.

    Raises:
        LogitsError: there are none, or of another shape.
    """
    if hasattr(output, "logits"):
        output = output.logits
    if isinstance(output, dict) and "logits" in output:
        output = output["logits"]
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise LogitsError(f"The model returned {type(output).__name__}: return a tensor of logits (N, classes).")
    if output.ndim != 2 or len(output) != count or output.shape[1] < 2:
        shape = tuple(output.shape)
        raise LogitsError(
            f"The model returned outputs of shape {shape} for {count} images: return one logit a class, shape "
            f"({count}, classes) with at least 2 classes. A single score z becomes two as torch.stack([0 * z, z], 1)."
        )
    return output if output.dtype in FULL else output.float()


def same(logits: Tensor, again: Tensor) -> bool:
    """Whether two answers (N, K) are the same but for rounding."""
    largest = logits.abs().nan_to_num(0, 0).amax(1, keepdim=True)
    rounding = torch.maximum(largest, largest.median()) * (_DIGITS * torch.finfo(logits.dtype).eps)
    return logits.shape == again.shape and bool(((again == logits) | ((again - logits).abs() <= rounding)).all())
