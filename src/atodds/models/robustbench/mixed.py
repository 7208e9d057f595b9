"""The mixture of Bai, Anderson, Kim and Sojoudi ("Improving the accuracy-robustness trade-off of classifiers via
adaptive smoothing", 2023): an accurate BiT and a robust WideResNet, and a third network that looks at what both see and
decides by the image how much of each answer counts. Parameters have the names of RobustBench's files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds.models.log_mixture import log_mixed, log_shares
from atodds.models.resizing import resized
from atodds.models.robustbench.bit import BiT
from atodds.models.robustbench.wide import RobustWideResNet

SIDE = 128
"""Rows and columns of the images that the accurate classifier takes."""


@dataclass(frozen=True)
class Settings:
    """The six numbers that a mixture is published with.

    Attributes:
        standard_scale, robust_scale: what the logits of each classifier are multiplied by.
        gamma_scale, gamma_bias: alpha is low + width * sigmoid(gamma_scale * number + gamma_bias).
        low, width: the span of alpha, the share of the robust classifier.
    """

    standard_scale: float
    robust_scale: float
    gamma_scale: float
    gamma_bias: float
    low: float
    width: float


class Block(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; plus what comes out of the first ReLU, through a 1x1 convolution where
    width or resolution change."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        changes = [nn.Conv2d(width_in, width, 1, stride, bias=False)] if stride != 1 or width_in != width else []
        self.shortcut = nn.Sequential(*changes)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride), rounded up."""
        first = self.bn1(maps).relu()
        inner: Tensor = self.conv2(self.bn2(self.conv1(first)).relu())
        after: Tensor = inner + self.shortcut(first)
        return after


class PolicyNetwork(nn.Module):
    """The mixing network: the maps of both classifiers after their first and second stage -> one number an image.

    Args:
        first, second: channels of both classifiers' maps together, after the first and the second stage.
        widths: channels of its three stages.
    """

    def __init__(self, first: int = 768, second: int = 1536, widths: Sequence[int] = (512, 768, 1024)) -> None:
        super().__init__()
        befores = (first, *widths)
        self.layers = nn.ModuleList(
            nn.Sequential(Block(before, width, 2), Block(width, width, 1))
            for before, width in zip(befores, widths, strict=False)
        )
        self.linear = nn.Linear(widths[-1], 1, bias=False)
        self.conv1x1 = nn.Conv2d(second, widths[0], 1, bias=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, first, H, W) and (N, second, H / 2, W / 2) -> (N, 1)."""
        maps: Tensor = self.layers[0](first) + self.conv1x1(second)
        for layer in self.layers[1:]:
            maps = layer(maps)
        number: Tensor = self.linear(maps.mean((2, 3)))
        return number


class MixedClassifier(nn.Module):
    """Images (N, 3, 32, 32) in [0, 1] -> the log of the mixed probabilities (equation 3.4). Gradients flow through both
    classifiers and through the mixing network.

    Args:
        standard, robust: the two classifiers, for normalised images.
        policy: the mixing network.
        settings: the numbers that it is published with.
        mean, std: the robust classifier's normalisation, a number a channel. The other one takes (pixel - 0.5) / 0.5.
    """

    def __init__(
        self,
        standard: BiT,
        robust: RobustWideResNet,
        policy: PolicyNetwork,
        settings: Settings,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.models = nn.ModuleList([standard, robust])
        self.policy_net = policy
        self.bn = nn.BatchNorm1d(1, affine=False)
        self.standard_scale, self.robust_scale = settings.standard_scale, settings.robust_scale
        self.gamma_scale, self.gamma_bias = settings.gamma_scale, settings.gamma_bias
        self.span = (settings.low, min(1.0, settings.low + settings.width))
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) in [0, 1] -> logits (N, classes)."""
        standard, robust = cast(tuple[BiT, RobustWideResNet], tuple(self.models))
        first, second, accurate = standard.staged((resized(images, SIDE, SIDE) - 0.5) / 0.5)
        mean, std = (images.new_tensor(numbers).reshape(-1, 1, 1) for numbers in (self.mean, self.std))
        other_first, other_second, safe = robust.staged((images - mean) / std)
        number = self.policy_net(torch.cat([first, other_first], 1), torch.cat([second, other_second], 1))
        gamma = self._normalised(number) * self.gamma_scale + self.gamma_bias
        log_rest, log_alpha = log_shares(gamma, self.span)
        return log_mixed(accurate * self.standard_scale, safe * self.robust_scale, log_rest, log_alpha)

    def _normalised(self, number: Tensor) -> Tensor:
        """Always with the running statistics: an answer may not depend on the other images."""
        return F.batch_norm(number, self.bn.running_mean, self.bn.running_var, eps=self.bn.eps)
