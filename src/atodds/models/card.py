"""What is written beside the weights of a network of ours: how to build it, what it was trained on, and how.

A card comes from a file that anyone may have made, so reading one trusts nothing: types, lengths and ranges are checked
before a value is used, text must be printable, and the format is only read up to the version known here.
"""

import json
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NoReturn

from atodds.errors import ModelError
from atodds.models.networks import LARGEST
from atodds.models.plain import Shape
from atodds.version import __version__

FORMAT = 1
LONGEST = 1_000_000
"""Characters of a card; 65,536 class names of 12 letters still fit."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Card:
    """How a network of ours came to be.

    Args:
        network: its name in the table of networks.
        settings: every setting it was built with.
        shape: (C, H, W) of the images it takes.
        classes: class names, in the order of the logits.
        mean, std: one number a channel, for pixels in [0, 1]; empty where images are taken as they are.
        data: name of the images it was trained on.
        data_fingerprint: of these images, 64 hex digits; "" if unknown.
        recipe: how it was trained, flat; empty if it was not trained here.
        weights: SHA-256 over the weights, 64 hex digits, filled in where they are saved.
        version: of this package, when it was trained.
    """

    network: str
    settings: Mapping[str, int]
    shape: Shape
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    data: str = ""
    data_fingerprint: str = ""
    recipe: Mapping[str, Scalar] = field(default_factory=dict)
    weights: str = ""
    version: str = __version__

    def to_json(self) -> str:
        """The card as text, the same for the same card."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> "Card":
        """The card that `text` holds.

        Args:
            text: what `to_json` gave, or anything else.
            where: the file it stood in, for messages.

        Raises:
            ModelError: no card, one of a newer format, or one whose values cannot be.
        """
        return _Reader(where).card(text)


class _Reader:
    """Reads one card and complains in the name of its file."""

    def __init__(self, where: str) -> None:
        self.where = where

    def card(self, text: str) -> Card:
        if len(text) > LONGEST:
            self.refuse(f"it is {len(text)} characters long")
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            self.refuse("it is not JSON")
        if not isinstance(told, dict):
            self.refuse("it is not an object")
        self.known_format(told.pop("format", None))
        names = set(Card.__dataclass_fields__)
        if told.keys() != names:
            self.refuse(f"its entries are {sorted(map(str, told))[:20]}, not {sorted(names)}")
        card = Card(
            network=self.text(told["network"], "network"),
            settings={key: self.count(value, key) for key, value in self.entries(told["settings"], "settings")},
            shape=self.shape(told["shape"]),
            classes=tuple(self.text(name, "classes") for name in self.listed(told["classes"], "classes")),
            mean=tuple(self.number(value, "mean") for value in self.listed(told["mean"], "mean")),
            std=tuple(self.number(value, "std") for value in self.listed(told["std"], "std")),
            data=self.text(told["data"], "data"),
            data_fingerprint=self.text(told["data_fingerprint"], "data_fingerprint"),
            recipe={key: self.scalar(value, key) for key, value in self.entries(told["recipe"], "recipe")},
            weights=self.text(told["weights"], "weights"),
            version=self.text(told["version"], "version"),
        )
        if len(card.mean) != len(card.std) or len(card.mean) not in (0, card.shape[0]):
            self.refuse("mean and std do not hold one number a channel")
        if not 2 <= len(card.classes) <= LARGEST:
            self.refuse(f"it names {len(card.classes)} classes")
        return card

    def known_format(self, version: object) -> None:
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            self.refuse("it does not say which format it has")
        if version > FORMAT:
            raise ModelError(
                f"{self.where}: its card has format {version}, which a newer atodds wrote; this is atodds "
                f"{__version__}, which reads up to format {FORMAT}. Upgrade it: pip install --upgrade atodds"
            )

    def text(self, value: object, key: str) -> str:
        if not isinstance(value, str) or len(value) > 1000 or not _is_line(value):
            self.refuse(f"{key} is not a line of text")
        return value

    def count(self, value: object, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
            self.refuse(f"{key} is not an integer from 1 to {LARGEST}")
        return value

    def number(self, value: object, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            self.refuse(f"{key} is not a finite number")
        return float(value)

    def scalar(self, value: object, key: str) -> Scalar:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value, key)
        if isinstance(value, int) and abs(value) < 2**63:
            return value
        return self.number(value, key)

    def shape(self, value: object) -> Shape:
        sides = [self.count(side, "shape") for side in self.listed(value, "shape")]
        if len(sides) != 3:
            self.refuse("shape is not (channels, height, width)")
        return sides[0], sides[1], sides[2]

    def listed(self, value: object, key: str) -> list[object]:
        if not isinstance(value, list) or len(value) > LARGEST:
            self.refuse(f"{key} is not a list")
        return value

    def entries(self, value: object, key: str) -> list[tuple[str, object]]:
        if not isinstance(value, dict) or len(value) > 100:
            self.refuse(f"{key} is not an object")
        return [(self.text(name, key), inner) for name, inner in value.items()]

    def refuse(self, problem: str) -> NoReturn:
        raise ModelError(
            f"{self.where}: not a card that atodds wrote: {problem}. Save the network again, or bring its weights with "
            "a FILE.py:FACTORY@WEIGHTS."
        )


def _is_line(text: str) -> bool:
    """Whether text is safe to print: no control characters, no broken ones."""
    return all(unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") for letter in text)
