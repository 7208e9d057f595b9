"""atodds models: the networks that come along, suites of published models, and a look at any model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from atodds import models
from atodds.data.decode import CROP
from atodds.models import NETWORKS, SUITES, Card, Classifier, Usage
from atodds.models.adapters import Inner
from atodds.models.classifier import printable, times
from atodds.models.networks import skeleton
from atodds.models.plain import Shape
from atodds.models.resizing import Resizing

app = typer.Typer(
    help="Models: the networks that come along, suites of published ones, and a look at any model.",
    no_args_is_help=True,
    rich_markup_mode="rich",
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
    console.print(
        "\nYour own networks need no entry here: write FILE.py:FACTORY. Published models: timm:NAME, "
        "torchvision:NAME, hf:OWNER/REPO, robustbench:ID."
    )


@app.command("suite")
def show_suite(
    name: Annotated[str, typer.Argument(metavar="SUITE", help=f"Its name: {', '.join(SUITES)}.", show_default=False)],
) -> None:
    """The models of a published study, and the nearest weights of each that can be loaded today.

    [bold]Examples[/bold]

    atodds models suite imagenet-18
    """
    suite = models.suite(name)
    table = Table(box=None, pad_edge=False)
    table.add_column("model", style="bold", no_wrap=True)
    table.add_column("top-1 %", justify="right")
    table.add_column("nearest weights today", no_wrap=True)
    table.add_column("px", justify="right")
    table.add_column("top-1 %", justify="right")
    table.add_column("which are")
    table.add_column("here")
    for member in suite.members:
        table.add_row(
            member.name,
            f"{member.top1:.1f}",
            member.spec or "none",
            str(member.size or ""),
            "" if member.todays is None else f"{member.todays:.1f}",
            "" if member.kinship == "none" else member.kinship,
            "yes" if member.is_here else "no",
        )
    console = Console()
    console.print(table)
    here, known = sum(member.is_here for member in suite.members), len(suite.specs)
    console.print(
        f"\nOf {suite.title}, {known} have weights today: {models.PREFIX}{suite.name} is all {known}. The libraries of "
        f"{here} of them are installed here{'.' if here == known else ': pip install atodds[zoo]'}",
        highlight=False,
        markup=False,
    )


@app.command("show")
def show(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="FILE.py:FACTORY, package.module:FACTORY, timm:NAME, torchvision:NAME, hf:OWNER/REPO, "
            "robustbench:ID, a checkpoint, or NETWORK@WEIGHTS. A factory's code runs.",
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
    weights: Annotated[Path | None, typer.Option(help="File of weights: as MODEL@FILE.", show_default="none")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that this file must have, 64 hex digits.", show_default="not checked")
    ] = None,
) -> None:
    """What a model is: its class, parameters and fingerprint, and its card if it is a checkpoint.

    [bold]Examples[/bold]

    atodds models show zoo.py:resnet20

    atodds models show zoo.py:resnet20@weights.safetensors --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26

    atodds models show digits_robust.safetensors

    atodds models show timm:resnet50.a1_in1k

    atodds models show robustbench:Wang2023Better_WRN-28-10 --weights Wang2023Better_WRN-28-10.pt
    """
    model = models.load(spec, mean=mean, std=std, trust_pickle=trust_pickle, weights=weights, sha256=sha256)
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
    yield "class", type(_inner(model.network)).__name__
    yield "parameters", f"{models.parameter_count(model):,}"
    yield "fingerprint", models.fingerprint(model)
    for title, numbers in (("mean", model.mean), ("std", model.std)):
        told = "not folded in" if numbers is None else ", ".join(f"{value:g}" for value in numbers.flatten().tolist())
        yield title, told
    if model.card is not None:
        yield from _card(model.card)
    if model.usage is not None:
        yield from _usage(model.usage)


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


def _inner(network: nn.Module) -> nn.Module:
    """The network that a library made, inside of what was put around it here."""
    while isinstance(network, (Resizing, Inner)):
        network = network.network
    return network


def _usage(usage: Usage) -> Iterator[tuple[str, str]]:
    yield "weights", f"{usage.weights}, with {usage.library}"
    height, width = usage.shape[1:]
    load = f"; load them with --size {height}" if height == width else ""
    yield "images", f"{times(usage.shape)} (channels x height x width){load}"
    own = f"keeps {usage.crop:.0%} of the shorter side" if usage.crop else ""
    how = ", ".join(part for part in (own, usage.interpolation) if part)
    if how:
        yield "its own loading", f"{how}; --size keeps {CROP:.1%}, bilinear"
    shown = ", ".join(usage.classes[:5])
    yield "classes", f"{usage.outputs}{f': {shown}' if shown else ''}{', …' if len(usage.classes) > 5 else ''}"


def _count(name: str, shape: Shape) -> int:
    return models.parameter_count(skeleton(name, shape, 10))
