"""The identity of a model: one hash of all that decides its answers and can be seen from outside."""

import functools
import hashlib
import inspect
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from operator import itemgetter
from pathlib import Path
from types import BuiltinFunctionType, FunctionType

import numpy as np
import torch
from torch import Tensor, nn

from atodds.errors import ModelError
from atodds.models.classifier import Classifier
from atodds.models.weights import LATER

_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
_OURS = Path(__file__).resolve().parents[1]


def fingerprint(model: nn.Module) -> str:
    """64 hex digits that are equal for models with the same answers, on any machine and device.

    Counted are, module by module: its name and class name; its parameters and all its buffers, persistent or not, with
    their types; its public attributes, as far as they are numbers, text, None, functions by name, tensors, arrays, or
    collections of these; and, for classes that are not part of an installed package, the source of their methods and
    their simple attributes. What these methods call beyond their class is not followed, so give a changed helper
    function or global a changed name. Not counted are the mode (training or not), the device, the memory layout,
    `requires_grad`, hooks, attributes that start with "_" or are called "device", and tensors that a forward pass left
    behind with their graph.

    A `Classifier` without normalisation counts as the network inside it, and so do the wrappers of `torch.compile`,
    `DataParallel` and `DistributedDataParallel`.

    Raises:
        ModelError: parameters without values (on the meta device, or of a lazy module that has seen no image).
    """
    return _Walk().digest(model).hex()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """64 hex digits over names, types, shapes and values of tensors, whatever their order."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(_framed(name.encode()))
        whole.update(_tensor_digest(tensors[name], name))
    return whole.hexdigest()


class _Walk:
    """Digests of modules, each a hash over its own content and its children's digests."""

    def __init__(self) -> None:
        self.known: dict[int, bytes] = {}
        self.sources: dict[int, bytes] = {}

    def digest(self, module: nn.Module) -> bytes:
        if id(module) not in self.known:
            self.known[id(module)] = b""  # what a module finds that meets itself among its attributes
            inner = _unwrapped(module)
            self.known[id(module)] = self._own(module) if inner is module else self.digest(inner)
        return self.known[id(module)]

    def _own(self, module: nn.Module) -> bytes:
        whole = hashlib.sha256()
        parts: list[tuple[str, str, bytes]] = [("class", type(module).__name__, self._source_of(type(module)))]
        for kind, held in (("parameter", module._parameters), ("buffer", module._buffers)):
            parts += [(kind, name, _tensor_digest(each, name)) for name, each in held.items() if each is not None]
        if isinstance(module, torch.jit.ScriptModule):
            parts.append(("code", module.original_name, _script(module)))
        elif not isinstance(module, Classifier):
            attributes = ((name, self._value(value)) for name, value in sorted(_attributes(module), key=itemgetter(0)))
            parts += [("attribute", name, content) for name, content in attributes if content]
        # Not named_children(), which leaves out a layer that was there before: relu, linear, relu is not relu, linear.
        parts += [("child", name, self.digest(child)) for name, child in module._modules.items() if child is not None]
        for kind, name, content in parts:
            for piece in (kind.encode(), name.encode(), content):
                whole.update(_framed(piece))
        return whole.digest()

    def _source_of(self, kind: type) -> bytes:
        """What a class and its parents define outside of installed packages: the source of methods, simple values.

        Whoever edits a `forward` has another model, though no weight and no name changed.
        """
        if id(kind) not in self.sources:
            whole = hashlib.sha256()
            for owner in kind.__mro__:
                if owner in (object, nn.Module) or _is_installed(owner):
                    continue
                for name, member in sorted(vars(owner).items()):
                    function = inspect.unwrap(_function_of(member))
                    if isinstance(function, FunctionType):
                        whole.update(_framed(name.encode()) + _framed(_source(function)))
                    elif not name.startswith("_"):
                        whole.update(_framed(name.encode()) + self._value(member))
            self.sources[id(kind)] = whole.digest()
        return self.sources[id(kind)]

    def _value(self, value: object) -> bytes:
        """Bytes for a simple value; nothing for one that is not simple."""
        match value:
            case None | bool() | int() | float() | complex() | str() | bytes() | torch.dtype():
                return _framed(f"{type(value).__name__} {value!r}".encode())
            case Enum():
                return _framed(f"enum {type(value).__name__}.{value.name}".encode())
            case nn.Module():
                return _framed(b"module" + self.digest(value))
            case Tensor():
                return b"" if value.grad_fn is not None else _tensor_digest(value, "attribute")
            case np.ndarray() | np.generic():
                array = np.asarray(value)
                head = _framed(f"array {array.dtype.str} {array.shape}".encode())
                return b"" if array.dtype.hasobject else head + array.tobytes()
            case tuple() | list():
                return _framed(b"list" + b"".join(_framed(self._value(item)) for item in value))
            case set() | frozenset():
                return _framed(b"set" + b"".join(sorted(_framed(self._value(item)) for item in value)))
            case Mapping():
                pairs = (_framed(self._value(key)) + _framed(self._value(item)) for key, item in value.items())
                return _framed(b"map" + b"".join(sorted(pairs)))
            case functools.partial():
                return _framed(b"partial" + self._value((value.func, value.args, value.keywords)))
            case FunctionType():
                source = b"" if _is_installed(value) else _source(value)
                return _framed(f"function {value.__qualname__}".encode()) + _framed(source)
            case BuiltinFunctionType():
                return _framed(f"function {value.__qualname__}".encode())
            case _:
                return b""


