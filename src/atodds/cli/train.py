"""atodds train: a network of ours, trained for accuracy or for robustness."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, get_args

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atodds.analysis.accuracy import beats_guessing
from atodds.analysis.intervals import wilson
from atodds.data import ImageSet
from atodds.data import load as load_images
from atodds.data.images import How
from atodds.data.subsets import parts
from atodds.errors import ArgumentError, UnknownNameError
from atodds.models import NETWORKS, load_checkpoint
from atodds.models.networks import skeleton
from atodds.threat import parse_eps
from atodds.training import state
from atodds.training.device import DEVICES
from atodds.training.device import chosen as best_device
from atodds.training.loop import train as fit
from atodds.training.objectives import OBJECTIVES
from atodds.training.progress import bar
from atodds.training.recipe import SCHEDULES, Precision, Recipe
from atodds.training.validation import Validation

_TOLD = "; ".join(f"{name}: {objective.summary}" for name, objective in OBJECTIVES.items())


def train(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="A network of atodds models list.")],
    data: Annotated[
        str, typer.Option(help="A data set by name (digits, mnist, cifar10), or a file or folder.")
    ] = "digits",
    root: Annotated[
        Path | None,
        typer.Option(help="Where named data sets lie.", show_default="ATODDS_DATA, else ~/.cache/atodds/data"),
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the data set to train on.")] = "train",
    limit: Annotated[int | None, typer.Option(help="Images at most.", show_default="all")] = None,
    how: Annotated[
        How, typer.Option(help="Which images a limit takes: as many of each class, or the first.")
    ] = "balanced",
    size: Annotated[
        int | None, typer.Option(help="Resize and crop images of a folder to this side.", show_default="as they are")
    ] = None,
    validation: Annotated[
        int, typer.Option(help="Images held out of them, equally many of each class, to choose the best epoch by.")
    ] = 0,
    test: Annotated[str, typer.Option(help="Part of the data set to measure on in the end; '' for none.")] = "test",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=NUMBER", help="A setting of the network, such as width=8; repeatable."),
    ] = None,
    objective: Annotated[str, typer.Option(help=f"What is lowered. {_TOLD}.")] = "standard",
    norm: Annotated[str, typer.Option(help="Of the ball to defend: linf, l2 or l1.")] = "linf",
    eps: Annotated[str | None, typer.Option(help="Its radius, such as 8/255.", show_default=False)] = None,
    attack_steps: Annotated[
        int | None,
        typer.Option(help="Gradients in the images, for each batch.", show_default="10; 1 for fast, 4 for free"),
    ] = None,
    attack_step_size: Annotated[
        str | None,
        typer.Option(help="Length of a step.", show_default="2.5 eps/steps; fast 1.25 eps, free eps"),
    ] = None,
    eps_ramp: Annotated[float, typer.Option(help="Share of training during which eps rises from 0.")] = 0.0,
    beta: Annotated[float, typer.Option(help="TRADES' weight of the robust term.")] = 6.0,
    skip: Annotated[
        float, typer.Option(help="Adversarial: share of images to leave alone, the weakest by their first gradient.")
    ] = 0.0,
    freeze: Annotated[
        float, typer.Option(help="Adversarial: signal of gradients below which layers stand still; 1 is noise alone.")
    ] = 0.0,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 128,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 0.1,
    momentum: Annotated[float, typer.Option(help="Of SGD, with Nesterov's look ahead.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="Of SGD.")] = 5e-4,
    schedule: Annotated[str, typer.Option(help=f"Of the learning rate: {', '.join(SCHEDULES)}.")] = "one-cycle",
    shift: Annotated[float, typer.Option(help="Move images by up to this share of their side.")] = 0.0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror every second image, by chance.")] = False,
    rotation: Annotated[float, typer.Option(help="Turn images by up to so many degrees.")] = 0.0,
    precision: Annotated[
        str, typer.Option(help=f"Of forward and backward passes: {' or '.join(get_args(Precision))}.")
    ] = "float32",
    seed: Annotated[int, typer.Option(help="Decides every random draw.")] = 0,
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}; auto is the best there is.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads of a CPU; another number rounds sums differently.", show_default="all")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the training.", show_default="runs/NETWORK-DATA[-OBJECTIVE]")
    ] = None,
) -> None:
    """Train a network for accuracy, or for robustness, and keep the last and the best epoch as checkpoints.

    The same command again continues after the last epoch that was finished, to the very same weights.

    [bold]Examples[/bold]

    atodds train cnn4

    atodds train resnet20 --data cifar10 --epochs 30 --shift 0.125 --flip --precision bfloat16

    atodds train resnet20 --data cifar10 --objective adversarial --eps 8/255 --attack-steps 7 --validation 1000

    atodds train mlp --data mnist --set width=512 --objective trades --norm l2 --eps 1.5 --out runs/robust
    """
    console = Console()
    recipe = Recipe(
        objective=objective, epochs=epochs, batch_size=batch_size, lr=lr, momentum=momentum, weight_decay=weight_decay,
        schedule=schedule, norm=norm, eps=eps, attack_steps=attack_steps,
        attack_step_size=None if attack_step_size is None else _length(attack_step_size),
        eps_ramp=eps_ramp, beta=beta, skip=skip, freeze=freeze, shift=shift, flip=flip, rotation=rotation,
        precision=_precision(precision), seed=seed,
    )  # fmt: skip
    chosen = _settings(settings or [])
    if network not in NETWORKS:
        raise UnknownNameError.among("NETWORK", network, NETWORKS)
    if threads is not None:
        if threads < 1:
            raise ArgumentError("--threads", threads, "nothing to work with", "Give 1 or more.")
        torch.set_num_threads(threads)
    images = load_images(data, root=root, split=split, limit=limit, how=how, size=size)
    skeleton(network, images.shape, len(images.classes), settings=chosen)
    measured = load_images(data, root=root, split=test, size=size) if test else None
    training, held_out = _held_out(images, validation, seed)
    name = f"{network}-{Path(data).stem}" + ("" if objective == "standard" else f"-{objective}")
    folder = state.folder_of(out or Path("runs") / name)
    what = f"Training {network} on {len(training)} images of {training.name} ({training.selection}), in {folder}"
    console.print(escape(what), highlight=False, soft_wrap=True)
    with bar(f"training {network}") as told:
        fit(
            network, training, recipe, settings=chosen, name=name, device=device, validation=held_out, out=folder,
            on_progress=told,
        )  # fmt: skip
    best = _show(folder, measured, torch.device(best_device(device)), console)
    _warn_of_guessing(folder, training, recipe, console)
    place = f" --root {escape(str(root))}" if root else ""
    budget = f" --norm {recipe.norm} --eps {eps}" if eps else ""
    console.print(
        f"\nHow robust it is: atodds bench {escape(str(best))} --data {escape(data)}{place}{budget}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _settings(given: Iterable[str]) -> dict[str, int]:
    """Settings of a network, from NAME=NUMBER."""
    settings: dict[str, int] = {}
    for text in given:
        name, _, number = text.partition("=")
        if not number.strip().isdecimal():
            raise ArgumentError("--set", text, "not NAME=NUMBER", "Write it like --set width=8.")
        settings[name.strip()] = int(number)
    return settings


def _length(text: str) -> float:
    """The length of a step, from text such as 2/255. It may be longer than the box."""
    return parse_eps(text, "l1", "--attack-step-size").value


def _precision(name: str) -> Precision:
    found = next((precision for precision in get_args(Precision) if precision == name), None)
    if found is None:
        raise UnknownNameError.among("--precision", name, get_args(Precision))
    precision: Precision = found
    return precision


def _held_out(images: ImageSet, count: int, seed: int) -> tuple[ImageSet, ImageSet | None]:
    """The images to train on, and those that are held out of them."""
    if count < 0:
        raise ArgumentError("--validation", count, "not a number of images", "Give 0 or more.")
    if count == 0:
        return images, None
    (held_out,) = parts(images, [count], seed=seed)
    kept = set(held_out.ids.tolist())
    return images.take([row for row, number in enumerate(images.ids.tolist()) if number not in kept]), held_out


def _show(folder: Path, images: ImageSet | None, device: torch.device, console: Console) -> Path:
    """What came out: the accuracy of both checkpoints on images that were not trained on. Gives the better one back:
    the last, unless another was the best on validation images."""
    kept = state.State.read(folder)
    best = None if kept is None else kept.best
    table = Table("epoch", "checkpoint", box=None, pad_edge=False)
    if images is not None:
        table.add_column(f"accuracy on {len(images)} {escape(images.split or 'test')} images")
    rows = [("last", state.LAST)]
    if best is not None and kept is not None and best.epoch != len(kept.epochs):
        rows.append((f"best, {best.epoch}", state.BEST))
    for title, file in rows:
        cells = [title, escape(str(folder / file))]
        if images is not None:
            model = load_checkpoint(folder / file).to(device)
            share = Validation(images, None, 0).accuracy(model, device) or 0.0
            cells.append(str(wilson(round(share * len(images)), len(images))))
        table.add_row(*cells)
    console.print(table)
    return folder / (rows[-1][1] if best is not None and best.validation is not None else state.LAST)


def _warn_of_guessing(folder: Path, images: ImageSet, recipe: Recipe, console: Console) -> None:
    """Say so where the last epoch did no better, on what it was trained for, than to name the commonest class."""
    kept = state.State.read(folder)
    if kept is None:
        return
    reached = wilson(round(kept.epochs[-1].accuracy * len(images)), len(images))
    if beats_guessing(reached, images.labels):
        return
    way_out = "--eps-ramp 0.5, a smaller --lr or --eps" if recipe.eps else "a smaller --lr or more --epochs"
    console.print(
        f"[bold]It learned nothing yet[/bold]: in the last epoch it was right on {reached} of what it was trained on, "
        f"no clearly better than to name the commonest class each time. Try {way_out}.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
