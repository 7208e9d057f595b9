"""Loading a model from where its spec says it is: the user's code, another library, a checkpoint, or weights for a
network of ours."""

import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from atodds.errors import ArgumentError, ModelError, UnknownNameError
from atodds.models.adapters import ADAPTERS
from atodds.models.checkpoint import load_checkpoint, read_card
from atodds.models.classifier import Channels, Classifier, checked_name
from atodds.models.downloaded import check_hash
from atodds.models.importing import beside, here, run_file, run_module
from atodds.models.networks import LARGEST, NETWORKS, skeleton
from atodds.models.plain import Shape
from atodds.models.resizing import Resizing
from atodds.models.spec import Spec, parse
from atodds.models.weights import existing, fit, misfit, read_weights, without_prefix

SHAPES: tuple[Shape, ...] = ((3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 64, 64), (3, 96, 96), (1, 32, 32), (3, 28, 28))
"""Images that plain weights of our networks are tried for: those of CIFAR, MNIST, digits, Tiny ImageNet, STL-10, and
MNIST padded or in colour."""


def load(
    spec: str,
    *,
    mean: Channels | None = None,
    std: Channels | None = None,
    name: str | None = None,
    trust_pickle: bool = False,
    resize: bool = False,
    weights: str | os.PathLike[str] | None = None,
    sha256: str | None = None,
) -> Classifier:
    """The model that a spec names, in eval mode, on the CPU. A factory is called without arguments; its code runs.

    Args:
        spec: FILE.py:FACTORY, package.module:FACTORY, either with @WEIGHTS; timm:NAME, torchvision:NAME, hf:REPO,
            robustbench:ID; NETWORK@WEIGHTS, or a checkpoint's path.
        mean, std: normalisation to fold in, for pixels in [0, 1]; one number, or one a channel. A library's own weights
            bring theirs.
        name: what to call it; its factory, network, name in the library, or file where left out.
        trust_pickle: also open files of weights that can run code when they are opened.
        resize: let a model of a library take images of any size and resize them itself, as part of the model.
        weights: the file of weights, where the spec does not say: "timm:NAME" with a file is "timm:NAME@FILE".
        sha256: of the file of weights, 64 hex digits, which it must have.

    Raises:
        ArgumentError: a spec that cannot be read, or bad mean, std or name.
        UnknownNameError: a file, factory, network, or model of a library that does not exist.
        MissingExtraError: a library that is not installed.
        UntrustedFileError: weights that could run code, without `trust_pickle`; a repository with code of its own.
        WebPageError, TruncatedFileError, ChecksumError: weights that are a web page, not whole, or another file.
        WeightsDownloadError: a library could not fetch its weights.
        ModelError: code that cannot be imported, a factory that does not return a module, or weights that do not fit.
    """
    parts = parse(spec) if weights is None else _with_weights(spec, weights)
    if sha256 is not None:
        _check_hash(parts, sha256)
    title = parts.name if name is None else checked_name(name)
    if parts.library:
        return _from_library(parts, mean, std, title, trust_pickle, resize)
    if parts.weights is None or parts.factory:
        network = _from_factory(parts, trust_pickle)
    else:
        file = existing(parts.weights, "weights" if parts.network else "model")
        if _has_card(file, parts.network):
            _refuse_normalisation(mean, std, "the checkpoint's card says how it normalises")
            return load_checkpoint(file, name=title, source=parts.text)
        network = _from_weights(parts.network, file, trust_pickle)
    _check_values(network, parts)
    return Classifier(network.cpu(), mean=mean, std=std, name=title, source=parts.text).eval()


def _with_weights(spec: str, weights: str | os.PathLike[str]) -> Spec:
    if spec.strip() not in NETWORKS and parse(spec).weights is not None:
        raise ArgumentError("weights", str(weights), f"{spec} names weights already", "Give them once.")
    return parse(f"{spec.strip()}@{os.fspath(weights)}")


def _check_hash(parts: Spec, sha256: str) -> None:
    if parts.weights is None:
        way_out = "Give the file: --weights FILE (weights=FILE), or SOURCE@FILE."
        raise ArgumentError("sha256", sha256, f"{parts.text} names no file of weights", way_out)
    check_hash(existing(parts.weights, "weights"), sha256)


