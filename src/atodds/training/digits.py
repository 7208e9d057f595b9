"""Two small networks that show the trade-off within seconds: one trained for accuracy, one against l-inf attacks."""

import os
from collections.abc import Callable

from atodds import data
from atodds.models.classifier import Classifier
from atodds.training.kept import made
from atodds.training.loop import Progress
from atodds.training.recipe import Recipe
from atodds.training.suites import Entry

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

    def one(name: str) -> Classifier:
        report = None if on_progress is None else lambda progress: on_progress(name, progress)
        return made(Entry(name, NETWORK, SETTINGS, RECIPES[name]), images, folder, on_progress=report)

    standard, robust = (one(name) for name in RECIPES)
    return standard, robust