def _unwrapped(module: nn.Module) -> nn.Module:
    """What a wrapper that changes no answer wraps; anything else is itself."""
    if isinstance(module, Classifier) and module.mean is None:
        return module.network
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner: nn.Module = module.module
        return inner
    compiled = getattr(module, "_orig_mod", None)
    return compiled if isinstance(compiled, nn.Module) else module


def _attributes(module: nn.Module) -> Iterable[tuple[str, object]]:
    for name, value in vars(module).items():
        if not name.startswith("_") and name not in ("training", "device"):
            yield name, value


def _tensor_digest(tensor: Tensor, name: str) -> bytes:
    if isinstance(tensor, LATER) or tensor.is_meta:
        raise ModelError(f"The model's {name} has no values yet: load its weights, or run it once, before using it.")
    plain = tensor.detach()
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    plain = plain.resolve_conj().resolve_neg().cpu().contiguous()
    head = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    whole = hashlib.sha256(_framed(head))
    if plain.numel():
        whole.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return whole.digest()


def _function_of(member: object) -> Callable[..., object]:
    """What runs when a property, a class method or a plain one is used; a function that does nothing for the rest."""
    inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    return inner if callable(inner) else object


def _is_installed(thing: type | FunctionType) -> bool:
    """Whether a class or function belongs to a package whose version the run records."""
    try:
        file = Path(inspect.getfile(thing)).resolve()
    except (TypeError, OSError):
        return thing.__module__.split(".")[0] in ("torch", "builtins")
    installed = not {"site-packages", "dist-packages"}.isdisjoint(file.parts)
    return installed or file.is_relative_to(_STDLIB) or file.is_relative_to(_OURS)


def _source(function: Callable[..., object]) -> bytes:
    """The source of a function without blank space at line ends; nothing where there is none to read."""
    try:
        lines = inspect.getsource(function).splitlines()
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return b""
    return "\n".join(line.rstrip() for line in lines if line.strip()).encode()


def _script(module: torch.jit.ScriptModule) -> bytes:
    return module.code.encode() if hasattr(module, "forward") else b""


def _framed(content: bytes) -> bytes:
    """Content with its length in front, so that no two sequences of pieces run into the same bytes."""
    return len(content).to_bytes(8, "little") + content
