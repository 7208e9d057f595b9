"""Adversarial training made cheaper by what gradients say: weak images are left alone, settled layers stand still.

Skipping: the first gradient of the attack tells, to first order, the loss that an image can reach in its ball: its loss
and eps times the dual norm of its gradient. Images for which this is below a running quantile are neither attacked
further nor trained on in this pass.

Freezing: where the gradients of a layer's weights over some batches do not differ from noise around 0, and those of no
layer before it do, these layers stand still for the batches that follow. All begins anew with each pass over the data,
so that an interrupted training goes on in the same way.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds.training.inner import Inner, ascend, frozen

FEWEST = 2
"""Images that are kept of a batch, at least: batch norm needs two."""
_WEIGHT = 0.1
"""Of a new batch in the running quantile."""
LOOK, REST = 8, 24
"""Batches over which gradients are looked at, and those for which layers may stand still after them."""


@dataclass
class Weak:
    """The running quantile of what images can reach; None before the first batch."""

    share: float
    level: Tensor | None = None

    def strong(self, reach: Tensor) -> Tensor:
        """(M,) the rows to keep of images that can reach so much, in order."""
        now = torch.quantile(reach, self.share)
        self.level = now if self.level is None else torch.lerp(self.level, now, _WEIGHT)
        keep = reach >= self.level
        if int(keep.sum()) < FEWEST:
            keep = torch.zeros_like(keep)
            keep[reach.argsort(descending=True, stable=True)[:FEWEST]] = True
        return keep.nonzero()[:, 0]


def first_step(model: nn.Module, points: Tensor, images: Tensor, labels: Tensor, inner: Inner) -> tuple[Tensor, Tensor]:
    """The points after one step of the attack, and what each image can reach (B,); the points are overwritten."""
    with frozen(model):
        leaf = points.detach().requires_grad_(True)
        losses = F.cross_entropy(model(leaf), labels, reduction="none")
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    order = {"linf": 1, "l2": 2, "l1": torch.inf}[inner.threat.norm]
    reach = losses.detach() + inner.threat.eps * gradient.flatten(1).norm(order, dim=1)
    return ascend(points, gradient, images, inner), reach


@dataclass
class _Layer:
    """Sums over the batches that are looked at."""

    parameters: list[nn.Parameter]
    sums: list[Tensor] = field(default_factory=list)
    squares: float = 0.0

    def add(self) -> None:
        gradients = [p.grad.detach() if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        self.sums = [a + b for a, b in zip(self.sums, gradients, strict=True)] if self.sums else gradients
        self.squares += sum(float(g.square().sum()) for g in gradients)

    def signal(self, count: int) -> float:
        """Squared norm of the mean over that of noise alone: about 1 where there is no signal, more where there is."""
        mean = sum(float(total.square().sum()) for total in self.sums) / count**2
        noise = (self.squares / count - mean) / (count - 1)
        return mean / noise if noise > 0 else torch.inf


class Frozen:
    """Layers that stand still while their gradients are noise.

    Args:
        model: whose layers; the last always learns.
        level: signal below which a layer stands still, if all before it do; 1 is that of noise alone.
    """

    def __init__(self, model: nn.Module, level: float) -> None:
        self.level, self.seen = level, 0
        self.layers = [_Layer(found) for found in _layers(model)]
        self.still: list[_Layer] = []

    def look(self) -> None:
        """Take note of the gradients that were just used, and decide where it is time to."""
        self.seen += 1
        place = (self.seen - 1) % (LOOK + REST)
        if place < LOOK:
            for layer in self.layers:
                layer.add()
        if place == LOOK - 1:
            for layer in self.layers[:-1]:
                if layer.signal(LOOK) >= self.level:
                    break
                self.still.append(layer)
            for layer in self.still:
                for parameter in layer.parameters:
                    parameter.requires_grad_(False)
        if place == LOOK + REST - 1:
            self.release()

    def release(self) -> None:
        """Let all layers learn again, and forget what was seen."""
        for layer in self.layers:
            layer.sums, layer.squares = [], 0.0
            for parameter in layer.parameters:
                parameter.requires_grad_(True)
        self.still = []


def _layers(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The parameters of each layer that learns, in the order of the modules, which is that of the way through."""
    for module in model.modules():
        found = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        if found:
            yield found
