"""Lower bounds of a run: jobs, and their results beside its verdicts in `bounds/`.

A job is a method on a few images, on one model, named by the hash of all that determines its result. Its rows are one
shard, written whole or not at all; `bounds/index.json` says which jobs the run has. Continuing is skipping what exists.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa
import torch
from torch import nn

from atodds.batching import Batching
from atodds.bounds.registry import Spec
from atodds.bounds.schema import SCHEMA, rows
from atodds.data.images import ImageSet
from atodds.errors import CorruptShardError, RunError
from atodds.evaluation import progress
from atodds.evaluation.manifest import ModelInfo
from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.provenance import versions
from atodds.evaluation.runner import Progress
from atodds.evaluation.shards import Footer, pack, unpack
from atodds.evaluation.store import Store
from atodds.oracle import Oracle
from atodds.threat import parse_norm

log = logging.getLogger("atodds")

CHUNK = 32
"""Images of a job, at most: what a crash can lose."""
INDEX = "bounds/index.json"
_FORMAT, _CODE = 1, 1
_KEY = re.compile(r"[0-9a-f]{32}")


def bound(
    store: Store,
    models: Mapping[str, nn.Module],
    images: ImageSet,
    methods: Sequence[Spec],
    *,
    shown: bool | None = None,
) -> None:
    """Compute the lower bounds that a finished run does not have yet.

    Args:
        store: of the run.
        models: by name, as the run has them.
        images: of the run.
        methods: with their settings.
        shown: show a bar; None shows it on a terminal.

    Raises:
        LogitsError, ModelError: from a model.
        StoreFullError: no room for results.
    """
    lanes = plan(store, images, methods)
    specs = {spec.name: spec for spec in methods}
    known = _index(store) or ()
    every = (*known, *(job.key for lane in lanes for job in lane.jobs if job.key not in known))
    store.folder.write(INDEX, json.dumps({"format": _FORMAT, "jobs": every}, indent=1).encode())
    by_id = {info.id: models[info.name] for info in store.manifest.models}
    with progress.bar(lanes, shown=shown) as told:
        for lane in lanes:
            for job in lane.jobs:
                there = _get(store, job.key) is not None
                if not there:
                    _run(store, lane, job, specs[job.attack], by_id[lane.model], images, told)
                told.job(job, there)


def table(store: Store) -> pl.DataFrame:
    """The lower bounds of a run, columns as in `atodds.bounds.schema.SCHEMA`; empty where it was not asked for any.

    Raises:
        RunError: jobs are missing.
        CorruptShardError: a shard is not whole.
    """
    tables = [SCHEMA.empty_table()]
    for key in _index(store) or ():
        try:
            tables.append(_shard(store, key))
        except FileNotFoundError:
            again = store.manifest.command or "atodds.evaluate with the same arguments"
            raise RunError(f"{store.folder.place} has not finished its lower bounds. Continue with: {again}") from None
    frame = pl.from_arrow(pa.concat_tables(tables))
    if not isinstance(frame, pl.DataFrame):
        raise CorruptShardError(f"{store.folder.place} makes no table of bounds.")
    return frame


def plan(store: Store, images: ImageSet, methods: Sequence[Spec]) -> tuple[Lane, ...]:
    """A lane for each few images on each model, with a job for each method, models in turn."""
    lanes = []
    for start in range(0, len(images), CHUNK):
        positions = tuple(range(start, min(start + CHUNK, len(images))))
        data = images.take(positions).fingerprint
        for model in store.manifest.models:
            jobs = tuple(_job(store, model, data, len(positions), spec) for spec in methods)
            lanes.append(Lane(model.id, positions, data, jobs))
    return tuple(lanes)


def _job(store: Store, model: ModelInfo, data: str, count: int, spec: Spec) -> Job:
    manifest = store.manifest
    settings = sorted((key, repr(value)) for key, value in spec.settings)
    what = [_CODE, model.id, model.fingerprint, manifest.data.name, data, manifest.norm, manifest.seed, manifest.eot]
    text = json.dumps([*what, spec.method.name, spec.method.version, settings])
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Job(key, spec.name, (), (), count * spec.passes)


def _run(
    store: Store, lane: Lane, job: Job, spec: Spec, model: nn.Module, images: ImageSet, told: Progress
) -> None:  # fmt: skip
    """Compute and keep one job, in the model's own precision."""
    manifest, began, positions = store.manifest, time.perf_counter(), list(lane.positions)
    sizes = Batching(manifest.sizes(lane.model))
    oracle = Oracle(model, batch_size=sizes, eot=manifest.eot, on_passes=told.passes, strict=False)
    pixels = images.images(positions).to(oracle.device)
    pixels = pixels.double() if oracle.precision == "float64" else pixels
    labels, ids = torch.from_numpy(images.labels[positions]), torch.from_numpy(images.ids[positions])
    norm = parse_norm(manifest.norm)
    found = spec.run(oracle, pixels, labels, norm, ids=ids.to(oracle.device), seed=manifest.seed)
    made = rows(
        found,
        model=lane.model,
        data=f"{manifest.data.name}@{manifest.data.fingerprint[:8]}",
        images=ids,
        labels=labels,
        method=spec.name,
        passes=oracle.passes().of(ids),
        seed=manifest.seed,
    )
    info = next(info for info in manifest.models if info.id == lane.model)
    footer = Footer(
        job=job.key,
        attack=spec.name,
        model=info.id,
        weights=info.fingerprint,
        data=lane.data,
        versions=versions(),
        device=str(oracle.device),
        precision="full",
        seconds=time.perf_counter() - began,
    )
    store.folder.write(_shard_of(job.key), pack(made, footer))


def _index(store: Store) -> tuple[str, ...] | None:
    """The keys of the jobs that the run was asked for; None where it was asked for none, or where that is lost."""
    try:
        said = json.loads(store.folder.read(INDEX))
        keys = tuple(said["jobs"])
        if said["format"] != _FORMAT or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
            raise ValueError("not a list of jobs")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("%s is damaged (%s). The same command writes it again.", INDEX, error)
        return None
    return keys


def _get(store: Store, key: str) -> pa.Table | None:
    """A job's rows, or None where they have to be computed. A shard that is not whole is reported and removed."""
    try:
        return _shard(store, key)
    except FileNotFoundError:
        return None
    except CorruptShardError as error:
        log.warning("%s It is computed again.", error)
        store.folder.remove(_shard_of(key))
        return None


def _shard(store: Store, key: str) -> pa.Table:
    name = _shard_of(key)
    found, footer = unpack(store.folder.read(name), name, SCHEMA)
    if footer.job != key:
        raise CorruptShardError(f"{name} holds the results of another job.")
    return found


def _shard_of(key: str) -> str:
    return f"bounds/{key}.parquet"
