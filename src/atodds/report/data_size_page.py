"""The page of the study of data sizes: what it answers, the findings of 2019, three panels for each network."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from atodds.analysis.numbers import percent
from atodds.data.selection import RULES
from atodds.errors import RunError
from atodds.evaluation.manifest import Finding
from atodds.evaluation.store import Store
from atodds.report import colours
from atodds.report.charts.figure import Figure
from atodds.report.charts.selection import selection, told
from atodds.report.charts.sizes import groups, standing, three_panels, tops
from atodds.report.figures import write_figure
from atodds.report.page import MARKS, asset, environment, policy, runtime, spec_of, style
from atodds.report.study_page import SIGNS
from atodds.report.words import conjunction, counted
from atodds.studies.claims import VERDICTS
from atodds.studies.data_selection import Selected, SelectionPlan
from atodds.studies.data_size import Curve, DataSizeStudy
from atodds.studies.data_size_claims import claims, interval, short
from atodds.studies.data_size_plan import MARKS as VARIANT_MARKS


@dataclass(frozen=True)
class Drawn:
    """A figure under the name that its place in the page has."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Kept:
    """The rules that choose training images, beside the curves."""

    plan: SelectionPlan
    selected: tuple[Selected, ...]


@dataclass(frozen=True)
class Figures:
    """The figures of the page: curves, a network each; robust accuracy; rules, a network each."""

    curves: tuple[Drawn, ...]
    fixed: Drawn
    chosen: tuple[Drawn, ...]

    @classmethod
    def of(cls, study: DataSizeStudy, kept: Kept | None, paint: colours.Paint) -> "Figures":
        """Those of a study."""
        ends = tops(study)
        curves = [Drawn(f"sizes-{few[0].variant.network}", three_panels(few, ends, paint)) for few in groups(study)]
        chosen = (
            []
            if kept is None
            else [
                Drawn(f"select-{one.variant.name.replace('+', '-')}", selection(one, kept.plan, paint))
                for one in kept.selected
            ]
        )
        return cls(tuple(curves), Drawn("standing", standing(study, paint)), tuple(chosen))

    def __iter__(self) -> Iterator[Drawn]:
        return iter((*self.curves, self.fixed, *self.chosen))


def write_data_size(
    study: DataSizeStudy,
    path: str | os.PathLike[str],
    kept: Kept | None = None,
    figures: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write the page of a study into one file, and with a folder every figure alone as PNG and SVG.

    Args:
        study: the curves.
        path: of the page.
        kept: the rules that choose training images, where they were compared.
        figures: folder of the figures.

    Returns:
        The page, then the figures.

    Raises:
        RunError: a run that is not whole, or a file that cannot be written.
    """
    content, target = render_data_size(study, kept), Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise RunError(f"The page cannot be written to {target}: {error.strerror or error}.") from error
    written = [target]
    if figures is not None:
        paint = colours.values(1)
        for drawn in Figures.of(study, kept, paint):
            files = [Path(figures) / f"{drawn.name}.{kind}" for kind in ("svg", "png")]
            written += [write_figure(drawn.figure, paint, file) for file in files]
    return written


def render_data_size(study: DataSizeStudy, kept: Kept | None = None) -> str:
    """The page of a study, as HTML.

    Raises:
        RunError: a run is not whole.
    """
    paint = colours.variables(1)
    figures = Figures.of(study, kept, paint)
    drawings: dict[str, dict[str, Any]] = {
        f"{drawn.name}-{place}": spec_of(panel, paint)
        for drawn in figures
        for place, panel in enumerate(drawn.figure.panels)
    }
    scripts = [Markup(runtime()), Markup(asset("app.js"))]
    plan, manifest = study.plan, study.curves[0].stores["l2"].manifest
    return (
        environment()
        .get_template("data_size.html")
        .render(
            title=f"Training data, accuracy and robustness on {plan.data}",
            answer=_answer(study) + _kept_answer(kept),
            study=study,
            plan=plan,
            manifest=manifest,
            marks_used={mark: VARIANT_MARKS[mark] for mark in VARIANT_MARKS if _used(study, mark)},
            claims=sorted(claims(study), key=lambda claim: VERDICTS.index(claim.verdict)),
            signs=SIGNS,
            marks=MARKS,
            figures=figures.curves,
            fixed=figures.fixed,
            kept=kept.plan if kept else None,
            chosen=figures.chosen,
            selected=kept.selected if kept else (),
            rules=RULES,
            runs=3 * (len(study.curves) + len(figures.chosen)),
            findings=_findings(study, kept),
            drawings=drawings,
            largest=interval,
            percent=percent,
            zip=zip,
            style=Markup(style(1)),
            scripts=scripts,
            policy=policy(scripts),
        )
    )


def _answer(study: DataSizeStudy) -> str:
    """Where robustness turns, and what it does elsewhere."""
    sizes = study.plan.sizes
    start = f"From {sizes[0]:,} to {sizes[-1]:,} training images of {study.plan.data}"
    turning = [_turns(curve) for curve in study.curves if _turns(curve)]
    rising = sum(curve.accuracy.form == "rising" for curve in study.curves)
    accurate = f"accuracy rises for {rising} of {counted(len(study.curves), 'network')}"
    if turning:
        return f"{start}, {accurate}. Robustness has a turning point: {conjunction(turning)}."
    forms = [f"{curve.variant.name} in l2 {short(curve.robustness['l2'].curve)}" for curve in study.curves]
    return f"{start}, {accurate}. No curve of robustness has a clear turning point: {conjunction(forms)}."


def _kept_answer(kept: Kept | None) -> str:
    """What the rules that choose images do."""
    if kept is None:
        return ""
    said = ". ".join(f"{one.variant.name}: {told(one)}" for one in kept.selected)
    return f" Of {kept.plan.keep:,} images that are kept, against random ones: {said}."


def _turns(curve: Curve) -> str:
    found = [
        f"{norm} at {interval(one.curve)}" for norm, one in curve.robustness.items() if one.curve.form == "turning"
    ]
    return f"{curve.variant.name} in {' and '.join(found)}" if found else ""


def _used(study: DataSizeStudy, mark: str) -> bool:
    return any(f"+{mark}" in curve.variant.name for curve in study.curves)


def _findings(study: DataSizeStudy, kept: Kept | None) -> list[tuple[str, Finding]]:
    """What the audits of all runs found beyond notes, with the run that each was found in."""
    runs: list[tuple[str, Mapping[str, Store]]] = [(curve.variant.name, curve.stores) for curve in study.curves]
    runs += [(f"{one.variant.name}, chosen images", one.stores) for one in (kept.selected if kept else ())]
    found = []
    for words, stores in runs:
        for name, store in stores.items():
            where = f"{words}, {'at a fixed ε' if name == 'fixed' else name}"
            found += [(where, finding) for finding in store.findings() if finding.severity != "note"]
    return found
