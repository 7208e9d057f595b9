"""Big Transfer: a residual network with group norm and standardised weights (Kolesnikov et al.: "Big Transfer (BiT):
general visual representation learning", ECCV 2020), with the parameter names of RobustBench's files."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GROUPS = 32


class StandardisedConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 (Qiao et al.: "Micro-batch training with batch-channel
    normalization and weight standardization", 2019)."""

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        variance, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        standard = (self.weight - mean) / torch.sqrt(variance + 1e-10)
        after: Tensor = self._conv_forward(maps, standard, self.bias)
        return after


class Unit(nn.Module):
    """Group norm, ReLU, convolution, three times: 1x1, 3x3 with the stride, 1x1; plus the shortcut, a 1x1 convolution
    of what comes out of the first ReLU where width or resolution change."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        inner = width // 4
        self.gn1 = nn.GroupNorm(_GROUPS, width_in)
        self.conv1 = StandardisedConv(width_in, inner, 1, bias=False)
        self.gn2 = nn.GroupNorm(_GROUPS, inner)
        self.conv2 = StandardisedConv(inner, inner, 3, stride, 1, bias=False)
        self.gn3 = nn.GroupNorm(_GROUPS, inner)
        self.conv3 = StandardisedConv(inner, width, 1, bias=False)
        changes = stride != 1 or width_in != width
        self.downsample = StandardisedConv(width_in, width, 1, stride, bias=False) if changes else None

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride), rounded up."""
        first = self.gn1(maps).relu()
        inner: Tensor = self.conv3(self.gn3(self.conv2(self.gn2(self.conv1(first)).relu())).relu())
        return inner + (maps if self.downsample is None else self.downsample(first))


class BiT(nn.Module):
    """A 7x7 convolution, max-pool, four blocks of units, group norm, ReLU, mean of the maps, 1x1 convolution; for
    normalised images.

    Args:
        classes: number of logits.
        depths: units of each block; (3, 8, 36, 3) is R152.
        factor: how many times wider than a plain ResNet.
    """

    def __init__(self, classes: int, depths: Sequence[int] = (3, 8, 36, 3), factor: int = 2) -> None:
        super().__init__()
        widths = [256 * factor * 2**k for k in range(4)]
        self.root = nn.Sequential(
            OrderedDict(
                conv=StandardisedConv(3, 64 * factor, 7, 2, 3, bias=False), pad=nn.ZeroPad2d(1), pool=nn.MaxPool2d(3, 2)
            )
        )
        before, blocks = 64 * factor, OrderedDict[str, nn.Module]()
        for place, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            units = [Unit(before, width, 2 if place else 1), *(Unit(width, width, 1) for _ in range(depth - 1))]
            blocks[f"block{place + 1}"] = nn.Sequential(
                OrderedDict((f"unit{k:02d}", unit) for k, unit in enumerate(units, 1))
            )
            before = width
        self.body = nn.Sequential(blocks)
        self.head = nn.Sequential(OrderedDict(gn=nn.GroupNorm(_GROUPS, before), conv=nn.Conv2d(before, classes, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, classes)."""
        return self.staged(images)[-1]

    def staged(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes out of the first two blocks, and the logits."""
        first = self.body[0](self.root(images))
        second = self.body[1](first)
        last = self.body[3](self.body[2](second))
        norm, conv = self.head[0], self.head[1]
        means = F.adaptive_avg_pool2d(norm(last).relu(), 1)
        return first, second, conv(means).flatten(1)
