"""A progress bar for training, with loss, accuracy and the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from atodds.training import loop


@contextmanager
def bar(title: str, console: Console | None = None) -> Iterator[Callable[[loop.Progress], None]]:
    """What `train(on_progress=...)` takes, drawn on a terminal while it lasts.

    Args:
        title: what is trained.
        console: where to; standard error where left out, so that output that is piped on stays clean.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("epoch {task.fields[epoch]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[means]}"),
    )
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(title.replace("[", r"\["), total=None, epoch="", means="")

        def show(progress: loop.Progress) -> None:
            drawn.update(
                task,
                completed=(progress.epoch - 1) * progress.steps + progress.step,
                total=progress.epochs * progress.steps,
                epoch=f"{progress.epoch}/{progress.epochs}",
                means=_means(progress),
            )

        yield show


def _means(progress: loop.Progress) -> str:
    """The numbers so far, in words."""
    means = f"loss {progress.loss:.3f}  accuracy {100 * progress.accuracy:.1f} %"
    return means if progress.validation is None else f"{means}  validation {100 * progress.validation:.1f} %"
