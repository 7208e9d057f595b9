"""atodds data: what there is, fetching it, looking at it."""

from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from atodds.data.catalog import KNOWN, find, load
from atodds.data.fetch import OFFICIAL, fetch
from atodds.data.images import How, ImageSet
from atodds.data.paths import data_root

app = typer.Typer(
    help="Data sets: what there is, fetching it, looking at it.", no_args_is_help=True, rich_markup_mode="rich"
)

Root = Annotated[
    Path | None,
    typer.Option(help="Where named data sets lie.", show_default="ATODDS_DATA, else ~/.cache/atodds/data"),
]


@app.command("list")
def list_known(root: Root = None) -> None:
    """The data sets known by name, and where each of them lies.

    [bold]Examples[/bold]

    atodds data list

    atodds data list --root ~/data
    """
    place = data_root(root)
    table = Table("name", "what it is", "here", "where", box=None, pad_edge=False)
    for known in KNOWN.values():
        found = find(known, place) if known.folders else None
        if found is not None:
            here, where = "yes", f"{found[0]} ({found[1].name})"
        elif known.name in OFFICIAL:
            here, where = "no", f"atodds data fetch {known.name}"
        elif known.page:
            here, where = "no", f"by hand: {known.page}"
        else:
            here, where = "yes", "embedded"
        table.add_row(known.name, known.title, here, escape(printable(where)))
    console = Console()
    console.print(table)
    console.print(
        f"\nNamed data sets are looked for in {escape(printable(str(place)))}. A path works in place of a name."
    )


@app.command("fetch")
def fetch_official(
    name: Annotated[str, typer.Argument(help=f"The data set: {', '.join(OFFICIAL)}.", show_default=False)],
    root: Root = None,
) -> None:
    """Download the official files of a data set, and check them.

    Files that are there and right stay. Where the network refuses: which files to download by hand, and where to.

    [bold]Examples[/bold]

    atodds data fetch mnist

    atodds data fetch cifar10 --root ~/data
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(file: str, received: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(escape(file), total=total)
            bar.update(tasks[file], completed=received)

        done = fetch(name, root=root, progress=show)
    files = f"{len(done.new)} new files, checked" if done.new else "already there, and right"
    Console().print(f"{name}: {files}: {escape(printable(str(done.folder)))}")


@app.command("show")
def show_set(
    data: Annotated[str, typer.Argument(help=f"A path, or a name: {', '.join(KNOWN)}.", show_default=False)],
    root: Root = None,
    split: Annotated[str, typer.Option(help="test, train, ...")] = "test",
    limit: Annotated[int | None, typer.Option(help="At most so many images.", show_default="all")] = None,
    how: Annotated[str, typer.Option(help="How a limit chooses: balanced or first.")] = "balanced",
    size: Annotated[
        int | None, typer.Option(help="Resize and crop the images to this side.", show_default="as they are")
    ] = None,
) -> None:
    """What a data set holds: images, shape, classes with their counts, fingerprint.

    [bold]Examples[/bold]

    atodds data show digits

    atodds data show cifar10 --limit 500

    atodds data show photos/ --split val --size 224
    """
    images = load(data, root=root, split=split, limit=limit, how=cast(How, how), size=size)
    Console().print(summary(images), soft_wrap=True)


def summary(images: ImageSet) -> Table:
    """A set as a table of two columns."""
    channels, height, width = images.shape
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    counts = np.bincount(images.labels, minlength=len(images.classes))
    for title, value in (
        ("name", printable(images.name)),
        ("split", images.split or "not told"),
        ("images", f"{len(images):,}"),
        ("shape", f"{channels} x {height} x {width} (channels, height, width)"),
        ("selection", images.selection),
        ("fingerprint", images.fingerprint),
        ("classes", f"{len(images.classes)}"),
        *((f"  {printable(name)}", f"{count:,}") for name, count in zip(images.classes, counts, strict=True)),
    ):
        table.add_row(escape(title), escape(value))
    return table


def printable(text: str) -> str:
    """Text from a file without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
