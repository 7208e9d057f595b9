"""Gradients of the loss in the image, as pictures and as a number: how well they agree with the image.

Tsipras et al., "Robustness may be at odds with accuracy" (ICLR 2019), section 3 and figure 2: "no preprocessing was
applied to the gradients (other than scaling and clipping for visualization)". Those of standard networks look like
noise, those of adversarially trained ones follow the object.

    >>> from atodds import data, models
    >>> from atodds.explain import gradients
    >>> from atodds.models import build
    >>> images = data.load("digits", limit=20)
    >>> found = gradients.alignment(build("linear", images.shape, 10), images)
    >>> found.share.n, len(found.correlations)
    (20, 20)
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from atodds.analysis.intervals import Floats
from atodds.analysis.numbers import significant
from atodds.analysis.resampling import bounds, resampled
from atodds.attacks import losses
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError
from atodds.oracle import Oracle

INK = 0.5
"""From which brightness a pixel of a grey image on a dark ground belongs to the object."""
DEVIATIONS = 3.0
"""Colour gradients are clipped at so many standard deviations from their mean, as in the paper."""
_RED, _BLUE = (0.698, 0.094, 0.169), (0.129, 0.400, 0.674)
_DARK_GROUND = 0.5


@dataclass(frozen=True)
class Mean:
    """A mean over n images with its 95 % bootstrap interval; of a difference, images of both sides are paired."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{significant(self.value)} ({significant(self.low)} to {significant(self.high)})"

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class Alignment:
    """How well the gradients of a network agree with its images.

    Attributes:
        correlations: (N,) of each image: the Pearson correlation of gradient and image over all values, without its
            sign, which only says whether the object is lighter or darker than its ground. 0 where a gradient is 0.
        shares: (N,) of the gradient's energy, the sum of its squares, the share that lies on the object; None for
            images without a mask.
        areas: (N,) share of the pixels that the object covers: the share of energy of a gradient that knows nothing.
    """

    correlations: Floats
    shares: Floats | None
    areas: Floats | None

    @property
    def correlation(self) -> Mean:
        """Over the images."""
        return mean(self.correlations)

    @property
    def share(self) -> Mean | None:
        """Over the images; None without masks."""
        return None if self.shares is None else mean(self.shares)


def loss_gradients(model: nn.Module | Oracle, images: Tensor, labels: Tensor, *, ids: Tensor | None = None) -> Tensor:
    """The gradient of the cross-entropy in each image.

    Args:
        model: images -> logits, or an oracle of it.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) int64.
        ids: (N,) int64, whom the passes are counted for.

    Returns:
        (N, C, H, W), on the CPU.

    Raises:
        ArgumentError: no image, or a label that the model has no logit for.
        LogitsError: outputs that are no logits.
    """
    oracle = Oracle.of(model)
    count = torch.arange(len(images)) if ids is None else ids
    objective = losses.objective("cross-entropy", labels.to(oracle.device), None)
    return oracle.gradients(images.to(oracle.device), objective, count.to(oracle.device)).gradient.cpu()


def object_masks(images: Tensor) -> Tensor | None:
    """(N, H, W) bool: which pixels are ink, brighter than half of each image's brightest; None for colour, and for grey
    images whose ground is not dark, where brightness does not tell the object from its ground."""
    if images.shape[1] != 1 or float(images.median()) > _DARK_GROUND:
        return None
    grey = images[:, 0]
    return grey > INK * grey.amax((1, 2), keepdim=True)


def alignment(model: nn.Module | Oracle, images: ImageSet) -> Alignment:
    """How well a network's gradients agree with images.

    Args:
        model: images -> logits, or an oracle of it.
        images: at their true labels; on all of them, whether they are classified rightly or not, so that two networks
            are compared on the same ones.

    Raises:
        As for `loss_gradients`.
    """
    pixels = images.images()
    found = loss_gradients(model, pixels, torch.tensor(images.labels), ids=torch.tensor(images.ids))
    return aligned(found, pixels)


def aligned(gradients: Tensor, images: Tensor) -> Alignment:
    """The same of gradients that are there already.

    Args:
        gradients, images: (N, C, H, W).

    Raises:
        ArgumentError: not one gradient for each image.
    """
    if gradients.shape != images.shape or len(images) == 0:
        problem = f"of shape {tuple(gradients.shape)} for images of {tuple(images.shape)}"
        raise ArgumentError("gradients", "a tensor", problem, "Give one gradient for each image.")
    flat, seen = (part.double().flatten(1) for part in (gradients, images))
    flat, seen = flat - flat.mean(1, keepdim=True), seen - seen.mean(1, keepdim=True)
    # A gradient of 1e-30 is a gradient: scaled first, so that its square is not 0.
    flat, seen = (part / part.abs().amax(1, keepdim=True).clamp_min(1e-300) for part in (flat, seen))
    size = flat.norm(dim=1) * seen.norm(dim=1)
    correlations = torch.where(size > 0, (flat * seen).sum(1).abs() / size.clamp_min(1e-300), 0.0)
    masks = object_masks(images)
    if masks is None:
        return Alignment(correlations.numpy(), None, None)
    energy = gradients.double()[:, 0]
    energy = (energy / energy.abs().amax((1, 2), keepdim=True).clamp_min(1e-300)).square()
    total, areas = energy.sum((1, 2)), masks.double().mean((1, 2))
    # Where there is no gradient at all, it knows nothing of the object.
    shares = torch.where(total > 0, (energy * masks).sum((1, 2)) / total.clamp_min(1e-300), areas)
    return Alignment(correlations.numpy(), shares.numpy(), areas.numpy())


def mean(values: Floats, *, seed: int = 0) -> Mean:
    """The mean of values of n images, with its bootstrap interval.

    Raises:
        EmptyDataError: no value.
    """
    known = np.asarray(values, dtype=np.float64)
    low, high = bounds(resampled(lambda draws: draws @ known / len(known), len(known), seed=seed))
    return Mean(float(known.mean()), float(low), float(high), len(known))


def difference(first: Floats, second: Floats, *, seed: int = 0) -> Mean:
    """The mean of first - second over the same images, with the interval of their pairs.

    Raises:
        ArgumentError: not the same number of values.
        EmptyDataError: no value.
    """
    if np.shape(first) != np.shape(second):
        raise ArgumentError("second", np.shape(second), f"not of shape {np.shape(first)}", "Give the same images.")
    return mean(np.asarray(first) - np.asarray(second), seed=seed)


def pictures(gradients: Tensor) -> Tensor:
    """Gradients to look at, each on its own scale.

    Those of grey images are white where they are 0, blue where more light raises the loss, and red where it lowers it,
    at full colour at the largest value. Those of colour images are clipped at three standard deviations around their
    mean and stretched over [0, 1].

    Args:
        gradients: (N, C, H, W).

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    if gradients.shape[1] != 1:
        wide = gradients.double().flatten(1)
        centre, deviation = wide.mean(1, keepdim=True), wide.std(1, keepdim=True, correction=0)
        scaled = (wide - centre) / (2 * DEVIATIONS * deviation.clamp_min(1e-300)) + 0.5
        shown = scaled.clamp(0, 1).view(gradients.shape).float()
        return shown if shown.shape[1] == 3 else shown.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    largest = gradients.double().abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-300)
    share = (gradients.double() / largest).float()
    ends = [torch.tensor(colour)[None, :, None, None] for colour in (_BLUE, _RED)]
    return 1 - share.clamp_min(0) * (1 - ends[0]) - (-share).clamp_min(0) * (1 - ends[1])
