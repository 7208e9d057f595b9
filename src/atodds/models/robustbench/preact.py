"""The pre-activation ResNet-18 of DeepMind's robust models (Rebuffi et al.: "Fixing data augmentation to improve
adversarial robustness", 2021), with the parameter names of published files."""

from torch import Tensor, nn
from torch.nn import functional as F

from atodds.models.robustbench.wide import same


class Block(nn.Module):
    """Batch norm, SiLU, 3x3 convolution, twice; plus the shortcut, a 3x3 convolution of the maps themselves where width
    or resolution change."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(width_in)
        self.conv_2d_1 = nn.Conv2d(width_in, width, 3, stride, 0, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.conv_2d_2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        changes = stride != 1 or width_in != width
        self.shortcut = nn.Conv2d(width_in, width, 3, stride, 0, bias=False) if changes else None

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H / stride, W / stride)."""
        first = F.silu(self.batchnorm_0(maps))
        stride = self.conv_2d_1.stride[0]
        inner: Tensor = self.conv_2d_2(F.silu(self.batchnorm_1(self.conv_2d_1(same(first, stride)))))
        return inner + (maps if self.shortcut is None else self.shortcut(same(maps, stride)))


class PreActResNet(nn.Module):
    """A 3x3 convolution, four layers of two blocks, batch norm, SiLU, mean of the maps, linear; for normalised images.

    Args:
        classes: number of logits.
        width: channels of the first layer; each next one has twice as many.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.conv_2d = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.layer_0 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer_1 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.layer_2 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1))
        self.layer_3 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width, 1))
        self.batchnorm = nn.BatchNorm2d(8 * width)
        self.logits = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, classes)."""
        maps = self.layer_3(self.layer_2(self.layer_1(self.layer_0(self.conv_2d(images)))))
        logits: Tensor = self.logits(F.silu(self.batchnorm(maps)).mean((2, 3)))
        return logits
