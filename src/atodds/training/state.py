"""What a training leaves in its folder after each epoch, so that the same command continues it.

A folder holds `state.safetensors`, from which training goes on: weights, momentum, and in its metadata the card, the
epochs so far and the best of them; `last.safetensors` and `best.safetensors`, checkpoints like any other; and
`epochs.csv`. Each is written whole or not at all. The best is written before the state that names it, and the last
after the state, from which it can be made again: so a kill between any two of them loses at most one epoch, which is
then repeated bit by bit.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atodds.errors import ModelError, OtherPlanError, shown
from atodds.models.card import Card
from atodds.models.checkpoint import save, write_whole
from atodds.models.classifier import Classifier, times
from atodds.models.fingerprint import tensors_digest
from atodds.models.weights import UNREADABLE, expanded, misfit, read_safetensors, unreadable

FORMAT = 1
STATE, LAST, BEST, EPOCHS = "state.safetensors", "last.safetensors", "best.safetensors", "epochs.csv"
_METADATA = "atodds-training"
_WEIGHTS, _MOMENTUM = "weights/", "momentum/"


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Attributes:
        epoch: its number, from 1.
        loss, accuracy: means over the images of the objective, while the weights moved.
        validation: accuracy on the validation images after the epoch, against the attack where there is one; None
            without such images.
        seconds: that the epoch took, validation included.
    """

    epoch: int
    loss: float
    accuracy: float
    validation: float | None
    seconds: float

    @property
    def score(self) -> float:
        """By what the best epoch is chosen."""
        return self.accuracy if self.validation is None else self.validation


