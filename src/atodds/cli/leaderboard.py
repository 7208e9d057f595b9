"""atodds leaderboard: the frontier of the published leaderboard, recomputed from its entries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atodds.analysis.leaderboard import CORRUPTIONS, Entry, matching, nearby, published_frontier
from atodds.analysis.numbers import percent
from atodds.errors import ArgumentError

if TYPE_CHECKING:
    from atodds.analysis import Frontier

DEFAULTS = {("cifar10", "l2"): "0.5", ("imagenet", "linf"): "4/255"}
"""The eps of the boards whose eps is not 8/255."""
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
SYMBOLS = {"linf": "l∞", "l2": "l2", "l1": "l1", CORRUPTIONS: "common corruptions"}
KINDS = (".svg", ".png")
OTHERS = 5


def leaderboard(
    data: Annotated[str, typer.Option(help="Data set: cifar10, cifar100 or imagenet.")] = "cifar10",
    norm: Annotated[str, typer.Option(help="linf or l2, or corruptions.")] = "linf",
    eps: Annotated[
        str | None, typer.Option(help="Budget of the board.", show_default="8/255, 4/255 on imagenet, 0.5 in l2")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="File for the figure, .svg or .png.", show_default="none is drawn")
    ] = None,
) -> None:
    """The frontier of the published leaderboard: the entries that no other beats in accuracy and robust accuracy.

    [bold]Examples[/bold]

    atodds leaderboard --data cifar10 --norm linf --eps 8/255 --figure frontier.svg

    atodds leaderboard --data imagenet
    """
    if figure is not None and figure.suffix not in KINDS:
        raise ArgumentError(
            "--figure", str(figure), "not a kind of figure that is drawn", f"Write {' or '.join(KINDS)}."
        )
    budget = None if norm == CORRUPTIONS else eps or DEFAULTS.get((data, norm), "8/255")
    found = published_frontier(data, norm, budget)
    entries = matching(data, norm, budget)
    console = Console()
    board = f"{NAMES[data]}, {SYMBOLS[entries[0].threat]}" + (f", {entries[0].eps}" if entries[0].eps else "")
    make = "makes" if len(found.members) == 1 else "make"
    count = f"{len(found.members)} of {len(entries)} published entries"
    console.print(f"{count} {make} the frontier: {board}", highlight=False)
    console.print(_members(found, entries))
    near = [point for point in found.points if not point.member]
    near.sort(key=lambda point: -point.probability)
    console.print(f"\nNearest to it, and who beats them; each of {entries[0].images:,} images:", highlight=False)
    console.print(_near(found, [point.model for point in near[:OTHERS]]))
    if beside := nearby(data, norm, budget):
        at = ", ".join(sorted({str(entry.eps) for entry in beside}))
        console.print(
            f"\nLeft out: {len(beside)} entries of the same board that were attacked at {at}.", highlight=False
        )
    if figure is not None:
        _draw(found, entries, board, figure)
        console.print(f"The figure: {escape(str(figure))}", highlight=False, soft_wrap=True)


def _members(found: "Frontier", entries: tuple[Entry, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    attacked = entries[0].threat != CORRUPTIONS
    robust = ("AutoAttack", "best known") if attacked else ("corrupted",)
    for title in ("entry", "accuracy", *robust, "on the frontier in", "paper"):
        table.add_column(title, justify="left" if title in ("entry", "paper") else "right", overflow="fold")
    of = {entry.id: entry for entry in entries}
    for point in found.members:
        entry = of[point.model]
        table.add_row(
            entry.id,
            f"{percent(entry.accuracy, 2)} %",
            *([f"{percent(entry.robust, 2)} %"] if attacked else []),
            f"{percent(entry.best_known, 2)} %",
            f"{percent(point.probability)} %",
            entry.paper,
        )
    return table


def _near(found: "Frontier", models: list[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("entry", "accuracy", "robust", "on the frontier in", "beaten by (in)"):
        table.add_column(title, justify="left" if title in ("entry", "beaten by (in)") else "right", overflow="fold")
    for model in models:
        point = found.point(model)
        first = point.dominators[0]
        table.add_row(
            model,
            f"{percent(point.accuracy.value, 2)} %",
            f"{percent(point.robustness.value, 2)} %",
            f"{percent(point.probability)} %",
            f"{first.model} ({percent(first.probability)} %)",
        )
    return table


def _draw(found: "Frontier", entries: tuple[Entry, ...], board: str, path: Path) -> None:
    from atodds.report.charts.frontier import published_figure  # charts take a while to import
    from atodds.report.colours import values
    from atodds.report.figures import write_figure

    paint = values(0)
    write_figure(published_figure(found, entries, board, paint), paint, path)
