"""The networks of this package: one row each, and how any of them is built.

To add one: a file with the module, a row in `NETWORKS`, a row in `docs/models.md` and one in the contract tests.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from atodds import noise
from atodds.errors import ArgumentError, UnknownNameError
from atodds.models.dense import DenseNet
from atodds.models.mobile import MobileNet
from atodds.models.plain import FourLayers, Linear, Perceptron, SevenLayers, Shape, TwentyLayers
from atodds.models.residual import ResNet
from atodds.models.vgg import LAYERS, VGG
from atodds.models.wide import WideResNet

LARGEST = 65536
"""No setting, side of an image, or number of classes is larger; what asks for more is a typing error or worse."""
LARGEST_IMAGE = 2**28
"""Values of one image, 1 GiB of float32."""


@dataclass(frozen=True)
class Network:
    """One network that this package can build.

    Args:
        name: what it is called in commands, specs and cards.
        family: the networks that it is grouped with: "perceptron", "cnn", "vgg", "resnet", "wide", "densenet" or
            "mobilenet".
        summary: one line about it.
        make: (shape, classes, **settings) -> module, on whichever device is current.
        defaults: shape -> every setting that the network has, with its value for such images.
        smallest: the fewest rows and columns that an image may have.
    """

    name: str
    family: str
    summary: str
    make: Callable[..., nn.Module]
    defaults: Callable[[Shape], Mapping[str, int]]
    smallest: int = 1


def _seven(shape: Shape) -> Mapping[str, int]:
    return {"width": 32, "features": 200} if shape[0] == 1 else {"width": 64, "features": 256}


def _fixed(**settings: int) -> Callable[[Shape], Mapping[str, int]]:
    return lambda _: settings


def _perceptron(name: str, depth: int) -> Network:
    summary = f"perceptron with {depth} hidden layer{'s' if depth > 1 else ''}"
    return Network(name, "perceptron", summary, partial(Perceptron, depth=depth), _fixed(width=1024))


def _vgg(depth: int) -> Network:
    make = partial(VGG, layers=LAYERS[depth])
    return Network(f"vgg{depth}", "vgg", f"VGG-{depth} with batch norm", make, _fixed(width=64))


def _residual(depth: int) -> Network:
    summary = f"residual network of {depth} layers"
    return Network(f"resnet{depth}", "resnet", summary, partial(ResNet, depth=depth), _fixed(width=16), 4)


def _wide(depth: int, factor: int) -> Network:
    make = partial(WideResNet, depth=depth, factor=factor)
    summary = f"residual network of {depth} layers, {factor} times as wide"
    return Network(f"wrn{depth}-{factor}", "wide", summary, make, _fixed(width=16))


def _dense(depth: int) -> Network:
    make, settings = partial(DenseNet, depth=depth), _fixed(width=24, growth=12)
    return Network(f"densenet{depth}", "densenet", f"densely connected network of {depth} layers", make, settings, 4)


NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network("linear", "perceptron", "one linear layer", Linear, _fixed()),
        *(_perceptron(name, depth) for name, depth in (("mlp", 1), ("mlp2", 2), ("mlp3", 3))),
        Network("cnn4", "cnn", "two convolutions and two linear layers", FourLayers, _fixed(width=16, features=64), 2),
        Network("cnn7", "cnn", "four convolutions, three linear layers (Carlini & Wagner)", SevenLayers, _seven, 16),
        Network(
            "cnn20", "cnn", "18 convolutions and two linear layers", TwentyLayers, _fixed(width=32, features=512), 32
        ),
        *(_vgg(depth) for depth in LAYERS),
        *(_residual(depth) for depth in (8, 14, 20, 32, 44, 56, 110)),
        *(_wide(depth, factor) for depth, factor in ((10, 2), (10, 4), (16, 2), (16, 4), (28, 10))),
        *(_dense(depth) for depth in (10, 16, 22, 40)),
        Network(
            "mobilenet",
            "mobilenet",
            "depthwise separable convolutions",
            MobileNet,
            _fixed(width=32, repeats=5, stride=1),
        ),
    )
}


def build(
    name: str, shape: Shape, classes: int, *, seed: int = 0, settings: Mapping[str, int] | None = None
) -> nn.Module:
    """A network with fresh weights, in training mode, on the CPU.

    Weights are drawn from the seed and their own names alone, so the same call gives the same weights; convolutions
    and linear layers follow He et al., "Delving deep into rectifiers" (ICCV 2015), eq. 10; biases are 0.

    Args:
        name: one of `NETWORKS`.
        shape: (C, H, W) of an image.
        classes: number of logits, at least 2.
        seed: any integer.
        settings: what should differ from the network's defaults, such as {"width": 8}.

    Raises:
        UnknownNameError: no such network or setting.
        ArgumentError: images too small for the network, or another argument out of its range.
    """
    module = skeleton(name, shape, classes, settings=settings).to_empty(device="cpu")
    initialise(module, seed)
    return module


def skeleton(name: str, shape: Shape, classes: int, *, settings: Mapping[str, int] | None = None) -> nn.Module:
    """The network on the meta device: all its shapes, no memory. Arguments and errors as for `build`."""
    network = _network(name)
    shape = _checked_shape(network, shape)
    _check("classes", classes, 2, "A classifier tells at least 2 classes apart.")
    with torch.device("meta"):
        return network.make(shape, classes, **complete(name, shape, settings))


def complete(name: str, shape: Shape, settings: Mapping[str, int] | None = None) -> dict[str, int]:
    """Every setting of a network for such images: its defaults, and over them those given.

    Raises:
        UnknownNameError: no such network or setting.
        ArgumentError: a setting that is no positive integer.
    """
    given = dict(settings or {})
    full = dict(_network(name).defaults(shape))
    for key, value in given.items():
        if key not in full:
            raise UnknownNameError.among("settings", key, full)
        _check(f"settings[{key!r}]", value, 1, "Give a positive integer.")
    return full | given


def initialise(module: nn.Module, seed: int) -> None:
    """Draw all weights of a module anew, in place, as a function of the seed and of each parameter's name.

    Raises:
        ArgumentError: a kind of layer that has weights and is not known here.
    """
    for path, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            _he_normal(layer.weight, seed, f"{path}.weight")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)):
            layer.reset_parameters()
        elif [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            way_out = "Teach initialise() in models/networks.py how its weights begin."
            raise ArgumentError("module", type(layer).__name__, "a layer whose first weights are not known", way_out)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters; a batch norm's scale and shift count, its running statistics do not."""
    return sum(parameter.numel() for parameter in model.parameters())


