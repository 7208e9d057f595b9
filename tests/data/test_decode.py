"""Decoding one image: what comes out, and what is refused before it does harm."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from atodds.data.decode import Form, checked_size, decode, fit, fit_all, form_of
from atodds.errors import ArgumentError, DataError, UnreadableImageError

COLOURS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def form(mode: str = "RGB", size: int | None = None) -> Form:
    return Form("L" if mode == "L" else "RGB", size or 2, size or 3, size, "first.png")


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    chunks = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(100)), b"IEND"
    packed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_colours_come_out_channels_first() -> None:
    assert (decode(encoded(Image.fromarray(COLOURS)), form(), "a.png") == COLOURS.transpose(2, 0, 1)).all()


def test_grey_among_colours_becomes_colour() -> None:
    grey = COLOURS[:, :, 0]
    assert (decode(encoded(Image.fromarray(grey)), form(), "a.png") == np.stack([grey] * 3)).all()


def test_transparency_and_palettes_become_plain_colour() -> None:
    image = Image.fromarray(COLOURS)
    clear = image.convert("RGBA")
    clear.putalpha(7)
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.info["transparency"] = bytes([0, 255])
    for given in (clear, palette):
        assert (decode(encoded(given), form(), "a.png") == COLOURS.transpose(2, 0, 1)).all()


def test_black_and_white_becomes_grey() -> None:
    pixels = decode(encoded(Image.fromarray(COLOURS[:, :, 0] > 50)), form("L"), "a.png")
    assert pixels.shape == (1, 2, 3)
    assert set(pixels.ravel().tolist()) == {0, 255}


def test_colour_among_grey_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"a\.png is in colour, but first\.png and others are grey"):
        decode(encoded(Image.fromarray(COLOURS)), form("L"), "a.png")


def test_another_shape_names_both_images_and_the_way_out() -> None:
    with pytest.raises(DataError, match=r"first\.png is 3x2 and a\.png is 5x4 pixels.*size="):
        decode(encoded(Image.new("RGB", (5, 4))), form(), "a.png")


def test_sixteen_bits_are_refused_rather_than_cut() -> None:
    with pytest.raises(UnreadableImageError, match="more than 8 bits"):
        decode(encoded(Image.fromarray(np.full((2, 3), 60_000, np.uint16))), form("L"), "a.png")


@pytest.mark.parametrize("content", [b"", b"no image", encoded(Image.new("RGB", (3, 2)))[:-30], b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match=r"^a\.png: cannot be decoded"):
        decode(content, form(), "a.png")


def test_formats_that_can_start_programs_are_not_opened() -> None:
    with pytest.raises(UnreadableImageError, match="none of JPEG"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 2\n%%EndComments\n%%EOF\n", form(), "a.png")


@pytest.mark.parametrize("side", [10_000, 20_000, 2_000_000_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(UnreadableImageError, match=r"exceeds limit|more than 89478485"):
        decode(claiming(side, side), form(size=32), "a.png")


def test_a_bomb_is_refused_where_warnings_are_not_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UnreadableImageError, match="10000x10000 pixels, more than 89478485"):
            decode(claiming(10_000, 10_000), form(size=32), "a.png")


def test_a_resize_that_would_grow_into_a_bomb_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="would be resized to 4681x46810000"):
        decode(encoded(Image.new("L", (1, 10_000))), form(size=4096), "a.png")


def test_size_resizes_the_shorter_side_and_crops_the_centre() -> None:
    wide = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (100, 1)))
    expected = wide.resize((128, 64), Image.Resampling.BILINEAR).crop((36, 4, 92, 60))
    assert (np.asarray(fit(wide, 56, "a.png")) == np.asarray(expected)).all()
    small = wide.resize((74, 37), Image.Resampling.BILINEAR).crop((21, 2, 53, 34))
    assert (np.asarray(fit(wide, 32, "a.png")) == np.asarray(small)).all()
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    assert (np.asarray(fit(tall, 56, "a.png")) == np.rot90(np.asarray(expected))).all()


def test_size_is_the_usual_224_of_256() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    assert (np.asarray(fit(image, 224, "a.png")) == np.asarray(image)[16:240, 16:240]).all()


def test_an_image_of_the_size_asked_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    assert (fit_all(pixels, 32, "some") == pixels).all()


@pytest.mark.parametrize("size", [0, -1, 5000, True, 2.5, "224"])
def test_sizes_that_cannot_be_are_refused(size: object) -> None:
    with pytest.raises(ArgumentError, match="size="):
        checked_size(size)  # type: ignore[arg-type]


def test_one_grey_image_in_front_does_not_make_a_set_grey() -> None:
    grey, colour = encoded(Image.new("L", (3, 2))), encoded(Image.new("RGB", (3, 2)))
    assert form_of([("a", grey), ("b", colour)], None).shape == (3, 2, 3)
    assert form_of([("a", grey), ("b", grey)], None).shape == (1, 2, 3)
    assert form_of([("a", colour)], 16).shape == (3, 16, 16)
