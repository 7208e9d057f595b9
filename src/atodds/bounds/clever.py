"""CLEVER: an estimate, from sampled gradients, of how far the nearest other class is at least.

Weng, Zhang, Chen, Yi, Su, Gao, Hsieh, Daniel, "Evaluating the robustness of neural networks: an extreme value theory
approach", ICLR 2018, algorithms 1 and 2. It is an estimate and no certificate: Goodfellow, "Gradient masking causes
CLEVER to overestimate adversarial perturbation size", 2018.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import losses
from atodds.attacks.pool import Pool, opened, positive
from atodds.bounds.draws import DRAWS, cut, keys
from atodds.bounds.extremes import PENALTY, Floats, upper_ends
from atodds.errors import ArgumentError
from atodds.oracle import Objective, Oracle
from atodds.threat import Norm

RADII: dict[Norm, float] = {"linf": 0.3, "l2": 3.0, "l1": 30.0}
"""Radii of the balls in which gradients are sampled, unless told otherwise."""
_FEWEST = 10
"""Batches: three parameters cannot be fitted to fewer maxima."""
_VALUES = 2**23
"""Values of the images that go to the model at once: 32 MB in float32."""


@dataclass(frozen=True, eq=False)
class Clever:
    """What CLEVER estimates for N images: tensors (N,) on the CPU, float64 unless said otherwise.

    Where several classes were looked at, the fit is that of the class with the lowest score, and the interval runs from
    the lowest low to the lowest high of all classes.

    Attributes:
        norm: of the distances.
        level: of the intervals.
        prediction: int64, the model's on the image; -1 where no output is the largest.
        radius: of each image's ball.
        score: the estimate, at most the radius; 0 for images that are misclassified as they are, or that have no
            finite estimate.
        low, high: interval of the score, from the profile likelihood of the Weibull fit. It tells what the draw of the
            samples does, not what no sample has met.
        target: int64, the class that the estimate is for.
        margin: by how much the model's logit for its prediction exceeds that for the target.
        location, scale, shape: of the reverse Weibull distribution; the location estimates the Lipschitz constant. NaN
            for images that were not sampled.
        distance, p_value: Kolmogorov-Smirnov test of the fit.
        endless: bool, the sampled maxima alone do not rule out gradients of any size: what holds the score up is the
            penalty of the shape.
    """

    norm: Norm
    level: float
    prediction: Tensor
    radius: Tensor
    score: Tensor
    low: Tensor
    high: Tensor
    target: Tensor
    margin: Tensor
    location: Tensor
    scale: Tensor
    shape: Tensor
    distance: Tensor
    p_value: Tensor
    endless: Tensor

    @property
    def reached(self) -> Tensor:
        """(N,) bool: the score is the radius. The ball holds nothing that limits it; with a larger one it may rise."""
        return (self.score >= self.radius) & (self.radius > 0)


def clever(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    norm: Norm | str,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    radius: float | Tensor | None = None,
    batches: int = 50,
    samples: int = 100,
    classes: int = 9,
    penalty: float = PENALTY,
    level: float = 0.95,
) -> Clever:
    """The margin over an estimate of how fast it can fall within a ball around the image.

    From the image to a fooling image the margin z_y - z_t falls to 0, so somewhere between them its gradient, measured
    in the dual norm, is at least margin / distance. Of its largest value in the ball only samples are known: the
    largest of `samples` gradients in each of `batches` batches. A reverse Weibull distribution is fitted to these,
    whose upper end stands for the largest value of all; the score is the margin over it, at most the radius.

    Points are uniform in the ball, then cut to the box as in the authors' program: every image between two images lies
    in the box, so gradients outside it say nothing of distances.

    Passes an image: a forward pass, and for each class `batches` x `samples` gradients.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        norm: "l1", "l2" or "linf".
        targets: (N,) classes to reach, or None for the nearest of all other classes.
        ids: (N,) stable ids; positions if None.
        seed: decides the samples, with each image's id.
        radius: of the ball, or (N,) radii such as the distances of fooling images that are known; None takes `RADII`.
        batches: maxima that the distribution is fitted to. The paper takes 500.
        samples: gradients in a batch. The paper takes 1024.
        classes: without targets, how many wrong classes are looked at, the most likely ones: of 10 classes, all.
        penalty: of the squared shape in the fit, as in the authors' program; 0 for maximum likelihood alone, which has
            no finite answer for many networks: their score is 0 then.
        level: of the intervals.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
        ThreatError: no such norm.
    """
    _check(batches, samples, classes, penalty, level)
    with opened(model, images, labels, norm, targets, ids) as pool:
        radii = _radii(radius, pool)
        logits = pool.oracle.logits(pool.images, pool.ids)
        losses.known(logits, *pool.highest)
        leading = logits.argmax(1)
        rivals = _rivals(logits, leading, classes) if pool.targets is None else pool.targets[:, None]
        margins = (logits.gather(1, leading[:, None]).double() - logits.gather(1, rivals).double()).cpu()
        answers = logits.amax(1).isfinite()
        right = leading == pool.labels if pool.targets is None else leading != pool.targets
        rows = (right & answers & (radii > 0)).nonzero()[:, 0]
        maxima = torch.zeros(len(rows), rivals.shape[1], batches, dtype=torch.float64)
        for batch in range(batches if len(rows) else 0):
            numbers = range(batch * samples, (batch + 1) * samples)
            maxima[:, :, batch] = _largest(pool, rows, leading, rivals, radii, numbers, seed)
        prediction = torch.where(answers, leading, -1).cpu()
        known = _Estimate(pool.norm, level, penalty, prediction, radii.cpu(), margins, rivals.cpu(), rows.cpu())
        return known.of(maxima)


@dataclass(frozen=True)
class _Estimate:
    """What is known of N images and k classes before the gradients: margins, classes (N, k), and the rows of the images
    that have a distance."""

    norm: Norm
    level: float
    penalty: float
    prediction: Tensor
    radius: Tensor
    margins: Tensor
    rivals: Tensor
    rows: Tensor

    def of(self, maxima: Tensor) -> Clever:
        """The scores from maxima (n, k, batches) of the images at `rows`."""
        ends = upper_ends(maxima.flatten(0, 1).numpy(), self.level, self.penalty)
        shape, (count, _) = maxima.shape[:2], self.margins.shape
        cap, margins = self.radius[self.rows, None], self.margins[self.rows]

        def over(limits: Floats) -> Tensor:
            return (margins / torch.from_numpy(limits).view(shape)).clamp_max(cap).nan_to_num(0)

        scores, pick = over(ends.location).min(1)
        column = torch.zeros(count, 1, dtype=torch.int64).index_copy(0, self.rows, pick[:, None])

        def filled(values: Tensor, empty: float = 0.0) -> Tensor:
            return torch.full((count,), empty, dtype=torch.float64).index_copy(0, self.rows, values)

        def chosen(parameter: Floats) -> Tensor:
            return filled(torch.from_numpy(parameter).view(shape).gather(1, pick[:, None])[:, 0], torch.nan)

        return Clever(
            norm=self.norm,
            level=self.level,
            prediction=self.prediction,
            radius=self.radius,
            score=filled(scores),
            low=filled(over(ends.high).amin(1)),
            high=filled(over(ends.low).amin(1)),
            target=self.rivals.gather(1, column)[:, 0],
            margin=self.margins.gather(1, column)[:, 0],
            location=chosen(ends.location),
            scale=chosen(ends.scale),
            shape=chosen(ends.shape),
            distance=chosen(ends.distance),
            p_value=chosen(ends.p_value),
            endless=chosen(ends.endless.astype(np.float64)) == 1,
        )


def _largest(
    pool: Pool, rows: Tensor, leading: Tensor, rivals: Tensor, radii: Tensor, numbers: range, seed: int
) -> Tensor:
    """(n, k) the largest gradients at these samples, of the images at `rows`, in the dual norm. Points go through the
    model once for each class, in full batches: any module can be asked so."""
    width, values = rivals.shape[1], pool.images[0].numel()
    most = torch.zeros(len(rows), width, dtype=torch.float64, device=rows.device)
    pairs = max(1, _VALUES // (values * width))
    for part in cut(range(len(rows)), pairs):
        mine = rows[part.start : part.stop]
        for some in cut(numbers, pairs // len(part)):
            copies = mine.repeat_interleave(len(some))
            points = norms.random_point(
                pool.images[copies],
                radii[copies].to(pool.images.dtype),
                pool.norm,
                keys(pool.ids[mine], some),
                seed=seed,
            )
            again = copies.repeat_interleave(width)
            lead = _lead(leading[again], rivals[copies].flatten())
            seen = pool.oracle.gradients(points.repeat_interleave(width, 0), lead, pool.ids[again])
            sizes = norms.length(seen.gradient.double(), norms.DUAL[pool.norm]).view(len(mine), len(some), width)
            most[part.start : part.stop] = most[part.start : part.stop].maximum(sizes.amax(1))
    return most.cpu()


def _lead(classes: Tensor, others: Tensor) -> Objective:
    """By how much the logit of a class exceeds that of another."""
    return lambda logits, at: losses.of(logits, classes[at]) - losses.of(logits, others[at])


def _rivals(logits: Tensor, leading: Tensor, classes: int) -> Tensor:
    """(N, k) the most likely classes after the first."""
    ranked = torch.sort(logits, dim=1, descending=True, stable=True).indices
    return ranked.masked_select(ranked != leading[:, None]).view(len(logits), -1)[:, :classes]


def _radii(radius: float | Tensor | None, pool: Pool) -> Tensor:
    """(N,) float64 radii.

    Raises:
        ArgumentError: not one radius, or one for each image.
    """
    given = RADII[pool.norm] if radius is None else radius
    wide = torch.as_tensor(given, dtype=torch.float64).to(pool.eps.device)
    if wide.ndim and wide.shape != pool.eps.shape:
        problem = f"radii of shape {tuple(wide.shape)} for {len(pool.eps)} images"
        raise ArgumentError("radius", "a tensor", problem, "Give one number, or one for each image.")
    if not bool(((wide >= 0) & wide.isfinite()).all()):
        way_out = "Give a positive number, in pixels of [0, 1]; for an image without one leave the image out."
        raise ArgumentError("radius", float(wide.min()), "not a length", way_out)
    return wide.expand(pool.eps.shape).clone()


def _check(batches: int, samples: int, classes: int, penalty: float, level: float) -> None:
    positive(batches=batches, samples=samples, classes=classes)
    if batches < _FEWEST:
        problem = "too few maxima to fit a distribution of three parameters to"
        raise ArgumentError("batches", batches, problem, f"Give {_FEWEST} or more; 50 is a start.")
    if batches * samples > DRAWS:
        raise ArgumentError(
            "samples", samples, f"more than {DRAWS} gradients an image", "Take fewer batches or samples."
        )
    if not 0 <= penalty < math.inf:
        raise ArgumentError("penalty", penalty, "not a penalty", "Give 0.01, or 0 for none.")
    if not 0 < level < 1:
        raise ArgumentError("level", level, "not a share between 0 and 1", "Give 0.95 for 95 %.")
