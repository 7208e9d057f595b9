"""atodds bench: attack models on images, and end with a page."""

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from torch import nn

from atodds import models
from atodds.attacks import registry
from atodds.attacks.registry import ATTACKS, PRESETS
from atodds.attacks.targets import MODES
from atodds.bounds.registry import parse as parse_bounds
from atodds.data import ImageSet
from atodds.data import load as load_images
from atodds.data.images import How
from atodds.errors import ArgumentError
from atodds.evaluation import executor
from atodds.models.mixing import parse_alphas, sweep
from atodds.run import Run, evaluate
from atodds.threat import parse_eps_list, parse_norm
from atodds.training.digits import RECIPES, digits_pair
from atodds.training.progress import bar

_RANGES = {
    ("digits", "linf"): "0:0.3:0.05",
    ("mnist", "linf"): "0:0.4:0.05",
    ("", "linf"): "0:8/255:1/255",
    ("digits", "l2"): "0:2:0.25",
    ("mnist", "l2"): "0:3:0.5",
    ("", "l2"): "0:1:0.125",
    ("", "l1"): "0:12:2",
}
"""Budgets where none are given: by data set and norm."""


def bench(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="FILE.py:FACTORY, package.module:FACTORY, timm:NAME, torchvision:NAME, hf:OWNER/REPO, robustbench:ID, "
            "a checkpoint, or NETWORK@WEIGHTS; NAME=MODEL names it; suite:imagenet-18 is many. None: two small "
            "networks, trained here on the digits.",
            show_default=False,
        ),
    ] = None,
    mix: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Also mix two models, named above or written like them, at each of --alphas.",
            show_default="none",
        ),
    ] = None,
    alphas: Annotated[
        str, typer.Option(help="Shares of the second model of --mix: 0.5, a list, or start:stop:step.")
    ] = "0:1:0.1",
    mix_by: Annotated[
        Literal["outputs", "weights"],
        typer.Option(help="What --mix mixes: probabilities, or the weights of two networks of one architecture."),
    ] = "outputs",
    data: Annotated[
        str, typer.Option(help="A data set by name (digits, mnist, cifar10), or a file or folder.")
    ] = "digits",
    root: Annotated[
        Path | None,
        typer.Option(help="Where named data sets lie.", show_default="ATODDS_DATA, else ~/.cache/atodds/data"),
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Images at most.", show_default="all")] = None,
    how: Annotated[
        How, typer.Option(help="Which images a limit takes: as many of each class, or the first.")
    ] = "balanced",
    size: Annotated[
        int | None, typer.Option(help="Resize and crop images of a folder to this side.", show_default="as they are")
    ] = None,
    norm: Annotated[str, typer.Option(help="linf, l2 or l1.")] = "linf",
    eps: Annotated[
        str | None,
        typer.Option(
            help="Budgets: 8/255, a list 1/255,2/255, or a range start:stop:step.", show_default="by data set and norm"
        ),
    ] = None,
    attacks: Annotated[
        str,
        typer.Option(
            help=f"A preset ({', '.join(PRESETS)}) or attacks in order ({', '.join(ATTACKS)}), with settings: "
            f"fgsm,pgd(steps=100,restarts=5), and a target: pgd(target=random), of {', '.join(MODES)}."
        ),
    ] = "quick",
    bounds: Annotated[
        str,
        typer.Option(
            help="Lower bounds of distances beside the attacks: clever, smoothing(sigma=0.25), with settings.",
            show_default="none",
        ),
    ] = "",
    out: Annotated[str | None, typer.Option(help="Folder or bucket of the run.", show_default="runs/DATA-NORM")] = None,
    seed: Annotated[int, typer.Option(help="Decides every random draw.")] = 0,
    mean: Annotated[
        str | None, typer.Option(help="Normalisation to fold into the models: mean for each channel, 0.49,0.48,0.45.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation for each channel.")] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Let models of a library resize images of another size themselves.")
    ] = False,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open weight files that can run code when opened.")
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(help="File of weights for the one MODEL: as MODEL@FILE.", show_default="none")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that this file must have, 64 hex digits.", show_default="not checked")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where models run: cpu, cuda, cuda:1, mps.", show_default="a GPU if there is one")
    ] = "",
    precision: Annotated[
        str | None,
        typer.Option(help="Attack in bfloat16 or float16; verdicts stay in full precision.", show_default="float32"),
    ] = None,
    eot: Annotated[
        int | None,
        typer.Option(
            help="Passes that answers and verdicts of a random model are averaged over. [default: 1; 20 for rand]"
        ),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Run every attack on every image, also those fooled before.")
    ] = False,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Show every model what fooled each other one; it keeps those images.")
    ] = False,
    keep: Annotated[
        bool | None, typer.Option("--keep/--no-keep", help="Keep fooling images.", show_default="up to 1 GiB")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Threads of a CPU, shared by the workers.", show_default="measured: all or one")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at once.", show_default="measured")] = None,
) -> None:
    """Attack models on images over a range of eps, judge, audit, and write a page.

    Without arguments: trains a standard and a robust network on the embedded digits and attacks both.

    The same command again continues where it stopped.

    [bold]Examples[/bold]

    atodds bench

    atodds bench zoo.py:resnet20 zoo.py:robust --data cifar10 --limit 500 --eps 0:8/255:1/255 --attacks standard

    atodds bench mine=nets.py:make --data images/ --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225

    atodds bench timm:resnet50.a1_in1k torchvision:vgg16 --data imagenet/ --split val --size 224 --limit 1000

    atodds bench zoo.py:resnet20 --data cifar10 --norm l2 --eps 0.25,0.5 --attacks "pgd(steps=100,restarts=5)"

    atodds bench a.py:make b.py:make --data mnist --norm l2 --attacks "carlini_wagner(target=random)" --transfer

    atodds bench robustbench:Wang2023Better_WRN-28-10 --weights Wang2023Better_WRN-28-10.pt --data cifar10

    atodds bench --mix zoo.py:resnet20 zoo.py:robust --alphas 0:1:0.1 --data cifar10 --eps 1/255,2/255
    """
    console = Console()
    shares = parse_alphas(alphas)
    budgets = eps or _budgets(data, norm)
    parse_bounds(bounds)
    registry.parse(attacks, parse_norm(norm))  # words that mean nothing are found before anything is trained or read
    parse_eps_list(budgets, norm)
    chosen = chosen_device(device)
    torch.set_num_threads(_threads(threads))
    executor.hold_memory()
    place = out or f"runs/{Path(data).stem}-{norm}"
    images = load_images(data, root=root, split=split, limit=limit, how=how, size=size)
    own = bool(mix) and not specs and not set(mix or ()) <= set(RECIPES)
    brought = (
        {} if own else _brought(specs or [], data, place, mean, std, trust_pickle, resize, console, weights, sha256)
    )
    if mix:
        pair = _ends(mix, brought, mean, std, trust_pickle, resize)
        brought |= {models.name_of(model): model for model in sweep(*pair, shares, by=mix_by)}
    for model in brought.values():
        model.to(chosen)
    console.print(f"Attacking {escape(', '.join(brought))} on {chosen}: {escape(_named(images))}", highlight=False)
    run = evaluate(
        brought, images, norm=norm, eps=budgets, attacks=attacks, out=place, seed=seed,
        precision=precision, eot=eot, alone=alone, keep=keep, workers=workers, batch_size=batch_size,
        command=command_line(), bounds=bounds, transfer=transfer,
    )  # fmt: skip
    _show(run, console)
    page = run.report()
    console.print(f"\nThe page: {escape(page.resolve().as_uri())}", highlight=False, soft_wrap=True)


