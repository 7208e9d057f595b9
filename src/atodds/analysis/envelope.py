"""Which of several lines is lowest where: their lower envelope between 0 and 1, and where two of them cross."""

from dataclasses import dataclass

import numpy as np

from atodds.analysis.intervals import Floats


@dataclass(frozen=True)
class Stretch:
    """From `start` to `stop` the line at place `line` is the lowest."""

    line: int
    start: float
    stop: float


def lower_envelope(at_zero: Floats, at_one: Floats) -> tuple[Stretch, ...]:
    """The stretches of [0, 1] on which each of m lines is the lowest, from left to right.

    Lines go straight from `at_zero` to `at_one`, (m,) each. Where two are the same all along, the first one counts.
    From the line that is lowest at 0, always the next crossing with a line that rises less leads on: at most m - 1
    crossings, each the solution of a linear equation.

    >>> [(s.line, s.start, s.stop) for s in lower_envelope(np.array([0.0, 1.0]), np.array([3.0, 0.0]))]
    [(0, 0.0, 0.25), (1, 0.25, 1.0)]
    """
    rise = at_one - at_zero
    here, start = int(np.lexsort((rise, at_zero))[0]), 0.0
    found: list[Stretch] = []
    while True:
        flatter = np.flatnonzero(rise < rise[here])
        crossings = (at_zero[flatter] - at_zero[here]) / (rise[here] - rise[flatter])
        ahead = np.lexsort((rise[flatter], crossings))
        if not ahead.size or crossings[ahead[0]] >= 1:
            return (*found, Stretch(here, start, 1.0))
        stop = max(start, float(crossings[ahead[0]]))
        if stop > start:
            found.append(Stretch(here, start, stop))
        here, start = int(flatter[ahead[0]]), stop


def crossings(first_zero: Floats, first_one: Floats, second_zero: Floats, second_one: Floats) -> Floats:
    """Where a second line passes below a first one, element by element.

    Infinite where the first is lower on all of [0, 1], minus infinite where the second is, and NaN where the second one
    passes above the first, or the two are the same.
    """
    left, right = first_zero - second_zero, first_one - second_one
    with np.errstate(invalid="ignore", divide="ignore"):
        where: Floats = left / (left - right)
    same, wrong = (left == 0) & (right == 0), (left > 0) & (right < 0)
    inside = np.where((left < 0) & (right < 0), np.inf, np.where((left > 0) & (right > 0), -np.inf, where))
    return np.where(same | wrong, np.nan, inside)