def _he_normal(weight: Tensor, seed: int, name: str) -> None:
    deviation = math.sqrt(2 / weight[0].numel())
    with torch.no_grad():
        weight.copy_(noise.normal(torch.arange(len(weight)), weight.shape[1:], seed=seed, stream=name) * deviation)


def _network(name: str) -> Network:
    if name not in NETWORKS:
        raise UnknownNameError.among("network", name, NETWORKS)
    return NETWORKS[name]


def _checked_shape(network: Network, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ArgumentError("shape", shape, "not the shape of an image", "Give (channels, height, width).")
    channels, height, width = shape
    for part in shape:
        _check("shape", part, 1, "Give (channels, height, width), all positive.", whole=shape)
    if channels * height * width > LARGEST_IMAGE:
        raise ArgumentError("shape", shape, f"more than {LARGEST_IMAGE} values", "Give (channels, height, width).")
    side = min(height, width)
    if side < network.smallest:
        fits = [other.name for other in NETWORKS.values() if other.smallest <= side]
        problem = f"{network.name} needs images of at least {network.smallest}x{network.smallest} pixels"
        raise ArgumentError("shape", shape, problem, f"Take larger images, or one of {', '.join(fits)}.")
    return channels, height, width


def _check(argument: str, value: int, least: int, way_out: str, whole: object = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentError(argument, value if whole is None else whole, "not an integer", way_out)
    if not least <= value <= LARGEST:
        problem = f"not from {least} to {LARGEST}"
        raise ArgumentError(argument, value if whole is None else whole, problem, way_out)
