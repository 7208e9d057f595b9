"""Labels at the ends of lines: where they go so that none covers another, and how long names break."""

import re
from collections.abc import Sequence

import numpy as np

LETTER = 6.6
"""Mean width of a letter at 12 px, in pixels; generous, so that labels are not cut."""


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """The centres of labels that lie as near as possible to where they are wanted, without overlap, in their order.

    Least squares under the order: in coordinates from which the heights before each label are taken away, labels may
    not pass each other, which pooling adjacent violators solves (Barlow et al. 1972).

    Args:
        wanted: centres, in pixels from the top.
        heights: of the labels, in pixels.
        low, high: the first and the last pixel that a label may cover, where they all fit in between.
    """
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    tall = np.array([heights[k] for k in order], dtype=np.float64)
    above = np.concatenate([[0.0], np.cumsum(tall)[:-1]]) + tall / 2
    pools: list[tuple[float, int]] = []
    for free in np.array([wanted[k] for k in order], dtype=np.float64) - above:
        mean, size = float(free), 1
        while pools and pools[-1][0] > mean:
            before, members = pools.pop()
            mean, size = (mean * size + before * members) / (size + members), size + members
        pools.append((mean, size))
    free_places = np.repeat([mean for mean, _ in pools], [size for _, size in pools])
    placed = np.clip(free_places, low, max(low, high - float(tall.sum()))) + above
    back = dict(zip(order, placed, strict=True))
    return [float(back[k]) for k in range(len(wanted))]


def broken(name: str, longest: int) -> list[str]:
    """A name in lines of at most `longest` letters, broken after _ - / . or a space where there is one."""
    lines = [""]
    for piece in re.findall(r"[^_\-/. ]*[_\-/. ]?", name):
        while len(piece) > longest:
            lines, piece = [*lines, piece[:longest]] if lines[-1] else [piece[:longest]], piece[longest:]
        if len(lines[-1]) + len(piece) > longest:
            lines.append("")
        lines[-1] += piece
    return [line for line in lines if line] or [""]


def shortened(text: str, longest: int) -> str:
    """Text of at most `longest` letters, its middle left out where it is longer: both ends tell names apart."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[head + 1 - longest :]}"
