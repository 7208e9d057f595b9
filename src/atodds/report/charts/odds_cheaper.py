"""The chart of cheaper adversarial training: robust accuracy over what it cost, by rule."""

import math

import numpy as np

from atodds.analysis.numbers import percent
from atodds.report.charts.figure import Figure, Panel, Table
from atodds.report.charts.lines import Line, Mark, lines, words
from atodds.report.colours import Paint
from atodds.report.words import Sentence, conjunction
from atodds.studies.cheaper import Cheaper


def cheaper(found: Cheaper, paint: Paint) -> Figure:
    """Robust accuracy over processor time and over passes, means of the seeds."""
    rules = list(found.seconds)
    panels = []
    for cost, title in (("seconds", "processor time, seconds"), ("passes", "passes of single images")):
        drawn = []
        for place, rule in enumerate(rules):
            marks = []
            for count in sorted({one.epochs for one in found.trials if one.rule == rule}):
                mine = [one for one in found.trials if (one.rule, one.epochs) == (rule, count)]
                values = [one.robust for one in mine]
                said = f"{percent(float(np.mean(values)))} % ({percent(min(values))}–{percent(max(values))})"
                at = float(np.exp(np.mean([math.log(getattr(one, cost)) for one in mine])))
                marks.append(Mark(at, float(np.mean(values)), min(values), max(values), said))
            drawn.append(Line(rule, place, tuple(marks)))
        titles = (title, "robust accuracy")
        panels.append(Panel(lines(drawn, titles, paint, log=True), words(drawn, titles), (title,), width=380))
    eps, n = found.setup.recipe.eps, found.trials[0].n
    epochs = sorted(one.epochs for one in found.trials)
    seeds = f"{found.seeds} {'seed' if found.seeds == 1 else 'seeds'}"
    subtitle = (
        f"{found.setup.network} on {found.setup.samples:,} samples against l∞ {eps:g}, {epochs[0]} to {epochs[-1]} "
        f"passes over the data; robust accuracy on {n:,} test images by Auto-PGD. Means of {seeds}; bands from the "
        "lowest to the highest."
    )
    ratios = Table(
        f"Cost at {percent(found.target)} % robust accuracy, beside PGD of the same seed: middle, lowest and highest "
        f"of {seeds}",
        ("rule", "processor time", "passes"),
        tuple((rule, str(found.seconds[rule]), str(found.passes[rule])) for rule in rules),
    )
    every = Table(
        "Every training",
        ("rule, epochs, seed", "processor time, s", "passes", "standard", "robust"),
        tuple(
            (
                f"{one.rule}, {one.epochs}, {one.seed}", f"{one.seconds:.1f}", f"{one.passes:,}",
                f"{percent(one.standard)} %", f"{percent(one.robust)} %",
            )
            for one in found.trials
        ),
    )  # fmt: skip
    return Figure(_title(found), subtitle, tuple(panels), (ratios, every), layout="halves")


def _title(found: Cheaper) -> Sentence:
    at = f"at {percent(found.target)} % robust accuracy"
    if not found.pays:
        return (f"No rule takes less processor time than PGD with every seed {at}",)
    said = [f"{rule} takes {found.seconds[rule].value:.2f} of its time" for rule in found.pays]
    return (f"Beside PGD {at}, {conjunction(said)}",)
