"""The images of a training set on the device that trains, and the batches of each epoch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atodds import noise
from atodds.data.augment import augment
from atodds.data.images import ImageSet
from atodds.training.objectives import Batch
from atodds.training.recipe import Recipe

Channels = tuple[float, ...]


@dataclass(frozen=True)
class Feed:
    """All images of a training set: pixels (N, C, H, W) uint8 or float32, labels and ids (N,) int64."""

    pixels: Tensor
    labels: Tensor
    ids: Tensor

    @classmethod
    def of(cls, images: ImageSet) -> "Feed":
        """The images, decoded once, as uint8 where they were.

        Raises:
            DataError: images that cannot be decoded.
        """
        return cls(torch.from_numpy(images.pixels()), torch.tensor(images.labels), torch.tensor(images.ids))

    def to(self, device: torch.device) -> "Feed":
        """The same, on a device."""
        return Feed(self.pixels.to(device), self.labels.to(device), self.ids.to(device))

    def batches(self, recipe: Recipe) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self.ids) / recipe.batch_size)

    def epoch(self, recipe: Recipe, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0, in an order that is a function of seed, epoch and ids."""
        draws = noise.uniform(self.ids, (1,), seed=recipe.seed, step=epoch, stream="order")
        order, count = draws[:, 0].argsort(stable=True), self.batches(recipe)
        for number, rows in enumerate(order.tensor_split(count)):
            ids = self.ids[rows]
            pixels = augment(self.pixels[rows], ids, recipe.augmentation, seed=recipe.seed, epoch=epoch)
            images = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
            done = (epoch * count + number) / (recipe.epochs * count)
            # One seed an epoch, so that an image starts elsewhere in each.
            seed = recipe.seed + (epoch << 32)
            yield Batch(images, self.labels[rows], ids, seed, number, done, recipe.inner(done))

    def statistics(self) -> tuple[Channels, Channels]:
        """Mean and standard deviation of each channel, pixels in [0, 1], to six decimals; 1 for a constant channel."""
        scale = 255 if self.pixels.dtype == torch.uint8 else 1
        total = torch.zeros(self.pixels.shape[1], dtype=torch.float64)
        squares = total.clone()
        for part in self.pixels.split(4096):
            wide = part.double() / scale
            total += wide.sum((0, 2, 3))
            squares += wide.square().sum((0, 2, 3))
        count = self.pixels.numel() // self.pixels.shape[1]
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt()
        std = torch.where(std < 1e-6, 1.0, std)
        return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())
