"""Images with their labels: what every model is measured on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, get_args

import numpy as np
import torch

from atodds.data.arrays import ArrayLike, ArrayReader, Integers, Pixels, as_labels, as_pixels, numbered
from atodds.errors import ArgumentError, DataError, EmptyDataError, UnknownNameError

How = Literal["balanced", "first"]
Positions = Sequence[int] | Integers | torch.Tensor


class Reader(Protocol):
    """Where pixels come from: a frozen view of some rows of a source, which a worker process can be sent."""

    def __len__(self) -> int: ...

    @property
    def coding(self) -> str:
        """What the digests cover, in words: two readers of one coding and one digest show the same image."""

    def take(self, rows: Integers) -> "Reader":
        """A view of only these rows."""

    def pixels(self, rows: Integers) -> Pixels:
        """These rows decoded, (k, C, H, W): a new array."""

    def digests(self) -> list[bytes]:
        """SHA-256 of the content of each row."""

    def check(self) -> None:
        """Look at each row's header. Raises DataError for a row that cannot become an image of this set."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images of one shape with their labels and stable ids; pixels are decoded only when asked for.

    Made by `atodds.data.load` or `ImageSet.from_arrays`. Do not write to its arrays.

    Attributes:
        name: "cifar10", "digits", "mnist", or the stem of the file or folder.
        split: "test", "train", ... or "" where the source knows none.
        labels: (N,) int64, class indices.
        ids: (N,) int64, each image's row in the whole source split; `limit` and `take` keep them.
        classes: names of the classes, by index.
        shape: (C, H, W) of every image.
        selection: which images of the source these are: "all", "first 500", "balanced 500".

    Raises:
        EmptyDataError: no image.
        DataError: a label outside the classes, an id that comes twice.
    """

    name: str
    split: str
    labels: Integers
    ids: Integers
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    selection: str
    _reader: Reader

    def __post_init__(self) -> None:
        count = len(self._reader)
        if count == 0:
            raise EmptyDataError(f"{self.name}: no image is left to measure. Select at least one.")
        if len(self.labels) != count or len(self.ids) != count:
            raise DataError(
                f"{self.name}: {count} images, {len(self.labels)} labels and {len(self.ids)} ids. "
                "Give one of each an image."
            )
        _check_labels(self.labels, self.ids, self.classes, self.name)
        if len(np.unique(self.ids)) != count or self.ids.min() < 0:
            raise DataError(
                f"{self.name}: ids must be different and not negative: they name the images in every result."
            )

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike | Sequence[int],
        *,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
        ids: ArrayLike | Sequence[int] | None = None,
        split: str = "",
    ) -> "ImageSet":
        """A set from arrays or tensors, which are copied.

        Args:
            images: (N, C, H, W), (N, H, W, C) or (N, H, W): uint8, or floats in [0, 1]. The axis of 1 or 3 is the
                channels.
            labels: (N,) class indices.
            classes: names of the classes; "0", "1", ... up to the largest label where left out.
            name: what to call the set.
            ids: (N,) different whole numbers; 0, 1, ... where left out.
            split: "test", "train", ... where that is known.

        Raises:
            EmptyDataError: no image.
            DataError: a shape, type or range that images or labels cannot have.
        """
        pixels = as_pixels(images, f"{name}: images")
        known = as_labels(labels, len(pixels), f"{name}: labels")
        return cls(
            name=name,
            split=split,
            labels=known,
            ids=np.arange(len(pixels), dtype=np.int64) if ids is None else as_labels(ids, len(pixels), f"{name}: ids"),
            classes=numbered(known, f"{name}: labels") if classes is None else tuple(str(word) for word in classes),
            shape=(pixels.shape[1], pixels.shape[2], pixels.shape[3]),
            selection="all",
            _reader=ArrayReader(pixels),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        title = " ".join(word for word in (self.name, self.split) if word)
        size = f"{len(self)} images {channels}x{height}x{width}"
        return f"<ImageSet {title}: {size}, {len(self.classes)} classes, {self.selection}>"

    def pixels(self, positions: Positions | None = None) -> Pixels:
        """Pixels as they were stored: (k, C, H, W) uint8, or float32 in [0, 1] where the source was off the 8-bit grid.

        Args:
            positions: which images, 0 to N - 1, in the order wanted; all where left out. Only these are decoded.

        Raises:
            ArgumentError: a position that does not exist.
            DataError: an image that cannot be decoded, or that has another shape.
        """
        return self._reader.pixels(self._rows(positions))

    def images(self, positions: Positions | None = None) -> torch.Tensor:
        """Images as models take them: (k, C, H, W) float32 in [0, 1], on the CPU. "
        "Arguments and errors are those of `pixels`."""
        pixels = torch.from_numpy(self.pixels(positions))
        return pixels.to(torch.float32).div_(255) if pixels.dtype == torch.uint8 else pixels

    def take(self, positions: Positions) -> "ImageSet":
        """Only the images at these positions, in this order, with their ids.

        Raises:
            EmptyDataError: no position.
            ArgumentError: a position that does not exist.
            DataError: a position that comes twice.
        """
        rows = self._rows(positions)
        return self._chosen(rows, f"{len(rows)} chosen")

    def limit(self, n: int | None, how: How = "balanced") -> "ImageSet":
        """At most `n` images, in source order. No limit, or one as large as the set, gives the set itself.

        "balanced" takes the first n/K images of each of the K classes; where K does not divide n, the first n mod K
        classes give one more. So a smaller balanced limit is always part of a larger one.
        "first" takes the first n images, whatever they show.

        Raises:
            ArgumentError: n is no count of images that the set (or, balanced, each of its classes) has.
            UnknownNameError: `how` is neither.
        """
        if how not in get_args(How):
            raise UnknownNameError.among("how", str(how), get_args(How))
        if n is None:
            return self
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ArgumentError(
                "limit", n, "not a count of images", "Give a whole number, at least 1, or leave the limit out."
            )
        if n > len(self):
            raise ArgumentError(
                "limit",
                n,
                f"{self.name} has {len(self)} images",
                f"Ask for at most {len(self)}, or leave the limit out.",
            )
        if n == len(self):
            return self
        return self._chosen(np.arange(n) if how == "first" else self._balanced(int(n)), f"{how} {n}")

    def check(self) -> None:
        """Look at every image's header, without decoding it.

        Raises:
            DataError: an image that is unreadable (UnreadableImageError) or of another shape.
        """
        self._reader.check()

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits that change with any image, label, id, or the order of the selection.

        SHA-256 over shape and coding, then over id, label and content of each image. Content is the pixels, or the
        encoded bytes where images are decoded on demand, so that the fingerprint is the same whichever decoder a
        machine has.
        """
        total = hashlib.sha256(f"atodds images 1\n{self.shape}\n{self._reader.coding}\n".encode())
        for number, label, digest in zip(
            self.ids.astype("<i8"), self.labels.astype("<i8"), self._reader.digests(), strict=True
        ):
            total.update(number.tobytes() + label.tobytes() + digest)
        return total.hexdigest()

    def _rows(self, positions: Positions | None) -> Integers:
        if positions is None:
            return np.arange(len(self), dtype=np.int64)
        rows = np.asarray(positions)
        if rows.ndim == 1 and rows.size == 0:
            return np.zeros(0, np.int64)
        if rows.dtype == np.bool_:
            raise ArgumentError("positions", positions, "a mask, not positions", "Give np.flatnonzero(mask).")
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ArgumentError(
                "positions", positions, "not a list of positions", "Give whole numbers, such as [0, 1, 2]."
            )
        if rows.min() < 0 or rows.max() >= len(self):
            raise ArgumentError(
                "positions",
                positions,
                f"{self.name} has positions 0 to {len(self) - 1}",
                "Give only these; ids are not positions.",
            )
        return rows.astype(np.int64)

    def _chosen(self, rows: Integers, words: str) -> "ImageSet":
        return replace(
            self,
            labels=self.labels[rows],
            ids=self.ids[rows],
            selection=words if self.selection == "all" else f"{words} of {self.selection}",
            _reader=self._reader.take(rows),
        )

    def _balanced(self, n: int) -> Integers:
        kinds = len(self.classes)
        counts = np.bincount(self.labels, minlength=kinds)
        quota = n // kinds + (np.arange(kinds) < n % kinds)
        largest = int((counts * kinds + np.arange(kinds)).min())
        if n < kinds:
            problem = f"fewer images than the {kinds} classes of {self.name}, so no balanced selection"
            raise ArgumentError("limit", n, problem, f"Ask for at least {kinds}, or for how='first'.")
        if n > largest:
            scarce = int(np.flatnonzero(counts < quota)[0])
            problem = (
                f"class {self.classes[scarce]!r} of {self.name} has {counts[scarce]} images, {quota[scarce]} are needed"
            )
            most = f"Ask for at most {largest}, or for" if largest >= kinds else "Ask for"
            raise ArgumentError("limit", n, problem, f"{most} how='first'.")
        by_class = np.argsort(self.labels, kind="stable")
        rank = np.arange(len(self)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(by_class[rank < quota[self.labels[by_class]]])


def _check_labels(labels: Integers, ids: Integers, classes: tuple[str, ...], name: str) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong) == 0:
        return
    row = wrong[0]
    hint = (
        "A label of -1 marks images without a label: take another split."
        if labels[row] == -1
        else "Give every class a name, in order."
    )
    raise DataError(
        f"{name}: image {ids[row]} has label {labels[row]}, but the {len(classes)} classes are 0 to "
        f"{len(classes) - 1}. {hint}"
    )
