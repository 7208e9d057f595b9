"""What a model is here: images in [0, 1] go in, logits come out, and it has a name."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from atodds.errors import ArgumentError, ModelError
from atodds.models.card import Card
from atodds.models.usage import Usage

Channels = float | str | Sequence[float] | NDArray[np.floating] | Tensor
"""One number for all channels, or one a channel; as text, "0.49,0.48,0.45"."""


class Classifier(nn.Module):
    """A network with its normalisation folded in.

    Args:
        network: takes what is left of images (N, C, H, W) after normalisation, returns logits (N, K).
        mean, std: (pixel - mean) / std is what the network takes, pixels in [0, 1]; one number, or one a channel. Give
            both, or neither where the network normalises by itself.
        name: what tables and pages call it.
        source: the spec it was loaded from, "" for an object.
        card: how it was made, where it is a network of ours.
        usage: how its library says that it is to be used, where it comes from one.

    Raises:
        ArgumentError: a network that is no module, a name that is not a line of text, mean without std, lengths that
            differ, values that are not finite, or a std that is not positive.
        ModelError: from `forward`, images with another number of channels than mean, or not of the shape that the card
            or the usage says.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Channels | None = None,
        std: Channels | None = None,
        name: str = "",
        source: str = "",
        card: Card | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ArgumentError("network", network, "not a torch.nn.Module", "Wrap the function in a module's forward.")
        self.network, self.name, self.source, self.card = network, checked_name(name), source, card
        self.usage = usage
        means, stds = _normalisation(mean, std)
        self.register_buffer("mean", means, persistent=False)
        self.register_buffer("std", stds, persistent=False)
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> what the network returns, usually logits (N, K)."""
        given: object = images
        if not isinstance(given, fx.Proxy):  # which stands for images of any shape, while the model's graph is traced
            self._check(tuple(images.shape[-3:]))
        if self.mean is not None and self.std is not None:
            images = (images - self.mean) / self.std
        logits: Tensor = self.network(images)
        return logits

    def _check(self, shape: tuple[int, ...]) -> None:
        if self.card is not None and shape != self.card.shape:
            name = self.name or "The model"
            raise ModelError(f"{name} takes images of {times(self.card.shape)}, not {times(shape)}.")
        if self.usage is not None:
            self.usage.check_shape(shape, self.name or "The model")
        if self.mean is not None and len(self.mean) not in (1, shape[0]):
            raise ModelError(
                f"mean and std have {len(self.mean)} numbers, but the images are {times(shape)} (channels x "
                "height x width). Give one number a channel."
            )


def check_images(model: nn.Module, shape: Sequence[int], classes: Sequence[str], name: str = "") -> None:
    """Hold images against what a model of a library says that it takes; other models say nothing.

    Args:
        model: any.
        shape: (C, H, W) of the images.
        classes: names of their classes, by label.
        name: what messages call the model; its own name where left out.

    Raises:
        ModelError: images of another size, with other channels, with another number of classes, or with the model's
            classes in another order.
    """
    if isinstance(model, Classifier) and model.usage is not None:
        model.usage.check_shape(shape, name or name_of(model))
        model.usage.check_classes(classes, name or name_of(model))


def name_of(model: nn.Module, fallback: str = "") -> str:
    """The name of a model: a classifier's own, else `fallback`, else that of its class."""
    return (model.name if isinstance(model, Classifier) else "") or fallback or type(model).__name__


def checked_name(name: str) -> str:
    """A name that tables and pages can show.

    Raises:
        ArgumentError: not one line of text.
    """
    if not isinstance(name, str) or name != printable(name):
        raise ArgumentError("name", name, "not one line of text", "Give letters, digits and signs, or leave it out.")
    return name


def printable(text: str) -> str:
    """Text with a question mark for each sign that cannot be printed, and nothing blank around it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()


def _normalisation(mean: Channels | None, std: Channels | None) -> tuple[Tensor | None, Tensor | None]:
    """Mean and std as (C, 1, 1) float32, or nothing where they change nothing."""
    if mean is None and std is None:
        return None, None
    if mean is None or std is None:
        missing = "mean" if mean is None else "std"
        raise ArgumentError(missing, None, "mean and std go together", f"Give {missing} too, or neither.")
    means, stds = _channels(mean, "mean"), _channels(std, "std")
    if means.numel() != stds.numel():
        problem = f"{stds.numel()} numbers beside {means.numel()} of mean"
        raise ArgumentError("std", std, problem, "Give one number a channel in both.")
    if (stds <= 0).any():
        raise ArgumentError("std", std, "not positive", "Give the standard deviation of each channel.")
    for argument, value, numbers in (("mean", mean, means), ("std", std, stds)):
        if (numbers > 1).any() or (numbers < -1).any():
            way_out = "Divide it by 255, or normalise inside the network."
            raise ArgumentError(argument, value, "pixels lie in [0, 1], so this is no statistic of them", way_out)
    if (means == 0).all() and (stds == 1).all():
        return None, None
    return means.reshape(-1, 1, 1), stds.reshape(-1, 1, 1)


def _channels(value: Channels, argument: str) -> Tensor:
    try:
        value = [float(part) for part in value.split(",")] if isinstance(value, str) else value
        numbers = torch.as_tensor(value, dtype=torch.float32, device="cpu").detach().clone().flatten()
    except (TypeError, ValueError, RuntimeError):
        way_out = "Give one number a channel, such as 0.49, 0.48, 0.45."
        raise ArgumentError(argument, value, "not numbers", way_out) from None
    if numbers.numel() == 0 or not numbers.isfinite().all():
        raise ArgumentError(argument, value, "not finite numbers", "Give one number a channel.")
    return numbers


def times(shape: Sequence[int]) -> str:
    """A shape as messages show it: 3x32x32."""
    return "x".join(map(str, shape))
