"""Who does the work: this process, or several on this machine. The results are the same.

Every worker writes its own shards into the run's folder, so a worker that dies loses nothing that was finished.
"""

import ctypes
import io
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any

import torch
from torch import nn

from atodds import models
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, AtoddsError, ModelError, WorkerError
from atodds.evaluation.manifest import Manifest
from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.runner import Progress, Site, run_lane
from atodds.evaluation.store import Store
from atodds.evaluation.transfer_runner import run_transfer
from atodds.evaluation.transfers import Transfer
from atodds.oracle import Oracle

Work = Lane | Transfer
"""What is done at a time, independent of all else that is done then."""


def serial(works: Sequence[Work], site: Site, progress: Progress) -> None:
    """Do all works in this process, in order."""
    for work in works:
        _do(work, site, progress)


def _do(work: Work, site: Site, progress: Progress) -> None:
    match work:
        case Lane():
            run_lane(work, site, progress)
        case Transfer():
            run_transfer(work, site, progress)


def processes(works: Sequence[Work], site: Site, progress: Progress, *, workers: int) -> None:
    """Do all works in `workers` new processes, which share the cores.

    Args:
        works: they start in order and end in any.
        site: its models are sent to the workers, or loaded there again where they came from a file.
        progress: told in this process.
        workers: number of processes.

    Raises:
        ArgumentError: a model that cannot be sent.
        WorkerError: a worker died. What was finished is kept.
        AtoddsError: what a worker raised.
    """
    order = _Order(tickets(site.models), site.images, site.store.folder.place, site.store.manifest)
    context = multiprocessing.get_context("spawn")
    tasks, news = context.Queue(), context.Queue()
    for task in [*works, *[None] * workers]:
        tasks.put(task)
    workers = min(workers, len(works))
    threads = max(1, _cores() // workers)
    crew: list[BaseProcess] = []
    try:
        for _ in range(workers):
            worker = context.Process(target=_work, args=(order, tasks, news, threads), daemon=True)
            worker.start()
            crew.append(worker)
        _follow(crew, news, len(works), progress)
    finally:
        for member in crew:
            member.terminate()
        for member in crew:
            member.join()
        for channel in (tasks, news):
            channel.cancel_join_thread()
            channel.close()


def _follow(crew: Sequence[BaseProcess], news: "Queue[Any]", left: int, progress: Progress) -> None:
    """Tell what the workers tell, until nothing is left to do."""
    heard = False
    while left:
        try:
            said = news.get(timeout=1)
        except queue.Empty:
            codes = [member.exitcode for member in crew]
            if any(codes) or None not in codes:
                raise _ended(heard) from None
            continue
        heard = True
        match said:
            case None:
                left -= 1
            case BaseException():
                raise said
            case Job(), there:
                progress.job(said[0], there)
            case forwards, backwards:
                progress.passes(forwards, backwards)


def _ended(heard: bool) -> WorkerError:
    if heard:
        return WorkerError(
            "A worker process ended before its work: it was killed, or the memory ran out. What was finished is kept; "
            "the same command continues. With less memory, give fewer workers or a smaller batch size."
        )
    return WorkerError(
        "The worker processes ended before they began: they were killed, or could not start. A script must keep what "
        "it does under if __name__ == '__main__':, or use one worker."
    )


@dataclass(frozen=True)
class _Ticket:
    """How a worker gets a model: packed, with what cannot be sent loaded again from where it came from."""

    module: bytes
    fingerprint: str
    device: str
    double: bool


@dataclass(frozen=True)
class _Order:
    tickets: Mapping[str, _Ticket]
    images: ImageSet
    place: str
    manifest: Manifest


def _work(order: _Order, tasks: "Queue[Any]", news: "Queue[Any]", threads: int) -> None:
    """A worker's life: works from `tasks` until there are no more. An interruption is for the parent to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    hold_memory()
    told = Progress(
        passes=lambda forwards, backwards: news.put((forwards, backwards)),
        job=lambda job, there: news.put((job, there)),
    )
    try:
        site_models = {name: _redeem(name, ticket) for name, ticket in order.tickets.items()}
        site = Site(site_models, order.images, Store(order.place, order.manifest))
        while (work := tasks.get()) is not None:
            _do(work, site, told)
            news.put(None)
    except AtoddsError as error:
        news.put(error)
    except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
        news.put(WorkerError(f"A worker failed: {type(error).__name__}: {error}\n{traceback.format_exc()}"))


def _end_with_parent() -> None:
    """A parent that is killed ends nobody: without this, its workers would go on, and then wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def tickets(brought: Mapping[str, nn.Module]) -> dict[str, _Ticket]:
    """How other processes get each of these models.

    Raises:
        ArgumentError: a model that they cannot get.
    """
    return {name: _ticket(name, model) for name, model in brought.items()}


def _ticket(name: str, model: nn.Module) -> _Ticket:
    oracle, fingerprint = Oracle(model, batch_size=1), models.fingerprint(model)
    problem: Exception | None = None
    for again in (False, True):
        packed = io.BytesIO()
        try:
            _Packer(packed, again).dump(model)
        except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
            problem = error
        else:
            return _Ticket(packed.getvalue(), fingerprint, str(oracle.device), oracle.precision == "float64")
    way_out = "Give it as FILE.py:FACTORY, define its class in a module that can be imported, or use one worker."
    told = f"the model cannot be sent to other processes ({problem})"
    raise ArgumentError("workers", name, told, way_out) from problem


class _Packer(pickle.Pickler):
    """Modules as they are; a classifier whose code a new process cannot import, or with `again` every classifier that
    can be, as the call that loads it again."""

    def __init__(self, file: io.BytesIO, again: bool) -> None:
        super().__init__(file)
        self.again = again

    def reducer_override(self, held: object) -> Any:
        if isinstance(held, models.Classifier) and models.is_loaded(held):
            if self.again or not all(_importable(type(each)) for each in _own(held)):
                return _again, (models.arguments(held) | {"trust_pickle": True},)  # this process opened it
        elif isinstance(held, nn.Module) and not _importable(type(held)):
            raise pickle.PicklingError("its code is in a file of its own")
        return NotImplemented


def _own(model: nn.Module) -> Iterator[nn.Module]:
    """A module and those in it, without what lies in classifiers that can be loaded again by themselves."""
    yield model
    for child in model.children():
        if not (isinstance(child, models.Classifier) and models.is_loaded(child)):
            yield from _own(child)


def _again(arguments: dict[str, Any]) -> nn.Module:
    return models.load(**arguments)


def _importable(kind: type) -> bool:
    """Whether a new process can import the class: not where its module was run from a file by its path, or typed."""
    top = kind.__module__.partition(".")[0]
    if top == "__main__":
        return hasattr(sys.modules[top], "__file__")
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return any(finder.find_spec(top, None) is not None for finder in finders)


def _redeem(name: str, ticket: _Ticket) -> nn.Module:
    model: nn.Module = pickle.loads(ticket.module)  # noqa: S301 - ours
    if ticket.double and models.fingerprint(model) != ticket.fingerprint:
        model = model.double()  # as the caller did after loading it
    if models.fingerprint(model) != ticket.fingerprint:
        raise ModelError(f"{name} is not the same when it is loaded again: its file or factory gives other weights.")
    return model.to(ticket.device)


def hold_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is GNU's: handed back after each pass and
    asked for again, it costs a tenth of the time of a small network. For processes that do nothing else."""
    with suppress(OSError, AttributeError, TypeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_MAPPED_FROM, 1 << 25)
        allocator.mallopt(_TRIMMED_FROM, (1 << 31) - 1)


_MAPPED_FROM, _TRIMMED_FROM = -3, -1
"""M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of mallopt(3)."""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
