"""atodds study: plans of runs, and what their tables say together."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from torch import nn

from atodds.cli.bench import chosen_device, command_line, named_models
from atodds.cli.classes import classes
from atodds.cli.data_size import data_size
from atodds.cli.odds import odds
from atodds.data import load as load_images
from atodds.errors import ArgumentError
from atodds.evaluation import executor
from atodds.evaluation.conduct import Settings
from atodds.studies.claims import claims
from atodds.studies.compare_models import PRESETS, compare, parts, suite, trained

app = typer.Typer(help="Studies: several runs, and one page of what they say together.", no_args_is_help=True)
app.command("data-size")(data_size)
app.command("classes")(classes)
app.command("odds")(odds)


@app.command("models")
def models(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="As for atodds bench, three or more. None: networks of seven families, trained here.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="A data set by name, or a file or folder.")] = "digits",
    root: Annotated[
        Path | None,
        typer.Option(help="Where named data sets lie.", show_default="ATODDS_DATA, else ~/.cache/atodds/data"),
    ] = None,
    limit: Annotated[int, typer.Option(help="Images to attack, as many of each class.")] = 100,
    size: Annotated[
        int | None, typer.Option(help="Resize and crop images of a folder to this side.", show_default="as they are")
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"How long to search: {' or '.join(PRESETS)}, which has the settings of the 2018 study.")
    ] = "laptop",
    norms: Annotated[
        str, typer.Option(help="Norms, comma-separated: others may follow in the same folder.")
    ] = "l2,linf,l1",
    family: Annotated[
        list[str] | None,
        typer.Option(help="FAMILY=MODEL,MODEL: where models of your own belong; may be repeated.", show_default=False),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the study.", show_default="runs/models-DATA")] = None,
    seed: Annotated[int, typer.Option(help="Decides every random draw.")] = 0,
    mean: Annotated[
        str | None, typer.Option(help="Normalisation to fold into models of your own: mean for each channel.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation for each channel.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open weight files that can run code when opened.")
    ] = False,
    resize: Annotated[
        bool, typer.Option("--resize", help="Let models of a library resize images of another size themselves.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where models run: cpu, cuda, cuda:1, mps.", show_default="a GPU if there is one")
    ] = "",
    workers: Annotated[int, typer.Option(help="Processes, for training and for attacks.")] = 2,
) -> None:
    """Compare many models: distances in three norms, transfer between all of them, and the claims of the 2018 study.

    Without models: trains networks of seven families on the data set first. Everything is kept in the folder, and the
    same command again continues where it stopped.

    [bold]Examples[/bold]

    atodds study models

    atodds study models --data mnist --limit 100 --out runs/models-mnist

    atodds study models a=nets.py:a b=nets.py:b c=nets.py:c --data cifar10 --family wide=a,b --family narrow=c
    """
    from atodds.report.study_page import write_study  # charts take a while to import

    console = Console()
    wanted = [norm.strip() for norm in norms.split(",") if norm.strip()]
    parts(preset, wanted)
    if not specs:
        suite(data)
    families = _families(family or [])
    place = out or f"runs/models-{Path(data).stem}"
    chosen = chosen_device(device)
    executor.hold_memory()
    every = load_images(data, root=root, split="test", size=size)
    images = load_images(data, root=root, split="test", limit=limit, size=size)
    brought: dict[str, nn.Module]
    if specs:
        brought = named_models(specs, mean, std, trust_pickle, resize=resize)
    else:
        entries = suite(data)
        console.print(f"Training {len(entries)} networks on {escape(data)}, unless they are there already.")

        def told(name: str, done: int, of: int) -> None:
            console.print(f"  {done} of {of}: {escape(name)}", highlight=False)

        training = load_images(data, root=root, split="train")
        brought = {**trained(entries, training, Path(place) / "networks", workers=workers, told=told)}
    for model in brought.values():
        model.to(chosen)
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    settings = Settings(seed=seed, workers=workers, command=command_line())
    study = compare(
        brought, images, place, settings, every=every, preset=preset, norms=wanted, families=families, data=data
    )
    for claim in claims(study):
        console.print(f"{claim.verdict}: {claim.claim}. {claim.measured}", highlight=False, markup=False)
    page = write_study(study, Path(place) / "report.html")
    for norm, store in study.stores.items():
        from atodds import report

        report.write(store, Path(place) / norm / "report.html", study.traits)
    console.print(f"\nThe page: {escape(page.resolve().as_uri())}", highlight=False, soft_wrap=True)


def _families(given: list[str]) -> dict[str, str]:
    """Families by model."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, members = text.partition("=")
        if not (name and equals and members):
            raise ArgumentError("--family", text, "not a family and its models", "Write FAMILY=MODEL,MODEL.")
        found |= {member.strip(): name for member in members.split(",") if member.strip()}
    return found
