"""A model that resizes what it is given: so that models made for different sizes can be compared on the same images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Resizing(nn.Module):
    """A network behind a bilinear resize (with anti-aliasing where it shrinks), which is then part of the model.

    Distances are measured in the images as they come, and gradients pass through the resize. It is two products with
    fixed matrices, one a side, so that gradients are the same in every run, on every device.

    Args:
        network: takes images (N, C, height, width).
        height, width: of the images that the network takes.
    """

    def __init__(self, network: nn.Module, height: int, width: int) -> None:
        super().__init__()
        self.network, self.height, self.width = network, height, width
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) of any size -> what the network returns."""
        output: Tensor = self.network(resized(images, self.height, self.width))
        return output


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images (N, C, H, W) of any size -> (N, C, height, width), bilinear, anti-aliased where they shrink."""
    rows = _matrix(images.shape[-2], height, images)
    columns = _matrix(images.shape[-1], width, images)
    if rows is not None:
        images = rows @ images
    return images if columns is None else images @ columns.T


def _matrix(before: int, after: int, like: Tensor) -> Tensor | None:
    """(after, before): how much of each old row goes into each new one; nothing where they are the same."""
    if before == after:
        return None
    each = torch.eye(before, dtype=like.dtype, device=like.device)[None, None]
    grid = F.interpolate(each, (after, before), mode="bilinear", antialias=True, align_corners=False)
    return grid[0, 0]
