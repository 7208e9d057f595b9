"""What every format tells of a model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from atodds import analysis
from atodds.analysis import Curve, Rate
from atodds.analysis.numbers import percent
from atodds.errors import ThreatError, UnknownNameError
from atodds.evaluation.manifest import Manifest, ModelInfo
from atodds.report.source import Source
from atodds.threat import SLACK, Budget, EpsSpec, parse_eps_list, parse_norm

LONGEST = 100
"""Letters of a file name, before its ending."""


@dataclass(frozen=True)
class Measured:
    """One model of a run: accuracy, and robust accuracy at some budgets. `warnings` are the audit's, `errors` too."""

    manifest: Manifest
    info: ModelInfo
    accuracy: Rate
    curve: Curve
    warnings: int
    errors: int

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    @property
    def attacked(self) -> tuple[tuple[Budget, Rate], ...]:
        """Budgets above 0 with robust accuracies."""
        pairs = zip(self.curve.budgets, self.curve.rates, strict=True)
        return tuple((budget, rate) for budget, rate in pairs if budget.value > 0)


def measured(run: Source, models: Sequence[str] | None = None, eps: EpsSpec | None = None) -> tuple[Measured, ...]:
    """The models of a run.

    Args:
        models: by name or id; all where left out.
        eps: budgets; those of the run where left out.

    Raises:
        UnknownNameError: no such model.
        ThreatError: a budget beyond those that were attacked.
        RunError: the run is not finished.
    """
    manifest, norm = run.manifest, parse_norm(run.manifest.norm)
    known = {key: info for info in reversed(manifest.models) for key in (info.id, info.name)}
    for name in models or ():
        if name not in known:
            raise UnknownNameError.among("model", name, [info.name for info in manifest.models])
    chosen = manifest.models if models is None else tuple(dict.fromkeys(known[name] for name in models))
    budgets = manifest.budgets if eps is None else parse_eps_list(eps, norm)
    largest = manifest.budgets[-1]
    if budgets[-1].value > largest.value * (1 + SLACK):
        problem = f"no attack of this run went beyond {largest}"
        raise ThreatError("eps", budgets[-1].text, problem, "Evaluate at this eps too: a run may grow.")
    table, findings = run.table(), run.findings()
    return tuple(
        Measured(
            manifest=manifest,
            info=info,
            accuracy=analysis.accuracy(table, info.id),
            curve=analysis.curve(table, info.id, norm, budgets),
            warnings=sum(one.model == info.id and one.severity == "warning" for one in findings),
            errors=sum(one.model == info.id and one.severity == "error" for one in findings),
        )
        for info in chosen
    )


def file_name(name: str) -> str:
    """A name as that of a file: letters, digits, dots, dashes and underscores; never hidden, never a path."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")
    return plain[:LONGEST] or "model"


def shares(rate: Rate) -> str:
    """How a rate was measured, in words: "n = 500, 95 % interval 53.7 % to 62.2 %"."""
    return f"n = {rate.n:,}, 95 % interval {percent(rate.low)} % to {percent(rate.high)} %"
