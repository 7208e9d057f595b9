"""A model with what never changes worked out once: a form of it that answers the same but for rounding, and sooner.

Batch norms in eval mode are one factor and one summand a channel, and so is the normalisation of images: both go into
the weights of the layer beside them (Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", CVPR 2018, section 3.2). Rectifiers and sums write into maps that nobody else reads.
And the gradient of the first convolution in the images, whose few channels the kernels of CPUs are not made for, is a
matrix product whose parts are added up where windows overlap.
"""

import copy
import logging
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.function import once_differentiable
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from atodds.tracing import trace

log = logging.getLogger("atodds")

_LARGE = 2.0
"""A summand for each place of a convolution's map pays where that has at most so many times the values of an image."""
_FEW, _OVERLAP = 4, 9
"""Channels of images, and windows of a convolution that a pixel lies in, at most, for its gradient to be a product."""
_WIDE = torch.float64


def fold(model: nn.Module, images: Tensor) -> fx.GraphModule | None:
    """A model's folded form for images of one shape; None where there is nothing to fold, or nothing known of it.

    Args:
        model: in eval mode; read only. Its form shares the weights that are the same.
        images: (N, C, H, W) in [0, 1], of the model's type and on its device; one is enough.
    """
    try:
        with trace(model) as traced, torch.no_grad():
            done = [fold_norms(traced, images), _fold_normalisations(traced, images), _write_in_place(traced)]
            if images.device.type == "cpu":
                done.append(_multiply(traced))
            traced.recompile()
    except Exception as error:  # noqa: BLE001 - tracing runs the model's own code, which may raise anything
        log.debug("The model cannot be folded: %s", error)
        return None
    return traced if any(done) else None


def fold_norms(traced: fx.GraphModule, images: Tensor) -> bool:
    """Batch norms of a traced model, into the layers before them. Whether there were any.

    Args:
        traced: altered; to be recompiled.
        images: as for `fold`.
    """
    done = False
    ShapeProp(traced).propagate(images[:1].repeat(2, 1, 1, 1))  # two, so that what is the same for all is told apart
    for node in list(traced.graph.nodes):
        norm, before = _module(traced, node, nn.BatchNorm2d, nn.BatchNorm1d), _only(node)
        layer = None if before is None else _module(traced, before, nn.Conv2d, nn.Linear)
        if norm is None or norm.running_mean is None or before is None or layer is None or len(before.users) > 1:
            continue
        if isinstance(layer, nn.Linear) and len(_shape(node)) != 2:
            continue  # the norm's channels are not the layer's
        fuse: Any = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
        factor = torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight
        summand = torch.zeros_like(norm.running_mean) if norm.bias is None else norm.bias
        statistics = norm.running_mean.to(_WIDE), norm.running_var.to(_WIDE), norm.eps
        wide = _with(layer, layer.weight, layer.bias, _WIDE)
        weight, bias = fuse(wide.weight, wide.bias, *statistics, factor.to(_WIDE), summand.to(_WIDE))
        _exchange(traced, before, _with(layer, weight, bias, layer.weight.dtype))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        done = True
    return done


