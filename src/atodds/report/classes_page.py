"""The page of the study of classes: what is lost where, how surely, by which attack, and what it cost."""

import os
from pathlib import Path
from typing import Any

from markupsafe import Markup

from atodds.analysis.classes import Tested
from atodds.analysis.numbers import count, percent, points
from atodds.errors import RunError
from atodds.report import colours
from atodds.report.charts import attacks, classes, robustness
from atodds.report.charts.class_study import mean_drops, mistaken
from atodds.report.charts.figure import Figure, Table
from atodds.report.choice_page import Drawn
from atodds.report.facts import Facts, gather
from atodds.report.page import MARKS, asset, environment, leaderboard, policy, runtime, spec_of, style
from atodds.report.words import counted, trust
from atodds.studies.class_curves import ClassStudy

MOST = 40
"""The most differences that a table lists; all are in the CSV files."""
WIDE = 0.1
"""Half the width of an interval from which on the page says that a class has few images."""


def write_classes(study: ClassStudy, path: str | os.PathLike[str]) -> Path:
    """Write the page of a study into one file, and give its path back.

    Raises:
        RunError: a run that is not whole, or a file that cannot be written.
    """
    content, target = render_classes(study), Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise RunError(f"The page cannot be written to {target}: {error.strerror or error}.") from error
    return target


def render_classes(study: ClassStudy) -> str:
    """The page of a study, as HTML.

    Raises:
        RunError: the run is not whole.
    """
    facts = gather(study.store)
    paint = colours.variables(len(facts.attacks))
    drawn: dict[str, list[Drawn]] = {
        "classes": [_drawn("heat", classes.draw(facts, paint)), _drawn("mean-drops", mean_drops(study, paint))],
        "curves": [_drawn("curves", robustness.draw(facts, paint))],
        "mistakes": [_drawn("mistaken", mistaken(study, paint))],
        "attacks": [_drawn("attacks", attacks.draw(facts, paint))],
    }
    figures = {section: [one for one in several if one.figure.panels] for section, several in drawn.items()}
    drawings: dict[str, dict[str, Any]] = {
        f"{one.name}-{place}": spec_of(panel, paint)
        for several in figures.values()
        for one in several
        for place, panel in enumerate(one.figure.panels)
    }
    scripts = [Markup(runtime()), Markup(asset("app.js"))]
    return (
        environment()
        .get_template("classes.html")
        .render(
            title=f"Class by class: {counted(len(facts.models), 'model')} on {facts.manifest.data.name}",
            answer=answer(study),
            trust=trust(facts),
            severity="error" if facts.count("error") else "warning" if facts.count("warning") else "good",
            facts=facts,
            board=leaderboard(facts),
            figures=figures,
            steps=_steps(study),
            gaps=_gaps(study),
            cost=_cost(study, facts),
            differences=_differences(study),
            drawings=drawings,
            marks=MARKS,
            style=Markup(style(len(facts.attacks))),
            scripts=scripts,
            policy=policy(scripts),
        )
    )


def answer(study: ClassStudy) -> list[str]:
    """What the study found, in three sentences."""
    curves = study.curves
    drops = sorted(curves.mean_drops, key=lambda drop: -drop.value)
    most, least = drops[0], drops[-1]
    over = f", averaged over {len(curves.models)} models" if len(curves.models) > 1 else ""

    def said(place: int) -> str:
        drop = drops[place]
        return f"{percent(drop.value)} points ({percent(drop.low)} to {percent(drop.high)})"

    images = sum(drop.n for drop in drops)
    first = (
        f"From ε = 0 to {curves.budgets[-1]} the class {curves.classes[most.label]} loses most, {said(0)}{over}, and "
        f"{curves.classes[least.label]} least, {said(-1)}; {images:,} images."
    )
    between = _clear(curves.between_classes)
    pairs = f"Of {counted(len(curves.between_classes), 'comparison')} between two classes, "
    second = f"{pairs}{len(between)} {'is' if len(between) == 1 else 'are'} clear after correction for their number"
    width = max((rate.high - rate.low) / 2 for one in curves.models for row in one.rows for rate in row.rates)
    few = min(drop.n for drop in drops)
    wide = f": a class has only {few} images, and its rates are known to ±{percent(width, 0)} points"
    if not curves.between_classes:
        second = f"{len(curves.labels):,} classes are too many to compare every two"
    models = _clear(curves.between_models)
    sentences = [first, f"{second}{wide if width > WIDE else ''}."]
    if curves.between_models:
        sentences.append(
            f"Of {counted(len(curves.between_models), 'comparison')} between two models at {curves.middle}, in one "
            f"class or in all, {len(models)} {'is' if len(models) == 1 else 'are'} clear."
        )
    return sentences


