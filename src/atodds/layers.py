"""A model taken apart into layers whose values depend on a few neighbours each, and the rest of it.

A convolution's value at a place is made of few values around that place, a pooled one too, and a rectifier's of one.
As long as a model is made of such layers, a change in a part of an image reaches a part of each of their maps. The
model's graph is traced (torch.fx) on a copy that shares its parameters; where a model cannot be traced, or its first
layers are of another kind, there is nothing to take apart.
"""

import inspect
import logging
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from atodds.folding import fold_norms
from atodds.tracing import trace

log = logging.getLogger("atodds")

Pair = tuple[int, int]
Patches = Callable[[Sequence[Tensor]], Tensor]
"""Patches (N, C, h, w) of a layer's inputs, borders included -> the patch of its output."""


@dataclass(frozen=True)
class Reach:
    """Which values of its input a layer's value is made of, down and across: `kernel` of them, `dilation` apart, the
    first at `stride` times its place less `padding`."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def extent(self, axis: int) -> int:
        """From the first to the last of them."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def reached(self, changed: int, axis: int) -> int:
        """At most so many values of the output are reached by so many changed ones of the input."""
        return (changed + self.extent(axis) - 2) // self.stride[axis] + 1

    def needed(self, made: int, axis: int) -> int:
        """So many values of the input make so many of the output."""
        return (made - 1) * self.stride[axis] + self.extent(axis)

    def output(self, size: int, axis: int) -> int:
        """The size of the output."""
        return (size + 2 * self.padding[axis] - self.extent(axis)) // self.stride[axis] + 1


@dataclass
class Layer:
    """One that can be computed in part, with the pointwise functions after it.

    Attributes:
        nodes: of the graph, the last of which holds its map.
        sources: layers whose maps it takes; the first layer is the image itself, and takes none.
        reach: of its values; a sum of several maps takes one value of each.
        head: the layer; pads nothing.
        tail: what is done to each value after it.
        shape: (C, H, W) of its map.
        work: multiplications for each place of the map.
    """

    nodes: list[fx.Node]
    sources: tuple[int, ...]
    reach: Reach
    head: Patches
    tail: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    shape: tuple[int, int, int] = (0, 0, 0)
    work: float = 0.0

    def patch(self, patches: Sequence[Tensor]) -> Tensor:
        """The patch of its map that the patches of its inputs make."""
        made = self.head(patches)
        for function in self.tail:
            made = function(made)
        return made


class Layers:
    """The layers of a model that can be computed in part, in order, and the graphs to compute the whole and the rest.

    Args:
        traced: the model.
        layers: what was found in it.
    """

    def __init__(self, traced: fx.GraphModule, layers: list[Layer]) -> None:
        self.layers = layers
        self._traced = traced
        self._of = {node: place for place, layer in enumerate(layers) for node in layer.nodes}
        self._whole = dict[tuple[int, ...], fx.GraphModule]()
        self._rests = dict[tuple[int, ...], tuple[tuple[int, ...], fx.GraphModule]]()

    def maps(self, images: Tensor, places: tuple[int, ...]) -> list[Tensor]:
        """The maps (N, C, H, W) of some layers, computed whole; no other is kept."""
        if places not in self._whole:
            graph = fx.Graph()
            copied: dict[fx.Node, fx.Node] = {}
            for node in self._traced.graph.nodes:
                if node.op == "output":
                    graph.output([copied[self.layers[place].nodes[-1]] for place in places])
                else:
                    copied[node] = graph.node_copy(node, copied.__getitem__)
            whole = fx.GraphModule(self._traced, graph)
            whole.graph.eliminate_dead_code()
            whole.recompile()
            self._whole[places] = whole
        return list(self._whole[places](images.clone()))

    def rest(self, local: tuple[int, ...]) -> tuple[tuple[int, ...], Callable[..., Any]]:
        """What comes after these layers: those of them whose maps it takes, and the function of these maps."""
        if local not in self._rests:
            graph = fx.Graph()
            copied: dict[fx.Node, fx.Node] = {}
            taken = []
            for node in self._traced.graph.nodes:
                place = self._of.get(node)
                if place is None or place not in local:
                    copied[node] = graph.node_copy(node, copied.__getitem__)
                elif node is self.layers[place].nodes[-1] and any(
                    self._of.get(user) not in local for user in node.users
                ):
                    copied[node] = graph.placeholder(f"map_{place}")
                    taken.append(place)
            self._rests[local] = tuple(taken), fx.GraphModule(self._traced, graph)
        return self._rests[local]


