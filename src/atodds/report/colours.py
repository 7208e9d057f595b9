"""Colours with a fixed meaning: one a model over the whole page, one an attack in its order, one scale for rates.

On a page every colour is a CSS variable, so that light, dark and print only swap a style sheet; a figure in a file gets
the values of the light theme.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MODELS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
"""Okabe and Ito (2008), "Color universal design": told apart with every common colour vision. Black becomes the ink."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
"""As many as there are not colours, so that the pair of a colour and a shape repeats only after 56 models."""

VIRIDIS = (
    "#440154",
    "#482475",
    "#414487",
    "#355f8d",
    "#2a788e",
    "#21918c",
    "#22a884",
    "#44bf70",
    "#7ad151",
    "#bddf26",
    "#fde725",
)
"""The scale of rates, 0 to 1 in steps of a tenth."""

WHITE_BELOW = 0.45
"""Rates whose colour takes white text; the others take black."""

PATHS = {
    "circle": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    "square": "M-4.5,-4.5h9v9h-9Z",
    "triangle-up": "M0,-5L5.2,4.5H-5.2Z",
    "diamond": "M0,-6L4.5,0L0,6L-4.5,0Z",
    "cross": "M-5,-2h3v-3h4v3h3v4h-3v3h-4v-3h-3Z",
    "triangle-down": "M0,5L5.2,-4.5H-5.2Z",
    "triangle-right": "M5,0L-4.5,5.2V-5.2Z",
}
"""The shapes as SVG paths around 0, in a box of 12."""

LIGHT = {"paper": "#ffffff", "ink": "#1a1d21", "soft": "#5a626c", "line": "#d9dde2", "none": "#b4bac2"}
DARK = {"paper": "#14171b", "ink": "#e8eaed", "soft": "#a2abb6", "line": "#343a42", "none": "#5d6670"}
ACCENTS = {
    "light": {"wash": "#f3f5f7", "focus": "#0072b2", "bad": "#b3261e", "caution": "#8a5300"},
    "dark": {"wash": "#1e2329", "focus": "#56b4e9", "bad": "#ff8a80", "caution": "#f2b866"},
}
ATTACK_ENDS = {"light": ("#b3a6d6", "#33265c"), "dark": ("#6f5fa3", "#dacff5")}
"""From the first attack, which fools most, to the last, whose thin slice stands out most from the paper."""


@dataclass(frozen=True)
class Paint:
    """The colours that a chart is drawn with, by what they mean; `page` says whether it is drawn for a page, whose
    width is not known, or for a file."""

    page: bool
    paper: str
    ink: str
    soft: str
    line: str
    none: str
    models: tuple[str, ...]
    attacks: tuple[str, ...]


def variables(attacks: int) -> Paint:
    """Colours as CSS variables, for a page."""
    names = {name: f"var(--{name})" for name in LIGHT}
    models = tuple(f"var(--model-{place})" for place in range(len(MODELS)))
    return Paint(True, **names, models=models, attacks=tuple(f"var(--attack-{place})" for place in range(attacks)))


def values(attacks: int, theme: str = "light") -> Paint:
    """Colours as values, for a file or for the style sheet of a page."""
    base = LIGHT if theme == "light" else DARK
    models = tuple(base["ink"] if colour == "#000000" else colour for colour in MODELS)
    return Paint(False, **base, models=models, attacks=ramp(*ATTACK_ENDS[theme], attacks))


def style(attacks: int, theme: str) -> str:
    """The declarations of a theme's CSS variables. Only colours written in this file reach it."""
    paint = values(attacks, theme)
    pairs = [*((name, getattr(paint, name)) for name in LIGHT), *ACCENTS[theme].items()]
    pairs += [(f"model-{place}", colour) for place, colour in enumerate(paint.models)]
    pairs += [(f"attack-{place}", colour) for place, colour in enumerate(paint.attacks)]
    return "".join(f"--{name}:{colour};" for name, colour in pairs)


def ramp(start: str, end: str, steps: int) -> tuple[str, ...]:
    """Colours from one to another in equal steps, both included."""
    a, b = (np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) for colour in (start, end))
    mixed: Sequence[np.ndarray] = [a + (b - a) * place / max(1, steps - 1) for place in range(steps)]
    return tuple("#" + "".join(f"{round(float(channel)):02x}" for channel in colour) for colour in mixed)


def shape_of(place: int) -> str:
    """The shape of a model's points, by its place in the run."""
    return SHAPES[place % len(SHAPES)]


def path_of(place: int) -> str:
    """The same shape as an SVG path."""
    return PATHS[shape_of(place)]
