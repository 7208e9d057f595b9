"""Arrays and tensors as images and labels: layout, range and type, checked once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from atodds.errors import DataError, EmptyDataError, UnreadableImageError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
ArrayLike = np.ndarray | torch.Tensor

GRID = 1e-4
"""How far, in units of 1/255, a float may lie from k/255 and still be that 8-bit pixel: float32 rounding, no more."""

BLOCK = 1024
"""Images looked at together, so that checking a large array takes little memory beside it."""

MOST_CLASSES = 100_000
"""More classes than any image data set has: a larger label is a mistake, not a class."""


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Images that are in memory: (N, C, H, W), uint8 or float32."""

    array: Pixels

    def __len__(self) -> int:
        return len(self.array)

    @property
    def coding(self) -> str:
        """What the digests cover: raw pixels of this type."""
        return f"{self.array.dtype.name} pixels"

    def take(self, rows: Integers) -> "ArrayReader":
        """Only these rows, copied, so that a worker is sent no more than it needs."""
        return ArrayReader(self.array[rows])

    def pixels(self, rows: Integers) -> Pixels:
        """A copy of these rows."""
        return self.array[rows]

    def digests(self) -> list[bytes]:
        """SHA-256 of the pixels of each image."""
        little = self.array.astype(self.array.dtype.newbyteorder("<"), copy=False)
        return [hashlib.sha256(image.tobytes()).digest() for image in little]

    def check(self) -> None:
        """Nothing to find: the array was checked when it came."""


def as_pixels(images: ArrayLike, where: str = "images") -> Pixels:
    """Images as (N, C, H, W): uint8, or float32 where the values lie off the 8-bit grid.

    Args:
        images: NCHW, NHWC or NHW. A side of 1 or 3 is the channels; where both ends could be, the layout is NCHW.
            uint8, another integer type within 0..255, booleans, or floats in [0, 1].
        where: what to call them in a message.

    Returns:
        A new array. Floats that are k/255 come back as uint8, others as float32.

    Raises:
        EmptyDataError: no image.
        DataError: another layout, a type that holds no pixels, NaN, or values outside the range.
    """
    array = _channels_first(_numpy(images, where), where)
    if array.dtype == np.uint8:
        return np.array(array, order="C")
    if array.dtype == np.bool_:
        return array.astype(np.uint8, order="C") * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{where}: {array.dtype} holds no pixels. Give uint8 (0..255) or floats in [0, 1].")
    low, high = array.min(), array.max()
    if array.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise DataError(
                f"{where}: whole numbers from {low} to {high}, but 8-bit pixels lie in 0..255. "
                "Give uint8, or floats in [0, 1]."
            )
        return array.astype(np.uint8, order="C")
    if not (low >= 0 and high <= 1):
        raise DataError(f"{where}: {_range_advice(float(low), float(high))}")
    return _on_the_grid(array)


def as_labels(labels: ArrayLike | Sequence[int], count: int, where: str = "labels") -> Integers:
    """Labels (or ids) as (N,) int64: one whole number an image.

    Raises:
        DataError: not whole numbers, another shape, or another count than that of the images.
    """
    array = _numpy(labels if isinstance(labels, torch.Tensor) else np.asarray(labels), where)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and len(array) == count:
        raise DataError(
            f"{where}: shape {array.shape}, one row an image. "
            "Give class indices: labels.argmax(1) if the rows are one-hot."
        )
    if array.ndim != 1:
        raise DataError(f"{where}: shape {array.shape}. Give one whole number an image, shape ({count},).")
    if len(array) != count:
        hint = " One image alone needs a first axis too: images[None]." if len(array) == 1 else ""
        raise DataError(f"{where}: {len(array)} for {count} images. Give one an image.{hint}")
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: {array.dtype} came. Give whole numbers.")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{where}: {array.max()} is too large. Give whole numbers of 64 bits with a sign.")
    return array.astype(np.int64)


def numbered(labels: Integers, where: str = "labels") -> tuple[str, ...]:
    """Class names where none were given: "0", "1", ... up to the largest label.

    Raises:
        DataError: a label that can be no class index.
    """
    last = int(labels.max(initial=-1))
    if last >= MOST_CLASSES:
        raise DataError(f"{where}: label {last} cannot be a class index. Number the classes 0, 1, 2, ...")
    return tuple(str(label) for label in range(last + 1))


def _numpy(values: ArrayLike, where: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        detached = values.detach().cpu()
        return (detached.float() if detached.dtype == torch.bfloat16 else detached).numpy()
    if not isinstance(values, np.ndarray):
        raise DataError(f"{where}: a {type(values).__name__} came. Give a NumPy array or a tensor.")
    return np.asarray(values)


def _channels_first(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim != 4:
        raise DataError(f"{where}: shape {array.shape}. Give (N, C, H, W), (N, H, W, C) or (N, H, W).")
    elif array.shape[1] not in (1, 3):
        if array.shape[3] in (1, 3) or array.shape[3] < min(array.shape[1:3]):
            array = np.moveaxis(array, 3, 1)
        elif array.shape[1] >= min(array.shape[2:]):
            raise DataError(
                f"{where}: shape {array.shape}: which axis holds the channels? "
                "Give (N, C, H, W), C smaller than H and W."
            )
    if len(array) == 0:
        raise EmptyDataError(f"{where}: no image. Give at least one.")
    if array.size == 0:
        raise DataError(f"{where}: shape {array.shape} holds no pixel.")
    return array


def _range_advice(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "NaN or infinite values among the pixels. Every pixel must lie in [0, 1]."
    came = f"pixels from {low:.4g} to {high:.4g}, but they must lie in [0, 1]. "
    if low >= -1e-3 and high <= 1 + 1e-3:
        return f"pixels from {low:.9g} to {high:.9g} leave [0, 1] by rounding. Clip them: images.clip(0, 1)."
    if low >= 0 and high <= 255:
        return came + "Divide by 255, or give uint8."
    return came + "Do not normalise the data: give the images in [0, 1], and mean= and std= to the model."


def _on_the_grid(array: np.ndarray) -> Pixels:
    codes = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), BLOCK):
        scaled = array[start : start + BLOCK].astype(np.float64) * 255
        nearest = np.rint(scaled)
        if np.abs(scaled - nearest).max() > GRID:
            return array.astype(np.float32, order="C")
        codes[start : start + BLOCK] = nearest
    return codes


def unreadable(where: str, problem: object) -> UnreadableImageError:
    """The error for one image that cannot be decoded, by name."""
    return UnreadableImageError(
        f"{where}: cannot be decoded ({' '.join(str(problem).split()) or type(problem).__name__}). "
        "Replace or remove it."
    )
