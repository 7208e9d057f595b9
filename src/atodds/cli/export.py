"""atodds export: a finished run in the formats of others."""

from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from atodds.errors import ArgumentError
from atodds.run import Run


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder or bucket of a finished run.", show_default=False)],
    form: Annotated[
        Literal["robustbench", "model-card", "mlflow"],
        typer.Option("--format", help="RobustBench's model_info, metadata of a Hugging Face card, or runs of MLflow."),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder for the files; of mlflow the address of its store.", show_default="here; MLflow's own"
        ),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeatable.", show_default="all")] = None,
    eps: Annotated[
        str | None, typer.Option(help="Budgets that are told; robustbench takes the largest.", show_default="the run's")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=TEXT",
            help="What the run cannot know; repeatable. robustbench: link, name, authors, venue, architecture, "
            "additional_data, number_forward_passes, reported, footnote. model-card: license, dataset, url.",
            show_default=False,
        ),
    ] = None,
    experiment: Annotated[str, typer.Option(help="Experiment of MLflow.")] = "atodds",
) -> None:
    """Write a finished run as a RobustBench entry, as a model card, or into MLflow: one for each model.

    [bold]Examples[/bold]

    atodds export runs/first --format robustbench --eps 8/255 --out model_info --field "authors=A. Author"

    atodds export runs/first --format model-card --model resnet20 --out cards --field dataset=uoft-cs/cifar10

    atodds export runs/first --format mlflow --out sqlite:///mlflow.db
    """
    fields = dict(_pair(text) for text in field or [])
    made = Run.open(run).export(form, out, models=model, eps=eps, fields=fields, experiment=experiment)
    console = Console()
    for one in made:
        console.print(escape(one), highlight=False, soft_wrap=True)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ArgumentError(
            "--field", text, "not a field with its text", "Write KEY=TEXT, such as authors='A. Author'."
        )
    return key.strip(), value