def arguments(model: Classifier) -> dict[str, Any]:
    """Arguments of `load` that give a model that was loaded once more, but for `trust_pickle`."""
    told: dict[str, Any] = {"spec": model.source, "name": model.name}
    if model.usage is not None:
        told["resize"] = model.usage.resized
    normalises = model.card is not None or (model.usage is not None and parse(model.source).weights is None)
    if not normalises and model.mean is not None and model.std is not None:
        told |= {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
    return told


def _from_library(
    parts: Spec, mean: Channels | None, std: Channels | None, title: str, trust_pickle: bool, resize: bool
) -> Classifier:
    """A model of another library, with the library's normalisation; weights of the user's may have another one."""
    if parts.weights is None:
        _refuse_normalisation(mean, std, f"{parts.library} says how its weights normalise")
    brought = ADAPTERS[parts.library](parts, trust_pickle)
    if mean is None and std is None:
        mean, std = brought.mean, brought.std
    _check_values(brought.network, parts)
    # Some weights are kept in half precision; verdicts are made in full.
    network, usage = brought.network.cpu().float(), brought.usage
    if resize:
        network, usage = Resizing(network, *usage.shape[1:]), replace(usage, resized=True)
    return Classifier(network, mean=mean, std=std, name=title, source=parts.text, usage=usage).eval()


def _refuse_normalisation(mean: Channels | None, std: Channels | None, problem: str) -> None:
    """A model that brings its own normalisation takes no second one."""
    if mean is not None or std is not None:
        argument, value = ("std", std) if mean is None else ("mean", mean)
        raise ArgumentError(argument, value, problem, "Leave mean and std out.")


def _check_values(network: nn.Module, parts: Spec) -> None:
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise ModelError(f"{parts.text}: some weights have no values: they are on the meta device. Load them first.")


def _has_card(file: Path, network: str) -> bool:
    """Whether a file is a checkpoint of ours.

    Raises:
        ModelError: it is one, of another network than the spec names.
    """
    card = read_card(file) if file.suffix == ".safetensors" else None
    if card is not None and network not in ("", card.network):
        raise ModelError(f"{file} holds a {card.network}, not a {network}. Give {file} alone.")
    return card is not None


def _from_weights(network: str, file: Path, trust_pickle: bool) -> nn.Module:
    """The model of a file without a card: a network of ours with its weights, or a module out of a trusted pickle."""
    held = read_weights(file, trust_pickle=trust_pickle)
    if network:
        state = held.state_dict() if isinstance(held, nn.Module) else held
        model = _shaped_for(network, state).to_empty(device="cpu")
        fit(model, state, file)
        return model
    if isinstance(held, nn.Module):
        return held
    raise ModelError(
        f"{file} has weights, but no card that says which network they belong to. Write NETWORK@{file} with one of "
        f"{', '.join(NETWORKS)}, or FILE.py:FACTORY@{file}."
    )


def _shaped_for(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """A network of ours, without values, for weights that do not say for which images: the first usual shape that fits.

    Where none does, the first one: what does not fit is told when the weights are put in.
    """
    shapes = [shape for shape in SHAPES if min(shape[1:]) >= NETWORKS[name].smallest]
    state = without_prefix(state, skeleton(name, shapes[0], 2).state_dict())
    last = state.get("head.bias")
    classes = len(last) if last is not None and last.ndim == 1 and 2 <= len(last) <= LARGEST else 10
    networks = [skeleton(name, shape, classes) for shape in shapes]
    return next((network for network in networks if not misfit(network.state_dict(), state)), networks[0])


def _from_factory(parts: Spec, trust_pickle: bool) -> nn.Module:
    with ExitStack() as stack:
        if parts.file is not None:
            file = existing(parts.file, "model")
            stack.enter_context(beside(file.parent))
            module = run_file(file)
        else:
            stack.enter_context(here())
            module = run_module(parts.module)
        made = _called(_found(module, parts), parts)
    if parts.weights is not None:
        held = read_weights(parts.weights, trust_pickle=trust_pickle)
        fit(made, held.state_dict() if isinstance(held, nn.Module) else held, parts.weights)
    return made


def _found(module: ModuleType, parts: Spec) -> object:
    """What a module calls FACTORY.

    Raises:
        UnknownNameError: nothing.
    """
    held: object = module
    for step in parts.factory.split("."):
        if not hasattr(held, step):
            raise UnknownNameError.among("factory", parts.factory, _factories(module))
        held = getattr(held, step)
    return held


def _factories(module: ModuleType) -> list[str]:
    """Functions and network classes that a module itself defines and that need no argument."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module)))
        and not _lacking(value)
    ]


def _lacking(function: Callable[..., object]) -> str:
    """What a function says when it is called without arguments, if it minds."""
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        return str(error)
    except ValueError:  # a builtin that does not tell its arguments
        return ""
    return ""


def _called(factory: object, parts: Spec) -> nn.Module:
    """What a factory returns.

    Raises:
        ArgumentError: it is no function that can be called without arguments.
        ModelError: it returns no module.
    """
    way_out = "Write a function without arguments that returns the model."
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ArgumentError("factory", parts.factory, f"a {type(factory).__name__}, not a function", way_out)
    if lacking := _lacking(factory):
        raise ArgumentError("factory", parts.factory, f"cannot be called without arguments: {lacking}", way_out)
    made = factory()
    if not isinstance(made, nn.Module):
        told = f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__
        raise ModelError(f"{parts.text} returned {told}, not a torch.nn.Module. {way_out}")
    return made
