"""atodds study odds: why accuracy and robustness are at odds, where they are, and what robust networks see."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape

from atodds.cli.bench import chosen_device, command_line, named_models
from atodds.data import load as load_images
from atodds.errors import ArgumentError
from atodds.evaluation import executor
from atodds.evaluation.conduct import Settings
from atodds.studies.odds import PARTS, TRAINED, USUAL_PARTS, carry_out, check_parts
from atodds.studies.odds_plan import EFFORTS, USUAL, planned

_TOLD = "; ".join(f"{name}: {what}" for name, what in PARTS.items())


def odds(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Models to look at besides those that are trained, as for atodds bench; the first is what others are "
            "compared with.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help=f"A data set by name ({', '.join(USUAL)}), or a file or folder.")
    ] = "digits",
    root: Annotated[
        Path | None,
        typer.Option(help="Where named data sets lie.", show_default="ATODDS_DATA, else ~/.cache/atodds/data"),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help=f"What to do, separated by commas. {_TOLD}.",
            show_default="all but cheaper; without training where models are given",
        ),
    ] = None,
    networks: Annotated[
        str | None, typer.Option(help="Networks to train, separated by commas.", show_default="by data set")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Training samples, ascending: 100,1000,60000.", show_default="by data set")
    ] = None,
    train_eps: Annotated[
        list[str] | None,
        typer.Option(
            help="NORM=RADII to train against, such as linf=0.1,0.2; may be repeated.", show_default="by data set"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Repetitions: samples, weights and order each time anew.")] = 3,
    preset: Annotated[str, typer.Option(help=f"How long to train: {' or '.join(EFFORTS)}.")] = "laptop",
    attacks: Annotated[
        str | None,
        typer.Option(help="Attacks of the part of that name.", show_default="quick on digits, else standard"),
    ] = None,
    limit: Annotated[int, typer.Option(help="Test images to attack, and to measure alignment on.")] = 100,
    out: Annotated[str | None, typer.Option(help="Folder of the study.", show_default="runs/odds-DATA")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also write every figure alone, as PNG and SVG, into this folder.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first repetition; the others follow.")] = 0,
    mean: Annotated[
        str | None, typer.Option(help="Normalisation to fold into models of your own: mean for each channel.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation for each channel.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open weight files that can run code when opened.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where networks run: cpu, cuda, cuda:1, mps.", show_default="a GPU if there is one")
    ] = "",
    workers: Annotated[
        int | None, typer.Option(help="Processes, for training and for attacks.", show_default="2; 1 on a GPU")
    ] = None,
) -> None:
    """Accuracy against robustness: theory, experiment and pictures, in one page.

    Every training and every attack is kept in the folder; the same command again continues where it stopped.

    [bold]Examples[/bold]

    atodds study odds

    atodds study odds --data mnist --limit 200 --out runs/odds-mnist --figures figures

    atodds study odds plain=nets.py:plain robust=nets.py:robust --data cifar10 --limit 500

    atodds study odds --parts theory
    """
    from atodds.report.odds_page import write_odds  # charts take a while to import

    console = Console()
    wanted = check_parts(_listed(parts) if parts is not None else _usual_parts(specs))
    place = Path(out or f"runs/odds-{Path(data).stem}")
    chosen = chosen_device(device)
    executor.hold_memory()
    train, test = (load_images(data, root=root, split=split) for split in ("train", "test"))
    together = workers or (2 if chosen.type == "cpu" else 1)
    torch.set_num_threads(max(1, torch.get_num_threads() // together))
    plan = None
    if set(wanted) & set(TRAINED) or ("pictures" in wanted and not specs):
        plan = planned(
            train, data=data, networks=_listed(networks), sizes=_numbers(sizes), against=_against(train_eps or []),
            seeds=seeds, seed=seed, preset=preset,
        )  # fmt: skip
    models = named_models(specs, mean, std, trust_pickle) if specs else {}
    for model in models.values():
        model.to(chosen)

    def trained(name: str, done: int, of: int) -> None:
        console.print(f"  trained {done} of {of}: {escape(name)}", highlight=False)

    settings = Settings(seed=seed, workers=together, keep=False, command=command_line())
    study = carry_out(
        train, test, place, settings, data=data, plan=plan, models=models, parts=wanted, limit=limit,
        attacks=attacks or ("quick" if data == "digits" else "standard"), device=chosen, trained=trained,
        told=lambda what: console.print(escape(what), highlight=False),
    )  # fmt: skip
    written = write_odds(study, place / "report.html", figures)
    if figures is not None:
        console.print(f"{len(written) - 1} figures in {escape(str(figures))}", highlight=False, soft_wrap=True)
    console.print(f"\nThe page: {escape(written[0].resolve().as_uri())}", highlight=False, soft_wrap=True)


def _usual_parts(specs: list[str] | None) -> tuple[str, ...]:
    return tuple(part for part in USUAL_PARTS if part not in TRAINED) if specs else USUAL_PARTS


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text is not None else ()


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part.replace("_", "")) for part in _listed(text))
    except ValueError:
        raise ArgumentError("--sizes", text, "not numbers of samples", "Write them so: 100,1000,10000.") from None


def _against(given: list[str]) -> dict[str, str]:
    """Radii by norm."""
    found: dict[str, str] = {}
    for text in given:
        norm, equals, radii = text.partition("=")
        if not (equals and radii):
            raise ArgumentError("--train-eps", text, "not a norm and its radii", "Write linf=0.1,0.2.")
        found[norm.strip()] = radii
    return found
