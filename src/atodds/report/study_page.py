"""The page of the study of many models: what it answers, the claims, the models, and the charts of each norm."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from atodds import analysis
from atodds.analysis import Rate, Spread
from atodds.analysis.accuracy import CLEAN
from atodds.analysis.numbers import significant
from atodds.errors import RunError
from atodds.report import colours
from atodds.report.charts import CHARTS, Chart, Figure
from atodds.report.facts import Facts, ModelFacts, gather
from atodds.report.page import MARKS, asset, environment, policy, runtime, spec_of, style
from atodds.report.words import counted
from atodds.studies.claims import ORDER, VERDICTS, Claim, Verdict, claims, untargeted
from atodds.studies.compare_models import ModelsStudy
from atodds.threat import Norm

SECTIONS = ("tradeoff", "attacks", "transfer")
"""What each norm shows of its run; the rest is on the run's own page."""
SIGNS: Mapping[Verdict, str] = {"holds": "✓", "does not hold": "✕", "cannot be told": "?"}
NAMES: Mapping[Norm, str] = {"linf": "l∞", "l2": "l2", "l1": "l1"}
LEFT_OUT = ("attacks",)


@dataclass(frozen=True)
class Row:
    """A model: who it is, and how far it is from being fooled in each norm."""

    model: ModelFacts
    accuracy: Rate
    family: str
    depth: str
    distances: tuple[Spread | None, ...]


def write_study(study: ModelsStudy, path: str | os.PathLike[str]) -> Path:
    """Write the page of a study into one file, and give its path back.

    Raises:
        RunError: a run that is not finished or not whole, or a file that cannot be written.
    """
    content, target = render_study(study), Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise RunError(f"The page cannot be written to {target}: {error.strerror or error}.") from error
    return target


def render_study(study: ModelsStudy) -> str:
    """The page of a study, as HTML.

    Raises:
        RunError: a run is not finished or not whole.
    """
    every = {norm: gather(store, study.traits, study.errors) for norm, store in study.stores.items()}
    first = next(iter(every.values()))
    paint = colours.variables(max(len(facts.attacks) for facts in every.values()))
    figures = {norm: _figures(norm, facts, paint) for norm, facts in every.items()}
    drawings: dict[str, dict[str, Any]] = {
        f"{chart.name}-{place}": spec_of(panel, paint)
        for drawn in figures.values()
        for chart, figure in drawn
        for place, panel in enumerate(figure.panels)
    }
    said, measured = claims(study), [norm for norm in ORDER if norm in every]
    scripts = [Markup(runtime()), Markup(asset("app.js"))]
    return (
        environment()
        .get_template("study.html")
        .render(
            title=f"{len(first.models)} models on {first.manifest.data.name}: accuracy, distance, transfer",
            answer=_answer(first, said),
            facts=first,
            every=every,
            claims=sorted(said, key=lambda claim: VERDICTS.index(claim.verdict)),
            signs=SIGNS,
            marks=MARKS,
            names=NAMES,
            norms=measured,
            rows=_rows(study, every, measured),
            figures=figures,
            drawings=drawings,
            distance=_distance,
            style=Markup(style(max(len(facts.attacks) for facts in every.values()))),
            scripts=scripts,
            policy=policy(scripts),
        )
    )


def _answer(facts: Facts, said: tuple[Claim, ...]) -> str:
    counts = {verdict: sum(claim.verdict == verdict for claim in said) for verdict in VERDICTS}
    shares = "; ".join(f"{counts[verdict]} {_plural(verdict, counts[verdict])}" for verdict in VERDICTS)
    against = f"{counted(len(facts.models), 'network')} and {counted(facts.n, 'image')} of {facts.manifest.data.name}"
    return (
        f"Of {counted(len(said), 'claim')} of the 2018 study of 18 ImageNet models, held against {against}: {shares}."
    )


def _plural(verdict: Verdict, count: int) -> str:
    return {"holds": "hold", "does not hold": "do not hold"}.get(verdict, verdict) if count != 1 else verdict


def _figures(norm: Norm, facts: Facts, paint: colours.Paint) -> list[tuple[Chart, Figure]]:
    """The charts of a run, under names of their own: a page may hold only one of each."""
    drawn = ((chart, chart.draw(facts, paint)) for chart in CHARTS if chart.section in SECTIONS)
    return [
        (replace(chart, name=f"{norm}-{chart.name}"), figure)
        for chart, figure in drawn
        if figure is not None and chart.name not in LEFT_OUT
    ]


def _rows(study: ModelsStudy, every: Mapping[Norm, Facts], norms: list[Norm]) -> list[Row]:
    """The models, the most accurate first."""
    tables = {norm: study.stores[norm].table() for norm in norms}
    models = sorted(next(iter(every.values())).models, key=lambda model: -study.accuracy[model.info.id].value)
    rows = []
    for model in models:
        distances = tuple(_spread(tables[norm], model.info.id, norm) for norm in norms)
        traits = study.traits.get(model.info.name)
        depth = str(traits.depth) if traits and traits.depth else ""
        rows.append(Row(model, study.accuracy[model.info.id], traits.family if traits else "", depth, distances))
    return rows


def _spread(table: pl.DataFrame, model: str, norm: Norm) -> Spread | None:
    """The closest of all attacks without a target."""
    name = pl.when(pl.col("attack") == CLEAN).then(pl.col("attack")).otherwise(pl.lit("closest"))
    found = analysis.attack_distortions(untargeted(table).with_columns(name.alias("attack")), model, norm)
    return found[0].of(norm)


def _distance(spread: Spread | None) -> Markup:
    if spread is None:
        return Markup("none")
    ends = Markup("<small>({}–{})</small>").format(significant(spread.low), significant(spread.high))
    return Markup("{} {}").format(significant(spread.mean), ends)
