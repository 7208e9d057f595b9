"""Training: from a network's name, images and a recipe to a classifier with a card.

The same seed, data and recipe give the same weights on the same kind of machine, also where training was interrupted:
first weights, the order of the images, augmentation and the attack's random starts are functions of the seed, the
images' ids and the epoch, and no global generator is read or set. Another number of threads or another device rounds
sums differently.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atodds.data.images import ImageSet
from atodds.errors import ModelError
from atodds.models.card import Card
from atodds.models.classifier import Classifier
from atodds.models.networks import build, complete
from atodds.training import device as devices
from atodds.training import state as states
from atodds.training.feed import Feed
from atodds.training.fitting import Fitting, Tally, laid_out
from atodds.training.recipe import Recipe
from atodds.training.state import Epoch, State
from atodds.training.validation import Validation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Progress:
    """Where training is: epoch and step count from 1; loss and accuracy are means over the epoch so far.

    Accuracy is that on the images of the objective: for adversarial training, on the attacked ones. `left` is an
    estimate. `validation` is the accuracy on the validation images after the last epoch that is done. `passes` are the
    passes of single images in the epoch so far, those of the attack and its own.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    seconds: float
    left: float
    validation: float | None = None
    passes: int = 0


def train(
    network: str,
    images: ImageSet,
    recipe: Recipe | None = None,
    *,
    settings: Mapping[str, int] | None = None,
    name: str | None = None,
    device: str = "auto",
    validation: ImageSet | None = None,
    out: str | os.PathLike[str] | None = None,
    every: float = 0.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Classifier:
    """Train a network of ours from fresh weights.

    Pixels are normalised by the mean and standard deviation of each channel over `images`, inside the classifier.

    Args:
        network: its name, such as "resnet20".
        images: what to train on; all are held in memory, as uint8 where they were.
        recipe: how; the default recipe where left out.
        settings: what should differ from the network's defaults.
        name: of the classifier; "network-data" where left out.
        device: "cpu", "cuda", "mps", or "auto" for the best there is.
        validation: images that are not trained on, by which the best epoch is chosen: by accuracy, against PGD where
            the recipe has an eps. Without them it is chosen by the accuracy in training.
        out: folder where the training is kept after each epoch. The same call with the same folder continues it, on
            the CPU to the very same weights; `last.safetensors` and `best.safetensors` in it are checkpoints.
        every: seconds between two times that it is kept, but for the end: what a kill may cost beside an epoch. The
            best is that of the epochs that were kept.
        on_progress: called a few times a second, and after each epoch.

    Returns:
        The classifier after the last epoch, with its card, in eval mode, on the CPU.

    Raises:
        UnknownNameError: no such network, setting or device.
        ArgumentError: images too small for the network, fewer than two classes, or validation images of another kind.
        OtherPlanError: `out` holds another training.
        DataError: images that cannot be decoded.
        ModelError: training that diverged, or a folder that cannot be written to.
    """
    recipe = Recipe() if recipe is None else recipe
    place = devices.chosen(device)
    module = build(network, images.shape, len(images.classes), seed=recipe.seed, settings=settings)
    checks = Validation.of(validation, images, recipe)
    card = Card(
        network=network,
        settings=complete(network, images.shape, settings),
        shape=images.shape,
        classes=images.classes,
        data=images.name,
        data_fingerprint=images.fingerprint,
        recipe=recipe.told(),
    )
    name = f"{network}-{images.name}" if name is None else name
    Card.from_json(card.to_json(), name)  # now, rather than when hours later the checkpoint is written
    folder = None if out is None else states.folder_of(out)
    kept = None if folder is None else states.opened(folder, card, checks.fingerprint)
    feed = Feed.of(images)
    mean, std = feed.statistics()
    classifier = Classifier(module, mean=mean, std=std, name=name, card=replace(card, mean=mean, std=std))
    _fit(classifier, feed, recipe, devices.fabric(place, recipe.precision), checks, folder, kept, every, on_progress)
    return laid_out(classifier.cpu(), torch.contiguous_format).eval()


def _fit(
    classifier: Classifier,
    feed: Feed,
    recipe: Recipe,
    fabric: "Fabric",
    checks: Validation,
    folder: Path | None,
    kept: State | None,
    every: float,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """Train a classifier in place, from where it was kept."""
    fitting = Fitting.of(classifier, recipe, fabric)
    epochs: list[Epoch] = []
    if kept is not None:
        kept.into(classifier, fitting.optimizer)
        epochs.extend(kept.epochs)
    if folder is not None:  # which takes an empty folder, and ends what a kill left half done
        states.keep(folder, classifier, State.of(classifier, fitting.optimizer, checks.fingerprint, epochs))
    feed = feed.to(fabric.device)
    clock, written = _Clock(recipe.epochs, feed.batches(recipe), len(epochs), on_progress), time.perf_counter()
    with devices.repeatable(fabric.device):
        for number in range(len(epochs), recipe.epochs):
            began, last = time.perf_counter(), epochs[-1].validation if epochs else None
            tally = Tally.empty(fabric.device)
            for lowered in fitting.epoch(feed, number):
                tally.add(lowered)
                clock.tell(number, lowered.batch.number, tally, last)
            loss, accuracy = tally.means()
            if not math.isfinite(loss):
                raise ModelError(
                    f"Training diverged in epoch {number + 1} of {recipe.epochs}: the loss is {loss}. "
                    f"Take a smaller lr than {recipe.lr:g}."
                )
            score = checks.accuracy(classifier, fabric.device)
            epochs.append(Epoch(number + 1, loss, accuracy, score, time.perf_counter() - began))
            due = number + 1 == recipe.epochs or time.perf_counter() - written >= every
            if folder is not None and due:
                states.keep(folder, classifier, State.of(classifier, fitting.optimizer, checks.fingerprint, epochs))
                written = time.perf_counter()


class _Clock:
    """Tells where training is, a few times a second and at the end of each epoch.

    Args:
        epochs, steps: of the training, and of each epoch.
        before: epochs that were done before it began.
        on_progress: whom to tell.
    """

    def __init__(self, epochs: int, steps: int, before: int, on_progress: Callable[[Progress], None] | None) -> None:
        self.epochs, self.steps, self.before, self.on_progress = epochs, steps, before, on_progress
        self.began = self.told = time.perf_counter()

    def tell(self, epoch: int, number: int, tally: Tally, validation: float | None) -> None:
        now = time.perf_counter()
        if self.on_progress is None or (now - self.told <= _REPORT_SECONDS and number < self.steps - 1):
            return
        done = (epoch - self.before) * self.steps + number + 1
        self.told, seconds = now, now - self.began
        left = seconds * ((self.epochs - self.before) * self.steps / done - 1)
        self.on_progress(
            Progress(
                epoch + 1, self.epochs, number + 1, self.steps, *tally.means(), seconds, left, validation, tally.passes
            )
        )
