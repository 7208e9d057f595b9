"""Models of timm: `timm:NAME`, with the weights of its tag, or `timm:NAME@FILE`.

Normalisation and image size are those of the weights' configuration (`pretrained_cfg`), read by timm's own
`resolve_model_data_config`.
"""

from types import ModuleType
from typing import Any

from torch import nn

from atodds.errors import ModelError, UnknownNameError
from atodds.models.adapters.common import Brought, calling, library, state_of, unknown, with_weights
from atodds.models.spec import Spec
from atodds.models.usage import Usage


def bring(parts: Spec, trust_pickle: bool) -> Brought:
    """The model that a spec names.

    Raises:
        MissingExtraError: timm is not installed.
        UnknownNameError: it knows no such model or weights; a file that is not there.
        WeightsDownloadError: its weights cannot be fetched.
        ModelError: no pretrained weights, no classifier, or weights that do not fit.
    """
    timm, data = library("timm"), library("timm.data")
    name = parts.member
    config = _config(timm, parts)
    by_hand = (
        f"Fetch model.safetensors of the repository {getattr(config, 'hf_hub_id', None) or f'timm/{name}'} on the "
        f"Hugging Face hub elsewhere, and write timm:{name}@FILE."
    )
    if parts.weights is None:
        if config is not None and not (config.hf_hub_id or config.url or config.file):
            raise ModelError(f"timm has no pretrained weights of {name}. {_tags(timm, name)}, or timm:{name}@FILE.")
        if config is not None and config.num_classes < 2:
            raise ModelError(f"timm's {name} gives features, no classes. {_tags(timm, name)}.")
        with calling(parts.text, by_hand):
            network = timm.create_model(name, pretrained=True)
        outputs, weights = network.num_classes, f"{name} of timm"
    else:

        def make(classes: int) -> nn.Module:
            with calling(parts.text, by_hand):
                made: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
            return made

        known = config.num_classes if config is not None and config.num_classes > 0 else 1000
        state = state_of(parts.weights, trust_pickle=trust_pickle)
        network, outputs = with_weights(make, known, state, parts.weights)
        weights = str(parts.weights)
    with calling(parts.text, by_hand):
        told: dict[str, Any] = data.resolve_model_data_config(network)
        channels, height, width = told["input_size"]
        usage = Usage(
            library=f"timm {timm.__version__}",
            weights=weights,
            shape=(channels, height, width),
            outputs=outputs,
            classes=_classes(data, network, outputs) if parts.weights is None else (),
            crop=told["crop_pct"],
            interpolation=str(told["interpolation"]),
        )
    return Brought(network, told["mean"], told["std"], usage)


def _config(timm: ModuleType, parts: Spec) -> Any:
    """What timm tells about a model's weights; None for an old name that it maps to a new one.

    Raises:
        UnknownNameError: no such model, or no such weights of it.
    """
    architecture = parts.member.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown(parts, timm.list_models(), "timm.list_models() lists them.")
    try:
        return timm.get_pretrained_cfg(parts.member)
    except RuntimeError as error:
        raise UnknownNameError.among("timm", parts.member, timm.list_pretrained(f"{architecture}.*")) from error


def _tags(timm: ModuleType, name: str) -> str:
    """Which weights of the same architecture there are, in words."""
    tagged = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    return f"Take one of {', '.join(f'timm:{each}' for each in tagged)}" if tagged else "Take another model"


def _classes(data: ModuleType, network: nn.Module, outputs: int) -> tuple[str, ...]:
    """Class names, from the weights' configuration or the part of ImageNet that they tell apart."""
    config: Any = network.pretrained_cfg
    names = config.get("label_names")
    if not names:
        subset = data.infer_imagenet_subset(network)
        names = data.ImageNetInfo(subset).label_descriptions() if subset else ()
    return tuple(map(str, names)) if len(names) == outputs else ()
