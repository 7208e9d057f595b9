"""Checkpoints: the weights of a network of ours in a safetensors file, with its card in the metadata.

A safetensors file holds numbers and text; nothing in it runs. A card only names a network, so reading a checkpoint runs
no code but this package's, and nothing is allocated before the shapes that the card implies are those in the file.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atodds.errors import ArgumentError, ModelError
from atodds.models.card import Card
from atodds.models.classifier import Classifier, checked_name, printable, times
from atodds.models.fingerprint import tensors_digest
from atodds.models.networks import skeleton
from atodds.models.weights import UNREADABLE, existing, expanded, read_safetensors, unreadable

_CARD = "atodds"
_KINDS = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}


def save(classifier: Classifier, file: str | os.PathLike[str]) -> Path:
    """Write a network of ours and its card, whole or not at all.

    Args:
        classifier: one that has a card: trained here, or loaded from a checkpoint.
        file: where to; ends in `.safetensors`. Folders are made; a file that is there is replaced.

    Returns:
        The file.

    Raises:
        ArgumentError: another ending.
        ModelError: no card, a card that does not describe the network, or a file that cannot be written.
    """
    path = expanded(Path(file))
    if path.suffix != ".safetensors":
        raise ArgumentError("file", str(file), "not the name of a checkpoint", "End it in .safetensors.")
    card = classifier.card
    if card is None:
        raise ModelError(
            f"{classifier.name or 'The model'} has no card, so nobody could build it again. Save its state_dict() with "
            "safetensors.torch.save_file and load it as FILE.py:FACTORY@WEIGHTS."
        )
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.network.state_dict().items()}
    text = replace(card, weights=tensors_digest(state)).to_json()
    told = _described(Card.from_json(text, str(path)), path)
    if _likes(state) != _likes(told.network.state_dict()):
        raise ModelError(f"{path}: the card says {card.network}, but the weights are of another network.")
    if not (_same(classifier.mean, told.mean) and _same(classifier.std, told.std)):
        raise ModelError(f"{path}: the card says another mean or std than the model has.")
    write_whole(path, safetensors.torch.save(state, {_CARD: text}))
    return path


def load_checkpoint(file: str | os.PathLike[str], *, name: str | None = None, source: str = "") -> Classifier:
    """The network that `save` wrote, in eval mode, on the CPU. Its name is the file's, unless one is given.

    Raises:
        UnknownNameError: no such file.
        ModelError: no checkpoint, a damaged one, one of a newer format, of a network that is not known here, or whose
            card and weights do not belong together.
    """
    path = existing(Path(file), "file")
    card = read_card(path)
    if card is None:
        raise ModelError(
            f"{path} has weights, but no card that says which network they belong to. Load it as NETWORK@{path} or as "
            f"FILE.py:FACTORY@{path}."
        )
    classifier = _described(card, path)
    classifier.name, classifier.source = checked_name(printable(path.stem) if name is None else name), source
    if _stored(path) != _likes(classifier.network.state_dict()):
        raise ModelError(
            f"{path}: its card says {card.network} for images of {times(card.shape)} and {len(card.classes)} classes, "
            "but its tensors are others. It was altered after it was saved: fetch it again."
        )
    state = read_safetensors(path)
    if card.weights != tensors_digest(state):
        raise ModelError(f"{path} is damaged: its weights are not those that were saved. Fetch it again.")
    classifier.network.to_empty(device="cpu").load_state_dict(state)
    return classifier.eval()


def read_card(file: Path) -> Card | None:
    """The card of a safetensors file, None if it has none.

    Raises:
        ModelError: the file cannot be read, or its card is not one of ours.
    """
    try:
        with safetensors.safe_open(file, framework="pt", device="cpu") as opened:
            text = (opened.metadata() or {}).get(_CARD)
    except UNREADABLE as error:
        raise unreadable(file, error) from error
    return None if text is None else Card.from_json(text, str(file))


Description = tuple[tuple[int, ...], torch.dtype]


def _likes(state: Mapping[str, Tensor]) -> dict[str, Description]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


def _stored(file: Path) -> dict[str, Description | None]:
    """Shape and type of every tensor in a file, from its header alone; None for a type that no network of ours has."""
    with safetensors.safe_open(file, framework="pt", device="cpu") as opened:
        stored: dict[str, Description | None] = {}
        for name in opened.keys():  # noqa: SIM118
            part = opened.get_slice(name)
            kind = _KINDS.get(part.get_dtype())
            stored[name] = None if kind is None else (tuple(part.get_shape()), kind)
        return stored


def _described(card: Card, file: Path) -> Classifier:
    """The classifier that a card implies, its network on the meta device."""
    try:
        network = skeleton(card.network, card.shape, len(card.classes), settings=card.settings)
        return Classifier(network, mean=card.mean or None, std=card.std or None, card=card)
    except ArgumentError as error:
        raise ModelError(f"{file}: its card describes a network that cannot be built here: {error}") from error


def _same(held: Tensor | None, told: Tensor | None) -> bool:
    return held is told if held is None or told is None else torch.equal(held.cpu(), told)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole: beside it first, onto the disk, then in its place.

    Raises:
        ModelError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}. Choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
