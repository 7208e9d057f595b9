"""Several ways to do something, each carried out a few times and measured on the same images, against the first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atodds.analysis.intervals import CONFIDENCE, Floats
from atodds.analysis.resampling import RESAMPLES, bounds, resampled
from atodds.errors import ArgumentError, EmptyDataError


@dataclass(frozen=True)
class Between:
    """A number with its interval."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Arm:
    """One way.

    Attributes:
        name: of it.
        mean: over images and repeats.
        each: the means of the repeats.
        gap: by how much the mean is above that of the first way; None for the first itself.
    """

    name: str
    mean: Between
    each: tuple[float, ...]
    gap: Between | None


def arms(
    values: npt.ArrayLike,
    names: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[Arm, ...]:
    """Means of several ways, and their differences from the first, with intervals over images and repeats.

    Images are drawn with replacement, the same for all ways: they are paired. The repeats of each way are drawn apart
    from those of the others, one fewer than there are: with so few, as many would show too little of what another
    repeat would change. The intervals of the differences hold together (Bonferroni).

    Args:
        values: (n, ways, repeats) what is averaged, on the same n images: distances, or 1 where an image stands.
        names: of the ways; the first is the one that the others are held against.
        seed, resamples: of the bootstrap.
        confidence: of all intervals.

    Raises:
        ArgumentError: not (images, ways, repeats) with a name for each of two ways or more, or values that are not
            finite.
        EmptyDataError: no image.

    References:
        A. B. Owen (2007), "The pigeonhole bootstrap": images and repeats drawn apart.
        J. N. K. Rao, C. F. J. Wu (1988), "Resampling inference with complex survey data": one fewer.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 3 or table.shape[1] != len(names) or len(names) < 2 or table.shape[2] < 1:
        problem = f"of shape {table.shape}, for {len(names)} ways"
        raise ArgumentError("values", "an array", problem, "Give (images, ways, repeats), and two ways or more.")
    n, ways, repeats = table.shape
    if n == 0:
        raise EmptyDataError("0 images are left to compare on. Attack more images.")
    if not np.isfinite(table).all():
        raise ArgumentError("values", "an array", "not finite everywhere", "Leave out images without a distance.")
    rng, kept = np.random.default_rng([seed, repeats]), max(1, repeats - 1)

    def drawn(draws: Floats) -> Floats:
        """(b, ways) means of resamples."""
        means = (draws @ table.reshape(n, -1) / n).reshape(len(draws), ways, repeats)
        counts = rng.multinomial(kept, np.full(repeats, 1 / repeats), size=(len(draws), ways))
        shares: Floats = (means * counts).sum(2) / kept
        return shares

    found, each = resampled(drawn, n, resamples=resamples, seed=seed), table.mean(0)
    means = each.mean(1)
    ends = bounds(found, confidence)
    gaps = bounds(found - found[:, :1], 1 - (1 - confidence) / (ways - 1))
    return tuple(
        Arm(
            name,
            Between(float(means[k]), float(ends[0][k]), float(ends[1][k])),
            tuple(each[k].tolist()),
            None if k == 0 else Between(float(means[k] - means[0]), float(gaps[0][k]), float(gaps[1][k])),
        )
        for k, name in enumerate(names)
    )
