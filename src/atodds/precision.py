"""The number formats that models run in."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float64", "float32", "bfloat16", "float16"]


def named(dtype: torch.dtype) -> Precision:
    """The name of a type of parameters; float32 for those in which no model runs."""
    match dtype:
        case torch.float64:
            return "float64"
        case torch.float16:
            return "float16"
        case torch.bfloat16:
            return "bfloat16"
        case _:
            return "float32"


@contextmanager
def full_float32(device: torch.device, precision: Precision) -> Iterator[None]:
    """float32 means float32: on a GPU, convolutions run in TF32 otherwise, with 10 bits of mantissa, and
    `torch.set_float32_matmul_precision` may have done the same or worse to products, on CPUs too."""
    backends: Any = torch.backends
    switches: list[tuple[Any, str, str | bool]] = []
    if device.type == "cuda" and hasattr(backends.cudnn, "conv"):
        switches = [
            (b, "fp32_precision", "ieee") for b in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
        ]
    elif device.type == "cuda":  # torch before 2.9
        switches = [(b, "allow_tf32", False) for b in (backends.cudnn, backends.cuda.matmul)]
    elif device.type == "cpu" and hasattr(backends.mkldnn, "matmul"):
        parts = (backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul)
        switches = [(b, "fp32_precision", "ieee") for b in parts]
    with ExitStack() as stack:
        for backend, name, value in switches if precision == "float32" else ():
            stack.callback(setattr, backend, name, getattr(backend, name))
            setattr(backend, name, value)
        yield
