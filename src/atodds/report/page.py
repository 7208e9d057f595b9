"""The page: one HTML file that needs nothing else, in the order of a reader's questions."""

import base64
import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from atodds.analysis import Median, Rate, Traits
from atodds.analysis.numbers import count, percent
from atodds.errors import RunError
from atodds.report import colours
from atodds.report.charts import CHARTS, Panel, theme
from atodds.report.facts import Facts, ModelFacts, gather
from atodds.report.gallery import BUDGET, gallery
from atodds.report.source import Source
from atodds.report.words import Name, Sentence, answer, conjunction, counted

log = logging.getLogger("atodds")

LARGEST = 5_000_000
"""Bytes that a page should not exceed."""
HELD = "\N{NO-BREAK SPACE}%"
PADDING = {"left": 0, "top": 8, "right": 6, "bottom": 4}
MARKS = {"error": "✕", "warning": "▲", "note": "●"}
NOTHING = {"classes": "There is only one class.", "attacks": "Nothing was attacked.", "curves": "Nothing was attacked."}
SECTIONS = {
    "leaderboard": "Leaderboard",
    "curves": "Robust accuracy over ε",
    "tradeoff": "What accuracy costs",
    "classes": "Classes",
    "attacks": "What each attack added",
    "bounds": "Lower and upper bounds",
    "transfer": "Transfer",
    "images": "Images",
    "audit": "Can it be believed",
    "provenance": "How it was made",
}
"""The sections after the answer, in order: id and heading."""
CHARTED = ("curves", "tradeoff", "classes", "attacks", "bounds", "transfer")
"""The sections of charts. Those without a word in `NOTHING` are left out where they are empty."""


@dataclass(frozen=True)
class Cell:
    """A rate of the leaderboard; `best` where its whole interval lies above all others."""

    rate: Rate
    best: bool


@dataclass(frozen=True)
class Row:
    """A model of the leaderboard."""

    model: ModelFacts
    rates: tuple[Cell, ...]
    median: str
    median_interval: str
    best_median: bool


def write(run: Source, path: str | os.PathLike[str], traits: Mapping[str, Traits] | None = None) -> Path:
    """Write the page of a finished run into one file, and give its path back; `traits` as for `render`.

    Raises:
        RunError: the run is not finished or not whole, or the file cannot be written.
    """
    content = render(run, traits).encode()
    if len(content) > LARGEST:
        log.warning("The page is %.1f MB large; fewer models or classes make it smaller.", len(content) / 1e6)
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise RunError(
            f"The page cannot be written to {target}: {error.strerror or error}. Give another file."
        ) from error
    return target


