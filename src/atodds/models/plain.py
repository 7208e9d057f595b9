"""Networks without shortcuts: perceptrons and plain convolutional networks.

Parameter counts are those published for the data-size study: the perceptron with one hidden layer has 3,157,002 on
CIFAR-10 and 814,090 on MNIST, the network of seven layers 1,147,978 and 312,202, that of twenty layers 7,257,322 on
STL-10 and 6,044,072 on Tiny ImageNet.
"""

from torch import Tensor, nn

Shape = tuple[int, int, int]
"""(channels, height, width) of an image."""


class Linear(nn.Module):
    """Flatten, linear.

    Args:
        shape: (C, H, W) of an image.
        classes: number of logits.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        channels, height, columns = shape
        self.head = nn.Linear(channels * height * columns, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        logits: Tensor = self.head(images.flatten(1))
        return logits


class Perceptron(nn.Module):
    """Flatten, then linear and ReLU for each hidden layer, linear.

    Args:
        shape: (C, H, W) of an image.
        classes: number of logits.
        width: units of each hidden layer.
        depth: hidden layers.
    """

    def __init__(self, shape: Shape, classes: int, *, width: int, depth: int = 1) -> None:
        super().__init__()
        channels, height, columns = shape
        self.hidden = nn.Linear(channels * height * columns, width)
        self.further = nn.Sequential(
            *(layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.ReLU()))
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        logits: Tensor = self.head(self.further(self.hidden(images.flatten(1)).relu()))
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


class TwentyLayers(nn.Module):
    """A plain network of 18 convolutions and two linear layers.

    Five stages, each of twice the width of the one before: a 1x1 convolution that changes the width, then 3x3
    convolutions with padding, three in each stage and one in the last, then max-pool 2. Every convolution has a bias,
    batch norm and ReLU; the hidden linear layer has ReLU alone.

    Args:
        shape: (C, H, W) of an image; H and W at least 32.
        classes: number of logits.
        width: channels of the first stage.
        features: units of the hidden linear layer.
    """

    def __init__(self, shape: Shape, classes: int, *, width: int, features: int) -> None:
        super().__init__()
        channels, height, columns = shape
        widths = [channels, *(width * 2**stage for stage in range(5))]
        self.stages = nn.Sequential(
            *(
                layer
                for before, after, count in zip(widths[:-1], widths[1:], (3, 3, 3, 3, 1), strict=True)
                for kernel in (1, *[3] * count, 0)
                for layer in (normed(before if kernel == 1 else after, after, kernel) if kernel else (nn.MaxPool2d(2),))
            )
        )
        self.hidden = nn.Linear(widths[-1] * (height // 32) * (columns // 32), features)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        logits: Tensor = self.head(self.hidden(self.stages(images).flatten(1)).relu())
        return logits


def normed(width_in: int, width: int, kernel: int) -> tuple[nn.Module, ...]:
    """A convolution with bias that keeps the resolution, batch norm, ReLU."""
    return nn.Conv2d(width_in, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU()


def _valid_side(side: int) -> int:
    """Rows that are left of `side` after twice two unpadded 3x3 convolutions and a max-pool 2."""
    return ((side - 4) // 2 - 4) // 2
