"""The page of a choice: the answer in words, what each model costs, where the decision flips, what would settle it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from atodds.analysis.decision import Decision
from atodds.analysis.numbers import percent
from atodds.errors import RunError
from atodds.evaluation.manifest import Finding
from atodds.report import colours
from atodds.report.charts.choice import best_map, cost_lines, places
from atodds.report.charts.figure import Figure
from atodds.report.choice_words import answer, interval, share_text, situation, thousand, unit
from atodds.report.page import MARKS, asset, environment, policy, runtime, spec_of, style
from atodds.report.source import Source
from atodds.report.units import SYMBOLS
from atodds.report.words import conjunction


@dataclass(frozen=True)
class Drawn:
    """A figure under the name that its place in the page has."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Key:
    """A model as the templates draw its mark: its place fixes colour and shape."""

    place: int


def write_choice(
    decision: Decision, runs: Sequence[Source], path: str | os.PathLike[str], *, command: str = ""
) -> Path:
    """Write the page of a choice into one file, and give its path back.

    Args:
        decision: what was chosen.
        runs: it was chosen from, for their audits.
        path: of the file.
        command: that made it.

    Raises:
        RunError: a run that is not whole, or a file that cannot be written.
    """
    content, target = render_choice(decision, runs, command=command), Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise RunError(f"The page cannot be written to {target}: {error.strerror or error}.") from error
    return target


def render_choice(decision: Decision, runs: Sequence[Source], *, command: str = "") -> str:
    """The page of a choice, as HTML.

    Raises:
        RunError: a run is not whole.
    """
    paint = colours.variables(1)
    pairs = (("map", best_map(decision, paint)), ("lines", cost_lines(decision, paint)))
    drawn = [Drawn(name, figure) for name, figure in pairs if figure is not None]
    scripts = [Markup(runtime()), Markup(asset("app.js"))]
    findings = [one for run in runs for one in run.findings()]
    return (
        environment()
        .get_template("choice.html")
        .render(
            title=f"The model to choose {situation(decision)}",
            answer=answer(decision),
            trust=_trust(findings),
            decision=decision,
            choice=decision.choice,
            manifests=decision.candidates.manifests,
            keys={model: Key(place) for model, place in places(decision).items()},
            figures=drawn,
            drawings={f"{one.name}-{place}": spec_of(panel, paint) for one in drawn
                      for place, panel in enumerate(one.figure.panels)},
            asked=_asked(decision),
            findings=[one for one in findings if one.severity != "note"],
            names=decision.candidates.names,
            unit=unit(decision.choice),
            interval=interval,
            percent=percent,
            thousand=thousand,
            command=command,
            marks=MARKS,
            style=Markup(style(1)),
            scripts=scripts,
            policy=policy(scripts),
        )
    )  # fmt: skip


def _trust(findings: Sequence[Finding]) -> tuple[str, str]:
    """Whether the runs behind can be believed: how grave, and the sentence."""
    for severity in ("error", "warning"):
        number = sum(one.severity == severity for one in findings)
        if number:
            plural = "s" if number > 1 else ""
            return severity, f"Read the audit first: it found {number} {severity}{plural} in the runs behind this."
    return "good", "The evaluation behind it can be believed: 0 warnings."


def _asked(decision: Decision) -> list[tuple[str, str]]:
    """The need, word by word."""
    need = decision.choice.need
    low, high = need.attacked
    share = f"{share_text(low)} %" if low == high else f"{share_text(low)} to {share_text(high)} %, each as likely"
    said = [("Inputs attacked", share)]
    if need.weights:
        budgets = conjunction([f"{budget} ({share_text(weight)} %)" for budget, weight in need.weights])
        said.append(("At ε", f"{budgets} in {SYMBOLS[decision.candidates.seen.norm]}"))
    costs = conjunction([f"{name} {cost:g}" for name, cost in need.costs.items()])
    said.append(("An error costs", f"{costs}; 1 in every other class" if costs else "1, in every class"))
    for name, value in (
        ("Clean accuracy at least", None if need.min_clean is None else f"{share_text(need.min_clean)} %"),
        ("Milliseconds an image at most", None if need.latency_ms is None else f"{need.latency_ms:g}"),
        ("Megabytes at most", None if need.size_mb is None else f"{need.size_mb:g}"),
        ("Parameters at most", None if need.parameters is None else f"{need.parameters:,}"),
    ):
        if value is not None:
            said.append((name, value))
    return said
