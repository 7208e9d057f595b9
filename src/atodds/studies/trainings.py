"""Many trainings: what is missing is trained, several at a time, and each is kept as soon as it is done."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from atodds.data.images import ImageSet
from atodds.training.kept import made
from atodds.training.suites import Entry


class OnDone(Protocol):
    """Called with what is ready, and how many of how many are."""

    def __call__(self, name: str, done: int, of: int) -> None: ...


class Job(Protocol):
    """A network, how it is trained, and on what."""

    @property
    def entry(self) -> Entry: ...
    @property
    def images(self) -> ImageSet: ...


def train_missing(
    jobs: Sequence[Job], folder: Path, *, workers: int = 1, device: str = "cpu", told: OnDone | None = None
) -> None:
    """Train the networks whose checkpoints are not in the folder, in the order given, `workers` at a time.

    Raises:
        ModelError: training that diverged, or a checkpoint that cannot be written.
    """
    missing = [job for job in jobs if not (folder / f"{job.entry.name}.safetensors").is_file()]
    done = len(jobs) - len(missing)

    def ready(job: Job) -> None:
        nonlocal done
        done += 1
        if told is not None:
            told(job.entry.name, done, len(jobs))

    if workers == 1 or len(missing) < 2:
        for job in missing:
            _one(job.entry, job.images, folder, device)
            ready(job)
        return
    waiting, running = list(missing), dict[Future[None], Job]()
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=get_context("spawn")) as pool:
        try:
            while waiting or running:
                # Only what runs is sent, so that not all subsets lie in the queue at once.
                while waiting and len(running) < workers:
                    job = waiting.pop(0)
                    running[pool.submit(_one, job.entry, job.images, folder, device)] = job
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    ready(running.pop(future))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one(entry: Entry, images: ImageSet, folder: Path, device: str) -> None:
    made(entry, images, folder, device=device)
