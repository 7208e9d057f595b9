"""Classifiers of torchvision: `torchvision:NAME`, with its default weights, `torchvision:NAME@WEIGHTS` or `@FILE`.

Normalisation and image size are those of the weights' `transforms()`, class names those of their `meta`.
"""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from atodds.errors import ModelError, UnknownNameError
from atodds.models.adapters.common import Brought, calling, library, state_of, unknown, with_weights
from atodds.models.spec import Spec
from atodds.models.usage import Usage

_TRANSFORMING = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}
"""Models whose pretrained weights expect a network that changes the normalisation inside, and what their second
classifier, which only training uses, is called: without weights of its own torchvision builds them otherwise."""


def bring(parts: Spec, trust_pickle: bool) -> Brought:
    """The model that a spec names.

    Raises:
        MissingExtraError: torchvision is not installed.
        UnknownNameError: it knows no such classifier or weights; a file that is not there.
        WeightsDownloadError: its weights cannot be fetched.
        ModelError: weights without a classifier, or that do not fit.
    """
    vision, package = library("torchvision.models"), library("torchvision")
    name = parts.member
    member = _weights(vision, parts)
    by_hand = (
        f"Fetch {getattr(member, 'url', 'them')} elsewhere and put it into {torch.hub.get_dir()}/checkpoints, or write "
        f"torchvision:{name}@FILE."
    )
    with calling(parts.text, by_hand):
        names = member.meta.get("categories")
        if not names:
            raise ModelError(f"{parts.text}: these weights have features, no classes. Take others of {name}.")
        preset = member.transforms()
        side, resized = preset.crop_size[0], preset.resize_size[0]
        mean, std, interpolation = preset.mean, preset.std, preset.interpolation.value
    if parts.weights is None:
        with calling(parts.text, by_hand):
            network = vision.get_model(name, weights=member)
        outputs, classes, weights = len(names), tuple(map(str, names)), f"{member.name} of torchvision"
    else:
        state = state_of(parts.weights, trust_pickle=trust_pickle)
        options = _options(name, state)

        def make(count: int) -> nn.Module:
            with calling(parts.text, by_hand):
                made: nn.Module = vision.get_model(name, weights=None, num_classes=count, **options)
            return made

        network, outputs = with_weights(make, len(names), state, parts.weights)
        classes, weights = (), str(parts.weights)
    usage = Usage(
        library=f"torchvision {package.__version__}",
        weights=weights,
        shape=(3, side, side),
        outputs=outputs,
        classes=classes,
        crop=side / resized,
        interpolation=str(interpolation),
    )
    return Brought(network, mean, std, usage)


def _weights(vision: ModuleType, parts: Spec) -> Any:
    """The entry of torchvision's weights that a spec names, or its default.

    Raises:
        UnknownNameError: no such classifier, or no such weights of it.
        ModelError: a classifier without weights, whose normalisation nobody knows.
    """
    name, names = parts.member, vision.list_models(module=vision)  # no detectors, segmenters, quantized models
    if name not in names:
        raise unknown(parts, names, "torchvision.models.list_models(module=torchvision.models) lists them.")
    kinds = vision.get_model_weights(name)
    if not len(kinds):
        raise ModelError(
            f"torchvision has no weights of {name}, and so no normalisation. Bring it as FILE.py:FACTORY@WEIGHTS with "
            "--mean and --std."
        )
    if not parts.variant:
        return kinds.DEFAULT
    if parts.variant not in kinds.__members__:
        raise UnknownNameError.among("weights", parts.variant, kinds.__members__)
    return kinds[parts.variant]


def _options(name: str, state: Iterable[str]) -> dict[str, bool]:
    """How torchvision builds a model for its pretrained weights, where that is not how it builds it without."""
    if name not in _TRANSFORMING:
        return {}
    training = any(_TRANSFORMING[name] in key for key in state)
    return {"transform_input": True, "init_weights": False, "aux_logits": training}
