"""From the bytes of one JPEG, PNG, ... to pixels: the only place where Pillow sees a file that somebody else made."""

import io
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from atodds.data.arrays import unreadable
from atodds.errors import ArgumentError, DataError, UnreadableImageError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
"""Formats that Pillow may open; the others (PostScript, ...) can start programs or are not photographs."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")

MOST_PIXELS = 89_478_485
"""A larger image is taken for a decompression bomb (Pillow's own threshold, where it only warns)."""

LARGEST_SIZE = 4096

CROP = 0.875
"""Share of the shorter side that `size=` keeps: the field's 224 of 256."""

GREY = frozenset({"1", "L", "LA", "La"})
DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})

BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    AttributeError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
"""What Pillow's readers raise on damaged files; warnings too, where they are errors."""


@dataclass(frozen=True)
class Form:
    """What every image of a set must become.

    Attributes:
        mode: "L" (grey) or "RGB".
        height, width: pixels.
        size: the side that images are resized and cropped to, or None: as they are.
        like: the image that height and width were read from, by name.
    """

    mode: Literal["L", "RGB"]
    height: int
    width: int
    size: int | None
    like: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1 if self.mode == "L" else 3, self.height, self.width)


def checked_size(size: int | None) -> int | None:
    """`size`, if images can be cropped to it.

    Raises:
        ArgumentError: they cannot.
    """
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
        raise ArgumentError(
            "size", size, "not a side in pixels", f"Give a whole number from 1 to {LARGEST_SIZE}, such as 224."
        )
    return size


def form_of(samples: Iterable[tuple[str, bytes]], size: int | None) -> Form:
    """The form of a set, from the first of its images and a few others.

    Grey if all samples are grey, colour otherwise; height and width of the first, or `size`.
    """
    (like, data), *others = samples
    first = _opened(data, like)
    grey = first.mode in GREY and all(_not_coloured(data, where) for where, data in others)
    mode: Literal["L", "RGB"] = "L" if grey else "RGB"
    return Form(mode, size or first.height, size or first.width, size, like)


def _not_coloured(data: bytes, where: str) -> bool:
    """Whether an image is grey; one that is unreadable decides nothing, and is named when it is asked for."""
    try:
        return _opened(data, where).mode in GREY
    except UnreadableImageError:
        return True


def check(data: bytes, form: Form, where: str) -> None:
    """Hold one image's header against the form.

    Raises:
        UnreadableImageError: no image, one of a kind that is not read, or far too large.
        DataError: another shape, or colour among grey images.
    """
    _held(_opened(data, where), form, where)


def decode(data: bytes, form: Form, where: str) -> npt.NDArray[np.uint8]:
    """One image as (C, H, W) uint8. Transparency is dropped; rotation tags are not followed, as the field's own loaders
    do.

    Raises:
        UnreadableImageError: it cannot be decoded.
        DataError: another shape, or colour among grey images.
    """
    image = _opened(data, where)
    _held(image, form, where)
    try:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        plain = image if image.mode == form.mode else image.convert(form.mode)
        if form.size is not None:
            plain = fit(plain, form.size, where)
        array = np.asarray(plain)
    except BROKEN as problem:
        if isinstance(problem, UnreadableImageError):
            raise
        raise unreadable(where, problem) from None
    return array[None] if form.mode == "L" else np.moveaxis(array, 2, 0)


def fit(image: Image.Image, size: int, where: str) -> Image.Image:
    """The image with its shorter side resized (bilinear) to round(size / 0.875), then its size x size centre.

    An image that already is size x size is left as it is.

    Raises:
        UnreadableImageError: so narrow that its longer side would become absurdly long.
    """
    width, height = image.size
    if width == height == size:
        return image
    shorter = round(size / CROP)
    wide, high = (shorter, shorter * height // width) if width <= height else (shorter * width // height, shorter)
    if wide * high > MOST_PIXELS:
        raise unreadable(where, f"{width}x{height} pixels would be resized to {wide}x{high}")
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))


def fit_all(pixels: npt.NDArray[np.uint8], size: int, where: str) -> npt.NDArray[np.uint8]:
    """(N, C, H, W) to (N, C, size, size), each image by `fit`. Takes 1 or 3 channels."""
    out = np.empty((len(pixels), pixels.shape[1], size, size), np.uint8)
    for row, image in enumerate(pixels):
        flat = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, 2)))
        fitted = np.asarray(fit(flat, size, f"{where} row {row}"))
        out[row] = fitted[None] if len(image) == 1 else np.moveaxis(fitted, 2, 0)
    return out


def _opened(data: bytes, where: str) -> Image.Image:
    if not data:
        raise unreadable(where, "it holds no bytes; where only a path is stored, embed the image")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise unreadable(where, "none of " + ", ".join(FORMATS)) from None
    except BROKEN as problem:
        raise unreadable(where, problem) from None
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise unreadable(where, f"{width}x{height} pixels, more than {MOST_PIXELS}")
    if width < 1 or height < 1:
        raise unreadable(where, f"{width}x{height} pixels")
    if image.mode in DEEP:
        raise unreadable(where, f"more than 8 bits a pixel, mode {image.mode}; convert it to 8 bits")
    return image


def _held(image: Image.Image, form: Form, where: str) -> None:
    if form.mode == "L" and image.mode not in GREY:
        raise DataError(
            f"{where} is in colour, but {form.like} and others are grey. Convert all to colour, or all to grey."
        )
    if form.size is None and image.size != (form.width, form.height):
        raise DataError(
            f"{form.like} is {form.width}x{form.height} and {where} is {image.width}x{image.height} pixels, "
            "but a set has one shape. Pass size= (such as size=224) to resize and crop all images alike."
        )
