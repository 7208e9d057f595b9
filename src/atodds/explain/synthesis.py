"""What a network holds for a class: images far away, the way to them, and images made from noise.

Tsipras et al. (ICLR 2019), section 3: a loss-maximising image in a ball much larger than the one of training looks like
another class for a robust network, and the line to it like a change of the one into the other (figures 3 and 4). The
same climb from noise makes images: S. Santurkar et al., "Image synthesis with a single (robust) classifier" (NeurIPS
2019), section 3.1, begins at draws from a normal distribution that is fitted to the images of each class.

    >>> from atodds import Threat, data
    >>> from atodds.explain import synthesis
    >>> from atodds.models import build
    >>> images = data.load("digits", limit=10)
    >>> model = build("linear", images.shape, 10)
    >>> made = synthesis.generated(model, images, Threat("l2", 2), each=2, steps=5)
    >>> made.images.shape, made.confidence.shape
    (torch.Size([10, 2, 1, 8, 8]), torch.Size([10, 2]))
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atodds import noise
from atodds.attacks.gradient_sign import pgd
from atodds.attacks.pool import positive
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import Threat

STEPS = 60


@dataclass(frozen=True, eq=False)
class Path:
    """Images from one to another in equal steps, and what a network says along the way.

    Attributes:
        images: (N, S, C, H, W), ends included.
        probabilities: (N, S, K), softmax.
    """

    images: Tensor
    probabilities: Tensor


@dataclass(frozen=True, eq=False)
class Generated:
    """Images made for every class.

    Attributes:
        seeds: (K, M, C, H, W), where they began.
        images: (K, M, C, H, W) in [0, 1].
        confidence: (K, M), the softmax probability of the class in the end.
    """

    seeds: Tensor
    images: Tensor
    confidence: Tensor


def towards_loss(
    model: nn.Module | Oracle, images: Tensor, labels: Tensor, threat: Threat, *, steps: int = STEPS
) -> Tensor:
    """Images that PGD makes from the images themselves by raising the loss for all its steps, wherever the network is
    fooled on the way.

    Args:
        model: images -> logits, or an oracle of it.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) int64.
        threat: the ball; much larger than those of training to show what the network holds for another class.
        steps: of the climb.

    Returns:
        (N, C, H, W).

    Raises:
        ArgumentError: as for `atodds.attacks.pgd`.
    """
    return pgd(model, images, labels, threat, steps=steps, random_start=False, stop=False).cpu()


def towards_classes(
    model: nn.Module | Oracle, images: Tensor, classes: int, threat: Threat, *, steps: int = STEPS
) -> Tensor:
    """For every class, the images that PGD makes by lowering that class's loss, also the class that they show.

    Returns:
        (N, classes, C, H, W).

    Raises:
        ArgumentError: fewer than two classes; as for `atodds.attacks.pgd` otherwise.
    """
    _check_classes(classes)
    found = [_towards(model, images, target, classes, threat, steps) for target in range(classes)]
    return torch.stack(found, 1)


def path(model: nn.Module | Oracle, first: Tensor, last: Tensor, *, stops: int = 7) -> Path:
    """The straight line from each image to another, and the network's confidence along it.

    Args:
        model: images -> logits, or an oracle of it.
        first, last: (N, C, H, W).
        stops: images on it, at least 2.

    Raises:
        ArgumentError: images that do not belong together, or fewer than two stops.
    """
    if first.shape != last.shape or first.ndim != 4:
        problem = f"of shape {tuple(last.shape)} for {tuple(first.shape)}"
        raise ArgumentError("last", "a tensor", problem, "Give an end for each image.")
    if stops < 2:
        raise ArgumentError("stops", stops, "no path", "Give 2 or more.")
    shares = torch.linspace(0, 1, stops)[:, None, None, None]
    images = torch.lerp(first[:, None].expand(-1, stops, -1, -1, -1), last[:, None], shares)
    return Path(images, probabilities(model, images.flatten(0, 1)).unflatten(0, (len(first), stops)))


def probabilities(model: nn.Module | Oracle, images: Tensor) -> Tensor:
    """(N, K) softmax of a network's logits."""
    oracle = Oracle.of(model)
    ids = torch.arange(len(images), device=oracle.device)
    return oracle.logits(images.to(oracle.device), ids).softmax(1).cpu()


def class_seeds(images: ImageSet, each: int, *, seed: int = 0) -> Tensor:
    """Draws from a normal distribution with mean and covariance of each class's images, clipped to [0, 1].

    With k images of a class, a draw is their mean and a sum of their deviations from it, weighted by k independent
    normal draws over √(k - 1): that has the covariance of the images exactly, in any number of pixels.

    Args:
        images: of all classes.
        each: draws a class.
        seed: of the draws.

    Returns:
        (K, each, C, H, W).

    Raises:
        ArgumentError: a class without an image, or no draw.
    """
    positive(each=each)
    pixels, labels = images.images(), torch.tensor(images.labels)
    rows = []
    for place, name in enumerate(images.classes):
        members = pixels[labels == place].flatten(1)
        if len(members) == 0:
            raise ArgumentError("images", images.name, f"no image of class {name!r}", "Give images of every class.")
        ids = torch.arange(each) + place * each
        weights = noise.normal(ids, (len(members),), seed=seed, stream="class seed")
        middle = members.mean(0)
        rows.append(middle + weights @ (members - middle) / max(1, len(members) - 1) ** 0.5)
    drawn: Tensor = torch.stack(rows).clamp(0, 1).unflatten(2, images.shape)
    return drawn


def noise_seeds(images: ImageSet, each: int, *, seed: int = 0) -> Tensor:
    """Plain noise, uniform in [0, 1], in the shape of `class_seeds`."""
    positive(each=each)
    ids = torch.arange(len(images.classes) * each)
    drawn = noise.uniform(ids, images.shape, seed=seed, stream="noise seed")
    found: Tensor = drawn.unflatten(0, (len(images.classes), each))
    return found


def generated(
    model: nn.Module | Oracle, images: ImageSet, threat: Threat, *, each: int = 8, plain: bool = False, seed: int = 0,
    steps: int = STEPS,
) -> Generated:  # fmt: skip
    """Images for every class, made by a network: PGD towards the class from a draw.

    Args:
        model: images -> logits, or an oracle of it.
        images: whose classes; their pixels make the draws, unless those are plain noise.
        threat: the ball around each draw that is searched.
        each: images a class.
        plain: begin at plain noise instead of a draw that looks like the class from afar.
        seed: of the draws.
        steps: of the climb.

    Raises:
        ArgumentError: as for `class_seeds` and `atodds.attacks.pgd`.
    """
    seeds = (noise_seeds if plain else class_seeds)(images, each, seed=seed)
    count = len(images.classes)
    rows = [_towards(model, seeds[target], target, count, threat, steps) for target in range(count)]
    said = [probabilities(model, row)[:, target] for target, row in enumerate(rows)]
    return Generated(seeds, torch.stack(rows), torch.stack(said))


def _towards(
    model: nn.Module | Oracle, images: Tensor, target: int, classes: int, threat: Threat, steps: int
) -> Tensor:
    """PGD towards a class. A target may not be the label, so another class stands for that: it is not looked at."""
    _check_classes(classes)
    aim = torch.full((len(images),), target)
    labels = (aim + 1) % classes
    return pgd(model, images, labels, threat, targets=aim, steps=steps, random_start=False, stop=False).cpu()


def _check_classes(classes: int) -> None:
    if classes < 2:
        raise ArgumentError("classes", classes, "nothing to tell apart", "Give 2 or more.")
