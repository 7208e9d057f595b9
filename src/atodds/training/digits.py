"""Two small networks that show the trade-off within seconds: one trained for accuracy, one against l-inf attacks."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from atodds import data
from atodds.data import ImageSet
from atodds.errors import ModelError
from atodds.models.checkpoint import load_checkpoint, save
from atodds.models.classifier import Classifier
from atodds.models.networks import complete
from atodds.training.loop import Progress, train
from atodds.training.recipe import Recipe

log = logging.getLogger("atodds")

NETWORK, SETTINGS = "cnn4", {"width": 8, "features": 64}
RECIPES = {
    "digits_standard": Recipe(epochs=20, batch_size=32, lr=0.05),
    "digits_robust": Recipe(
        objective="adversarial", epochs=20, batch_size=64, lr=0.05, eps=0.3, attack_steps=5, eps_ramp=0.5
    ),
}


def digits_pair(
    folder: str | os.PathLike[str], on_progress: Callable[[str, Progress], None] | None = None
) -> tuple[Classifier, Classifier]:
    """A standard and an adversarially trained network for the embedded digits, on the CPU.

    Training takes some seconds, in one thread, so that the weights do not depend on the number of cores.

    Args:
        folder: where their checkpoints are kept, as digits_standard.safetensors and digits_robust.safetensors. Those
            that are there, and were made from the same data by the same recipe, are used again.
        on_progress: called with the name of the network that is being trained, and how far it is.

    Returns:
        The standard and the robust classifier.

    Raises:
        ModelError: checkpoints that cannot be written.
    """
    images = data.load("digits", split="train")
    standard, robust = (_made(Path(folder), name, images, on_progress) for name in RECIPES)
    return standard, robust


def _made(folder: Path, name: str, images: ImageSet, on_progress: Callable[[str, Progress], None] | None) -> Classifier:
    """One of the two: its checkpoint where that is of use, else trained and saved."""
    file = folder / f"{name}.safetensors"
    kept = _kept(file, name, images)
    if kept is not None:
        return kept
    report = None if on_progress is None else lambda progress: on_progress(name, progress)
    with _one_thread():
        made = train(NETWORK, images, RECIPES[name], settings=SETTINGS, name=name, device="cpu", on_progress=report)
    return load_checkpoint(save(made, file), name=name)


def _kept(file: Path, name: str, images: ImageSet) -> Classifier | None:
    """The checkpoint in a file, if it was made from these images by today's recipe."""
    if not file.is_file():
        return None
    try:
        kept = load_checkpoint(file, name=name)
    except ModelError as error:
        log.warning("Training %s again: %s", name, error)
        return None
    card = kept.card
    wanted = (NETWORK, complete(NETWORK, images.shape, SETTINGS), RECIPES[name].told(), images.fingerprint)
    if card is None or (card.network, card.settings, card.recipe, card.data_fingerprint) != wanted:
        log.info("Training %s again: %s was made another way.", name, file)
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
