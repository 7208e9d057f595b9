"""Sheets of images: rows and columns with captions, for a page and alone as SVG and PNG, every pixel crisp."""

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import vl_convert

from atodds.report.charts.figure import FONT
from atodds.report.colours import Paint
from atodds.report.figures import LETTERS, SCALE, save
from atodds.report.gallery import png
from atodds.report.words import Sentence, plain

Pixels = npt.NDArray[np.float32]
SIDE = 64
"""The longest side of an image, in CSS pixels; small images are shown at a whole multiple of their pixels."""
LABEL, GAP, CAPTION, HEAD, MARGIN = 150, 6, 15, 20, 16
"""Width of row labels, space between images, height of a caption and of column heads, margin; in pixels."""


@dataclass(frozen=True, eq=False)
class Cell:
    """An image with a caption, which may be empty, and its text alternative.

    Attributes:
        pixels: (C, H, W) in [0, 1].
    """

    pixels: Pixels
    caption: str
    alternative: str

    @property
    def uri(self) -> str:
        """As a PNG, pixel for pixel."""
        return png(self.pixels)


@dataclass(frozen=True, eq=False)
class Row:
    """A label, and images."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """A finding with the images that show it.

    Attributes:
        name: of its files, and its place in the page.
        title: the finding.
        subtitle: what is shown.
        rows: of images of one shape.
        heads: over the columns; empty for none.
    """

    name: str
    title: Sentence
    subtitle: str
    rows: tuple[Row, ...]
    heads: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of an image in CSS pixels."""
        _, height, width = self.rows[0].cells[0].pixels.shape
        longest = max(height, width)
        times = SIDE // longest if longest <= SIDE else SIDE / longest
        return round(width * times), round(height * times)


def write_sheet(sheet: Sheet, paint: Paint, path: str | os.PathLike[str]) -> Path:
    """Write a sheet as SVG, or as PNG where the file ends so, and give its path back.

    Raises:
        RunError: the file cannot be written.
    """
    place, drawn = Path(path), svg(sheet, paint)
    save(place, vl_convert.svg_to_png(drawn, scale=SCALE) if place.suffix == ".png" else drawn.encode())
    return place


def svg(sheet: Sheet, paint: Paint) -> str:
    """A whole sheet as SVG."""
    width, height = sheet.size
    columns = max(len(row.cells) for row in sheet.rows)
    captioned = any(cell.caption for row in sheet.rows for cell in row.cells)
    across, down = width + GAP, height + GAP + (CAPTION if captioned else 0)
    whole = max(560, 2 * MARGIN + LABEL + columns * across)
    parts, top = [], MARGIN
    for text, size, weight, colour, letters in (
        (plain(sheet.title), 16, 600, paint.ink, LETTERS["title"]),
        (sheet.subtitle, 12, 400, paint.soft, LETTERS["subtitle"]),
    ):
        for line in textwrap.wrap(text, round((whole - 2 * MARGIN) / letters)):
            top += size + 4
            parts.append(_text(line, MARGIN, top, size, colour, weight=weight))
    top += 14
    if sheet.heads:
        top += HEAD
        for k, head in enumerate(sheet.heads):
            parts.append(_text(head, MARGIN + LABEL + k * across + width / 2, top - 6, 12, paint.soft, middle=True))
    for row in sheet.rows:
        for k, line in enumerate(textwrap.wrap(row.label, 22)[:3]):
            parts.append(_text(line, MARGIN, top + 16 + 15 * k, 12, paint.ink))
        for k, cell in enumerate(row.cells):
            left = MARGIN + LABEL + k * across
            parts.append(
                f'<image x="{left}" y="{top}" width="{width}" height="{height}" href="{_enlarged(cell, width)}"/>'
            )
            if cell.caption:
                parts.append(_text(cell.caption, left + width / 2, top + height + 12, 11, paint.soft, middle=True))
        top += down
    total = top + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{total}" viewBox="0 0 {whole} {total}" '
        f'font-family="{escape(FONT, {chr(34): "&quot;"})}"><rect width="100%" height="100%" fill="{paint.paper}"/>'
        f"{''.join(parts)}</svg>"
    )


def _enlarged(cell: Cell, width: int) -> str:
    """Every pixel repeated, so that no program that shows the file smooths it."""
    times = max(1, round(SCALE * width / cell.pixels.shape[2]))
    return png(cell.pixels.repeat(times, axis=1).repeat(times, axis=2))


def _text(text: str, x: float, y: float, size: int, colour: str, *, weight: int = 400, middle: bool = False) -> str:
    place = f'x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    anchor = ' text-anchor="middle"' if middle else ""
    return f"<text {place}{anchor}>{escape(text)}</text>"
