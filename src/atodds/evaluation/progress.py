"""A progress bar for long runs: share done, images and passes a second, and an estimate of what is left."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from atodds.evaluation import runner
from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.transfers import Transfer


@contextmanager
def bar(
    lanes: Sequence[Lane], transfers: Sequence[Transfer] = (), *, shown: bool | None = None
) -> Iterator[runner.Progress]:
    """A bar on the error stream while the work goes on.

    Args:
        lanes, transfers: whose jobs are waited for.
        shown: None shows it where the error stream is a terminal.
    """
    visible = sys.stderr.isatty() if shown is None else shown
    if not visible:
        yield runner.Progress()
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rates]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=120) as display:
        counter = _Counter(display, lanes, transfers)
        yield runner.Progress(passes=counter.passes, job=counter.job)


class _Counter:
    """Turns passes and finished jobs into the bar's position.

    A job's weight is the most passes that it can take: the bar moves by it when the job ends."""

    def __init__(self, display: Progress, lanes: Sequence[Lane], transfers: Sequence[Transfer]) -> None:
        self.images = {job.key: len(lane.positions) for lane in lanes for job in lane.jobs}
        self.images |= {show.job.key: transfer.images for transfer in transfers for show in transfer.shows}
        jobs = [*(job for lane in lanes for job in lane.jobs), *(s.job for t in transfers for s in t.shows)]
        self.display, self.total_jobs = display, len(jobs)
        self.task = display.add_task("", total=sum(job.weight for job in jobs), rates="")
        self.finished, self.weight, self.made, self.images_done, self.there = 0, 0, 0, 0, 0
        self._show("")

    def passes(self, forwards: int, backwards: int) -> None:
        self.made += forwards + backwards
        self._show("")

    def job(self, job: Job, there: bool) -> None:
        self.finished += 1
        self.weight += job.weight
        self.there += there
        self.images_done += 0 if there else self.images[job.key]
        self._show(f"{job.attack} at {job.levels[0]:.4g}" if len(job.levels) == 1 else job.attack)

    def _show(self, what: str) -> None:
        seconds = self.display.tasks[0].elapsed or 0
        rates = f"{self.images_done / seconds:,.0f} images/s {self.made / seconds:,.0f} passes/s" if seconds > 1 else ""
        kept = f", {self.there} kept" if self.there else ""
        self.display.update(
            self.task,
            completed=self.weight,
            description=f"job {min(self.finished + 1, self.total_jobs)} of {self.total_jobs}{kept}",
            rates=f"{rates} {what}".strip(),
        )
