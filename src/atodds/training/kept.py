"""Networks that are trained once: the checkpoint in a folder where it is of use, else a training that ends with one."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from atodds.data import ImageSet
from atodds.errors import ModelError, OtherPlanError
from atodds.models.checkpoint import load_checkpoint, save
from atodds.models.classifier import Classifier
from atodds.models.networks import complete
from atodds.training.loop import Progress, train
from atodds.training.suites import Entry

log = logging.getLogger("atodds")

_EVERY = 5.0
"""Seconds of training that a kill may cost."""


def made(
    entry: Entry,
    images: ImageSet,
    folder: str | os.PathLike[str],
    *,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
) -> Classifier:
    """The network of an entry, trained on images.

    On the CPU it is trained in one thread, so that the weights do not depend on the number of cores. One that was
    killed is continued: until the checkpoint is there, it is kept beside it every few seconds.

    Args:
        entry: network, settings and recipe.
        images: to train on.
        folder: where the checkpoint is kept, as NAME.safetensors. One that is there, and was made from the same data by
            the same recipe, is used again.
        device: where it is trained.
        on_progress: called while it is trained.

    Raises:
        ModelError: a checkpoint that cannot be written, or training that diverged.
    """
    file = Path(folder) / f"{entry.name}.safetensors"
    kept = _of_use(file, entry, images)
    if kept is not None:
        return kept
    started = file.with_suffix(".training")
    with _one_thread():
        try:
            classifier = _trained(entry, images, started, device, on_progress)
        except OtherPlanError as error:
            log.info("Training %s from the beginning: %s", entry.name, error)
            shutil.rmtree(started)
            classifier = _trained(entry, images, started, device, on_progress)
    made_now = load_checkpoint(save(classifier, file), name=entry.name)
    shutil.rmtree(started, ignore_errors=True)
    return made_now


def _trained(
    entry: Entry, images: ImageSet, started: Path, device: str, on_progress: Callable[[Progress], None] | None
) -> Classifier:
    """A training, or the rest of one."""
    return train(
        entry.network, images, entry.recipe, settings=entry.settings, name=entry.name, device=device, out=started,
        every=_EVERY, on_progress=on_progress,
    )  # fmt: skip


def _of_use(file: Path, entry: Entry, images: ImageSet) -> Classifier | None:
    """The checkpoint in a file, if it was made from these images by today's recipe."""
    if not file.is_file():
        return None
    try:
        kept = load_checkpoint(file, name=entry.name)
    except ModelError as error:
        log.warning("Training %s again: %s", entry.name, error)
        return None
    card = kept.card
    settings = complete(entry.network, images.shape, entry.settings)
    wanted = (entry.network, settings, entry.recipe.told(), images.fingerprint)
    if card is None or (card.network, card.settings, card.recipe, card.data_fingerprint) != wanted:
        log.info("Training %s again: %s was made another way.", entry.name, file)
        return None
    return kept


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
