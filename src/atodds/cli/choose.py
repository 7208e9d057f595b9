"""atodds choose: the model that a need is best served by, from runs that are there."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atodds.analysis.decision import Decision, decide
from atodds.analysis.need import KEYS, Need, parse_need, read_need
from atodds.analysis.numbers import percent
from atodds.cli.ask import asked
from atodds.cli.bench import command_line, named_models
from atodds.errors import ArgumentError, NeedError
from atodds.evaluation.store import Store


def choose(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Folders or buckets of finished runs that share images.", show_default=False
        ),
    ],
    need: Annotated[
        Path | None, typer.Option(help=f"TOML file with the need: {', '.join(KEYS)}.", show_default=False)
    ] = None,
    attacked: Annotated[
        str | None, typer.Option(help="Share of inputs that will be attacked: 0.1, 10%, or a range 0.05:0.2.")
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="How strongly: 4/255, several of them, or with weights: 2/255=3,8/255=1."),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf, l2 or l1.", show_default="that of the runs")] = None,
    min_clean: Annotated[str | None, typer.Option(help="Least accuracy on images that are not attacked: 0.9.")] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            help="CLASS=COST: what an error on an image of that class costs, 1 for the others; repeatable.",
            show_default=False,
        ),
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(help="Largest milliseconds for one image, measured on this machine.")
    ] = None,
    size_mb: Annotated[float | None, typer.Option(help="Largest size of the parameters, 4 bytes each, in MB.")] = None,
    parameters: Annotated[int | None, typer.Option(help="Largest number of parameters.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=MODEL, as for atodds bench: a model to time that cannot be loaded from where the run "
            "says; repeatable.",
            show_default=False,
        ),
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Normalisation to fold into these: mean for each channel.")] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation for each channel.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open weight files that can run code when opened.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap over images.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File of the page.", show_default="choice.html in the first run's folder")
    ] = None,
) -> None:
    """Choose the model that a need is best served by: the least expected cost, how surely, and where that flips.

    On a terminal, without a need, it asks.

    [bold]Examples[/bold]

    atodds choose runs/first

    atodds choose runs/first --attacked 0.1 --eps 4/255 --min-clean 0.75

    atodds choose runs/first --attacked 0.01:0.2 --eps 2/255=3,8/255=1 --cost cat=5 --parameters 1000000

    atodds choose runs/first runs/second --need need.toml
    """  # fmt: skip
    console = Console()
    stores = [Store.open(run) for run in runs]
    typed = {
        "attacked": attacked, "eps": eps, "norm": norm, "min_clean": min_clean, "cost": _costs(cost or []),
        "latency_ms": latency_ms, "size_mb": size_mb, "parameters": parameters,
    }  # fmt: skip
    command = command_line()
    wanted = _need(need, {word: value for word, value in typed.items() if value is not None})
    if wanted is None:
        answers = asked([store.manifest for store in stores], console)
        wanted = parse_need(answers)
        words = [piece for word, value in answers.items() for piece in (f"--{word.replace('_', '-')}", value)]
        command = f"{command} {shlex.join(words)}"
        console.print(f"\nThe same again, without questions: {escape(command)}\n", highlight=False, soft_wrap=True)
    brought = named_models(model or [], mean, std, trust_pickle)
    decision = decide(stores, wanted, brought=brought, seed=seed)
    from atodds.report.choice_page import write_choice  # charts take a while to import
    from atodds.report.choice_words import answer
    from atodds.report.words import plain

    for sentence in answer(decision):
        console.print(escape(plain(sentence)), highlight=False)
    console.print()
    console.print(_table(decision))
    for one in decision.choice.excluded:
        console.print(escape(f"Left out: {decision.name(one.model)}: {one.reason}"), highlight=False)
    if decision.choice.settling and (told := decision.more(decision.choice.settling[0])):
        console.print(f"\nTo settle the closest call: {escape(told)}", highlight=False, soft_wrap=True)
    place = out or (Path() if "://" in runs[0] else Path(runs[0])) / "choice.html"
    page = write_choice(decision, stores, place, command=command)
    console.print(f"\nThe page: {escape(page.resolve().as_uri())}", highlight=False, soft_wrap=True)


def _need(file: Path | None, typed: dict[str, object]) -> Need | None:
    """The need from a file or from options; None where it is to be asked for."""
    if file is not None:
        if typed:
            names = ", ".join(f"--{word.replace('_', '-')}" for word in typed)
            raise ArgumentError("--need", str(file), f"a need that {names} says too", "Give one or the other.")
        return read_need(file)
    if typed:
        return parse_need(typed, "options")
    if _terminal():
        return None
    way_out = "Say it: --attacked 0.1 --eps 4/255, or --need FILE. On a terminal, atodds choose asks."
    raise NeedError("need", "nothing", "nothing to choose by", way_out)


def _terminal() -> bool:
    return sys.stdin.isatty()


def _costs(given: list[str]) -> str | None:
    return ",".join(given) or None


def _table(decision: Decision) -> Table:
    from atodds.report.choice_words import amount, thousand, unit

    budgets = decision.choice.need.budgets
    head = ("model", f"{unit(decision.choice)} per 1,000", "regret", "best in", "clean", *(f"at {b}" for b in budgets))
    table = Table(*head, box=None, pad_edge=False)
    for option in decision.choice.options:
        table.add_row(
            escape(decision.name(option.model)), amount(option.cost), thousand(option.regret.value),
            f"{percent(option.probability)} %", str(option.clean), *(str(rate) for rate in option.robust),
        )  # fmt: skip
    return table
