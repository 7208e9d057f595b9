"""Networks without shortcuts: a perceptron and plain convolutional networks.

Parameter counts of the perceptron and of the seven-layer network are those published for the data-size study: 3,157,002
and 1,147,978 on CIFAR-10, 814,090 and 312,202 on MNIST.
"""

from torch import Tensor, nn

Shape = tuple[int, int, int]
"""(channels, height, width) of an image."""


class Perceptron(nn.Module):
    """Flatten, linear, ReLU, linear.

    Args:
        shape: (C, H, W) of an image.
        classes: number of logits.
        width: hidden units.
    """

    def __init__(self, shape: Shape, classes: int, *, width: int) -> None:
        super().__init__()
        channels, height, columns = shape
        self.hidden = nn.Linear(channels * height * columns, width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        logits: Tensor = self.head(self.hidden(images.flatten(1)).relu())
        return logits


class SevenLayers(nn.Module):
    """The network of Carlini & Wagner, "Towards evaluating the robustness of neural networks" (S&P 2017), table I.

    Two 3x3 convolutions of `width`, max-pool 2, two of twice the width, max-pool 2, three linear layers; no padding, no
    batch norm, ReLU between.

    Args:
        shape: (C, H, W) of an image; H and W at least 16.
        classes: number of logits.
        width: channels of the first two convolutions.
        features: units of the two hidden linear layers.
    """

    def __init__(self, shape: Shape, classes: int, *, width: int, features: int) -> None:
        super().__init__()
        channels, height, columns = shape
        self.conv1 = nn.Conv2d(channels, width, 3)
        self.conv2 = nn.Conv2d(width, width, 3)
        self.conv3 = nn.Conv2d(width, 2 * width, 3)
        self.conv4 = nn.Conv2d(2 * width, 2 * width, 3)
        self.pool = nn.MaxPool2d(2)
        self.hidden1 = nn.Linear(2 * width * _valid_side(height) * _valid_side(columns), features)
        self.hidden2 = nn.Linear(features, features)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        maps = self.pool(self.conv2(self.conv1(images).relu()).relu())
        maps = self.pool(self.conv4(self.conv3(maps).relu()).relu())
        hidden = self.hidden2(self.hidden1(maps.flatten(1)).relu()).relu()
        logits: Tensor = self.head(hidden)
        return logits


class FourLayers(nn.Module):
    """A small network for small images: two 3x3 convolutions with padding, max-pool 2, two linear layers, ReLU between.

    Args:
        shape: (C, H, W) of an image; H and W at least 2.
        classes: number of logits.
        width: channels of the first convolution; the second has twice as many.
        features: units of the hidden linear layer.
    """

    def __init__(self, shape: Shape, classes: int, *, width: int, features: int) -> None:
        super().__init__()
        channels, height, columns = shape
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(2 * width * (height // 2) * (columns // 2), features)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        maps = self.pool(self.conv2(self.conv1(images).relu()).relu())
        logits: Tensor = self.head(self.hidden(maps.flatten(1)).relu())
        return logits


def _valid_side(side: int) -> int:
    """Rows that are left of `side` after twice two unpadded 3x3 convolutions and a max-pool 2."""
    return ((side - 4) // 2 - 4) // 2
