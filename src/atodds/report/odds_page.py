"""The page of the study of accuracy against robustness: theory, experiment and pictures in the order of an argument."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from atodds.analysis.numbers import percent
from atodds.errors import RunError
from atodds.evaluation.manifest import Finding
from atodds.evaluation.provenance import commit, machine, now, versions
from atodds.report import colours
from atodds.report.charts import odds, odds_cheaper, odds_seen, odds_theory
from atodds.report.charts.figure import Figure
from atodds.report.figures import write_figure
from atodds.report.odds_sheets import sheets
from atodds.report.page import MARKS, asset, environment, policy, runtime, spec_of, style
from atodds.report.sheets import Sheet, write_sheet
from atodds.report.words import plain
from atodds.studies.odds import OddsStudy
from atodds.theory.tsipras import bound

ARGUMENT: Mapping[str, tuple[str, str]] = {
    "theory": (
        "What is known",
        "There are data on which no classifier is both accurate and robust: what makes the accuracy of many "
        "weak features is what an attack turns around. Training against the attack finds the robust feature "
        "alone, and pays for it.",
    ),
    "samples": (
        "Few samples and many",
        "Do networks do the same? With few samples, training against an attack might help to generalise; with "
        "many, the standard network should find features that the robust one must leave alone.",
    ),
    "trade": (
        "What robustness costs",
        "What does a larger ball in training buy under attack, and what does it cost without one?",
    ),
    "features": (
        "Which features are given up",
        "In a linear task the features can be counted. Which pixels does the robust classifier leave out, and "
        "is a standard classifier robust that is given only the others?",
    ),
    "gradients": (
        "What robust networks see",
        "If what is left are features that people see too, gradients of robust networks should follow the object.",
    ),
    "synthesis": (
        "What that is good for",
        "Far from an image, a robust network should see another class and not noise: then its loss alone "
        "leads from one class to another, and makes images from draws.",
    ),
    "cheaper": (
        "Training made cheaper",
        "Can the gradients of the attack say which images and layers need no work? What counts is the cost at "
        "equal robust accuracy.",
    ),
}
"""By section: its heading, and the step of the argument."""


@dataclass(frozen=True)
class Drawn:
    """A figure under the name that its place in the page and its files have."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Section:
    """A step of the argument, by its name, and the figures and sheets that support it."""

    name: str
    figures: tuple[Drawn, ...] = ()
    sheets: tuple[Sheet, ...] = ()

    @property
    def heading(self) -> str:
        """Over it."""
        return ARGUMENT[self.name][0]

    @property
    def argument(self) -> str:
        """What it asks."""
        return ARGUMENT[self.name][1]


def write_odds(
    study: OddsStudy, path: str | os.PathLike[str], figures: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Write the page of a study into one file, and with a folder every figure and sheet alone as PNG and SVG.

    Returns:
        The page, then the figures.

    Raises:
        RunError: a file that cannot be written.
    """
    content, target = render_odds(study), Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise RunError(f"The page cannot be written to {target}: {error.strerror or error}.") from error
    written = [target]
    if figures is not None:
        paint, place = colours.values(1), Path(figures)
        for section in sections(study, paint):
            for kind in ("svg", "png"):
                written += [write_figure(one.figure, paint, place / f"{one.name}.{kind}") for one in section.figures]
                written += [write_sheet(one, paint, place / f"{one.name}.{kind}") for one in section.sheets]
    return written


def render_odds(study: OddsStudy) -> str:
    """The page of a study, as HTML."""
    paint = colours.variables(1)
    argument = sections(study, paint)
    drawings: dict[str, dict[str, Any]] = {
        f"{drawn.name}-{place}": spec_of(panel, paint)
        for section in argument
        for drawn in section.figures
        for place, panel in enumerate(drawn.figure.panels)
    }
    scripts = [Markup(runtime()), Markup(asset("app.js"))]
    return (
        environment()
        .get_template("odds.html")
        .render(
            title=f"Accuracy and robustness at odds, on {study.data}",
            answer=_answer(study),
            study=study,
            sections=argument,
            findings=_findings(study),
            marks=MARKS,
            drawings=drawings,
            versions=versions(),
            commit=commit(),
            machine=machine(torch.device(study.device)),
            made=now(),
            style=Markup(style(1)),
            scripts=scripts,
            policy=policy(scripts),
        )
    )


def sections(study: OddsStudy, paint: colours.Paint) -> tuple[Section, ...]:
    """The steps of the argument that the study has something for."""
    found = []
    if study.theory is not None:
        found.append(
            Section(
                "theory",
                (
                    Drawn("bound", odds_theory.bounded(study.theory, paint)),
                    Drawn("phases", odds_theory.phases(study.theory)),
                ),
            )
        )
    if study.curves and study.plan is not None:
        n = study.curves[0].crossing.n if study.curves[0].crossing else _n(study)
        figure = odds.samples(study.curves, len(study.plan.seeds), n, paint)
        found.append(
            Section(
                "samples",
                (Drawn("samples", figure),),
            )
        )
    if study.trades:
        found.append(
            Section(
                "trade",
                (Drawn("trade", odds.trade(study.trades, study.attacks, paint)),),
            )
        )
    if study.features is not None:
        found.append(
            Section(
                "features",
                (Drawn("weights", odds_seen.weights(study.features, paint)),),
            )
        )
    if study.pictures is not None:
        drawn = sheets(study.pictures)
        found += [
            Section(
                "gradients",
                (Drawn("alignment", odds_seen.alignment(study.pictures, paint)),),
                drawn[:1],
            ),
            Section(
                "synthesis",
                (),
                drawn[1:],
            ),
        ]
    if study.cheaper is not None:
        found.append(
            Section(
                "cheaper",
                (Drawn("cheaper", odds_cheaper.cheaper(study.cheaper, paint)),),
            )
        )
    return tuple(found)


def _n(study: OddsStudy) -> int:
    return next(curve.crossing.n for curve in study.curves if curve.crossing is not None)


def _answer(study: OddsStudy) -> list[str]:
    said = []
    if study.trades:
        said.append(plain(odds.trade(study.trades, study.attacks, colours.values(1)).title) + ".")
    if study.curves:
        crossed = [curve for curve in study.curves if curve.crossing is not None]
        last = study.curves[0].accuracy[-1].size
        costly = sum(last in curve.crossing.costs for curve in crossed if curve.crossing)
        helped = [curve for curve in crossed if curve.crossing and curve.crossing.helps]
        said.append(
            f"With {last:,} samples, training against an attack clearly costs standard accuracy in {costly} of "
            f"{len(crossed)} networks; at some size it clearly raises that of {len(helped) or 'none'}."
        )
    if study.pictures is not None and len(study.pictures.models) > 1:
        said.append(plain(odds_seen.alignment(study.pictures, colours.values(1)).title) + ".")
    if not said and study.theory is not None:
        p = study.theory.model.p
        said.append(f"With p = {p:g}, 99 % standard accuracy leaves at most {percent(bound(p, 0.99))} % under attack.")
    return said


def _findings(study: OddsStudy) -> list[tuple[str, Finding]]:
    """What the audits of the attacked networks found beyond notes."""
    return [
        (f"{trade.network}, {trade.norm}", finding)
        for trade in study.trades
        for finding in trade.findings
        if finding.severity != "note"
    ]
