"""Which training images to keep: rules that choose a balanced subset of a given size.

The study of data sizes closes with the question which images to keep for robustness. The answers that are compared
here are old ones: those next to a network's boundary or furthest from it, those that cover their class, and those
whose mean is that of their class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from atodds.data.arrays import Integers
from atodds.data.images import ImageSet
from atodds.data.subsets import nested
from atodds.errors import ArgumentError, UnknownNameError

Values = npt.NDArray[np.float32]
Choose = Callable[[Values, int], Integers]
"""(n, d) pixels or (n, 1) margins of a class, how many to keep -> their places."""


@dataclass(frozen=True)
class Rule:
    """One way to choose.

    Attributes:
        summary: one line about it.
        choose: among the images of a class; None draws them.
        by_margin: whether it looks at the margins of a network in the place of pixels.
    """

    summary: str
    choose: Choose | None
    by_margin: bool = False


def k_center(points: Values, count: int) -> Integers:
    """The point next to the mean, then again and again the one that is furthest from all that are taken.

    At most twice as far from some point as the best choice is (T. F. Gonzalez, 1985, "Clustering to minimize the
    maximum intercluster distance"; O. Sener, S. Savarese, ICLR 2018, "Active learning for convolutional neural
    networks: a core-set approach", algorithm 1).

    Args:
        points: (n, d).
        count: how many, at most n.

    Returns:
        (count,) rows, in the order in which they are taken.
    """
    squares = np.einsum("nd,nd->n", points, points)
    mean = points.mean(0)
    taken = [int((squares - 2 * points @ mean).argmin())]
    nearest = np.full(len(points), np.inf, np.float32)
    while len(taken) < count:
        last = taken[-1]
        np.minimum(nearest, squares - 2 * points @ points[last] + squares[last], out=nearest)
        nearest[taken] = -np.inf  # also where another is the same to the last pixel
        taken.append(int(nearest.argmax()))
    return np.array(taken, np.int64)


def herding(points: Values, count: int) -> Integers:
    """Again and again the point that brings the mean of those taken nearest to the mean of all.

    M. Welling, ICML 2009, "Herding dynamical weights to learn"; as in S.-A. Rebuffi et al., CVPR 2017, "iCaRL",
    algorithm 4. Arguments and result as for `k_center`.
    """
    squares, mean = np.einsum("nd,nd->n", points, points), points.mean(0)
    lacking, taken = np.zeros_like(mean), list[int]()
    free = np.zeros(len(points), np.float32)
    for _ in range(count):
        lacking += mean
        taken.append(int((squares - 2 * points @ lacking + free).argmin()))
        free[taken[-1]] = np.inf
        lacking -= points[taken[-1]]
    return np.array(taken, np.int64)


def _smallest(margins: Values, count: int) -> Integers:
    return np.argsort(margins[:, 0], kind="stable")[:count].astype(np.int64)


def _largest(margins: Values, count: int) -> Integers:
    return np.argsort(-margins[:, 0], kind="stable")[:count].astype(np.int64)


RANDOM = "random"
RULES: Mapping[str, Rule] = {
    RANDOM: Rule("drawn", None),
    "small-margin": Rule("the smallest margins under a network that was trained on all", _smallest, by_margin=True),
    "large-margin": Rule("the largest margins under it", _largest, by_margin=True),
    "k-center": Rule("a core set that covers each class: always the furthest from those taken", k_center),
    "herding": Rule("a core set whose mean, class by class, is that of all", herding),
}


def select(images: ImageSet, size: int, rule: str, *, seed: int = 0, margins: npt.ArrayLike | None = None) -> ImageSet:
    """A balanced subset, chosen by a rule within each class.

    Args:
        images: what to choose from.
        size: how many to keep; how many of each class, is as in `subsets.nested` with the same seed.
        rule: a name of `RULES`.
        seed: of the draw, for "random".
        margins: (N,) logit of the label less the largest other, for the rules that look at them.

    Returns:
        The subset, in source order, with the ids of the source. Which it is does not depend on the order of the source,
        except where two images are equal to the rule.

    Raises:
        UnknownNameError: no such rule.
        ArgumentError: a size as `subsets.nested` refuses it, or a rule without the margins that it looks at.
        DataError: images that cannot be decoded.
    """
    if rule not in RULES:
        raise UnknownNameError.among("rule", rule, RULES)
    (drawn,) = nested(images, [size], seed=seed)
    found = RULES[rule]
    if found.choose is None:
        return drawn
    if found.by_margin:
        given = np.asarray([] if margins is None else margins, np.float32)
        if given.shape != (len(images),) or np.isnan(given).any():
            problem = f"of shape {given.shape}, not one number for each of {len(images)} images"
            raise ArgumentError("margins", "an array", problem, "Give the margins of a network on these images.")
    chosen = []
    for kind, count in enumerate(np.bincount(drawn.labels, minlength=len(images.classes))):
        rows = np.flatnonzero(images.labels == kind)
        rows = rows[np.argsort(images.ids[rows], kind="stable")]
        values = given[rows, None] if found.by_margin else _pixels(images.take(rows))
        chosen.append(rows[found.choose(values, int(count))])
    of = "" if images.selection == "all" else f" of {images.selection}"
    return replace(images.take(np.sort(np.concatenate(chosen))), selection=f"{rule} {size}{of}")


def _pixels(images: ImageSet) -> Values:
    """(n, d) in [0, 1]."""
    pixels = images.pixels()
    scale = np.float32(255 if pixels.dtype == np.uint8 else 1)
    return pixels.reshape(len(pixels), -1).astype(np.float32) / scale
