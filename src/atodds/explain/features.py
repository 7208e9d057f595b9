"""Which features a linear classifier of two classes uses, trained with and without an adversary.

Tsipras et al. (ICLR 2019), section 2.3 and figure 5: on MNIST, 5 against 7, the standard classifier puts weight on
pixels that hardly correlate with the label, the robust one on none below a threshold; and a standard classifier that is
given the well-correlated pixels alone is robust.

A linear classifier's adversary is known: within l-inf ball and box, a pixel whose weight speaks for the label is moved
down by min(eps, pixel) or up by min(eps, 1 - pixel). So the adversarial logistic loss is convex, and with the positive
and negative parts of the weights as variables it is smooth: training is exact, and so is robust accuracy.

    >>> from atodds import data
    >>> from atodds.explain import features
    >>> task = features.pair(data.load("digits", split="train"), "5", "7")
    >>> standard, robust = features.trained(task), features.trained(task, eps=0.2)
    >>> standard.kept(task, 0.2).value < robust.kept(task, 0.2).value
    True
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from atodds.analysis.intervals import Bools, Floats, Rate, wilson
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, UnknownNameError

PENALTY = 1e-3
"""Weight of ‖w‖²/2: data that can be separated have no best weights without."""
USED = 0.01
"""From which share of the largest weight a pixel counts as used."""


@dataclass(frozen=True, eq=False)
class Task:
    """Two classes: pixels (n, D) in [0, 1], labels (n,) of -1 for the first and 1 for the second."""

    pixels: Floats
    labels: Floats

    @property
    def correlations(self) -> Floats:
        """(D,) of each pixel with the label; 0 for a pixel that never changes."""
        x, y = self.pixels - self.pixels.mean(0), self.labels - self.labels.mean()
        size = np.sqrt((x * x).sum(0) * (y * y).sum())
        found: Floats = np.divide(y @ x, size, out=np.zeros(x.shape[1]), where=size > 1e-12)
        return found


@dataclass(frozen=True, eq=False)
class Weights:
    """sign(weights·x + bias), trained against eps."""

    weights: Floats
    bias: float
    eps: float

    def kept(self, task: Task, eps: float = 0.0) -> Rate:
        """Accuracy under the best attack of radius eps within ball and box, with its interval; exact.

        Raises:
            ArgumentError: a negative radius.
        """
        if eps < 0:
            raise ArgumentError("eps", eps, "not a radius", "Give 0 or a positive number.")
        down, up = _reach(task, eps)
        plus, minus = np.maximum(self.weights, 0), np.maximum(-self.weights, 0)
        margins = task.labels * (task.pixels @ self.weights + self.bias) - down @ plus - up @ minus
        return wilson(int((margins > 0).sum()), len(margins))

    @property
    def used(self) -> Bools:
        """(D,) which pixels carry at least a hundredth of the largest weight."""
        size = np.abs(self.weights)
        return np.asarray(size >= USED * size.max(initial=0.0)) & (size > 0)


def pair(images: ImageSet, first: str, second: str) -> Task:
    """Two classes of a data set.

    Raises:
        UnknownNameError: no class of that name.
        ArgumentError: the same class twice, or one without images.
    """
    for name in (first, second):
        if name not in images.classes:
            raise UnknownNameError.among("class", name, images.classes)
    if first == second:
        raise ArgumentError("second", second, "the same class twice", "Give two classes.")
    places = [images.classes.index(name) for name in (first, second)]
    rows = np.flatnonzero(np.isin(images.labels, places))
    labels = np.where(images.labels[rows] == places[0], -1.0, 1.0)
    if abs(labels.sum()) == len(labels):
        raise ArgumentError("images", images.name, f"not both of {first} and {second}", "Give images of both classes.")
    return Task(images.images(rows).flatten(1).double().numpy(), labels)


def trained(task: Task, *, eps: float = 0.0, pixels: Sequence[int] | None = None, steps: int = 300) -> Weights:
    """The classifier with the smallest logistic loss under attack.

    Args:
        task: to train on.
        eps: radius of the l-inf ball, within the box; 0 for standard training.
        pixels: which ones may carry weight; all where left out.
        steps: of L-BFGS-B, at most.

    Raises:
        ArgumentError: a negative radius, or no pixel.
    """
    if eps < 0:
        raise ArgumentError("eps", eps, "not a radius", "Give 0 or a positive number.")
    chosen = np.arange(task.pixels.shape[1]) if pixels is None else np.asarray(list(pixels), dtype=np.int64)
    if len(chosen) == 0:
        raise ArgumentError("pixels", [], "nothing to look at", "Give at least one.")
    part = Task(task.pixels[:, chosen], task.labels)
    signed = part.labels[:, None] * part.pixels
    down, up = _reach(part, eps)
    # Columns: positive parts, negative parts, bias. A pixel that had both would only pay for both.
    table = np.hstack([signed - down, -signed - up, part.labels[:, None]])
    free = np.ones(table.shape[1])
    free[-1] = 0.0

    def loss(z: Floats) -> tuple[float, Floats]:
        margins = table @ z
        value = float(np.logaddexp(0, -margins).mean()) + 0.5 * PENALTY * float((free * z) @ z)
        return value, -(expit(-margins) @ table) / len(margins) + PENALTY * free * z

    count = len(chosen)
    bounds = [(0.0, None)] * (2 * count) + [(None, None)]
    found = minimize(loss, np.zeros(2 * count + 1), jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-9,
                     options={"maxiter": steps, "maxfun": 4 * steps})  # fmt: skip
    weights = np.zeros(task.pixels.shape[1])
    weights[chosen] = found.x[:count] - found.x[count:-1]
    return Weights(weights, float(found.x[-1]), eps)


@dataclass(frozen=True)
class Step:
    """A standard classifier on the best-correlated pixels alone.

    Attributes:
        pixels: how many.
        least: the smallest correlation with the label among them, without its sign.
        standard, robust: accuracy on the test task, without an attack and under it.
    """

    pixels: int
    least: float
    standard: Rate
    robust: Rate


def by_pixels(task: Task, test: Task, counts: Sequence[int], eps: float) -> tuple[Step, ...]:
    """Standard classifiers on more and more pixels, the best-correlated first.

    Args:
        task, test: to train on, and to measure on.
        counts: of pixels.
        eps: radius of the attack.

    Raises:
        ArgumentError: a number of pixels that the images do not have.
    """
    size = np.abs(task.correlations)
    order = np.argsort(-size, kind="stable")
    found = []
    for count in counts:
        if not 1 <= count <= len(order):
            raise ArgumentError("counts", count, "not a number of pixels", f"Give 1 to {len(order)}.")
        classifier = trained(task, pixels=order[:count].tolist())
        rates = classifier.kept(test), classifier.kept(test, eps)
        found.append(Step(count, float(size[order[count - 1]]), *rates))
    return tuple(found)


def _reach(task: Task, eps: float) -> tuple[Floats, Floats]:
    """(n, D) how far an attack can move each pixel against its label: where its weight is positive, and negative."""
    lower, higher = np.minimum(eps, task.pixels), np.minimum(eps, 1 - task.pixels)
    right = task.labels[:, None] > 0
    return np.where(right, lower, higher), np.where(right, higher, lower)
