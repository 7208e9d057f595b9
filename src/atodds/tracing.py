"""What a module's forward does, as a graph, without a trace left in the module or in the process."""

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
    return bool(module._forward_hooks or module._forward_pre_hooks) or "forward" in vars(module)
