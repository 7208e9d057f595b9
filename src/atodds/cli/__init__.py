"""The command line: thin commands over the package, and one place where its errors are shown."""

import logging
import sys

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from atodds.cli import bench, check, choose, data, export, leaderboard, models, report, study, train
from atodds.errors import AtoddsError
from atodds.version import __version__

app = typer.Typer(
    help="Accuracy and robustness of image classifiers, the trade-off between them, and help to choose.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("bench")(bench.bench)
app.command("report")(report.report)
app.command("choose")(choose.choose)
app.command("check")(check.check)
app.command("export")(export.export)
app.command("train")(train.train)
app.command("leaderboard")(leaderboard.leaderboard)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atodds {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """[bold]Examples[/bold]

    atodds bench

    atodds bench zoo.py:resnet20 --data cifar10 --eps 0:8/255:1/255 --limit 500 --out runs/first

    atodds report runs/first --figures figures
    """


def main() -> None:
    """Run the command line. An error of ours is shown as a message and ends with status 2, an interruption with 130."""
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_time=False, show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    for noisy in ("fsspec", "altair", "lightning", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app()
    except AtoddsError as error:
        console.print(f"[bold red]Error:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of an interruption
            console.print("Interrupted. What was finished is kept; the same command continues where it stopped.")
        raise
