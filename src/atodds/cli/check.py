"""atodds check: a gate for continuous integration over a finished run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atodds.analysis.gate import POWER, Gate, Requirement, parse_least, parse_requirement
from atodds.analysis.gate_runs import check as checked
from atodds.analysis.gate_text import SIGNS, decided, headline, junit, markdown
from atodds.analysis.intervals import CONFIDENCE
from atodds.analysis.numbers import percent
from atodds.cli.bench import command_line
from atodds.errors import ArgumentError, RunError
from atodds.evaluation.store import Store


def check(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder or bucket of a finished run.", show_default=False)],
    min_robust: Annotated[
        list[str] | None,
        typer.Option(help="SHARE@NORM:EPS, as 0.45@linf:8/255: least robust accuracy; repeatable.", show_default=False),
    ] = None,
    min_clean: Annotated[str | None, typer.Option(help="Least accuracy on images that are not attacked: 0.9.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="An older run: no model may be clearly worse than it, on the images of both.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this model, or NEW=OLD where the baseline's has another name; repeatable.", show_default="all"
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the exact intervals.")] = CONFIDENCE,
    power: Annotated[float, typer.Option(help="Of the measurement that 'images needed' asks for.")] = POWER,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="File for the result as Markdown, such as $GITHUB_STEP_SUMMARY.")
    ] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="File for the result as JUnit XML.")] = None,
) -> None:
    """Check a run against requirements and a baseline: exit 0 met, 1 not met, 3 cannot tell, 2 usage.

    It fails only where an exact test excludes the requirement, or where the loss against the baseline is significant.

    [bold]Examples[/bold]

    atodds check runs/new --min-robust 0.45@linf:8/255 --min-clean 0.9

    atodds check runs/new --baseline runs/old

    atodds check runs/new --min-robust 0.3@linf:4/255 --baseline runs/old --markdown summary.md --junit check.xml
    """  # fmt: skip
    console = Console()
    requirements = [] if min_clean is None else [Requirement(parse_least(min_clean))]
    requirements += [parse_requirement(text) for text in min_robust or []]
    if not requirements and baseline is None:
        way_out = "Give --min-robust 0.45@linf:8/255, --min-clean 0.9, or --baseline RUN."
        raise ArgumentError("requirements", "none", "nothing to check", way_out)
    store = Store.open(run)
    old = None if baseline is None else Store.open(baseline)
    gate = checked(
        store, requirements, baseline=old, models=model or [], confidence=confidence, power=power
    )  # fmt: skip
    findings, command = store.findings(), command_line()
    _write(markdown_file, markdown(gate, findings=findings, command=command))
    _write(junit_file, junit(gate, command=command))
    console.print(escape(headline(gate)), highlight=False, soft_wrap=True)
    console.print(_table(gate))
    grave = sum(finding.severity != "note" for finding in findings)
    if grave:
        console.print(f"The audit of the run raises {grave} warnings: read them before you use these numbers.")
    raise typer.Exit(gate.exit_status)


def _table(gate: Gate) -> Table:
    table = Table("", "model", "check", "required", "measured", "verdict", box=None, pad_edge=False)
    for one in gate.checks:
        required = f"baseline {one.baseline}" if one.required is None else f"{percent(one.required)} %"
        table.add_row(
            SIGNS[one.verdict], escape(one.model), one.what, required, f"{one.rate} of {one.rate.n:,}", decided(one)
        )
    return table


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}. Give another file.") from error
