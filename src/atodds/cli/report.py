"""atodds report: a finished run as a page, and its charts as files."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from atodds.run import Run


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder or bucket of a finished run.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="File of the page.", show_default="report.html in the run's folder"),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder for the charts as PNG and SVG.", show_default="none are drawn"),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write the page of a finished run: one HTML file that needs nothing else.

    [bold]Examples[/bold]

    atodds report runs/first --open

    atodds report runs/first --out first.html --figures figures
    """
    from atodds.report import write_figures  # charts take a while to import, and other commands draw none

    console = Console()
    opened = Run.open(run)
    page = opened.report(out)
    console.print(f"The page: {escape(page.resolve().as_uri())}", highlight=False, soft_wrap=True)
    if figures is not None:
        drawn = write_figures(opened.store, figures)
        console.print(f"{len(drawn)} figures in {escape(str(figures))}", highlight=False, soft_wrap=True)
    if show:
        typer.launch(page.resolve().as_uri())
