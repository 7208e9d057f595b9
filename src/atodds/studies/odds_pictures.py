"""What standard and robust networks see, side by side: gradients with their alignment, far images, paths, synthesis."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from atodds.analysis import Rate, wilson
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError
from atodds.explain import gradients, synthesis
from atodds.explain.gradients import Alignment, Mean
from atodds.explain.synthesis import Generated, Path
from atodds.oracle import Oracle
from atodds.threat import Threat

SHOWN, LINES, STOPS, EACH, STEPS = 8, 2, 7, 4, 20
"""Images in a row, paths of each network, images on a path, images made for a class, steps of each climb."""
DRAWN_FROM = 50
"""Images of each class that its normal distribution is fitted to."""
FAR: Mapping[str, tuple[Threat, Threat]] = {
    "digits": (Threat("l2", 2.0), Threat("l2", 3.0)),
    "mnist": (Threat("l2", 4.0), Threat("l2", 6.0)),
    "cifar10": (Threat("l2", 4.7), Threat("l2", 10.0)),
}
"""Balls for far images and for synthesis, by data set. Those of far images on MNIST and CIFAR-10 are the paper's."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What one network sees.

    Attributes:
        name: of the network.
        alignment: of its gradients with all images.
        correlation, share: by how much its alignment exceeds that of the first network, on the same images; None for
            the first, and `share` where images have no mask.
        gradients: (M, 3, H, W) of the images shown, as pictures.
        far: (M, C, H, W), where raising the loss leads; `said` the classes that it takes them for, `sure` how surely.
        classes: (K, C, H, W), one image on its way to each class; `reached` the probability of that class.
        paths: from images to far ones; `away` the class that each leads to.
        made: images that it makes for each class.
        agreed: how many of these the first network takes for the class; None for the first.
    """

    name: str
    alignment: Alignment
    correlation: Mean | None
    share: Mean | None
    gradients: Tensor
    far: Tensor
    said: tuple[int, ...]
    sure: tuple[float, ...]
    classes: Tensor
    reached: tuple[float, ...]
    paths: Path
    away: tuple[int, ...]
    made: Generated
    agreed: Rate | None


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of a study.

    Attributes:
        images: (M, C, H, W) that are shown, with their labels and ids.
        labels, ids: (M,).
        names: of the classes.
        models: the first is the one that others are compared with.
        far, wide: the balls of far images and of synthesis.
        n: images over which alignment is measured.
    """

    images: Tensor
    labels: tuple[int, ...]
    ids: tuple[int, ...]
    names: tuple[str, ...]
    models: tuple[Seen, ...]
    far: Threat
    wide: Threat
    n: int


def pictures(
    models: Mapping[str, nn.Module], images: ImageSet, drawn_from: ImageSet, *, data: str, steps: int = STEPS
) -> Pictures:
    """Look at the same images with several networks.

    Args:
        models: by name; the first is the one that the others are compared with.
        images: for alignment; the first of each class are shown.
        drawn_from: training images, for synthesis.
        data: name of the data set, for the sizes of the balls.
        steps: of each climb.

    Raises:
        ArgumentError: no network.
        LogitsError: a network whose outputs are no logits.
    """
    if not models:
        raise ArgumentError("models", [], "nothing to look with", "Give one network or more.")
    far, wide = FAR.get(data) or _usual(images)
    classes = len(images.classes)
    shown = images.take(_first_of_each(images))
    some = drawn_from.limit(min(len(drawn_from), DRAWN_FROM * classes))
    found: list[Seen] = []
    first = next(iter(models.values()))
    for name, model in models.items():
        oracle = Oracle(model)
        pixels, labels = shown.images(), torch.tensor(shown.labels)
        alignment = gradients.alignment(oracle, images)
        beside = found[0].alignment if found else None
        away = synthesis.towards_loss(oracle, pixels, labels, far, steps=steps)
        said = synthesis.probabilities(oracle, away)
        towards = synthesis.towards_classes(oracle, pixels[:1], classes, far, steps=steps)[0]
        made = synthesis.generated(oracle, some, wide, each=EACH, steps=steps)
        found.append(
            Seen(
                name=name,
                alignment=alignment,
                correlation=gradients.difference(alignment.correlations, beside.correlations) if beside else None,
                share=_difference(alignment, beside),
                gradients=gradients.pictures(gradients.loss_gradients(oracle, pixels, labels)),
                far=away,
                said=tuple(said.argmax(1).tolist()),
                sure=tuple(said.amax(1).tolist()),
                classes=towards,
                reached=tuple(synthesis.probabilities(oracle, towards).diagonal().tolist()),
                paths=synthesis.path(oracle, pixels[:LINES], away[:LINES], stops=STOPS),
                away=tuple(said[:LINES].argmax(1).tolist()),
                made=made,
                agreed=_agreed(first, made) if found else None,
            )
        )
    kept = (shown.images(), tuple(shown.labels.tolist()), tuple(shown.ids.tolist()), images.classes)
    return Pictures(*kept, tuple(found), far, wide, len(images))


def _first_of_each(images: ImageSet) -> list[int]:
    """The first image of each class that has one, of the first classes."""
    return [int(first) for first in np.sort(np.unique(images.labels, return_index=True)[1][:SHOWN])]


def _difference(one: Alignment, other: Alignment | None) -> Mean | None:
    if other is None or one.shares is None or other.shares is None:
        return None
    return gradients.difference(one.shares, other.shares)


def _agreed(model: nn.Module, made: Generated) -> Rate:
    """How many of the images made for a class another network takes for it."""
    said = synthesis.probabilities(model, made.images.flatten(0, 1)).argmax(1).view(made.confidence.shape)
    right = said == torch.arange(len(said))[:, None]
    return wilson(int(right.sum()), right.numel())


def _usual(images: ImageSet) -> tuple[Threat, Threat]:
    """A ninth and a sixth of the length of the box's diagonal: what the radii for CIFAR-10 are, about."""
    diagonal = float(np.sqrt(np.prod(images.shape)))
    return Threat("l2", diagonal / 9), Threat("l2", diagonal / 6)
