"""Sets of encoded images: read and decoded only where they are asked for."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from atodds.data.arrays import Integers
from atodds.data.decode import Form, check, decode, form_of
from atodds.data.images import ImageSet

SAMPLES = 32
"""How many images decide whether a set is grey: one grey photograph at the front must not turn all the others grey."""


class Blobs(Protocol):
    """Encoded images by row: where they lie, not what they hold."""

    def __len__(self) -> int: ...

    def take(self, rows: Integers) -> "Blobs":
        """Only these rows."""

    def read(self, rows: Integers) -> Iterator[tuple[int, bytes]]:
        """(k, bytes) of `rows[k]`, each k once, in the order that reads fastest."""

    def title(self, row: int) -> str:
        """What to call a row in a message: its file, and its row there."""

    def sample(self, count: int) -> Integers:
        """Up to `count` rows that are cheap to read, the first row first."""


@dataclass(frozen=True, eq=False)
class EncodedReader:
    """Encoded images that become one form when they are asked for."""

    blobs: Blobs
    form: Form

    def __len__(self) -> int:
        return len(self.blobs)

    @property
    def coding(self) -> str:
        """What the digests cover: encoded bytes. What they are turned into is told by the shape of the set."""
        return "encoded images"

    def take(self, rows: Integers) -> "EncodedReader":
        """A view of only these rows."""
        return EncodedReader(self.blobs.take(rows), self.form)

    def pixels(self, rows: Integers) -> npt.NDArray[np.uint8]:
        """These rows decoded: (k, C, H, W)."""
        out = np.empty((len(rows), *self.form.shape), np.uint8)
        for k, data in self.blobs.read(rows):
            out[k] = decode(data, self.form, self.blobs.title(int(rows[k])))
        return out

    def digests(self) -> list[bytes]:
        """SHA-256 of the encoded bytes of each row."""
        found = dict(self._hashed())
        return [found[k] for k in range(len(self))]

    def check(self) -> None:
        """Hold each row's header against the form; after a resize to one size, any shape will do."""
        if self.form.size is None:
            for row, data in self.blobs.read(self._all()):
                check(data, self.form, self.blobs.title(row))

    def _hashed(self) -> Iterator[tuple[int, bytes]]:
        for row, data in self.blobs.read(self._all()):
            yield row, hashlib.sha256(data).digest()

    def _all(self) -> Integers:
        return np.arange(len(self), dtype=np.int64)


def encoded_set(
    name: str, split: str, blobs: Blobs, labels: Integers, classes: tuple[str, ...], size: int | None
) -> ImageSet:
    """The set of all of `blobs`, which must hold one at least.

    Raises:
        DataError: labels outside the classes, or a first image that cannot be read.
    """
    rows = blobs.sample(SAMPLES)
    form = form_of([(blobs.title(int(rows[k])), data) for k, data in sorted(blobs.read(rows))], size)
    return ImageSet(
        name=name,
        split=split,
        labels=labels,
        ids=np.arange(len(labels), dtype=np.int64),
        classes=classes,
        shape=form.shape,
        selection="all",
        _reader=EncodedReader(blobs, form),
    )
