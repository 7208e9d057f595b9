"""VGG for small images (Simonyan & Zisserman: "Very deep convolutional networks for large-scale image recognition",
ICLR 2015, table 1), as is customary for CIFAR-10: batch norm after every convolution, which keeps its bias, and one
linear layer. Parameter counts are those of the common CIFAR-10 variants: VGG-16 has 14,728,266.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from atodds.models.plain import Shape, normed

LAYERS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
"""Convolutions of each stage. VGG-8 is the variant with one a stage, as used in work on distillation."""


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, of 1, 2, 4, 8 and 8 times the width; max-pool 2 after each; mean of the maps;
    linear. Maps that have shrunk to a single row or column are no longer pooled, so small images fit too.

    Args:
        shape: (C, H, W) of an image.
        classes: number of logits.
        layers: convolutions of each stage.
        width: channels of the first stage.
    """

    def __init__(self, shape: Shape, classes: int, *, layers: Sequence[int], width: int) -> None:
        super().__init__()
        channels, side = shape[0], min(shape[1:])
        stages: list[nn.Module] = []
        for times, count in zip((1, 2, 4, 8, 8), layers, strict=True):
            for _ in range(count):
                stages += normed(channels, times * width, 3)
                channels = times * width
            if side > 1:
                stages.append(nn.MaxPool2d(2))
                side //= 2
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        logits: Tensor = self.head(self.stages(images).mean((2, 3)))
        return logits
