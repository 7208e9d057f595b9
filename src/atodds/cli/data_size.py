"""atodds study data-size: how accuracy and robustness move with the number of training images."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atodds.cli.bench import chosen_device, command_line
from atodds.data import load as load_images
from atodds.data.selection import RULES
from atodds.errors import ArgumentError, UnknownNameError
from atodds.evaluation import executor
from atodds.evaluation.conduct import Settings
from atodds.studies.data_selection import REPEATS, carry_out_selection, planned_selection
from atodds.studies.data_size import NETWORKS, NORMS, Curve, carry_out
from atodds.studies.data_size_claims import claims, short
from atodds.studies.data_size_plan import EFFORTS, USUAL, Usual, planned
from atodds.theory import regression

EXAMPLES = ("regression",)


def data_size(
    data: Annotated[
        str, typer.Option(help=f"A data set by name ({', '.join(USUAL)}), or a file or folder.")
    ] = "digits",
    root: Annotated[
        Path | None,
        typer.Option(help="Where named data sets lie.", show_default="ATODDS_DATA, else ~/.cache/atodds/data"),
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(
            help="Networks, separated by commas; +D: on augmented images, +A: against PGD, as in resnet20+D.",
            show_default="by data set and preset",
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Training images, ascending: 500,1000,2000.", show_default="by data set and preset"),
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"What to spend: {' or '.join(EFFORTS)}, which has the attacks of the study of 2019.")
    ] = "laptop",
    eps: Annotated[
        str | None,
        typer.Option(
            help="Where robust accuracy is measured in linf, and what +A networks are trained against.",
            show_default="by data set",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Test images to attack, for each network and norm.")] = 200,
    select: Annotated[
        str | None,
        typer.Option(
            help=f"Rules that choose training images, to hold against random ones: {', '.join(list(RULES)[1:])}.",
            show_default="none",
        ),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Images that each rule chooses.", show_default="a tenth of the largest size")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Trainings for each rule and network.")] = REPEATS,
    out: Annotated[str | None, typer.Option(help="Folder of the study.", show_default="runs/data-size-DATA")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also write every figure alone, as PNG and SVG, into this folder.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides subsets, weights and every other draw.")] = 0,
    device: Annotated[
        str, typer.Option(help="Where networks run: cpu, cuda, cuda:1, mps.", show_default="a GPU if there is one")
    ] = "",
    workers: Annotated[
        int | None, typer.Option(help="Processes, for training and for attacks.", show_default="2; 1 on a GPU")
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(help=f"Show an example and do nothing else: {', '.join(EXAMPLES)}.", show_default=False),
    ] = None,
) -> None:
    """Train networks on nested subsets, attack them, and see where robustness turns.

    Every training and every attack is kept in the folder as soon as it is done; the same command again continues where
    it stopped, also on another machine to which the folder was carried.

    [bold]Examples[/bold]

    atodds study data-size

    atodds study data-size --data mnist --networks mlp,cnn7 --sizes 500,2000,10000,50000 --out runs/sizes-mnist

    atodds study data-size --data cifar10 --preset paper --device cuda

    atodds study data-size --select small-margin,k-center --keep 200

    atodds study data-size --example regression
    """
    console = Console()
    if example is not None:
        if example not in EXAMPLES:
            raise UnknownNameError.among("--example", example, EXAMPLES)
        console.print(_regression())
        return
    place = Path(out or f"runs/data-size-{Path(data).stem}")
    chosen = chosen_device(device)
    usual = USUAL.get(data, Usual({}, {}, ""))
    executor.hold_memory()
    train, test = (load_images(data, root=root, split=split) for split in usual.splits)
    plan = planned(
        train, data=data, networks=_listed(networks), sizes=_numbers(sizes), preset=preset, eps=eps, limit=limit,
        seed=seed, folder=place / NETWORKS,
    )  # fmt: skip
    selecting = None
    if select is not None:
        selecting = planned_selection(plan, _listed(select), keep=keep, repeats=repeats, folder=place / NETWORKS)
    elif keep is not None:
        raise ArgumentError("--keep", keep, "no rule chooses images", f"Give --select {list(RULES)[1]}.")
    count = len(plan.sizes) * len(plan.variants)
    names = ", ".join(variant.name for variant in plan.variants)
    console.print(
        f"{count} networks on {chosen}, unless they are there already: {escape(names)} on "
        f"{', '.join(f'{size:,}' for size in plan.sizes)} images of {escape(data)}.",
        highlight=False,
    )

    def trained(name: str, done: int, of: int) -> None:
        console.print(f"  trained {done} of {of}: {escape(name)}", highlight=False)

    def attacked(name: str, done: int, of: int) -> None:
        console.print(f"  attacked {done} of {of}: {escape(name)}", highlight=False)

    together = workers or (2 if chosen.type == "cpu" else 1)
    torch.set_num_threads(max(1, torch.get_num_threads() // together))
    settings = Settings(seed=seed, workers=together, keep=False, command=command_line())
    study = carry_out(plan, test, place, settings, device=chosen, trained=trained, attacked=attacked)
    for curve in study.curves:
        console.print(_told(curve), highlight=False, markup=False)
    for claim in claims(study):
        console.print(f"{claim.verdict}: {claim.claim}. {claim.measured}", highlight=False, markup=False)
    from atodds.report.charts.selection import told
    from atodds.report.data_size_page import Kept, write_data_size  # charts take a while to import

    kept = None
    if selecting is not None:
        found = carry_out_selection(selecting, test, place, settings, device=chosen, trained=trained, attacked=attacked)
        kept = Kept(selecting, found)
        for one in found:
            console.print(
                f"{one.variant.name}, {selecting.keep:,} images kept: {told(one)}", highlight=False, markup=False
            )
    written = write_data_size(study, place / "report.html", kept, figures)
    if figures is not None:
        console.print(f"{len(written) - 1} figures in {escape(str(figures))}", highlight=False, soft_wrap=True)
    console.print(f"\nThe page: {escape(written[0].resolve().as_uri())}", highlight=False, soft_wrap=True)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text is not None else ()


def _numbers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part.strip().replace("_", "")) for part in text.split(","))
    except ValueError:
        raise ArgumentError("--sizes", text, "not numbers of images", "Write them so: 500,1000,2000.") from None


def _told(curve: Curve) -> str:
    """A curve in one line."""
    forms = "; ".join(f"{norm} {short(curve.robustness[norm].curve)}" for norm in NORMS)
    return f"{curve.variant.name}: accuracy {curve.test[0]} to {curve.test[-1]}; {forms}"


def _regression() -> Table:
    """The example of two lines, with the true means and the printed ones."""
    fits = regression.example()
    table = Table(
        "", *(fit.name for fit in fits), box=None, pad_edge=False,
        title="Two lines by least squares: more data, a smaller error, a smaller robustness", title_justify="left",
        caption=f"Smallest change of x, in steps of {regression.STEP:g}, that moves the relative error past "
        f"{100 * regression.TOLERANCE:g} %. The study prints (2 δ1 + δ2) / 2 as their mean: a mean of running sums.",
        caption_justify="left",
    )  # fmt: skip
    table.add_row("points", *(str(fit.n) for fit in fits))
    table.add_row("slope", *(f"{fit.line.slope:.6f}" for fit in fits))
    table.add_row("intercept", *(f"{fit.line.intercept:.6f}" for fit in fits))
    table.add_row("mean squared error on the test points", *(f"{fit.mse:.4f}" for fit in fits))
    for place, (x, _) in enumerate(regression.TEST):
        table.add_row(f"smallest change at x = {x:g}", *(f"{fit.changes[place].delta:+.4f}" for fit in fits))
    table.add_row("their mean, without signs", *(f"{fit.mean:.5f}" for fit in fits))
    table.add_row("what the study prints in its place", *(f"{fit.mean_of_running_sums:.4f}" for fit in fits))
    return table
