"""Wide residual networks (Zagoruyko & Komodakis: "Wide residual networks", BMVC 2016, table 1): WRN-28-10 has
36,479,194 parameters on CIFAR-10.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from atodds.models.plain import Shape


class Block(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; plus the shortcut. Where width or resolution change, the shortcut is a
    1x1 convolution of what comes out of the first ReLU.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        same = stride == 1 and width_in == width
        self.shortcut = None if same else nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride), rounded up."""
        first = F.relu(self.bn1(maps))
        inner: Tensor = self.conv2(F.relu(self.bn2(self.conv1(first))))
        return inner + (maps if self.shortcut is None else self.shortcut(first))


class WideResNet(nn.Module):
    """A 3x3 convolution, three stages of (depth - 4) / 6 blocks, batch norm, ReLU, mean of the maps, linear.

    Args:
        shape: (C, H, W) of an image.
        classes: number of logits.
        depth: 6 k + 4 layers.
        factor: how many times wider than the first convolution the first stage is; the others twice and four times
            that.
        width: channels of the first convolution.
    """

    def __init__(self, shape: Shape, classes: int, *, depth: int, factor: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3, 1, 1, bias=False)
        blocks: list[nn.Module] = []
        before = width
        for stage in range(3):
            after = width * factor * 2**stage
            for block in range((depth - 4) // 6):
                blocks.append(Block(before, after, 2 if stage and not block else 1))
                before = after
        self.stages = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(before)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        maps = F.relu(self.bn(self.stages(self.conv(images))))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits
