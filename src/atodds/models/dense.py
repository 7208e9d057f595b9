"""DenseNet for small images, without bottlenecks (Huang, Liu, van der Maaten, Weinberger: "Densely connected
convolutional networks", CVPR 2017, section 3). Parameter counts are those published for the data-size study:
DenseNet-40 with 24 initial channels has 1,059,298 on CIFAR-10.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds.models.plain import Shape


class Layer(nn.Module):
    """Batch norm, ReLU, 3x3 convolution; what it finds is put beside what it was given."""

    def __init__(self, width_in: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width_in)
        self.conv = nn.Conv2d(width_in, growth, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width_in + growth, H, W)."""
        return torch.cat([maps, self.conv(F.relu(self.bn(maps)))], 1)


class Transition(nn.Module):
    """Batch norm, ReLU, 1x1 convolution of the same width, average-pool 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width, H // 2, W // 2)."""
        return F.avg_pool2d(self.conv(F.relu(self.bn(maps))), 2)


class DenseNet(nn.Module):
    """A 3x3 convolution, three blocks of (depth - 4) / 3 layers with a transition after the first two, batch norm,
    ReLU, mean of the maps, linear. No convolution has a bias.

    Args:
        shape: (C, H, W) of an image; H and W at least 4.
        classes: number of logits.
        depth: 3 k + 4 layers.
        growth: channels that each layer adds.
        width: channels of the first convolution.
    """

    def __init__(self, shape: Shape, classes: int, *, depth: int, growth: int, width: int) -> None:
        super().__init__()
        layers = (depth - 4) // 3
        self.conv = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        for block in range(3):
            stages += [Layer(width + growth * layer, growth) for layer in range(layers)]
            width += growth * layers
            if block < 2:
                stages.append(Transition(width))
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        maps = F.relu(self.bn(self.stages(self.conv(images))))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits
