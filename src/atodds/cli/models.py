"""atodds models: the networks that come along, and a look at any model."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atodds import models
from atodds.models import NETWORKS, Card, Classifier
from atodds.models.classifier import printable, times
from atodds.models.networks import skeleton
from atodds.models.plain import Shape

app = typer.Typer(
    help="Models: the networks that come along, and a look at any model.", no_args_is_help=True, rich_markup_mode="rich"
)

SHAPES: dict[str, Shape] = {"cifar10": (3, 32, 32), "mnist": (1, 28, 28), "digits": (1, 8, 8)}


@app.command("list")
def list_networks() -> None:
    """The networks of this package, with their numbers of parameters on three data sets of 10 classes.

    [bold]Examples[/bold]

    atodds models list
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("network", style="bold")
    table.add_column("family")
    for data, shape in SHAPES.items():
        table.add_column(f"{data} {times(shape)}", justify="right")
    table.add_column("what it is")
    for network in NETWORKS.values():
        counts = [
            "too small" if min(shape[1:]) < network.smallest else f"{_count(network.name, shape):,}"
            for shape in SHAPES.values()
        ]
        table.add_row(network.name, network.family, *counts, network.summary)
    console = Console()
    console.print(table)
    console.print("\nYour own networks need no entry here: write FILE.py:FACTORY.")


@app.command("show")
def show(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="FILE.py:FACTORY, package.module:FACTORY, a checkpoint, or NETWORK@WEIGHTS. Its code runs.",
            show_default=False,
        ),
    ],
    mean: Annotated[
        str | None, typer.Option(help="Normalisation to fold in: mean for each channel, 0.49,0.48,0.45.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation for each channel.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open weight files that can run code when opened.")
    ] = False,
) -> None:
    """What a model is: its class, parameters and fingerprint, and its card if it is a checkpoint.

    [bold]Examples[/bold]

    atodds models show zoo.py:resnet20

    atodds models show zoo.py:resnet20@weights.safetensors --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26

    atodds models show digits_robust.safetensors
    """
    model = models.load(spec, mean=mean, std=std, trust_pickle=trust_pickle)
    Console().print(summary(model), soft_wrap=True)


def summary(model: Classifier) -> Table:
    """A model as a table of two columns."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for title, value in _facts(model):
        table.add_row(escape(title), escape(printable(value)))
    return table


def _facts(model: Classifier) -> Iterator[tuple[str, str]]:
    yield "name", model.name
    yield "source", model.source
    yield "class", type(model.network).__name__
    yield "parameters", f"{models.parameter_count(model):,}"
    yield "fingerprint", models.fingerprint(model)
    for title, numbers in (("mean", model.mean), ("std", model.std)):
        told = "not folded in" if numbers is None else ", ".join(f"{value:g}" for value in numbers.flatten().tolist())
        yield title, told
    if model.card is not None:
        yield from _card(model.card)


def _card(card: Card) -> Iterator[tuple[str, str]]:
    yield "network", " ".join([card.network, *(f"{key}={value}" for key, value in sorted(card.settings.items()))])
    yield "images", f"{times(card.shape)} (channels x height x width)"
    shown = ", ".join(card.classes[:20])
    yield "classes", f"{len(card.classes)}: {shown}{', …' if len(card.classes) > 20 else ''}"
    yield "trained on", f"{card.data} {card.data_fingerprint[:8]}".strip()
    for key, value in sorted(card.recipe.items()):
        if value is not None:
            yield f"  {printable(key)}", str(value)
    yield "trained by", f"atodds {card.version}"


def _count(name: str, shape: Shape) -> int:
    return models.parameter_count(skeleton(name, shape, 10))
