"""Images beside the training set, by which the best epoch is chosen."""

from dataclasses import dataclass

import torch

from atodds.attacks.gradient_sign import pgd
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError
from atodds.models.classifier import Classifier, times
from atodds.oracle import Oracle
from atodds.threat import Threat
from atodds.training.recipe import Recipe

_BATCH, _STEPS = 256, 10
"""Fixed, so that two trainings choose the same epoch."""


@dataclass(frozen=True)
class Validation:
    """Images that are not trained on; None where there are none.

    Attributes:
        images: to measure on.
        threat: that the recipe defends against, None in standard training.
        seed: of the attack's random starts.
    """

    images: ImageSet | None
    threat: Threat | None
    seed: int

    @classmethod
    def of(cls, images: ImageSet | None, training: ImageSet, recipe: Recipe) -> "Validation":
        """The validation of a training.

        Raises:
            ArgumentError: images of another shape or with other classes, or images that are trained on.
        """
        inner = recipe.inner()
        made = cls(images, None if inner is None else inner.threat, recipe.seed)
        if images is None:
            return made
        if images.shape != training.shape:
            problem = f"images of {times(images.shape)}, beside {times(training.shape)} to train on"
            raise ArgumentError("validation", images.name, problem, "Take images of the same shape.")
        if images.classes != training.classes:
            way_out = "Take images of the same classes, in the same order."
            raise ArgumentError("validation", images.name, "other classes than the images to train on", way_out)
        shared = set(images.ids.tolist()) & set(training.ids.tolist())
        if (images.name, images.split) == (training.name, training.split) and shared:
            problem = f"{len(shared)} of its images are trained on"
            raise ArgumentError("validation", images.name, problem, "Take parts that share none: data.subsets.parts.")
        return made

    @property
    def fingerprint(self) -> str:
        """Of the images, "" without any."""
        return "" if self.images is None else self.images.fingerprint

    def accuracy(self, classifier: Classifier, device: torch.device) -> float | None:
        """Share of the images that the classifier gets right, under PGD where there is a threat; None without images.

        PGD takes 10 steps from one random start: enough to choose an epoch, not to publish a figure.
        """
        if self.images is None:
            return None
        labels, ids = torch.tensor(self.images.labels), torch.tensor(self.images.ids)
        oracle, right = Oracle(classifier, batch_size=_BATCH), 0
        for rows in torch.arange(len(labels)).split(16 * _BATCH):
            images, wanted = self.images.images(rows).to(device), labels[rows].to(device)
            hit = oracle.logits(images, ids[rows]).argmax(1) == wanted
            if self.threat is not None:
                found = pgd(oracle, images, wanted, self.threat, ids=ids[rows], seed=self.seed, steps=_STEPS)
                hit &= oracle.logits(found, ids[rows]).argmax(1) == wanted
            right += int(hit.sum())
        return right / len(labels)