def take_apart(model: nn.Module, images: Tensor) -> Layers | None:
    """The layers of a model that can be computed in part, or None where it has none that we know of.

    Args:
        model: in eval mode; read only.
        images: (N, C, H, W), to see the shapes of the maps; one is enough.
    """
    try:
        with trace(model) as graph:
            fold_norms(graph, images)
            graph.recompile()
            layers = _found(graph)
            if len(layers) < 2:
                return None
            apart = Layers(graph, layers)
            _measure(layers, apart.maps(images[:1], tuple(range(len(layers)))))
    except Exception as error:  # noqa: BLE001 - tracing runs the model's own code, which may raise anything
        log.debug("The model's layers cannot be told apart: %s", error)
        return None
    return apart


def _measure(layers: Iterable[Layer], maps: Sequence[Tensor]) -> None:
    """The shapes of the maps.

    Raises:
        ValueError: a map is not what its layer says.
    """
    known: list[tuple[int, int, int]] = []
    for layer, made in zip(layers, maps, strict=True):
        if made.ndim != 4:
            raise ValueError(f"a map of shape {tuple(made.shape)}")
        layer.shape = (made.shape[1], made.shape[2], made.shape[3])
        for source in layer.sources:
            expected = tuple(layer.reach.output(known[source][1 + axis], axis) for axis in (0, 1))
            if expected != layer.shape[1:]:
                raise ValueError(f"a map of {layer.shape[1:]} where {expected} was expected")
        known.append(layer.shape)


def _found(traced: fx.GraphModule) -> list[Layer]:
    """The layers that depend on the image alone, and on a few neighbours each."""
    layers: list[Layer] = []
    of: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        if _writes(traced, node):
            raise ValueError(f"{node.name} writes into what others may read")
        if node.op == "placeholder":
            if layers:
                raise ValueError("a second input")
            layers.append(Layer([node], (), Reach(), operator.itemgetter(0)))
            of[node] = 0
            continue
        inputs = [source for source in node.all_input_nodes if source in of]
        others = [source for source in node.all_input_nodes if source not in of]
        if not inputs or any(source.op != "get_attr" for source in others):
            continue
        pointwise = _pointwise(traced, node, inputs)
        last = layers[of[inputs[0]]]
        if pointwise and len(inputs) == 1 and len(inputs[0].users) == 1:
            last.nodes.append(node)
            last.tail.append(_alone(pointwise))
            of[node] = of[inputs[0]]
            continue
        head, reach, work = (pointwise, Reach(), 0.0) if pointwise else _spatial(traced, node)
        if head is not None:
            of[node] = len(layers)
            layers.append(Layer([node], tuple(of[source] for source in inputs), reach, head, work=work))
    return layers


