"""Who runs the lanes: this process, or several on this machine. The results are the same.

Every worker writes its own shards into the run's folder, so a worker that dies loses nothing that was finished.
"""

import concurrent.futures
import multiprocessing
import os
import pickle
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from atodds import models
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, ModelError, WorkerError
from atodds.evaluation.manifest import Manifest
from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.runner import Progress, Site, run_lane
from atodds.evaluation.store import Store
from atodds.oracle import Oracle


def serial(lanes: Sequence[Lane], site: Site, progress: Progress) -> None:
    """Run all lanes in this process, in order."""
    for lane in lanes:
        run_lane(lane, site, progress)


def processes(lanes: Sequence[Lane], site: Site, progress: Progress, *, workers: int) -> None:
    """Run all lanes in `workers` new processes, which share the cores.

    Args:
        lanes: independent of each other; they start in order and end in any.
        site: its models are sent to the workers, or loaded there again where they came from a file.
        progress: told in this process.
        workers: number of processes.

    Raises:
        ArgumentError: a model that cannot be sent.
        WorkerError: a worker died. What was finished is kept.
    """
    site.images.images([0])  # a set that cannot be read is found here, not in every worker
    tickets = {name: _ticket(name, model) for name, model in site.models.items()}
    order = _Order(tickets, site.images, site.store.folder.place, site.store.manifest)
    context = multiprocessing.get_context("spawn")
    news: Any = context.Queue()
    listener = threading.Thread(target=_listen, args=(news, progress), daemon=True)
    listener.start()
    threads = max(1, _cores() // workers)
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_settle_in, initargs=(order, news, threads)
    )
    try:
        futures = [pool.submit(_work, lane) for lane in lanes]
        for done in concurrent.futures.as_completed(futures):
            done.result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "A worker process ended before its work: it was killed, or the memory ran out. What was finished is kept; "
            "the same command continues. With less memory, give fewer --workers or a smaller --batch-size."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        news.put(None)
        listener.join()


@dataclass(frozen=True)
class _Ticket:
    """How a worker gets a model: as it was sent, or loaded again from where it came from (arguments of models.load)."""

    module: bytes
    load: Mapping[str, Any]
    fingerprint: str
    device: str
    double: bool


@dataclass(frozen=True)
class _Order:
    tickets: Mapping[str, _Ticket]
    images: ImageSet
    place: str
    manifest: Manifest


_here: dict[str, Any] = {}
"""In a worker: its site and its way to tell news. A worker process serves one order in its life."""


def _settle_in(order: _Order, news: Any, threads: int) -> None:
    torch.set_num_threads(threads)
    site_models = {name: _redeem(name, ticket) for name, ticket in order.tickets.items()}
    _here["site"] = Site(site_models, order.images, Store(order.place, order.manifest))
    _here["news"] = news


def _work(lane: Lane) -> None:
    news = _here["news"]
    told = Progress(
        passes=lambda forwards, backwards: news.put((forwards, backwards)),
        job=lambda job, there: news.put((job, there)),
    )
    run_lane(lane, _here["site"], told)


def _listen(news: Any, progress: Progress) -> None:
    while True:
        try:
            said = news.get()
        except (EOFError, OSError, queue.Empty):
            return
        if said is None:
            return
        if isinstance(said[0], Job):
            progress.job(*said)
        else:
            progress.passes(*said)


def _ticket(name: str, model: nn.Module) -> _Ticket:
    oracle, fingerprint = Oracle(model, batch_size=1), models.fingerprint(model)
    place = fingerprint, str(oracle.device), oracle.precision == "float64"
    if all(_importable(type(module)) for module in model.modules()):
        try:
            return _Ticket(pickle.dumps(model), {}, *place)
        except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
            reason = str(error)
    else:
        reason = "its code is in a file of its own"
    if not isinstance(model, models.Classifier) or not model.source:
        way_out = "Give it as FILE.py:FACTORY, define its class in a module that can be imported, or use one worker."
        raise ArgumentError("workers", name, f"the model cannot be sent to other processes ({reason})", way_out)
    load: dict[str, Any] = {"spec": model.source, "name": model.name, "trust_pickle": True}  # this process opened it
    if model.card is None and model.mean is not None and model.std is not None:
        load |= {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
    return _Ticket(b"", load, *place)


def _importable(kind: type) -> bool:
    """Whether a new process can import the class: not where its module was run from a file by its path."""
    top = kind.__module__.partition(".")[0]
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return top == "__main__" or any(finder.find_spec(top, None) is not None for finder in finders)


def _redeem(name: str, ticket: _Ticket) -> nn.Module:
    model: nn.Module = pickle.loads(ticket.module) if ticket.module else models.load(**ticket.load)  # noqa: S301 - ours
    model = model.double() if ticket.double else model
    if models.fingerprint(model) != ticket.fingerprint:
        raise ModelError(f"{name} is not the same when it is loaded again: its file or factory gives other weights.")
    return model.to(ticket.device)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
