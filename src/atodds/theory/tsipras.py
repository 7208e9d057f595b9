"""Why accuracy and robustness can be at odds: a data model in which every linear classifier is known in closed form.

D. Tsipras, S. Santurkar, L. Engstrom, A. Turner, A. Madry, "Robustness may be at odds with accuracy" (ICLR 2019),
section 2.1: the label y is ±1 with equal chance. Feature x1 equals y with probability p and -y otherwise. Features x2
to x(d+1) are independent normal draws with mean ηy and variance 1: each says next to nothing, all together nearly
everything, and an l-inf adversary with eps ≥ 2η turns all of them against the label.

Under y and x1, a linear function of x is normal, so that accuracy is a mixture of two normal tails; the adversary of
radius eps moves every feature by eps against the sign of its weight, which costs eps times the l1 norm of the weights.

    >>> from atodds.theory import tsipras
    >>> data = tsipras.DataModel(p=0.95, shift=0.3, features=100)
    >>> mean = tsipras.averaging(data)
    >>> f"{tsipras.accuracy(data, mean):.4f}, {tsipras.accuracy(data, mean, eps=2 * data.shift):.4f}"
    '0.9987, 0.0013'
    >>> round(tsipras.bound(0.95, 0.99), 2)
    0.19
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from atodds import noise
from atodds.analysis.intervals import Floats, Rate, wilson
from atodds.errors import ArgumentError

_VALUES = 2**21
"""Features that are drawn at once."""


@dataclass(frozen=True)
class DataModel:
    """The distribution of the data.

    Attributes:
        p: chance that x1 equals the label, from 1/2 to 1.
        shift: η, by how much the label moves each of the other features, from 0.
        features: d, how many of these there are.

    Raises:
        ArgumentError: a number out of its range.
    """

    p: float
    shift: float
    features: int

    def __post_init__(self) -> None:
        _check("p", 0.5 <= self.p <= 1, self.p, "a chance from 1/2 to 1")
        _check("shift", 0 <= self.shift < math.inf, self.shift, "0 or a positive number")
        _check("features", self.features >= 1, self.features, "a whole number from 1")

    @property
    def strength(self) -> float:
        """η√d: how many standard deviations the mean of the weak features lies from 0."""
        return self.shift * math.sqrt(self.features)

    @classmethod
    def of_strength(cls, p: float, strength: float, features: int) -> "DataModel":
        """The model with η = strength / √d.

        Raises:
            ArgumentError: a number out of its range.
        """
        _check("features", features >= 1, features, "a whole number from 1")
        return cls(p, strength / math.sqrt(features), features)


@dataclass(frozen=True, eq=False)
class Linear:
    """The classifier sign(first·x1 + rest·(x2, ..., x(d+1)) + bias).

    Attributes:
        first: weight of x1.
        rest: (d,) weights of the others.
        bias: what is added.
    """

    first: float
    rest: Floats
    bias: float = 0.0

    @property
    def norm(self) -> float:
        """l2 norm of the weights."""
        return math.hypot(self.first, float(np.linalg.norm(self.rest)))

    @property
    def sum(self) -> float:
        """l1 norm of the weights: what an adversary of radius 1 takes from every margin."""
        return abs(self.first) + float(np.abs(self.rest).sum())


def averaging(model: DataModel) -> Linear:
    """The mean of the weak features (eq. 3), with weights of norm 1."""
    return symmetric(model, 0.0, 1.0)


def first_feature(model: DataModel) -> Linear:
    """x1 alone."""
    return symmetric(model, 1.0, 0.0)


def symmetric(model: DataModel, first: float, rest: float) -> Linear:
    """The classifier with weight `first` on x1 whose other weights are equal and have norm `rest` together."""
    return Linear(first, np.full(model.features, rest / math.sqrt(model.features)))


def accuracy(model: DataModel, classifier: Linear, eps: float = 0.0) -> float:
    """The share of the data that a linear classifier still has right when every feature moved by up to `eps`.

    Given y and x1, the margin is normal with mean ±first + η·Σrest + y·bias - eps·‖w‖₁ and standard deviation ‖rest‖₂.
    A margin of 0 counts as a coin toss.

    Args:
        model: of the data.
        classifier: any weights.
        eps: radius of the l-inf ball; 0 for standard accuracy.

    Raises:
        ArgumentError: another number of weights than of features, or a negative radius.
    """
    _check_fits(model, classifier, eps)
    drift = model.shift * float(classifier.rest.sum()) - eps * classifier.sum
    deviation = float(np.linalg.norm(classifier.rest))
    return math.fsum(
        0.5 * chance * _positive(sign * classifier.first + drift + label * classifier.bias, deviation)
        for label in (1, -1)
        for sign, chance in ((1, model.p), (-1, 1 - model.p))
    )


def bound(p: float, standard: float) -> float:
    """Theorem 2.1: no classifier, linear or not, with this standard accuracy has more robust accuracy at eps ≥ 2η.

    With standard accuracy 1 - δ it is p / (1 - p)·δ: the adversary can make the weak features look as if they came from
    the other label, and so only x1 tells the two apart, which errs in 1 - p of the cases. It is met at δ = 1 - p, by x1
    alone.

    Args:
        p: chance that x1 is right, from 1/2.
        standard: accuracy in [0, 1].

    Raises:
        ArgumentError: a number out of its range.
    """
    _check("p", 0.5 <= p <= 1, p, "a chance from 1/2 to 1")
    _check("standard", 0 <= standard <= 1, standard, "an accuracy from 0 to 1")
    return 1.0 if p == 1 else min(1.0, p / (1 - p) * (1 - standard))


@dataclass(frozen=True)
class Drawn:
    """A sample: features (n, d + 1) float64, x1 first, and labels (n,) of ±1 as float64."""

    features: Tensor
    labels: Tensor


def sample(model: DataModel, n: int, *, seed: int = 0, start: int = 0) -> Drawn:
    """Draws from the model, each a function of the seed and its number.

    Args:
        model: to draw from.
        n: how many.
        seed: of the draws.
        start: number of the first: 100 goes on where a sample of 100 ended.

    Raises:
        ArgumentError: no draw.
    """
    _check("n", n >= 1, n, "a whole number from 1")
    ids = torch.arange(start, start + n)
    labels = noise.sign(ids, (), seed=seed, stream="label", dtype=torch.float64)
    right = noise.uniform(ids, (), seed=seed, stream="first", dtype=torch.float64) < model.p
    features = torch.empty(n, model.features + 1, dtype=torch.float64)
    features[:, 0] = torch.where(right, labels, -labels)
    weak = noise.normal(ids, (model.features,), seed=seed, stream="weak", dtype=torch.float64)
    features[:, 1:] = weak + model.shift * labels[:, None]
    return Drawn(features, labels)


def simulated(model: DataModel, classifier: Linear, eps: float = 0.0, *, n: int = 20_000, seed: int = 0) -> Rate:
    """The same accuracy counted on draws, each moved by the adversary for good, with its interval.

    Raises:
        ArgumentError: as for `accuracy`, or no draw.
    """
    _check_fits(model, classifier, eps)
    weights = torch.from_numpy(np.concatenate([[classifier.first], classifier.rest]))
    right = 0
    for part in _parts(model, n, seed):
        moved = part.features - eps * part.labels[:, None] * weights.sign()
        right += int((part.labels * (moved @ weights + classifier.bias) > 0).sum())
    return wilson(right, n)


def _parts(model: DataModel, n: int, seed: int) -> Iterator[Drawn]:
    _check("n", n >= 1, n, "a whole number from 1")
    rows = max(1, _VALUES // (model.features + 1))
    for start in range(0, n, rows):
        yield sample(model, min(rows, n - start), seed=seed, start=start)


def _positive(mean: float, deviation: float) -> float:
    """The chance that a normal variable is positive, half of that it is 0."""
    if deviation == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    return float(ndtr(mean / deviation))


def _check_fits(model: DataModel, classifier: Linear, eps: float) -> None:
    _check("eps", 0 <= eps < math.inf, eps, "0 or a positive number")
    if classifier.rest.shape != (model.features,):
        problem = f"weights of shape {classifier.rest.shape} for {model.features} features"
        raise ArgumentError("classifier", "Linear", problem, f"Give rest of shape ({model.features},).")


def _check(argument: str, fine: bool, value: object, wanted: str) -> None:
    if not fine:
        raise ArgumentError(argument, value, f"not {wanted}", f"Give {wanted}.")
