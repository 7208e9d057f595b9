"""The device that training runs on, through Lightning Fabric."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from atodds.errors import ArgumentError, UnknownNameError
from atodds.training.recipe import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_FABRIC: Mapping[Precision, Literal["32-true", "bf16-mixed"]] = {"float32": "32-true", "bfloat16": "bf16-mixed"}
DEVICES = ("auto", "cpu", "cuda", "mps")


def chosen(device: str) -> str:
    """The device that a name means: "auto" is the best there is.

    Raises:
        UnknownNameError: no such device.
        ArgumentError: a device that this machine does not have.
    """
    if device not in DEVICES:
        raise UnknownNameError.among("device", device, DEVICES)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = next(name for name in ("cuda", "mps", "cpu") if there[name]) if device == "auto" else device
    if not there[name]:
        raise ArgumentError("device", device, "this machine has none that torch can use", "Take 'cpu' or 'auto'.")
    return name


def fabric(device: str, precision: Precision) -> "Fabric":
    """One device for Fabric, which is told everything, so that it looks for no cluster and gives no advice."""
    from lightning_fabric import Fabric  # takes a second or two
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    advice = logging.getLogger("lightning_fabric")
    level = advice.level
    advice.setLevel(logging.WARNING)
    try:
        return Fabric(accelerator=device, devices=1, precision=_FABRIC[precision], plugins=LightningEnvironment())
    finally:
        advice.setLevel(level)


class Rounding(nn.Module):
    """A model that runs in the precision of a Fabric and returns float32.

    Fabric's own wrapper refuses gradients that it did not ask for itself, such as those in the images.
    """

    def __init__(self, model: nn.Module, fabric: "Fabric") -> None:
        super().__init__()
        self.model, self._fabric = model, fabric

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, K) in float32."""
        with self._fabric.autocast():
            logits: Tensor = self.model(images)
        return logits.float()


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU, algorithms that give the same sums each time, while it lasts."""
    with ExitStack() as stack:
        if device.type == "cuda":
            cudnn = torch.backends.cudnn
            for flag, value in (("deterministic", True), ("benchmark", False)):
                stack.callback(setattr, cudnn, flag, getattr(cudnn, flag))
                setattr(cudnn, flag, value)
        yield