def _drawn(name: str, figure: Figure | None) -> Drawn:
    return Drawn(name, figure or Figure((), "", (), ()))


def _clear(tests: tuple[Tested, ...]) -> list[Tested]:
    return [test for test in tests if test.clear]


def _steps(study: ClassStudy) -> list[Table]:
    """For each model: what each step of ε takes from each class, as the study of 2024 lays it out."""
    curves = study.curves
    head = ("class", "images", *(f"{a} to {b}" for a, b in zip(curves.budgets[:-1], curves.budgets[1:], strict=True)),
            "total")  # fmt: skip
    return [
        Table(
            f"{study.names[one.model]}: points lost from one ε to the next, with 95 % intervals",
            head,
            tuple(
                (curves.classes[row.label], f"{row.n:,}", *(str(rate).replace(" %", "") for rate in row.steps),
                 str(row.total).replace(" %", ""))
                for row in one.rows
            ),
        )
        for one in curves.models
    ]  # fmt: skip


def _gaps(study: ClassStudy) -> list[Table]:
    curves = study.curves
    return [
        Table(
            f"{study.names[one.model]}: best and worst class at each ε",
            ("ε", "best", "worst", "gap in points", "interval", "p, all alike"),
            tuple(
                (gap.budget.text, curves.classes[gap.best], curves.classes[gap.worst], percent(gap.difference.value),
                 f"{percent(gap.difference.low)} to {percent(gap.difference.high)}", _p(gap.p_value))
                for gap in one.gaps
            ),
        )
        for one in curves.models
    ]  # fmt: skip


def _cost(study: ClassStudy, facts: Facts) -> Table:
    """What each attack added at the largest ε, and what it took: minutes and passes."""
    last = study.curves.budgets[-1]
    names = {info.id: info for info in facts.manifest.models}
    rows = []
    for shares in study.attacks:
        for attack in shares.attacks:
            at = shares.budgets.index(last)
            rows.append(
                (
                    study.names[shares.model], f"{names[shares.model].parameters:,}", attack.attack,
                    f"{percent(attack.added[at].value)} points", f"{attack.images:,}", count(attack.forwards),
                    count(attack.backwards), f"{study.attack_minutes(shares.model, attack.attack):.2f}",
                )
            )  # fmt: skip
    head = (
        "model",
        "parameters",
        "attack",
        f"added at {last}",
        "images",
        "forward passes",
        "backward passes",
        "minutes",
    )
    return Table("What each attack added to those before it, and what it took for all ε together", head, tuple(rows))


def _differences(study: ClassStudy) -> list[Table]:
    """The clear differences, the largest first."""
    curves = study.curves
    return [
        _listed(curves.between_classes, f"Between classes, in what they lose from 0 to {curves.budgets[-1]}", "model"),
        *(
            [_listed(curves.between_models, f"Between models, in robust accuracy at {curves.middle}", "class")]
            if curves.between_models
            else []
        ),
    ]


def _listed(tests: tuple[Tested, ...], what: str, of: str) -> Table:
    clear = sorted(_clear(tests), key=lambda test: -abs(test.difference))
    shown = f", the {MOST} largest" if len(clear) > MOST else ""
    rows = tuple(
        (test.of, *((test.a, test.b) if test.difference > 0 else (test.b, test.a)), points(abs(test.difference)),
         _p(test.p_value))
        for test in clear[:MOST]
    )  # fmt: skip
    caption = f"{what}: {len(clear)} of {len(tests):,} are clear{shown}"
    return Table(caption, (of, "more", "less", "points", "p, corrected"), rows)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
