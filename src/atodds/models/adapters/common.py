"""What the adapters share: importing a library, calling it so that its failures are ours, and putting weights in."""

import difflib
import importlib
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import safetensors
import torch
from torch import Tensor, nn

from atodds.errors import MissingExtraError, ModelError, UnknownNameError, WeightsDownloadError
from atodds.models.spec import Spec
from atodds.models.usage import Usage
from atodds.models.weights import fit, read_weights, without_prefix

EXTRA = "zoo"
FAULTS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError, NotImplementedError,
    pickle.UnpicklingError, safetensors.SafetensorError,
)  # fmt: skip
"""What the libraries raise where a model cannot be made: they have no errors of their own."""


@dataclass(frozen=True)
class Brought:
    """A model of a library: its network, the normalisation it needs, for pixels in [0, 1], and how it is used."""

    network: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    usage: Usage


def library(name: str) -> ModuleType:
    """An optional package, or a module of one.

    Raises:
        MissingExtraError: it, or what it needs, is not installed.
        ModelError: it is there and cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition(".")[0]
        if missing in ("timm", "torchvision", "transformers", "robustbench"):
            raise MissingExtraError(missing, EXTRA) from error
        raise _broken(name, error) from error
    except (OSError, *FAULTS) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"{name} is installed, but cannot be imported: {line(error)}. Often it was built for another version of torch: "
        f"pip install --upgrade 'atodds[{EXTRA}]'"
    )


@contextmanager
def calling(what: str, by_hand: str) -> Iterator[None]:
    """While it lasts, a library makes a model: its failures become errors of ours, and no global generator moves.

    Args:
        what: the model, as the user wrote it.
        by_hand: what to do where nothing can be downloaded.

    Raises:
        WeightsDownloadError: the library could not fetch something.
        ModelError: it could not make the model for another reason.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except _unreachable() as error:
        raise WeightsDownloadError(f"{what}: the weights could not be fetched: {line(error)}. {by_hand}") from error
    except FAULTS as error:
        raise ModelError(
            f"{what} could not be made: {line(error)}. Check its name and the library's version."
        ) from error


def unknown(parts: Spec, known: Iterable[str], listed: str) -> UnknownNameError:
    """The error for a model among very many: the nearest ones, and how to list them all."""
    near = difflib.get_close_matches(parts.member[:100], list(known), n=5, cutoff=0.5)
    hint = f"Did you mean {' or '.join(f'{parts.library}:{name}' for name in near)}? " if near else ""
    return UnknownNameError("model", parts.text, f"no such model in {parts.library}", f"{hint}{listed}")


def state_of(file: Path, *, trust_pickle: bool) -> Mapping[str, Tensor]:
    """The state dict in a file of the user's.

    Raises:
        UnknownNameError, UntrustedFileError, ModelError: a file that is not there, could run code, or holds no weights.
    """
    held = read_weights(file, trust_pickle=trust_pickle)
    return held.state_dict() if isinstance(held, nn.Module) else held


def with_weights(
    make: Callable[[int], nn.Module], known: int, state: Mapping[str, Tensor], file: Path
) -> tuple[nn.Module, int]:
    """A network with weights of the user's, which may tell other classes apart than the library's own.

    Args:
        make: number of classes -> the network, with any weights.
        known: the number of classes of the library's own weights.
        state: the weights.
        file: where they came from, for messages.

    Returns:
        The network and its number of classes.

    Raises:
        ModelError: weights that do not fit.
    """
    network = make(known)
    expected = network.state_dict()
    plain = without_prefix(state, expected)
    classes = _classes(expected, plain, known)
    if classes != known:
        network = make(classes)
    fit(network, plain, file)
    return network, classes


def _classes(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], known: int) -> int:
    """How many classes weights tell apart: the one number of rows that they have where the network has `known`."""
    rows = {
        len(state[name])
        for name, tensor in expected.items()
        if name in state and tensor.ndim == state[name].ndim > 0 and len(tensor) == known
        if tensor.shape[1:] == state[name].shape[1:]
    }
    others = rows - {known}
    return others.pop() if len(others) == 1 else known


def line(error: BaseException) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0][:300].rstrip(" .") if lines else type(error).__name__


def _unreachable() -> tuple[type[Exception], ...]:
    """What fetching raises: errors of the system, which those of the hub are too, and those of its client."""
    clients = (getattr(sys.modules.get(name), "HTTPError", None) for name in ("httpx", "httpx2"))
    return (OSError, *(kind for kind in clients if isinstance(kind, type) and issubclass(kind, Exception)))
