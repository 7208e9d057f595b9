"""Many draws for each image, such that a draw depends on seed, image and its own number alone."""

from collections.abc import Iterator

import torch
from torch import Tensor

DRAWS = 1 << 20
"""Draws that an image can have."""


def keys(ids: Tensor, numbers: range) -> Tensor:
    """(N * len(numbers),) what `atodds.noise` takes in the place of ids for these draws of each image, those of an
    image beside each other."""
    places = torch.arange(numbers.start, numbers.stop, device=ids.device)
    return (ids[:, None] * DRAWS + places).flatten()


def cut(numbers: range, most: int) -> Iterator[range]:
    """Consecutive pieces of some numbers, none longer than `most`, which counts as 1 at least."""
    step = max(1, most)
    return (numbers[place : place + step] for place in range(0, len(numbers), step))
