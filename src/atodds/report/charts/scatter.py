"""What scatter plots share: bars of intervals, and labels beside their points that do not cover each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt

from atodds.report.charts.figure import Drawing, inline
from atodds.report.charts.labels import shortened, spread

LINE = 14
SIZE = 11
GAP = 5
"""Labels stand above and beside their points, off the bars of their intervals."""


@dataclass(frozen=True)
class Spot:
    """A point that is labelled: its name, where it stands on the axes (fields `x` and `y`), how many pixels from the
    top, and whether in the right half, from where its label goes to the left."""

    name: str
    x: float
    y: float
    top: float
    right: bool


def lettering(
    spots: Sequence[Spot], x: alt.X, y: alt.Y, height: float, *, wide: int = 30, narrow: int = 12
) -> list[alt.Chart]:
    """Labels beside their points, moved up and down so that none covers another of its side.

    The chart needs a parameter `narrow`: then labels have at most `narrow` letters, and `wide` ones otherwise.
    """
    drawn = []
    sides: tuple[tuple[bool, Literal["left", "right"], int], ...] = ((False, "left", GAP), (True, "right", -GAP))
    for right, align, gap in sides:
        mine = [spot for spot in spots if spot.right == right]
        if not mine:
            continue
        placed = spread([spot.top for spot in mine], [LINE] * len(mine), 0, height)
        rows = [
            {
                "x": spot.x,
                "y": spot.y,
                "wide": shortened(spot.name, wide),
                "narrow": shortened(spot.name, narrow),
                "shift": place - spot.top,
            }
            for spot, place in zip(mine, placed, strict=True)
        ]
        text = alt.Chart(inline(rows)).mark_text(
            align=align,
            baseline="bottom",
            dx=gap,
            dy=alt.expr("datum.shift - 3"),
            text=alt.expr("narrow ? datum.narrow : datum.wide"),
            fontSize=SIZE,
        )
        drawn.append(text.encode(x, y))
    return drawn


def intervals(base: alt.Chart, x: alt.X, y: alt.Y, colour: alt.Color, titles: tuple[str, str]) -> list[alt.Chart]:
    """Crosses of two intervals: fields `xlow` to `xhigh`, and `ylow` to `yhigh`."""
    bars = base.mark_rule(strokeWidth=1, opacity=0.6, clip=True)
    return [
        bars.encode(alt.X("xlow:Q", title=titles[0]), alt.X2("xhigh:Q"), y, colour),
        bars.encode(x, alt.Y("ylow:Q", title=titles[1]), alt.Y2("yhigh:Q"), colour),
    ]


def with_narrow(layers: Sequence[alt.Chart], height: float) -> Drawing:
    """The layers as one chart that knows whether the page is narrow."""
    return alt.layer(*layers).add_params(alt.param(name="narrow", value=False)).properties(height=height)


def round_values(low: float, high: float) -> list[float]:
    """Numbers that begin with 1, 2 or 5, from low to high: the ticks of a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for digit in (1, 2, 5) if low <= (value := digit * 10.0**power) <= high]
