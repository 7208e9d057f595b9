"""What a module's forward does, as a graph, without a trace left in the module or in the process; and whether it may
still do the same."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torch import Tensor, fx, nn


@contextmanager
def trace(model: nn.Module) -> Iterator[fx.GraphModule]:
    """The graph of a model in eval mode, made of a copy that shares its parameters; to be tried out while it lasts.

    Raises:
        ValueError: the model does something else than its classes say, or a pass writes into what it holds.
        Exception: whatever the model's own code raises.
    """
    if any(_altered(module) for module in model.modules()):
        raise ValueError("modules with hooks, or with a forward of their own")
    known = _tensors(model)
    held = list(known.values())
    versions = [tensor._version for tensor in held]
    yield _Tracer().graph_of(copy.deepcopy(model, known))
    if versions != [tensor._version for tensor in held]:
        raise ValueError("a pass writes into what the model holds")


class _Tracer(fx.Tracer):
    """Records what a module's forward does. `fx.symbolic_trace` replaces the call of all modules of the process while
    it works, other threads' too; here the leaves of a copy that nobody else has stand for themselves."""

    def graph_of(self, model: nn.Module) -> fx.GraphModule:
        """The graph of a module of our own."""
        self.root, self.root_module_name, self.graph = model, type(model).__name__, fx.Graph(tracer_cls=type(self))
        self.tensor_attrs: dict[Any, str] = {}
        self.submodule_paths = None
        for name, module in model.named_modules():
            if name and self.is_leaf_module(module, name):
                module.forward = self._stand_in(name)
        try:
            image = self.create_proxy("placeholder", "images", (), {})
            output = type(model).forward(model, image)
        finally:
            for module in model.modules():
                vars(module).pop("forward", None)
        self.create_node("output", "output", (self.create_arg(output),), {})
        return fx.GraphModule(model, self.graph)

    def _stand_in(self, name: str) -> Callable[..., fx.Proxy]:
        return lambda *given, **named: self.create_proxy("call_module", name, given, named)


def _tensors(model: nn.Module) -> dict[int, Any]:
    """What stands in a copy for the tensors that a model holds, by their identity: parameters for themselves, copies
    for all others, which a pass may write into."""
    plain = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    copies = {id(tensor): tensor.detach().clone() for tensor in chain(model.buffers(), plain)}
    return copies | {id(parameter): parameter for parameter in model.parameters()}


def _altered(module: nn.Module) -> bool:
    """Whether something else happens to what passes through a module than its class says."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or "forward" in vars(module)


class Contents:
    """What a model is made of now: its modules, and the tensors that they hold, in the state that they are in. Writes
    through `.data` leave no trace that could be seen here."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(module, type(module), _altered(module)) for module in model.modules()]
        held = chain(model.parameters(), model.buffers())
        # the aliases keep memory from being used again for others, at the same address
        self._tensors = [(tensor, _address(tensor), _version(tensor), tensor.detach()) for tensor in held]

    def same(self, other: "Contents") -> bool:
        """Whether these are the same modules, and tensors in the same state."""
        if (len(self._modules), len(self._tensors)) != (len(other._modules), len(other._tensors)):
            return False
        modules = zip(self._modules, other._modules, strict=True)
        tensors = zip(self._tensors, other._tensors, strict=True)
        return all(a[0] is b[0] and a[1:] == b[1:] for a, b in modules) and all(
            a[0] is b[0] and a[1:3] == b[1:3] for a, b in tensors
        )


def _address(tensor: Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # sparse ones have no single one
        return 0


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
