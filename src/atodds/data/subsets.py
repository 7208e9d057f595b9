"""Subsets of equal classes: nested ones, to see what more data change, and parts that share no image.

Each class has an order of its own, which is a function of the seed and the images' ids. Every subset takes the first of
each class, so what a subset holds depends neither on the other sizes nor on the order of the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from atodds import noise
from atodds.data.arrays import Integers
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError


def nested(images: ImageSet, sizes: Sequence[int], *, seed: int = 0) -> tuple[ImageSet, ...]:
    """Subsets of growing size, each part of the next.

    Args:
        images: what to choose from.
        sizes: of the subsets, increasing. Each takes equally many images of every class; where the number of classes
            does not divide a size, some classes, the same for every size, give one more.
        seed: decides which images.

    Returns:
        A subset for each size, in source order, with the ids of the source.

    Raises:
        ArgumentError: sizes that do not increase, one that is smaller than the number of classes or larger than the
            data, or a class with too few images.
    """
    _check(images, sizes)
    if any(after <= before for before, after in pairwise(sizes)):
        way_out = f"Give them from small to large, each once: {', '.join(map(str, sorted(set(sizes))))}."
        raise ArgumentError("sizes", list(sizes), "sizes that do not increase", way_out)
    order = _Order.of(images, seed)
    return tuple(_subset(images, order.rows(0, size), f"balanced {size}, seed {seed}") for size in sizes)


def parts(images: ImageSet, sizes: Sequence[int], *, seed: int = 0) -> tuple[ImageSet, ...]:
    """Subsets that share no image, such as 10,000 to train and 3,000 to test.

    Args:
        images: what to choose from.
        sizes: of the parts, in any order; equal classes as in `nested`.
        seed: decides which images.

    Returns:
        A part for each size, in source order, with the ids of the source.

    Raises:
        ArgumentError: a size that is smaller than the number of classes, sizes that are more than the data together, or
            a class with too few images.
    """
    _check(images, sizes)
    ends = np.cumsum(sizes)
    if ends[-1] > len(images):
        problem = f"{ends[-1]} images together, of {len(images)} in {images.name}"
        raise ArgumentError("sizes", list(sizes), problem, "Give smaller ones.")
    order = _Order.of(images, seed)
    return tuple(
        _subset(images, order.rows(int(end) - size, int(end)), f"balanced {size} from {end - size}, seed {seed}")
        for size, end in zip(sizes, ends, strict=True)
    )


@dataclass(frozen=True)
class _Order:
    """The rows of a set in the order in which subsets take them, one class after the other in turn.

    Attributes:
        images: the set.
        turns: its rows.
        shortest: how many of them there are before a class lacks one.
        scarce: that class.
    """

    images: ImageSet
    turns: Integers
    shortest: int
    scarce: int

    @classmethod
    def of(cls, images: ImageSet, seed: int) -> "_Order":
        kinds = len(images.classes)
        ids = torch.tensor(images.ids)
        draws = noise.uniform(ids, (), seed=seed, stream="subset").numpy()
        first = noise.uniform(torch.arange(kinds), (), seed=seed, stream="class").numpy()
        turn_of = np.argsort(np.argsort(first, kind="stable"), kind="stable")  # whose turn it is when all take one more
        by_class = np.lexsort((images.ids, draws, images.labels))
        counts = np.bincount(images.labels, minlength=kinds)
        rank = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
        labels = images.labels[by_class]
        turns = by_class[np.lexsort((turn_of[labels], rank))]
        ends = counts * kinds + turn_of
        return cls(images, turns, int(ends.min()), int(ends.argmin()))

    def rows(self, start: int, stop: int) -> Integers:
        """The rows of a subset, in source order.

        Raises:
            ArgumentError: a class with too few images.
        """
        if stop > self.shortest:
            images, name = self.images, self.images.classes[self.scarce]
            held = int((images.labels == self.scarce).sum())
            problem = f"class {name!r} of {images.name} has only {held} of {len(images)} images"
            way_out = f"Balanced subsets take at most {self.shortest} of them together."
            raise ArgumentError("sizes", stop, problem, way_out)
        return np.sort(self.turns[start:stop])


def _check(images: ImageSet, sizes: Sequence[int]) -> None:
    if not sizes:
        raise ArgumentError("sizes", list(sizes), "no size", "Give at least one.")
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise ArgumentError("sizes", size, "not a number of images", "Give whole numbers.")
        if size < len(images.classes):
            problem = f"fewer images than the {len(images.classes)} classes of {images.name}"
            raise ArgumentError("sizes", int(size), problem, f"Give at least {len(images.classes)}.")
        if size > len(images):
            problem = f"{images.name} has {len(images)} images"
            raise ArgumentError("sizes", int(size), problem, f"Give at most {len(images)}.")


def _subset(images: ImageSet, rows: Integers, words: str) -> ImageSet:
    of = "" if images.selection == "all" else f" of {images.selection}"
    return replace(images.take(rows), selection=words + of)
