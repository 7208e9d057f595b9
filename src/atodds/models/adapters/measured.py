"""What a preprocessing does to pixels, found by giving it plain images.

Image processors of a hub are many, and each has its own settings: some subtract, some scale twice, some swap red and
blue. Whatever they are called, on an image of one colour all of them give an image of one colour, and four such images
tell the whole map.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atodds.errors import ModelError
from atodds.models.plain import Shape

Process = Callable[[Image.Image], Tensor]
"""A colour image of any size -> (3, H, W)."""

_CORNERS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
_BETWEEN = (51, 102, 204)
_SIDES = (640, 512)
"""Larger than models take, so that nothing is padded; two, because a preprocessing may leave the size as it is."""
_DIGITS = 6
"""Of mean and std: what float32 arithmetic keeps, so that every version of a library gives the same numbers."""


@dataclass(frozen=True)
class Measured:
    """A preprocessing as a model sees it.

    Attributes:
        shape: (3, H, W) of what comes out.
        mean, std: (pixel - mean) / std a channel of the image, pixels in [0, 1].
        order: which channel of the image each channel of the output is: (2, 1, 0) swaps red and blue.
        crop: share of the height of a square image that is kept, within about one hundredth.
    """

    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: tuple[int, ...]
    crop: float


def measured(process: Process, what: str) -> Measured:
    """Find out what a preprocessing does.

    Args:
        process: the preprocessing.
        what: whose it is, for messages.

    Raises:
        ModelError: it does more than resize, crop, scale and shift the channels.
    """
    black, *colours = [_colour(process, corner, _SIDES[0], what) for corner in _CORNERS]
    slopes = torch.stack([colour - black for colour in colours], dim=1)  # (output channel, image channel)
    order = slopes.abs().argmax(dim=1)
    scale = slopes.gather(1, order[:, None])[:, 0]
    alone = torch.zeros_like(slopes).scatter(1, order[:, None], scale[:, None])
    near = 1e-4 * float(slopes.abs().max())
    if sorted(order.tolist()) != [0, 1, 2] or (scale <= near).any() or (slopes - alone).abs().max() > near:
        raise _refused(what, "mixes or turns round the colours")
    expected = black + slopes @ (torch.tensor(_BETWEEN, dtype=torch.float64) / 255)
    if (_colour(process, _BETWEEN, _SIDES[0], what) - expected).abs().max() > 10 * near:
        raise _refused(what, "is no shift and scale of the pixels")
    back = order.argsort()  # from image channel to output channel
    std, mean = (1 / scale)[back], (-black / scale)[back]
    if (std > 1).any() or (mean.abs() > 1).any():
        raise _refused(what, "moves pixels far out of their range")
    return Measured(
        shape=_sizes(process, what),
        mean=tuple(map(_rounded, mean.tolist())),
        std=tuple(map(_rounded, std.tolist())),
        order=tuple(order.tolist()),
        crop=_crop(process, float(black[0]), float(scale[0])),
    )


def _colour(process: Process, colour: tuple[int, int, int], side: int, what: str) -> Tensor:
    """What becomes of an image of one colour: (3,), float64."""
    pixels = process(Image.new("RGB", (side, side), colour))
    if pixels.ndim != 3 or len(pixels) != 3:
        raise _refused(what, f"gives {tuple(pixels.shape)}, not one image of three channels")
    flat = pixels.to(torch.float64).flatten(1)
    if (flat.amax(1) - flat.amin(1)).max() > 1e-3 * max(1.0, float(flat.abs().max())):
        raise _refused(what, "pads images, or treats their parts differently")
    return flat[:, flat.shape[1] // 2]


def _sizes(process: Process, what: str) -> Shape:
    (channels, height, width), other = (process(Image.new("RGB", (side, side))).shape for side in _SIDES)
    if (channels, height, width) != tuple(other):
        raise _refused(what, "fixes no image size")
    return channels, height, width


def _crop(process: Process, black: float, scale: float) -> float:
    """How much of an image's height is kept, from an image that grows lighter from top to bottom."""
    side = 512
    levels = np.repeat(np.arange(side, dtype=np.int64) // 2, 3 * side).astype(np.uint8).reshape(side, side, 3)
    column = process(Image.fromarray(levels))[0, :, 0].to(torch.float64)
    top, bottom = ((float(column[row]) - black) / scale * 255 * 2 / side for row in (0, -1))
    return round(min(1.0, (bottom - top) * len(column) / max(1, len(column) - 1)), 2)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") + 0.0  # no minus zero


def _refused(what: str, why: str) -> ModelError:
    return ModelError(
        f"{what}: its image processor {why}, which cannot be folded into a mean and a std. Bring the model as "
        "FILE.py:FACTORY, with a module that does the same to images in [0, 1]."
    )
