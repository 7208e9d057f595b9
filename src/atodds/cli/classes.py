"""atodds study classes: every class over ε, what each attack added, and what it is mistaken for."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from torch import nn

from atodds.attacks import registry
from atodds.cli.bench import chosen_device, command_line, named_models
from atodds.data import load as load_images
from atodds.errors import ArgumentError
from atodds.evaluation import executor
from atodds.evaluation.conduct import Settings
from atodds.studies.class_curves import TABLES, carry_out, digits_models, write_tables
from atodds.threat import parse_eps_list, parse_norm

USUAL = 500
"""Images, where no number is given: those of the study of 2024."""
_RANGES = {"digits": "0:0.3:0.05", "mnist": "0:0.4:0.05"}
"""Budgets in l-inf where none are given, by data set; those of the study of 2024 otherwise."""


def classes(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="As for atodds bench. None: three small networks, trained here on the digits.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="A data set by name, or a file or folder.")] = "digits",
    root: Annotated[
        Path | None,
        typer.Option(help="Where named data sets lie.", show_default="ATODDS_DATA, else ~/.cache/atodds/data"),
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "test",
    limit: Annotated[
        int | None,
        typer.Option(help="Images, as many of each class.", show_default="500, or all where there are fewer"),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize and crop images of a folder to this side.", show_default="as they are")
    ] = None,
    norm: Annotated[str, typer.Option(help="linf, l2 or l1.")] = "linf",
    eps: Annotated[
        str | None,
        typer.Option(
            help="Budgets: a list, or a range start:stop:step.",
            show_default="0:8/255:1/255; by data set on digits and mnist",
        ),
    ] = None,
    attacks: Annotated[
        str | None,
        typer.Option(help="As for atodds bench.", show_default="standard; quick for the networks trained here"),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the study.", show_default="runs/classes-DATA")] = None,
    seed: Annotated[int, typer.Option(help="Decides every random draw.")] = 0,
    mean: Annotated[
        str | None, typer.Option(help="Normalisation to fold into the models: mean for each channel.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation for each channel.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open weight files that can run code when opened.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where models run: cpu, cuda, cuda:1, mps.", show_default="a GPU if there is one")
    ] = "",
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
) -> None:
    """Follow every class over eps: what it keeps, what each step and each attack takes, and what it is mistaken for.

    One page, and the tables as CSV. The same command again continues where it stopped.

    [bold]Examples[/bold]

    atodds study classes

    atodds study classes zoo.py:a zoo.py:b --data cifar10 --limit 500 --eps 0:8/255:1/255 --attacks standard
    """
    from atodds.report.classes_page import answer, write_classes  # charts take a while to import

    console = Console()
    if not specs and data != "digits":
        raise ArgumentError("MODEL", "none", f"nothing to attack on {data}", "Name a model, such as nets.py:make.")
    ball = parse_norm(norm)
    budgets = eps or (_RANGES.get(Path(data).stem) if ball == "linf" else None)
    if budgets is None and ball != "linf":
        raise ArgumentError("--eps", "none", f"nothing is usual in {ball}", "Give a range, such as 0:1:0.125.")
    wanted = attacks or ("standard" if specs else "quick")
    parse_eps_list(budgets or "0:8/255:1/255", ball)
    registry.parse(wanted, ball)
    chosen = chosen_device(device)
    executor.hold_memory()
    place = Path(out or f"runs/classes-{Path(data).stem}")
    images = load_images(data, root=root, split=split, limit=limit, size=size)
    if limit is None and len(images) > USUAL:
        images = load_images(data, root=root, split=split, limit=USUAL, size=size)
    brought: dict[str, nn.Module]
    if specs:
        brought = named_models(specs, mean, std, trust_pickle)
    else:
        console.print("Training three small networks on the digits, unless they are there already.")
        brought = digits_models(place / "networks")
    for model in brought.values():
        model.to(chosen)
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    console.print(
        f"Attacking {escape(', '.join(brought))} on {chosen}: {len(images)} images of {escape(images.name)}",
        highlight=False,
    )
    settings = Settings(seed=seed, workers=workers, command=command_line())
    study = carry_out(
        brought, images, place, settings, norm=ball, eps=budgets or "0:8/255:1/255", attacks=wanted
    )  # fmt: skip
    for sentence in answer(study):
        console.print(escape(sentence), highlight=False)
    page = write_classes(study, place / "report.html")
    tables = write_tables(study, place / TABLES)
    console.print(f"\n{len(tables)} tables in {escape(str(place / TABLES))}", highlight=False, soft_wrap=True)
    console.print(f"The page: {escape(page.resolve().as_uri())}", highlight=False, soft_wrap=True)