@dataclass(frozen=True)
class State:
    """A training between two epochs.

    Attributes:
        card: of the classifier.
        validation: fingerprint of the validation images, "" where there are none.
        epochs: those that are done.
        weights: of the network, by name.
        momentum: of the optimizer, by the parameter's name.
    """

    card: Card
    validation: str
    epochs: tuple[Epoch, ...]
    weights: Mapping[str, Tensor]
    momentum: Mapping[str, Tensor]

    @property
    def best(self) -> Epoch | None:
        """The first epoch with the highest score."""
        return max(self.epochs, key=lambda epoch: epoch.score, default=None)

    @classmethod
    def of(
        cls, classifier: Classifier, optimizer: torch.optim.Optimizer, validation: str, epochs: Sequence[Epoch]
    ) -> "State":
        """The state that a classifier and its optimizer are in.

        Raises:
            ModelError: a classifier without a card.
        """
        if classifier.card is None:
            raise ModelError(f"{classifier.name or 'The model'} has no card, so its training cannot be kept.")
        held = {
            name: optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in classifier.network.named_parameters()
        }
        momentum = {name: tensor for name, tensor in held.items() if tensor is not None}
        return cls(classifier.card, validation, tuple(epochs), classifier.network.state_dict(), momentum)

    def into(self, classifier: Classifier, optimizer: torch.optim.Optimizer) -> None:
        """Bring a classifier and its optimizer into this state, in place. Tensors keep their place and layout.

        Raises:
            ModelError: the state is of another network.
        """
        if problems := misfit(classifier.network.state_dict(), self.weights):
            raise ModelError(f"The state does not fit {self.card.network}: {problems}. Begin in another folder.")
        classifier.network.load_state_dict(dict(self.weights))
        for name, parameter in classifier.network.named_parameters():
            if name in self.momentum:
                buffer = torch.empty_like(parameter, requires_grad=False)
                optimizer.state[parameter]["momentum_buffer"] = buffer.copy_(self.momentum[name])

    def write(self, folder: Path) -> None:
        """Put the state into a folder, in the place of the one before it.

        Raises:
            ModelError: it cannot be written.
        """
        tensors = {
            prefix + name: tensor.detach().cpu().contiguous()
            for prefix, held in ((_WEIGHTS, self.weights), (_MOMENTUM, self.momentum))
            for name, tensor in held.items()
        }
        told = {
            "format": FORMAT,
            "card": self.card.to_json(),
            "validation": self.validation,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "digest": tensors_digest(tensors),
        }
        write_whole(folder / STATE, safetensors.torch.save(tensors, {_METADATA: json.dumps(told)}))

    @classmethod
    def read(cls, folder: Path) -> "State | None":
        """The state in a folder, None where there is none.

        Raises:
            ModelError: one that is damaged or that a newer version wrote.
        """
        file = folder / STATE
        if not file.is_file():
            return None
        try:
            with safetensors.safe_open(file, framework="pt", device="cpu") as opened:
                text = (opened.metadata() or {}).get(_METADATA, "")
        except UNREADABLE as error:
            raise unreadable(file, error) from error
        tensors = read_safetensors(file)
        try:
            told: dict[str, Any] = json.loads(text)
            if told["format"] > FORMAT:
                raise ModelError(f"{file} was written by a newer atodds. Upgrade it: pip install --upgrade atodds")
            whole = told["digest"] == tensors_digest(tensors)
            card = Card.from_json(told["card"], str(file))
            epochs = tuple(Epoch(**epoch) for epoch in told["epochs"])
            validation = str(told["validation"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file} is not the state of a training. Begin in another folder.") from error
        if not whole:
            raise ModelError(f"{file} is damaged: its tensors are not those that were saved. Remove it to begin anew.")
        weights, momentum = (
            {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            for prefix in (_WEIGHTS, _MOMENTUM)
        )
        return cls(card, validation, epochs, weights, momentum)

    def tell(self, folder: Path) -> None:
        """Write the epochs so far as a table.

        Raises:
            ModelError: it cannot be written.
        """
        names = [field.name for field in fields(Epoch)]
        rows = [["" if value is None else str(value) for value in asdict(epoch).values()] for epoch in self.epochs]
        write_whole(folder / EPOCHS, "".join(",".join(row) + "\n" for row in [names, *rows]).encode())


def opened(folder: Path, card: Card, validation: str) -> State | None:
    """The state to go on from, None in a folder where nothing was trained yet.

    Args:
        folder: of the training.
        card: of the classifier that is wanted; mean and std are not looked at, they follow from the images.
        validation: fingerprint of the validation images that are wanted, or "".

    Raises:
        OtherPlanError: the folder holds another training, or checkpoints without one.
        ModelError: a state that is damaged.
    """
    found = State.read(folder)
    if found is None:
        if there := [name for name in (LAST, BEST) if (folder / name).exists()]:
            raise OtherPlanError(f"{folder} holds {' and '.join(there)}, but no training. Choose another folder.")
        return None
    differing = _differing(found.card, card)
    if found.validation != validation:
        differing.append("validation images")
    if differing:
        raise OtherPlanError(
            f"{folder} holds another training: {'; '.join(differing)}. Choose another folder, or give "
            "the same words as before."
        )
    return found


def keep(folder: Path, classifier: Classifier, state: State) -> None:
    """Write all that a training leaves behind after an epoch: see the module's own words for the order.

    Raises:
        ModelError: a file that cannot be written.
    """
    if state.best is not None and state.best.epoch == len(state.epochs):
        save(classifier, folder / BEST)
    state.write(folder)
    if state.epochs:
        save(classifier, folder / LAST)
        state.tell(folder)


def folder_of(out: str | os.PathLike[str]) -> Path:
    """The folder of a training, with the home folder in the place of "~"."""
    return expanded(Path(out))


def _differing(held: Card, wanted: Card) -> list[str]:
    """What two trainings differ in, in words."""
    before, now = _plan(held), _plan(wanted)
    return [
        f"{key} {shown(before.get(key))}, not {shown(now.get(key))}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]


def _plan(card: Card) -> dict[str, object]:
    """All that decides what is trained."""
    return {
        "network": card.network,
        "images": f"{times(card.shape)} {card.data} {card.data_fingerprint[:16]}",
        "classes": card.classes,
        **card.settings,
        **card.recipe,
    }
