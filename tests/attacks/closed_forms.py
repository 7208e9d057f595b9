"""Models of which the closest fooling image is known, for the tests of minimum-norm attacks."""

import torch
from torch import Tensor, nn

from atodds.threat import Norm

SHAPE = (3, 4, 4)
SIZE = 48


def random(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform values, float64."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draw, dtype=torch.float64) * (high - low) + low


class Linear(nn.Module):
    """Classes whose boundaries pass near the grey image."""

    def __init__(self, classes: int, seed: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(random(classes, SIZE, seed=seed, low=-1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, classes)"""
        return (images.flatten(1) - 0.5) @ self.weight.T

    def distances(self, images: Tensor, labels: Tensor, norm: Norm, confidence: float = 0.0) -> Tensor:
        """(N, K) from each image to where each class leads the label by `confidence`, within the box; infinite for the
        label. By halving a multiplier, and in l1 by filling value after value."""
        logits = self(images)
        away = torch.full_like(logits, torch.inf)
        for row, (image, label) in enumerate(zip(images.flatten(1), labels.tolist(), strict=True)):
            for wrong in range(len(self.weight)):
                if wrong != label:
                    need = float(logits[row, label] - logits[row, wrong]) + confidence
                    away[row, wrong] = _nearest(image, self.weight[wrong] - self.weight[label], need, norm)
        return away


def _nearest(image: Tensor, normal: Tensor, need: float, norm: Norm) -> float:
    size = normal.abs()
    room = torch.where(normal > 0, 1 - image, image)
    if float((size * room).sum()) < need:
        return float("inf")
    if norm == "l1":
        left, spent = need, 0.0
        for value in size.argsort(descending=True).tolist():
            step = min(float(room[value]), left / float(size[value]))
            left, spent = left - step * float(size[value]), spent + step
        return spent
    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        moved = room.clamp_max(middle) if norm == "linf" else (middle * size).minimum(room)
        low, high = (middle, high) if float((size * moved).sum()) < need else (low, middle)
    moved = room.clamp_max(high) if norm == "linf" else (high * size).minimum(room)
    return float(moved.amax() if norm == "linf" else moved.square().sum().sqrt())


class Sphere(nn.Module):
    """Class 0 within a radius of the grey image, class 1 outside."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2)"""
        inside = self.radius**2 - (images - 0.5).flatten(1).square().sum(1)
        return torch.stack([inside, torch.zeros_like(inside)], 1)

    def distances(self, images: Tensor, norm: Norm) -> Tensor:
        """(N,) from images inside to the sphere, the box apart. In l1 the furthest point of a ball is a corner: the
        value that is furthest out moves on; in linf all values move by as much."""
        offsets = (images - 0.5).flatten(1).abs()
        square, size = offsets.square().sum(1), offsets.shape[1]
        if norm == "l2":
            return self.radius - square.sqrt()
        if norm == "l1":
            most = offsets.amax(1)
            return (self.radius**2 - square + most.square()).sqrt() - most
        total = offsets.sum(1)
        return ((total.square() + size * (self.radius**2 - square)).sqrt() - total) / size