def _brought(
    specs: list[str],
    data: str,
    place: str,
    mean: str | None,
    std: str | None,
    trust_pickle: bool,
    resize: bool,
    console: Console,
    weights: Path | None,
    sha256: str | None,
) -> dict[str, nn.Module]:
    if not specs:
        if data != "digits":
            raise ArgumentError("MODEL", "none", f"nothing to attack on {data}", "Name a model, such as nets.py:make.")
        return _digits(place, console)
    return named_models(specs, mean, std, trust_pickle, resize=resize, weights=weights, sha256=sha256)


def _ends(
    mix: tuple[str, str],
    brought: Mapping[str, nn.Module],
    mean: str | None,
    std: str | None,
    trust_pickle: bool,
    resize: bool,
) -> tuple[nn.Module, nn.Module]:
    """The two models of --mix: those that are there under this name, or else those that it names."""
    new = named_models([spec for spec in mix if spec not in brought], mean, std, trust_pickle, resize=resize)
    if known := next((name for name in new if name in brought), None):
        raise ArgumentError("--mix", known, "another model of this name is there", f"Name it: other={known}")
    rest = iter(new.values())
    first, second = (brought[spec] if spec in brought else next(rest) for spec in mix)
    return first, second


def named_models(
    specs: list[str],
    mean: str | None,
    std: str | None,
    trust_pickle: bool,
    *,
    resize: bool = False,
    weights: Path | None = None,
    sha256: str | None = None,
) -> dict[str, nn.Module]:
    """The models that were named on a command line, each once; a suite is all of its models."""
    brought: dict[str, nn.Module] = {}
    if (weights or sha256) and len(specs) != 1:
        argument, value = ("--weights", str(weights)) if weights else ("--sha256", sha256)
        raise ArgumentError(argument, value, f"one file for {len(specs)} models", "Write MODEL@FILE for each.")
    for spec in models.expand(specs):
        name, equals, source = spec.partition("=")
        named = bool(equals) and not any(sign in name for sign in "/:@\\")
        model = models.load(
            source if named else spec, mean=mean, std=std, name=name if named else None, trust_pickle=trust_pickle,
            resize=resize, weights=weights, sha256=sha256,
        )  # fmt: skip
        if model.name in brought:
            raise ArgumentError("MODEL", spec, f"a second model called {model.name}", "Name it: other=" + spec)
        brought[model.name] = model
    return brought


