"""Lower bounds beside the distances that attacks found: whether each is at most the other, and where not, why."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atodds.errors import ArgumentError
from atodds.threat import SLACK

POOR = 0.05
"""Fits with a smaller p-value are called poor."""


@dataclass(frozen=True)
class Crossing:
    """An image whose lower bound exceeds the distance of an image that fools, and what speaks for each reason."""

    image: int
    lower: float
    upper: float
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"image {self.image}: {self.lower:.3g} above {self.upper:.3g}. {' '.join(self.reasons)}"


@dataclass(frozen=True)
class Beside:
    """Bounds of n images that were fooled beside the distances at which they were.

    Attributes:
        method: what the bounds were made with.
        certified: they are certificates, not estimates.
        n: images with both numbers, the image itself being classified rightly.
        unknown: images with a bound that no attack fooled: any bound is below an infinite distance.
        crossings: those whose bound exceeds the distance, the widest ratio first.
    """

    method: str
    certified: bool
    n: int
    unknown: int
    crossings: tuple[Crossing, ...]

    @property
    def below(self) -> int:
        """Images whose bound is at most the distance."""
        return self.n - len(self.crossings)

    @property
    def holds(self) -> bool:
        """Whether that is so for every image."""
        return not self.crossings

    def __str__(self) -> str:
        kind = "certificate of the smoothed classifier" if self.certified else "estimate"
        start = f"{self.method}: the {kind} is at most the distance found for {self.below} of {self.n} images"
        return f"{start}." if self.holds else f"{start}, and above it for {len(self.crossings)}."


def beside(
    images: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    *,
    method: str,
    certified: bool,
    low: npt.ArrayLike | None = None,
    radius: npt.ArrayLike | None = None,
    p_value: npt.ArrayLike | None = None,
    endless: npt.ArrayLike | None = None,
) -> Beside:
    """Hold lower bounds against distances in the same norm, image by image.

    Args:
        images: (N,) ids.
        lower: (N,) lower bounds.
        upper: (N,) distances of fooling images; 0 where the image itself is misclassified, infinite where none is
            known.
        method: what the bounds were made with.
        certified: they are certificates.
        low: (N,) lower ends of the intervals of estimates.
        radius: (N,) that the estimates were cut to.
        p_value: (N,) of the fits behind them; NaN where there is none.
        endless: (N,) whether the fit alone gives no finite answer.

    Raises:
        ArgumentError: another number of values than of images.
    """
    ids = np.asarray(images)
    given = {"lower": lower, "upper": upper, "low": low, "radius": radius, "p_value": p_value, "endless": endless}
    values = {name: np.asarray(value, dtype=np.float64) for name, value in given.items() if value is not None}
    for name, value in values.items():
        if value.shape != ids.shape:
            raise ArgumentError(name, value.shape, f"not one for each of {ids.shape} images", "Give as many as images.")
    far = values["upper"]
    known, open_ended = (far > 0) & np.isfinite(far), np.isinf(far)
    over = np.flatnonzero(known & (values["lower"] > far * (1 + SLACK)))
    ratio = values["lower"][over] / far[over]
    found = [
        Crossing(
            int(ids[row]),
            float(values["lower"][row]),
            float(far[row]),
            _certain() if certified else _reasons({name: float(value[row]) for name, value in values.items()}),
        )
        for row in over[np.argsort(-ratio, kind="stable")]
    ]
    return Beside(method, certified, int(known.sum()), int(open_ended.sum()), tuple(found))


def _certain() -> tuple[str, ...]:
    return (
        "The certificate is of the smoothed classifier: what fools the model without noise does not contradict it. "
        "Where the image fools the smoothed classifier too, more noisy copies must tell, or the chance alpha struck.",
    )


def _reasons(row: dict[str, float]) -> tuple[str, ...]:
    """Why an estimate may lie above a distance, from what is known of it."""
    lower, upper = row["lower"], row["upper"]
    said = [
        f"On the way to the fooling image the gradient is somewhere at least {lower / upper:.3g} times as large as the "
        "largest that the samples led to expect."
    ]
    low = row.get("low", np.nan)
    if low <= upper:
        said.append(f"Its interval reaches down to {low:.3g}: the draw of the samples may explain it.")
    elif low > upper:
        said.append(f"Its interval ends at {low:.3g}, still above: no sample fell where gradients are large.")
    if row.get("p_value", 1.0) < POOR:
        said.append(f"The fit is poor (p = {row['p_value']:.2g}).")
    if row.get("endless", 0.0):
        said.append("The sampled gradients show no upper end: the penalty of the fit has set it.")
    if lower >= row.get("radius", np.inf):
        said.append("The estimate is the radius itself: sampled gradients are too small to limit it, as if masked.")
    return tuple(said)