def render(run: Source, traits: Mapping[str, Traits] | None = None) -> str:
    """The page of a finished run, as HTML.

    Args:
        run: to be read.
        traits: family, depth and size of models, by name or id; with them it says what drives robustness.

    Raises:
        RunError: the run is not finished or not whole.
    """
    facts = gather(run, traits)
    paint = colours.variables(len(facts.attacks))
    figures = [(chart, figure) for chart in CHARTS if (figure := chart.draw(facts, paint)) is not None]
    filled = {chart.section for chart, _ in figures}
    sections = {
        section: heading
        for section, heading in SECTIONS.items()
        if section in filled or section in NOTHING or section not in CHARTED
    }
    drawings = {
        f"{chart.name}-{place}": spec_of(panel, paint)
        for chart, figure in figures
        for place, panel in enumerate(figure.panels)
    }
    galleries = [gallery(run, facts, model, budget=BUDGET // len(facts.models)) for model in facts.models]
    scripts = [Markup(runtime()), Markup(asset("app.js"))]
    return (
        environment()
        .get_template("page.html")
        .render(
            facts=facts,
            manifest=facts.manifest,
            title=_title(facts),
            trust="error" if facts.count("error") else "warning" if facts.count("warning") else "good",
            nothing=NOTHING,
            answer=answer(facts),
            sections=sections,
            charted=CHARTED,
            shown=facts.shown,
            board=leaderboard(facts),
            figures={section: [f for f in figures if f[0].section == section] for section in SECTIONS},
            drawings=drawings,
            galleries=galleries,
            marks=MARKS,
            style=Markup(style(len(facts.attacks))),
            scripts=scripts,
            policy=policy(scripts),
            passes=sum(model.shares.passes for model in facts.models),
            seconds=sum(sum(model.seconds.values()) for model in facts.models),
        )
    )


def leaderboard(facts: Facts) -> tuple[Row, ...]:
    """The rows of the leaderboard, the model that keeps most at the key budget first."""
    columns = [[model.accuracy for model in facts.models]]
    columns += [[model.at(budget) for model in facts.models] for budget in facts.shown]
    medians = [model.median for model in facts.models]
    rows = []
    for place, model in enumerate(facts.models):
        cells = tuple(Cell(column[place], _best(place, column)) for column in columns)
        median, interval = facts.unit.median(model.median, facts.budgets[-1]) if model.median else ("none right", "")
        rows.append(Row(model, cells, median, interval, _best(place, medians)))
    return tuple(rows)


@cache
def runtime() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the package that also draws the figures."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vega_lite_version())).replace(
        "</script", "<\\/script"
    )


def vega_lite_version() -> str:
    """The version of Vega-Lite that Altair writes for: "6.4"."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _best(place: int, column: Sequence[Rate | Median | None]) -> bool:
    """Whether the interval at a place lies above those at all other places, of which there is at least one."""
    mine, others = column[place], [number for k, number in enumerate(column) if k != place]
    return mine is not None and bool(others) and all(other is None or mine.low > other.high for other in others)


def spec_of(panel: Panel, paint: colours.Paint) -> dict[str, Any]:
    """A panel as the page's script takes it: Vega-Lite as wide as its place, which makes room for its labels itself."""
    drawing = panel.drawing.properties(width="container", description=panel.alternative, padding=PADDING)
    return {**drawing.to_dict(), "config": theme(paint)}


def _prose(sentence: Sentence) -> Markup:
    """A sentence with its names set apart. Everything in it is escaped."""
    named = Markup("<code>{}</code>")
    return Markup("").join(named.format(part) if isinstance(part, Name) else _held(part) for part in sentence)


def style(attacks: int) -> str:
    """The style sheet, light, dark and printed: a dark page still prints on white."""
    light, dark = colours.style(attacks, "light"), colours.style(attacks, "dark")
    night = f"@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}"
    scale = f".scale i{{background:linear-gradient(to right,{','.join(colours.VIRIDIS)})}}"
    return f":root{{color-scheme:light;{light}}}{night}{asset('style.css')}{scale}"


def policy(scripts: Sequence[str]) -> str:
    """What the page may do: run these scripts and no others, show images that it holds, load nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


@cache
def environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("atodds.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(prose=_prose, wrapped=_wrapped, held=_held, rate=_rate, count=count, duration=_duration)
    environment.globals.update(counted=counted, shape=colours.path_of, tally=_tally)
    return environment


@cache
def asset(name: str) -> str:
    return (resources.files("atodds.report") / "templates" / name).read_text(encoding="utf-8")


def _held(text: str) -> str:
    """Text whose percent signs stay with their numbers."""
    return text.replace(" %", HELD)


def _wrapped(name: str) -> Markup:
    """A name that may break after _ - / and dots."""
    pieces = re.split(r"(?<=[_\-/.])(?=[^_\-/.])", name)
    return Markup("<wbr>").join(pieces)


def _rate(rate: Rate) -> Markup:
    interval = Markup("<small>({}–{})</small>").format(percent(rate.low), percent(rate.high))
    return Markup("{}{} {}").format(percent(rate.value), HELD, interval)


def _tally(model: ModelFacts) -> str:
    """What the audit says of a model, by mark and by word."""
    for severity in ("error", "warning"):
        if number := model.count(severity):
            return f"{MARKS[severity]} {counted(number, severity)}"
    return "✓ 0 warnings"


def _title(facts: Facts) -> str:
    names = [model.name for model in facts.models]
    subject = conjunction(names) if len(names) <= 3 else f"{len(names)} models"
    return f"Robustness of {subject} on {facts.manifest.data.name}"


def _duration(seconds: float) -> str:
    """Wall time as people say it: "0.4 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
