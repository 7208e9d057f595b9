"""State dicts: read from files that cannot run code, and fitted into a network."""

import difflib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeGuard, cast

import safetensors
import torch
from torch import Tensor, nn

from atodds.errors import ModelError, UnknownNameError, UntrustedFileError
from atodds.models.downloaded import check_whole

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
)
"""Keys under which training scripts put the state dict of their model."""
LATER = (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)
"""What a lazy module has before it has seen an image."""
UNREADABLE = (safetensors.SafetensorError, OSError, ValueError, RuntimeError)
"""What safetensors raises for a file that is damaged or none of its own."""
DAMAGED = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, MemoryError,
    OverflowError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What torch.load raises for a damaged file, beside UnpicklingError; found by flipping bytes."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and common wrappers put before every name."""


def read_weights(file: Path, *, trust_pickle: bool = False) -> nn.Module | dict[str, Tensor]:
    """The state dict that a file holds, on the CPU; the module itself where a trusted pickle holds one.

    Args:
        file: `.safetensors`, or anything that `torch.save` wrote.
        trust_pickle: also open files that can run code when they are opened.

    Raises:
        UnknownNameError: no such file.
        UntrustedFileError: a file that can run code, without `trust_pickle`.
        WebPageError, TruncatedFileError: a web page in its place, or only the first part of it.
        ModelError: a file that cannot be read or holds no weights.
    """
    found = existing(file, "weights")
    check_whole(found)
    if found.suffix == ".safetensors":
        return read_safetensors(found)
    held = unpickled(found, trust_pickle)
    while isinstance(held, Mapping) and not _is_state(held):
        inner = next((held[key] for key in WRAPPERS if isinstance(held.get(key), (Mapping, nn.Module))), None)
        if inner is None:
            keys = _few(map(str, held))
            raise ModelError(f"{file} holds no state dict: its entries are {keys}. Save model.state_dict() in a file.")
        held = inner
    if isinstance(held, nn.Module):
        return held
    if not isinstance(held, Mapping):
        raise ModelError(f"{file} holds a {type(held).__name__}, not weights. Save model.state_dict() in a file.")
    return dict(cast(Mapping[str, Tensor], held))


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with safetensors.safe_open(file, framework="pt", device="cpu") as opened:
            # Copied: what safetensors hands out is the file itself, and dies with a file that is overwritten.
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    except UNREADABLE as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, error: Exception) -> ModelError:
    """The error for a file that safetensors refused."""
    return ModelError(f"{file} is not a safetensors file that can be read: {_line(error)}. Fetch or save it again.")


def fit(model: nn.Module, state: Mapping[str, Tensor], file: Path) -> None:
    """Put a state dict into a model, in place. Names may carry a prefix that wrappers leave behind.

    Raises:
        ModelError: names that are missing, left over, or whose shapes or kinds differ, all in one message.
    """
    expected = model.state_dict()
    state = without_prefix(state, expected)
    if problems := misfit(expected, state):
        raise ModelError(
            f"{file} does not fit {type(model).__name__}, which has {len(expected)} tensors. {problems}. Name the "
            "network that these weights were trained in, with the same settings."
        )
    model.load_state_dict(state, strict=False)


def misfit(expected: Mapping[str, object], state: Mapping[str, Tensor]) -> str:
    """What keeps a state dict from fitting where `expected` stands, in words; "" if nothing does."""
    shared = {name: tensor for name, tensor in expected.items() if name in state and _has_shape(tensor)}
    differing = {
        "missing": [name for name in expected if name not in state and not name.endswith("num_batches_tracked")],
        "not in the network": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {_shape(state[name])} where {_shape(tensor)} is needed"
            for name, tensor in shared.items()
            if state[name].shape != tensor.shape
        ],
        "of another kind of number": [
            f"{name} {state[name].dtype}"
            for name, tensor in shared.items()
            if state[name].is_floating_point() != tensor.is_floating_point()
        ],
    }
    return "; ".join(f"{len(names)} {what}: {_few(names)}" for what, names in differing.items() if names)


def without_prefix(state: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """The state dict without prefixes that all its names carry and no name of the network does."""
    names, taken = dict(state), tuple(expected)
    for _ in PREFIXES:
        for prefix in PREFIXES:
            carried = bool(names) and all(name.startswith(prefix) for name in names)
            if carried and not any(name.startswith(prefix) for name in taken):
                names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
    return names


def existing(file: Path, argument: str) -> Path:
    """A file that is there.

    Raises:
        UnknownNameError: it is not, with the files of its folder that come near.
        ModelError: nobody may look.
    """
    path = expanded(file)
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise UnknownNameError(argument, str(file), "a folder, not a file", "Name a file in it.")
        if not path.parent.is_dir():
            raise UnknownNameError(argument, str(file), "no such file", f"There is no folder {path.parent} either.")
        alike = [other.name for other in path.parent.iterdir() if other.suffix == path.suffix and other.is_file()]
    except OSError as error:
        raise ModelError(
            f"{file} cannot be looked at: {error.strerror}. Check the path and its permissions."
        ) from error
    near = difflib.get_close_matches(path.name, sorted(alike), n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(str(file.with_name(name)) for name in near)}?" if near else "Check the path."
    raise UnknownNameError(argument, str(file), "no such file", hint)


def expanded(file: Path) -> Path:
    """A path with the home folder in the place of "~"; as it is, where nobody has that home."""
    try:
        return file.expanduser()
    except RuntimeError:
        return file


def unpickled(file: Path, trust: bool) -> object:
    """What `torch.save` put into a file, through the restricted unpickler first.

    Raises:
        UntrustedFileError: a file that can run code, without `trust`.
        ModelError: a file that cannot be read.
    """
    try:
        return _opened(file, weights_only=True)
    except pickle.UnpicklingError as error:
        if not _looks_saved(file):
            raise ModelError(f"{file} is not a file of weights. Bring a .safetensors, .pt or .pth file.") from error
        if not trust:
            raise UntrustedFileError(
                f"{file} is a pickle that holds more than tensors, and opening it can run any code: {_line(error)}. If "
                "you trust whoever made it, pass --trust-pickle (trust_pickle=True in Python); better, save "
                "model.state_dict() with safetensors."
            ) from error
    except DAMAGED as error:
        raise ModelError(f"{file} cannot be read as weights: {_line(error)}. Fetch or save it again.") from error
    try:
        return _opened(file, weights_only=False)
    except (pickle.UnpicklingError, ImportError, *DAMAGED) as error:
        raise ModelError(
            f"{file} cannot be unpickled here: {_line(error)}. A pickle needs the code it was made with; bring the "
            "network as FILE.py:FACTORY and its weights as model.state_dict()."
        ) from error


def _opened(file: Path, *, weights_only: bool) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about pickles of unusual make, which are judged here
        return torch.load(file, map_location="cpu", weights_only=weights_only)


def _looks_saved(file: Path) -> bool:
    """Whether a file begins as those that pickle and torch.save write."""
    with file.open("rb") as opened:
        head = opened.read(2)
    return head in (b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6)))


def _is_state(held: Mapping[object, object]) -> bool:
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in held.items()) and bool(held)


def _has_shape(tensor: object) -> TypeGuard[Tensor]:
    """Whether an entry of a state dict is a tensor whose shape is known; a lazy module's is not yet."""
    return isinstance(tensor, Tensor) and not isinstance(tensor, LATER)


def _few(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _line(error: Exception) -> str:
    """The first line of what an error says, without advice that is not ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(" .") if lines else type(error).__name__