def _fold_normalisations(traced: fx.GraphModule, given: Tensor) -> bool:
    """What is done to the channels of images before convolutions, into these. Whether anything was."""
    (images,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    folded = [_fold_normalisation(traced, images, user, given) for user in list(images.users)]
    return any(folded)


def _fold_normalisation(traced: fx.GraphModule, images: fx.Node, node: fx.Node, given: Tensor) -> bool:
    last, chain = images, list[fx.Node]()
    values = [given.new_full((1, given.shape[1], 1, 1), at, dtype=_WIDE) for at in (0.0, 0.5, 1.0)]
    while (made := _of_channels(traced, node, last, values)) is not None:
        chain.append(node)
        last, values = node, made
        if len(node.users) != 1:
            return False
        (node,) = node.users
    layer = _module(traced, node, nn.Conv2d)
    shift, half, factor = values[0], values[1], values[2] - values[0]
    affine = torch.allclose(half, shift + factor / 2, rtol=1e-9, atol=1e-12) and bool((factor.abs() > 0).all())
    if not chain or layer is None or _only(node) is not last or not affine:
        return False
    dtype, layer = layer.weight.dtype, _with(layer, layer.weight, layer.bias, _WIDE)
    weight = layer.weight.unflatten(0, (layer.groups, -1)) * factor.view(layer.groups, 1, -1, 1, 1)
    weight, shift = weight.flatten(0, 1), shift.expand(1, -1, *given.shape[2:])
    summand = layer(shift)  # differs at borders, where zeros are added
    bias = summand[0, :, 0, 0]
    even = torch.allclose(summand, bias[:, None, None].expand_as(summand), rtol=1e-9, atol=1e-12)
    if even or summand.numel() <= _LARGE * shift.numel():
        node.args = (images,)
        _exchange(traced, node, _with(layer, weight, bias if even else None, dtype))
        if not even:
            _follow(traced, node, summand.to(dtype))
    else:
        _exchange(traced, node, _with(layer, weight, layer.bias, dtype))
        constants = _constants(traced, node, (shift / factor).to(dtype))
        with traced.graph.inserting_before(node):
            node.args = (traced.graph.call_function(_moved, (images, *constants)),)
    for gone in reversed(chain):
        traced.graph.erase_node(gone)
    return True


def _of_channels(
    traced: fx.GraphModule, node: fx.Node, before: fx.Node, values: Sequence[Tensor]
) -> list[Tensor] | None:
    """What a node makes of values (1, C, 1, 1); None where it is nothing that is done to each channel alone."""
    if node.kwargs or node.target not in _ARITHMETIC:
        return None
    known: dict[fx.Node, Any] = {}
    for source in node.all_input_nodes:
        if source is not before:
            if source.op != "get_attr":
                return None
            known[source] = operator.attrgetter(str(source.target))(traced).to(_WIDE)
    function: Any = getattr(Tensor, str(node.target)) if node.op == "call_method" else node.target
    made = [function(*fx.map_arg(node.args, {**known, before: value}.__getitem__)) for value in values]
    return made if all(value.shape == values[0].shape for value in made) else None


_ARITHMETIC: set[Any] = {
    operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.sub, torch.mul, torch.div,
    "add", "sub", "mul", "div",
}  # fmt: skip


def _write_in_place(traced: fx.GraphModule) -> bool:
    """Rectifiers and sums, into maps that nobody else reads. Whether there were any."""
    done = False
    for node in traced.graph.nodes:
        before = node.args[0] if node.args else None
        if _module(traced, node, nn.ReLU) is not None or node.target in _RECTIFIERS:
            if _ours(traced, before, {*_SUMS, _plus, _sum}):
                node.op, node.target, node.args, node.kwargs = "call_function", functional.relu_, (before,), {}
                done = True
        elif node.target in _SUMS and len(node.args) == 2 and not node.kwargs and node.args[0] is not node.args[1]:
            first, second = node.args
            if not _ours(traced, first, {_plus}):
                first, second = second, first
            if _ours(traced, first, {_plus}) and isinstance(second, fx.Node) and _shape(first) == _shape(node):
                node.op, node.target, node.args = "call_function", _sum, (first, second)
                done = True
    return done


_RECTIFIERS: set[Any] = {torch.relu, functional.relu, "relu"}
_SUMS: set[Any] = {operator.add, torch.add, "add"}


def _sum(first: Tensor, second: Tensor) -> Tensor:
    """In place."""
    return first.add_(second)


def _plus(maps: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """A summand for each place, that with its channels first or last in memory, as the maps have theirs. In place."""
    return maps.add_(_like(maps, first, last))


def _moved(images: Tensor, first: Tensor, last: Tensor) -> Tensor:
    return images + _like(images, first, last)


def _like(maps: Tensor, first: Tensor, last: Tensor) -> Tensor:
    return first if maps.is_contiguous() else last


def _ours(traced: fx.GraphModule, node: Any, functions: set[Any]) -> bool:
    """Whether a node's output is new memory that one other node reads, and no backward pass: that of a layer, or of
    some functions."""
    if not isinstance(node, fx.Node) or len(node.users) != 1:
        return False
    return _module(traced, node, nn.Conv2d, nn.Linear, nn.BatchNorm2d) is not None or node.target in functions


def _multiply(traced: fx.GraphModule) -> bool:
    """The gradients of convolutions in the images, by products. Whether there were any."""
    done = False
    for node in traced.graph.nodes:
        layer, before = _module(traced, node, nn.Conv2d), _only(node)
        if layer is None or before is None or not (before.op == "placeholder" or before.target is _moved):
            continue
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str) and layer.groups == 1
        overlap = math.prod(layer.kernel_size) / math.prod(layer.stride)
        if plain and layer.in_channels <= _FEW and overlap <= _OVERLAP:
            _exchange(traced, node, _Multiplied(layer))
            done = True
    return done


class _Multiplied(nn.Module):
    """A convolution whose gradient is a product."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and images.requires_grad):
            output: Tensor = self.layer(images)
            return output
        product: Tensor = _Product.apply(images, self.layer)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, layer: nn.Conv2d) -> Tensor:
        ctx.layer, ctx.size = layer, images.shape[2:]
        output: Tensor = layer(images)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        layer, weight = ctx.layer, ctx.layer.weight.flatten(1).T
        if slopes.is_contiguous():
            parts = weight @ slopes.flatten(2)
        else:
            parts = weight @ slopes.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
        settings = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        return functional.fold(parts, ctx.size, *settings), None


def _module(traced: fx.GraphModule, node: fx.Node, *kinds: type[nn.Module]) -> Any:
    """The module that a node calls, where it is of one of these classes; else None."""
    if node.op != "call_module":
        return None
    module = traced.get_submodule(str(node.target))
    return module if type(module) in kinds else None


def _only(node: fx.Node) -> fx.Node | None:
    """The node that a module is called with, where that is all that it is given."""
    if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
        return None
    return node.args[0]


def _shape(node: fx.Node) -> torch.Size:
    shape: torch.Size = node.meta["tensor_meta"].shape
    return shape


def _with(layer: Any, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Any:
    """A layer like this one, with other weights."""
    made = copy.deepcopy(layer)
    made.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    made.bias = None if bias is None else nn.Parameter(bias.to(dtype), requires_grad=False)
    return made


def _exchange(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Let a node call another module."""
    node.target = f"folded_{node.name}"
    traced.add_submodule(node.target, module)


def _follow(traced: fx.GraphModule, node: fx.Node, summand: Tensor) -> None:
    """Add to a node's output."""
    constants = _constants(traced, node, summand)
    with traced.graph.inserting_after(node):
        total = traced.graph.call_function(_plus, (node, *constants))
    total.meta = dict(node.meta)
    node.replace_all_uses_with(total, lambda user: user is not total)


def _constants(traced: fx.GraphModule, node: fx.Node, value: Tensor) -> list[fx.Node]:
    """A constant (1, C, H, W) in both memory layouts, known before a node."""
    made = []
    for order, layout in (("first", torch.contiguous_format), ("last", torch.channels_last)):
        name = f"folded_{node.name}_{order}"
        traced.register_buffer(name, value.contiguous(memory_format=layout))
        with traced.graph.inserting_before(node):
            made.append(traced.graph.get_attr(name))
    return made