def _writes(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node changes its input in place, unless that is new memory which nobody else reads."""
    if node.op == "call_module":
        in_place = bool(getattr(traced.get_submodule(str(node.target)), "inplace", False))
    elif node.op in ("call_method", "call_function"):
        name = str(getattr(node.target, "__name__", node.target))
        in_place = (name.endswith("_") and not name.endswith("__")) or node.target in _IN_PLACE or _asks_for_it(node)
    else:
        return False
    first = node.all_input_nodes[0] if node.all_input_nodes else None
    return in_place and (first is None or len(first.users) > 1 or not _fresh(traced, first))


_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)


def _asks_for_it(node: fx.Node) -> bool:
    """Whether a function has an argument `inplace`, and it is true."""
    if not callable(node.target):
        return False
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):  # torch's own functions have no signature, and other names for those that write
        return False
    return bool(given.arguments.get("inplace"))


def _fresh(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node's output is memory of its own, or what an allowed node wrote into."""
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return type(module) in _FRESH_MODULES or (
            type(module) in _POINTWISE_MODULES and type(module) not in _SAME_MODULES
        )
    if node.op == "call_function":
        return node.target in _POINTWISE_FUNCTIONS or node.target in (functional.conv2d, functional.linear)
    return node.op == "call_method" and node.target in _POINTWISE_METHODS


def _alone(function: Patches) -> Callable[[Tensor], Tensor]:
    return lambda patch: function([patch])


_POINTWISE_MODULES = {
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh,
    nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout2d, nn.BatchNorm2d,
}  # fmt: skip
_SAME_MODULES = {nn.Identity, nn.Dropout, nn.Dropout2d}
"""They return what they are given."""
_FRESH_MODULES = {nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm}
_POINTWISE_FUNCTIONS: set[Any] = {
    torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.clamp, torch.add, torch.sub, torch.mul, torch.div,
    functional.relu, functional.relu_, functional.relu6, functional.leaky_relu, functional.elu, functional.gelu,
    functional.silu, functional.mish, functional.hardtanh, functional.softplus, functional.hardswish,
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg,
    operator.iadd, operator.isub, operator.imul, operator.itruediv,
}  # fmt: skip
_POINTWISE_METHODS = {
    "relu", "relu_", "sigmoid", "tanh", "clamp", "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_",
}  # fmt: skip


def _pointwise(traced: fx.GraphModule, node: fx.Node, inputs: Sequence[fx.Node]) -> Patches | None:
    """The node as a function of its inputs' patches, where each of its values depends on those at its place alone."""
    function: Callable[..., Tensor]
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        if type(module) not in _POINTWISE_MODULES or (
            isinstance(module, nn.BatchNorm2d) and module.running_mean is None
        ):
            return None
        function = module
    elif node.op == "call_function" and (node.target in _POINTWISE_FUNCTIONS or _pads_channels(node)):
        function = node.target  # type: ignore[assignment]
    elif node.op == "call_method" and node.target in _POINTWISE_METHODS:
        function = getattr(Tensor, str(node.target))
    else:
        return None
    constants: dict[fx.Node, Any] = {}
    for source in node.all_input_nodes:
        if source not in inputs:
            constants[source] = operator.attrgetter(str(source.target))(traced)
            if not _same_everywhere(constants[source]):
                return None

    def call(patches: Sequence[Tensor]) -> Tensor:
        given = constants | dict(zip(inputs, patches, strict=True))
        arguments = fx.map_arg(node.args, given.__getitem__)
        return function(*arguments, **fx.map_arg(node.kwargs, given.__getitem__))

    return call


def _same_everywhere(constant: object) -> bool:
    """Whether a constant that is combined with a map is the same at all its places: one value, or one a channel."""
    if not isinstance(constant, Tensor):
        return False
    return constant.numel() == 1 or (constant.ndim in (3, 4) and constant.shape[-2:] == (1, 1))


def _pads_channels(node: fx.Node) -> bool:
    """Whether a node adds channels and nothing else."""
    if node.target is not functional.pad or len(node.args) < 2 or not isinstance(node.args[1], (tuple, list)):
        return False
    return tuple(node.args[1][:4]) == (0, 0, 0, 0) and len(node.args[1]) == 6


def _spatial(traced: fx.GraphModule, node: fx.Node) -> tuple[Patches | None, Reach, float]:
    """The node as a function of its input's patch, with the reach of its values and their work; None if it is not."""
    nothing = (None, Reach(), 0.0)
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        if type(module) is nn.Conv2d:
            return _convolution(module)
        if type(module) is nn.MaxPool2d and not module.return_indices:
            settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
            return _pool(functional.max_pool2d, *settings)
        if type(module) is nn.AvgPool2d and module.divisor_override is None:
            return _pool(functional.avg_pool2d, module.kernel_size, module.stride, module.padding, 1, module.ceil_mode)
        return nothing
    if node.op == "call_function" and node.target in (functional.max_pool2d, functional.avg_pool2d):
        names = ("kernel_size", "stride", "padding")
        given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        if len(node.args) > 1 + len(names) or not set(given) <= set(names) | {
            "ceil_mode",
            "dilation",
            "return_indices",
        }:
            return nothing
        if given.get("return_indices") or given.get("dilation", 1) != 1:
            return nothing
        kernel = given["kernel_size"]
        stride = given.get("stride") or kernel
        return _pool(node.target, kernel, stride, given.get("padding", 0), 1, given.get("ceil_mode", False))
    if node.op == "call_function" and node.target is operator.getitem:
        return _every_other(node.args[1])
    return nothing


def _convolution(module: nn.Conv2d) -> tuple[Patches | None, Reach, float]:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None, Reach(), 0.0
    stride, dilation, groups = _pair(module.stride), _pair(module.dilation), module.groups
    reach = Reach(_pair(module.kernel_size), stride, _pair(module.padding), dilation)

    def head(patches: Sequence[Tensor]) -> Tensor:
        return functional.conv2d(patches[0], module.weight, module.bias, stride, 0, dilation, groups)

    return head, reach, float(module.weight.numel())


def _pool(
    function: Callable[..., Tensor], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[Patches | None, Reach, float]:
    """Padding is refused: at the border, a pool knows that there is nothing, which zeros do not say."""
    if ceil_mode or _pair(padding) != (0, 0) or _pair(dilation) != (1, 1):
        return None, Reach(), 0.0
    size, step = _pair(kernel), _pair(kernel if stride is None else stride)
    return lambda patches: function(patches[0], size, step), Reach(size, step), 0.0


def _every_other(index: Any) -> tuple[Patches | None, Reach, float]:
    """x[:, :, ::a, ::b]."""
    every = (slice(None), slice(None))
    if not isinstance(index, tuple) or len(index) != 4 or index[:2] != every:
        return None, Reach(), 0.0
    steps = [part.step or 1 for part in index[2:] if isinstance(part, slice) and part.start is part.stop is None]
    if len(steps) != 2 or not all(isinstance(step, int) and step > 0 for step in steps):
        return None, Reach(), 0.0
    down, across = steps
    return lambda patches: patches[0][:, :, ::down, ::across], Reach(stride=(down, across)), 0.0


def _pair(value: Any) -> Pair:
    if isinstance(value, (tuple, list)):
        first, second = value if len(value) == 2 else value * 2
        return int(first), int(second)
    return int(value), int(value)
