"""Training: from a network's name, images and a recipe to a classifier with a card.

The same seed, data and recipe give the same weights on the same kind of machine: first weights, the order of the images
and the attack's random starts are functions of the seed and the images' ids, and no global generator is read or set.
Another number of threads or another device rounds sums differently.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atodds import noise
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, ModelError, UnknownNameError
from atodds.models.card import Card
from atodds.models.classifier import Classifier
from atodds.models.networks import build, complete
from atodds.training.objectives import OBJECTIVES, Batch
from atodds.training.recipe import SCHEDULES, Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEVICES = ("auto", "cpu", "cuda", "mps")
_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Progress:
    """Where training is: epoch and step count from 1; loss and accuracy are means over the epoch so far.

    Accuracy is that on the images of the objective: for adversarial training, on the attacked ones. `left` is an
    estimate.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    seconds: float
    left: float


def train(
    network: str,
    images: ImageSet,
    recipe: Recipe | None = None,
    *,
    settings: Mapping[str, int] | None = None,
    name: str | None = None,
    device: str = "auto",
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
        on_progress: called a few times a second, and after each epoch.

    Returns:
        The classifier with its card, in eval mode, on the CPU.

    Raises:
        UnknownNameError: no such network, setting or device.
        ArgumentError: images too small for the network, or fewer than two classes.
        DataError: images that cannot be decoded.
        ModelError: training that diverged.
    """
    recipe = Recipe() if recipe is None else recipe
    fabric = _fabric(device)
    module = build(network, images.shape, len(images.classes), seed=recipe.seed, settings=settings)
    pixels, labels = torch.from_numpy(images.pixels()), torch.tensor(images.labels)
    mean, std = _statistics(pixels)
    card = Card(
        network=network,
        settings=complete(network, images.shape, settings),
        shape=images.shape,
        classes=images.classes,
        mean=mean,
        std=std,
        data=images.name,
        data_fingerprint=images.fingerprint,
        recipe=recipe.told(),
    )
    name = f"{network}-{images.name}" if name is None else name
    Card.from_json(card.to_json(), name)  # now, rather than when hours later the checkpoint is written
    classifier = Classifier(module, mean=mean, std=std, name=name, card=card)
    with _repeatable(fabric.device):
        _fit(classifier, _Data(pixels, labels, torch.tensor(images.ids)), recipe, fabric, on_progress)
    return classifier.cpu().eval()


@dataclass(frozen=True)
class _Data:
    """All images of a training set: pixels (N, C, H, W) uint8 or float32, labels and ids (N,) int64."""

    pixels: Tensor
    labels: Tensor
    ids: Tensor

    def to(self, device: torch.device) -> "_Data":
        return _Data(self.pixels.to(device), self.labels.to(device), self.ids.to(device))

    def batches(self, recipe: Recipe, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, in an order that is a function of seed, epoch and ids."""
        draws = noise.uniform(self.ids, (1,), seed=recipe.seed, step=epoch, stream="order")
        order = draws[:, 0].argsort(stable=True)
        for rows in order.tensor_split(math.ceil(len(order) / recipe.batch_size)):
            part = self.pixels[rows]
            images = part.float() / 255 if part.dtype == torch.uint8 else part
            # One seed an epoch, so that an image starts elsewhere in each.
            yield Batch(images, self.labels[rows], self.ids[rows], recipe.seed + (epoch << 32))


def _fit(
    classifier: Classifier,
    data: _Data,
    recipe: Recipe,
    fabric: "Fabric",
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """Train a classifier in place."""
    optimizer = torch.optim.SGD(
        classifier.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )
    model, optimizer = fabric.setup(classifier, optimizer)
    data = data.to(fabric.device)
    objective = OBJECTIVES[recipe.objective]
    steps = math.ceil(len(data.ids) / recipe.batch_size)
    began = told = time.perf_counter()
    model.train()
    for epoch in range(recipe.epochs):
        loss_sum = torch.zeros((), device=fabric.device)
        hits = torch.zeros((), dtype=torch.int64, device=fabric.device)
        seen = 0
        for step, batch in enumerate(data.batches(recipe, epoch)):
            done = (epoch * steps + step) / (recipe.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * SCHEDULES[recipe.schedule](done)
            loss, logits = objective(model, batch, recipe.inner(done))
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            seen += len(batch.ids)
            loss_sum += loss.detach() * len(batch.ids)
            hits += (logits.detach().argmax(1) == batch.labels).sum()
            now = time.perf_counter()
            if on_progress and (now - told > _REPORT_SECONDS or step == steps - 1):
                told, share = now, (epoch * steps + step + 1) / (recipe.epochs * steps)
                seconds = now - began
                left = seconds / share - seconds
                means = float(loss_sum) / seen, int(hits) / seen
                on_progress(Progress(epoch + 1, recipe.epochs, step + 1, steps, *means, seconds, left))
        if not loss_sum.isfinite():
            raise ModelError(
                f"Training diverged in epoch {epoch + 1} of {recipe.epochs}: the loss is {float(loss_sum) / seen}. "
                f"Take a smaller lr than {recipe.lr:g}."
            )


def _fabric(device: str) -> "Fabric":
    """One device for Fabric, which is told everything, so that it looks for no cluster and gives no advice.

    Raises:
        UnknownNameError: no such device.
        ArgumentError: a device that this machine does not have.
    """
    if device not in DEVICES:
        raise UnknownNameError.among("device", device, DEVICES)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = next(name for name in ("cuda", "mps", "cpu") if there[name]) if device == "auto" else device
    if not there[chosen]:
        raise ArgumentError("device", device, "this machine has none that torch can use", "Take 'cpu' or 'auto'.")
    from lightning_fabric import Fabric  # takes a second or two
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    advice = logging.getLogger("lightning_fabric")
    level = advice.level
    advice.setLevel(logging.WARNING)
    try:
        return Fabric(accelerator=chosen, devices=1, precision="32-true", plugins=LightningEnvironment())
    finally:
        advice.setLevel(level)


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU, algorithms that give the same sums each time, while it lasts."""
    with ExitStack() as stack:
        if device.type == "cuda":
            cudnn = torch.backends.cudnn
            for flag, value in (("deterministic", True), ("benchmark", False)):
                stack.callback(setattr, cudnn, flag, getattr(cudnn, flag))
                setattr(cudnn, flag, value)
        yield


def _statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels in [0, 1], to six decimals. A constant channel has std 1."""
    scale = 255 if pixels.dtype == torch.uint8 else 1
    total = torch.zeros(pixels.shape[1], dtype=torch.float64)
    squares = total.clone()
    for part in pixels.split(4096):
        wide = part.double() / scale
        total += wide.sum((0, 2, 3))
        squares += wide.square().sum((0, 2, 3))
    count = pixels.numel() // pixels.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    std = torch.where(std < 1e-6, 1.0, std)
    return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())