def _digits(place: str, console: Console) -> dict[str, nn.Module]:
    """The two networks of the embedded default, trained on the first call and kept beside the run."""
    console.print("Training a standard and a robust network on the digits, unless they are there already.")
    folder = Path("runs/digits") if "://" in place else Path(place)
    with bar("training") as told:
        pair = digits_pair(folder / "models", on_progress=lambda _, progress: told(progress))
    return {model.name: model for model in pair}


def chosen_device(name: str) -> torch.device:
    """The device of that name; a GPU if there is one and nothing is said."""
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError("--device", name, str(error).splitlines()[0], "Choose one that is here: cpu.") from None
    return device


def _threads(wanted: int | None) -> int:
    """As many as were asked for; else all, unless one alone is faster, as on a machine whose cores others use too:
    threads that wait for each other wait for the slowest."""
    every = torch.get_num_threads()
    if wanted is not None:
        if wanted < 1:
            raise ArgumentError("--threads", wanted, "nothing to work with", "Give 1 or more.")
        return wanted
    layer, images = nn.Conv2d(16, 16, 3), torch.zeros(16, 16, 32, 32)
    spent, began = dict.fromkeys((every, 1), 0.0), time.perf_counter()
    try:
        for turn in range(20):
            for count in spent:
                torch.set_num_threads(count)
                start = time.perf_counter()
                layer(images).sum().backward()
                spent[count] += time.perf_counter() - start if turn else 0  # the first turn warms up
            if turn and time.perf_counter() - began > 0.3:
                break
    finally:
        torch.set_num_threads(every)
    return min(spent, key=lambda count: spent[count])


def _budgets(data: str, norm: str) -> str:
    return _RANGES.get((data, norm)) or _RANGES.get(("", norm)) or "8/255"


def _named(images: ImageSet) -> str:
    return f"{len(images)} images of {images.name} ({images.selection})"


def command_line() -> str:
    """The command that is being run."""
    return shlex.join(["atodds", *sys.argv[1:]])


def _show(run: Run, console: Console) -> None:
    """The numbers, before the page: accuracy and robust accuracy of each model."""
    budgets, names = run.store.manifest.budgets, [escape(result.info.name) for result in run.models]
    rates = [[str(rate) for rate in result.curve().rates] for result in run.models]
    if len(names) > len(budgets):
        table = Table(Column("model", overflow="fold"), *(budget.text for budget in budgets), box=None, pad_edge=False)
        for name, row in zip(names, rates, strict=True):
            table.add_row(name, *row)
    else:
        table = Table("eps", *names, box=None, pad_edge=False)
        for place, budget in enumerate(budgets):
            table.add_row(budget.text, *(row[place] for row in rates))
    console.print(f"\nRobust accuracy in {run.store.manifest.norm}, with 95 % intervals", highlight=False)
    console.print(table)
    for result in run.models:
        for bound in result.lower_upper():
            console.print(escape(f"{result.info.name}: {bound.beside}"), highlight=False)
    for found in (line for mixed in run.mixtures() for line in mixed):
        console.print(f"\n{escape(found.said)}", highlight=False)
    _show_distances(run, console)
    if run.store.manifest.transfers:
        count = len(run.models) * (len(run.models) - 1)
        console.print(f"\nTransfer: {run.transfer.height:,} answers of {count} ordered pairs of models")
    findings = run.audit
    for finding in findings:
        model = run[finding.model].info.name
        console.print(escape(f"{finding.severity}: {model}: {finding.check}: {finding.measured}"), highlight=False)
    grave = sum(finding.severity != "note" for finding in findings)
    console.print(f"The audit raises {grave} warnings and {len(findings) - grave} notes.", highlight=False)


def _show_distances(run: Run, console: Console) -> None:
    """Success rate and mean distance of the minimum-norm and the targeted attacks, which run on every image that a
    model has right."""
    asked, norm = run.store.manifest.attacks, run.store.manifest.norm
    apart = (pl.col("eps").is_null() | pl.col("target").is_not_null()) & pl.col("attack").is_in(asked)
    made = run.table.filter(apart).select("model", "attack").unique()
    if made.is_empty():
        return
    found = {
        (one.attack, result.info.name): (str(one.success), str(one.of(norm) or "none"))
        for result in run.models
        if result.info.id in set(made["model"])
        for one in result.distances()
        if one.attack in set(made["attack"])
    }
    attack = Column("attack", overflow="fold")  # settings tell attacks apart: none may be cut off
    table = Table(attack, "model", "success", f"mean {norm} distance", box=None, pad_edge=False)
    for who, said in sorted(found.items(), key=lambda item: asked.index(item[0][0])):
        table.add_row(*map(escape, (*who, *said)))
    console.print("\nOver the images that each model has right, with 95 % intervals", highlight=False)
    console.print(table)
