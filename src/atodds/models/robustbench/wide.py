"""Wide residual networks as DeepMind trains them for robustness (Gowal, Qin, Uesato, Mann, Kohli: "Uncovering the
limits of adversarial training against norm-bounded adversarial examples", 2020), and RaWideResNet (Peng et al.: "Robust
principles: architectural design principles for adversarially robust CNNs", 2023).

They differ from `atodds.models.wide` in the activation, in where images are padded when a convolution halves them (one
row below, one column to the right), and, for RaWideResNet, in depths and widths by stage and in squeeze and excitation.
Parameters have the names that published files have.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcitation(nn.Module):
    """Maps, each times a number from 0 to 1 that the means of all maps decide (Hu et al., CVPR 2018, equation 3)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.fc2 = nn.Conv2d(inner, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        scales: Tensor = self.fc2(self.fc1(maps.mean((2, 3), keepdim=True)).relu())
        return maps * torch.sigmoid(scales)


class Block(nn.Module):
    """Batch norm, SiLU, 3x3 convolution, twice; plus the shortcut, a 1x1 convolution of what comes out of the first
    SiLU where the width changes."""

    def __init__(self, width_in: int, width: int, stride: int, squeeze: float) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(width_in)
        self.conv_0 = nn.Conv2d(width_in, width, 3, stride, 0, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.conv_1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = None if width_in == width else nn.Conv2d(width_in, width, 1, stride, bias=False)
        self.se = SqueezeExcitation(width, round(squeeze * width)) if squeeze else None

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride)."""
        first = F.silu(self.batchnorm_0(maps))
        inner = F.silu(self.batchnorm_1(self.conv_0(same(first, self.conv_0.stride[0]))))
        inner = self.conv_1(inner)
        squeezed: Tensor = inner if self.se is None else self.se(inner)
        return squeezed + (maps if self.shortcut is None else self.shortcut(first))


class Stage(nn.Module):
    """Blocks of one width, the first of which changes width and resolution."""

    def __init__(self, width_in: int, width: int, stride: int, depth: int, squeeze: float) -> None:
        super().__init__()
        first = Block(width_in, width, stride, squeeze)
        self.block = nn.Sequential(first, *(Block(width, width, 1, squeeze) for _ in range(depth - 1)))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride)."""
        after: Tensor = self.block(maps)
        return after


class RobustWideResNet(nn.Module):
    """A 3x3 convolution, three stages of blocks, batch norm, SiLU, mean of the maps, linear; for normalised images.

    Args:
        classes: number of logits.
        stem: channels of the first convolution.
        depths: blocks of each stage.
        widths: channels of each stage.
        squeeze: channels of squeeze and excitation after the second convolution of a block, as a share of its width; 0
            for none.
    """

    def __init__(
        self, classes: int, *, stem: int, depths: Sequence[int], widths: Sequence[int], squeeze: float = 0.0
    ) -> None:
        super().__init__()
        self.init_conv = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        stages = zip((stem, *widths), widths, (1, 2, 2), depths, strict=False)
        self.layer = nn.Sequential(*(Stage(*of, squeeze) for of in stages))
        self.batchnorm = nn.BatchNorm2d(widths[-1])
        self.logits = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, classes)."""
        return self.staged(images)[-1]

    def staged(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes out of the first two stages, and the logits."""
        first = self.layer[0](self.init_conv(images))
        second = self.layer[1](first)
        last = F.silu(self.batchnorm(self.layer[2](second)))
        return first, second, self.logits(last.mean((2, 3)))


def wide(classes: int, depth: int, factor: int) -> RobustWideResNet:
    """WideResNet-depth-factor of DeepMind, of 6 k + 4 layers."""
    return RobustWideResNet(
        classes, stem=16, depths=[(depth - 4) // 6] * 3, widths=[16 * factor, 32 * factor, 64 * factor]
    )


def robust_architecture(classes: int) -> RobustWideResNet:
    """RaWideResNet-70-16."""
    return RobustWideResNet(classes, stem=96, depths=(30, 31, 10), widths=(216, 432, 864), squeeze=0.25)


def same(maps: Tensor, stride: int) -> Tensor:
    """Maps with the border that a 3x3 convolution needs: all around, or below and to the right where it halves them."""
    return F.pad(maps, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
