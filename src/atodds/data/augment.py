"""Augmentation of whole batches, on whichever device they lie.

Every draw is a function of (seed, image id, epoch), so an image is seen the same way whatever stands beside it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from atodds import noise
from atodds.errors import ArgumentError


@dataclass(frozen=True)
class Augmentation:
    """What is done to the images of a batch, in this order: flip, shift, rotation. What comes into view from outside
    repeats the pixels at the border.

    Args:
        shift: an image moves by up to this share of its height and width, in whole pixels, each with the same chance.
        flip: every second image, by chance, is mirrored left to right.
        rotation: an image turns about its centre by up to this many degrees, either way; bilinear.

    Raises:
        ArgumentError: a number out of its range.
    """

    shift: float = 0.0
    flip: bool = False
    rotation: float = 0.0

    def __post_init__(self) -> None:
        for argument, value, most in (("shift", self.shift, 1), ("rotation", self.rotation, 180)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise ArgumentError(argument, value, f"not a number from 0 to {most}", f"Give 0 to {most}; 0 is none.")
        if not isinstance(self.flip, bool):
            raise ArgumentError("flip", self.flip, "neither true nor false", "Give True or False.")

    def __bool__(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.shift or self.flip or self.rotation)


def augment(images: Tensor, ids: Tensor, how: Augmentation, *, seed: int, epoch: int) -> Tensor:
    """Images, moved, mirrored and turned at random.

    Args:
        images: (N, C, H, W), floats or uint8; a rotation rounds the latter.
        ids: (N,) int64, on the same device.
        how: what is done.
        seed: any integer.
        epoch: another one draws anew.

    Returns:
        (N, C, H, W) of the same type, a new tensor; the images themselves where nothing is done.
    """
    moved = _placed(images, ids, how, seed, epoch) if how.shift or how.flip else images
    return _turned(moved, ids, how.rotation, seed, epoch) if how.rotation else moved


def _placed(images: Tensor, ids: Tensor, how: Augmentation, seed: int, epoch: int) -> Tensor:
    """Flip and shift: each row and column is taken from where it comes from."""
    count, channels, height, width = images.shape
    rows, columns = (torch.arange(side, device=images.device).expand(count, side) for side in (height, width))
    if how.flip:
        mirrored = noise.sign(ids, (1,), seed=seed, step=epoch, stream="flip") > 0
        columns = torch.where(mirrored, columns.flip(1), columns)
    if how.shift:
        most = torch.tensor([math.floor(how.shift * side + 1e-9) for side in (height, width)], device=images.device)
        by = noise.integers(ids, (2,), seed=seed, step=epoch, stream="shift", high=2 * most + 1) - most
        rows = (rows + by[:, :1]).clamp(0, height - 1)
        columns = columns.gather(1, (torch.arange(width, device=images.device) + by[:, 1:]).clamp(0, width - 1))
    within = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, height * width)
    flat = images.reshape(count, channels, height * width)
    return flat.gather(2, within.expand_as(flat)).view(images.shape)


def _turned(images: Tensor, ids: Tensor, degrees: float, seed: int, epoch: int) -> Tensor:
    """Rotation about the centre, in pixels of equal sides also where images are not square."""
    height, width = images.shape[2:]
    angles = (
        noise.uniform(ids, (), seed=seed, step=epoch, stream="rotation", low=-degrees, high=degrees) * math.pi / 180
    )
    cosine, sine, none = angles.cos(), angles.sin(), torch.zeros_like(angles)
    matrix = torch.stack([cosine, -sine * height / width, none, sine * width / height, cosine, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    given = images if images.is_floating_point() else images.float()
    turned = F.grid_sample(given, grid.to(given.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return turned if images.is_floating_point() else turned.round().to(images.dtype)
