"""MobileNet for small images (Howard et al.: "MobileNets: efficient convolutional neural networks for mobile vision
applications", 2017, table 1), as is customary for CIFAR-10: the first convolution keeps the resolution.
"""

from torch import Tensor, nn

from atodds.models.plain import Shape


class Block(nn.Module):
    """A 3x3 convolution of each channel by itself, batch norm, ReLU; a 1x1 convolution, batch norm, ReLU."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width_in, width_in, 3, stride, 1, groups=width_in, bias=False)
        self.bn1 = nn.BatchNorm2d(width_in)
        self.pointwise = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride), rounded up."""
        maps = self.bn1(self.depthwise(maps)).relu()
        found: Tensor = self.bn2(self.pointwise(maps)).relu()
        return found


class MobileNet(nn.Module):
    """A 3x3 convolution, then blocks of 2, 4, 4, 8, 8, 16, `repeats` times 16, 32 and 32 times the width; mean of the
    maps; linear. The resolution is halved with the first block of 4, 8, 16 and 32 times the width.

    Args:
        shape: (C, H, W) of an image.
        classes: number of logits.
        width: channels of the first convolution: 32 is the paper's width multiplier 1, 16 is 0.5, 8 is 0.25.
        repeats: further blocks of 16 times the width; 5 in the paper.
        stride: of the first convolution; 2 in the paper, where images are of 224x224 pixels.
    """

    def __init__(self, shape: Shape, classes: int, *, width: int, repeats: int, stride: int) -> None:
        super().__init__()
        plan = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * repeats, (32, 2), (32, 1)]
        self.conv = nn.Conv2d(shape[0], width, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        before = width
        for times, step in plan:
            blocks.append(Block(before, times * width, step))
            before = times * width
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        maps = self.stages(self.bn(self.conv(images)).relu())
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits
