"""ResNet-n for small images (He, Zhang, Ren, Sun: "Deep residual learning", CVPR 2016, section 4.2), as the Keras
example builds it: every convolution has a bias, and a shortcut is a 1x1 convolution without batch norm where the
resolution falls. Parameter counts are those published for the data-size study: ResNet-32 has 467,946 on CIFAR-10,
ResNet-20 has 272,778 on MNIST.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from atodds.models.plain import Shape

_POOL = 8


class Block(nn.Module):
    """Convolution, batch norm, ReLU, convolution, batch norm; plus the shortcut, ReLU."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride) if stride != 1 else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride), rounded up."""
        inner = self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu()))
        return F.relu(inner + self.shortcut(maps))


class ResNet(nn.Module):
    """Three stages of (depth - 2) / 6 blocks, of one, two and four times the width; average-pool 8, linear.

    Args:
        shape: (C, H, W) of an image; H and W at least 4. Last maps smaller than 8x8 are pooled whole (MNIST: 7x7).
        classes: number of logits.
        depth: 6 k + 2 layers.
        width: channels of the first stage.
    """

    def __init__(self, shape: Shape, classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        channels, height, columns = shape
        blocks = (depth - 2) // 6
        self.conv = nn.Conv2d(channels, width, 3, 1, 1)
        self.bn = nn.BatchNorm2d(width)
        self.stage1 = _stage(width, width, 1, blocks)
        self.stage2 = _stage(width, 2 * width, 2, blocks)
        self.stage3 = _stage(2 * width, 4 * width, 2, blocks)
        self.head = nn.Linear(4 * width * _pooled(height) * _pooled(columns), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        maps = self.stage3(self.stage2(self.stage1(self.bn(self.conv(images)).relu())))
        pooled = F.avg_pool2d(maps, (min(_POOL, maps.shape[2]), min(_POOL, maps.shape[3])))
        logits: Tensor = self.head(pooled.flatten(1))
        return logits


def _stage(width_in: int, width: int, stride: int, blocks: int) -> nn.Sequential:
    first = Block(width_in, width, stride)
    return nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1)))


def _pooled(side: int) -> int:
    """Rows that the average-pool leaves of an image with `side` rows."""
    last = -(-side // 4)
    return last // min(_POOL, last)
