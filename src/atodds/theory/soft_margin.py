"""Theorem 2.2 of Tsipras et al. (ICLR 2019), exactly: the soft-margin SVM of their data model and its adversarial twin.

The SVM minimises E max(0, 1 - y·w·x) + λ/2 ‖w‖², its twin the same against an l-inf adversary, whose radius eps takes
eps·‖w‖₁ from every margin. The weak features are alike, and the loss is convex, so a minimiser gives all of them one
weight: what is looked for has two numbers, the weight of x1 and the norm of the others together. With these the margin
is a mixture of two normal variables, and the expected hinge loss of a normal variable is known in closed form.

As in the theorem, λ is such that the weights have norm 1; where the loss is smallest inside that ball, λ is 0. What the
twin does, stated for every eps and not only in the theorem's range:

- eps < η: the weak features still point to the label under attack, and are used;
- η ≤ eps < 2p - 1: their mean points the other way or nowhere, so x1 alone is used; standard and robust accuracy are p;
- eps ≥ η and eps > 2p - 1: the loss of x1 rises too, so w = 0 is best, and accuracy is 1/2. At eps = 2p - 1 every
  weight of x1 from 0 to 1 is as good.

The theorem (η ≥ 4/√d, p ≤ 0.975) says p / p for 2η ≤ eps; it holds for eps < 2p - 1 and for p = 1/2, not for every
eps < 1 as the paper has it.

    >>> from atodds.theory import soft_margin, tsipras
    >>> data = tsipras.DataModel(p=0.95, shift=0.2, features=400)
    >>> svm, twin = soft_margin.svm(data), soft_margin.svm(data, eps=0.4)
    >>> [round(tsipras.accuracy(data, svm.classifier, eps), 3) for eps in (0, 0.4)]
    [1.0, 0.0]
    >>> [round(tsipras.accuracy(data, twin.classifier, eps), 3) for eps in (0, 0.4)]
    [0.95, 0.95]
    >>> soft_margin.svm(data, eps=0.92).region
    'nothing'
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

from atodds.errors import ArgumentError
from atodds.theory.tsipras import DataModel, Linear, accuracy, sample, symmetric

Region = Literal["weak features", "first feature", "nothing"]
_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class SoftMargin:
    """A minimiser of the expected hinge loss over the unit ball.

    Attributes:
        classifier: its weights.
        eps: radius of the adversary that it was trained against, 0 for the SVM itself.
        loss: the expected hinge loss.
        penalty: λ for which the penalised loss has this minimiser; 0 where the unit ball does not bind.
        region: what it rests on: the weak features, with or without x1; x1 alone; or w = 0.
    """

    classifier: Linear
    eps: float
    loss: float
    penalty: float
    region: Region


def hinge(mean: float, deviation: float) -> float:
    """E max(0, 1 - M) of a normal variable M: (1 - μ)Φ(z) + σφ(z), z = (1 - μ)/σ."""
    gap = 1 - mean
    if deviation == 0:
        return max(0.0, gap)
    z = gap / deviation
    return gap * float(ndtr(z)) + deviation * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def expected_loss(model: DataModel, first: float, rest: float, eps: float = 0.0) -> float:
    """The expected adversarial hinge loss with weight `first` on x1, and equal weights of norm `rest` on the others."""
    root = math.sqrt(model.features)
    drift = rest * model.strength - eps * (abs(first) + abs(rest) * root)
    sides = ((1, model.p), (-1, 1 - model.p))
    return math.fsum(chance * hinge(sign * first + drift, abs(rest)) for sign, chance in sides)


def svm(model: DataModel, eps: float = 0.0) -> SoftMargin:
    """The soft-margin SVM of the whole distribution, or with a radius its adversarial twin.

    For eps ≥ η the minimiser is known (see above). Else the loss, convex in its two numbers, is minimised in one within
    the other, to ten digits of the weights' own size.

    Raises:
        ArgumentError: a negative radius.
    """
    if not 0 <= eps < math.inf:
        raise ArgumentError("eps", eps, "not a radius", "Give 0 or a positive number.")
    if eps >= model.shift:
        useful = eps < 2 * model.p - 1
        return _made(model, float(useful), 0.0, eps, "first feature" if useful else "nothing")

    def inner(first: float) -> tuple[float, float]:
        """The best norm of the weak weights beside a weight of x1, and the loss there."""
        most = math.sqrt(max(0.0, 1 - first * first))
        return _smallest(lambda rest: expected_loss(model, first, rest, eps), 0.0, most)

    first, _ = _smallest(lambda first: inner(first)[1], 0.0, 1.0)
    rest, _ = inner(first)
    return _made(model, first, rest, eps, "weak features")


def fitted(model: DataModel, n: int, *, seed: int = 0) -> Linear:
    """The SVM that scikit-learn fits to n draws, with the λ of the whole distribution's.

    Raises:
        ArgumentError: no draw, or a model in which the weights are not bound by a λ.
    """
    from sklearn.svm import LinearSVC  # takes a second

    penalty = svm(model).penalty
    if penalty <= 0:
        raise ArgumentError("model", model, "no λ binds its weights", "Take a larger p or shift.")
    drawn = sample(model, n, seed=seed)
    machine = LinearSVC(
        loss="hinge", C=1 / (n * penalty), fit_intercept=False, tol=1e-4, max_iter=100_000, random_state=0
    )
    machine.fit(drawn.features.numpy(), drawn.labels.numpy())
    weights = np.asarray(machine.coef_[0], dtype=np.float64)
    return Linear(float(weights[0]), weights[1:])


@dataclass(frozen=True)
class Phase:
    """What training with and without an adversary ends in at one place of the diagram.

    Attributes:
        p, strength, eps: the place; strength is η√d.
        region: what the adversarially trained machine rests on.
        standard: standard and robust accuracy, at eps, of the SVM.
        adversarial: the same of its twin that was trained against eps.
    """

    p: float
    strength: float
    eps: float
    region: Region
    standard: tuple[float, float]
    adversarial: tuple[float, float]


def phases(
    probabilities: Sequence[float], strengths: Sequence[float], radii: Sequence[float], *, features: int = 100
) -> tuple[Phase, ...]:
    """The diagram over p, η√d and eps, in this order.

    Raises:
        ArgumentError: a number out of its range.
    """
    found = []
    for p in probabilities:
        for strength in strengths:
            model = DataModel.of_strength(p, strength, features)
            plain = svm(model).classifier
            for eps in radii:
                twin = svm(model, eps)
                standard, adversarial = (
                    (accuracy(model, one), accuracy(model, one, eps)) for one in (plain, twin.classifier)
                )
                found.append(Phase(p, strength, eps, twin.region, standard, adversarial))
    return tuple(found)


def _made(model: DataModel, first: float, rest: float, eps: float, region: Region) -> SoftMargin:
    norm = math.hypot(first, rest)
    penalty = 0.0
    if norm > 1 - 1e-6:  # the loss falls outward: λ‖w‖ is how fast
        step = 1e-5
        inside, outside = (expected_loss(model, first * by, rest * by, eps) for by in (1 - step, 1 + step))
        penalty = max(0.0, (inside - outside) / (2 * step))
    return SoftMargin(
        symmetric(model, first, rest), eps, expected_loss(model, first, rest, eps), penalty, region
    )  # fmt: skip


def _smallest(loss: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Where a convex function on an interval is smallest, ends included, and its value there."""
    if high - low < _TOLERANCE:
        return low, loss(low)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": _TOLERANCE})
    places = (low, float(found.x), high)
    return min(((place, loss(place)) for place in places), key=lambda pair: pair[1])
