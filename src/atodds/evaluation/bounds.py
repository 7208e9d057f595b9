"""Lower bounds of a run: jobs, and how they are carried out.

A job is a method on a few images, on one model, named by the hash of all that determines its result. Continuing is
skipping what exists.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from atodds.batching import Batching
from atodds.bounds.registry import Spec
from atodds.bounds.schema import rows
from atodds.data.images import ImageSet
from atodds.evaluation import kept_bounds, progress
from atodds.evaluation.manifest import Manifest, ModelInfo
from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.provenance import versions
from atodds.evaluation.runner import Progress
from atodds.evaluation.shards import Footer
from atodds.evaluation.store import Store
from atodds.oracle import Oracle
from atodds.threat import parse_norm

CHUNK = 32
"""Images of a job, at most: what a crash can lose."""
_CODE = 1
"""Raised by one when bounds are computed otherwise, so that old results are not taken for new."""


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
    lanes, specs = plan(store.manifest, images, methods), {spec.name: spec for spec in methods}
    kept_bounds.ask(store.folder, (job.key for lane in lanes for job in lane.jobs))
    with progress.bar(lanes, shown=shown) as told:
        for lane in lanes:
            info = next(info for info in store.manifest.models if info.id == lane.model)
            for job in lane.jobs:
                there = kept_bounds.is_there(store.folder, job.key)
                if not there:
                    _run(store, lane, job, specs[job.attack], info, models[info.name], images, told)
                told.job(job, there)


def plan(manifest: Manifest, images: ImageSet, methods: Sequence[Spec]) -> tuple[Lane, ...]:
    """A lane for each few images on each model, with a job for each method, models in turn."""
    lanes = []
    for start in range(0, len(images), CHUNK):
        positions = tuple(range(start, min(start + CHUNK, len(images))))
        data = images.take(positions).fingerprint
        for model in manifest.models:
            jobs = tuple(_job(manifest, model, data, len(positions), spec) for spec in methods)
            lanes.append(Lane(model.id, positions, data, jobs))
    return tuple(lanes)


def _job(manifest: Manifest, model: ModelInfo, data: str, count: int, spec: Spec) -> Job:
    settings = sorted((key, repr(value)) for key, value in spec.settings)
    what = [_CODE, model.id, model.fingerprint, manifest.data.name, data, manifest.norm, manifest.seed, manifest.eot]
    text = json.dumps([*what, spec.method.name, spec.method.version, settings])
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Job(key, spec.name, (), (), count * spec.passes)


def _run(
    store: Store, lane: Lane, job: Job, spec: Spec, info: ModelInfo, model: nn.Module, images: ImageSet, told: Progress
) -> None:
    """Compute and keep one job, in the model's own precision."""
    manifest, began, positions = store.manifest, time.perf_counter(), list(lane.positions)
    sizes = Batching(manifest.sizes(info.id))
    oracle = Oracle(model, batch_size=sizes, eot=manifest.eot, on_passes=told.passes, strict=False)
    pixels = images.images(positions).to(oracle.device)
    pixels = pixels.double() if oracle.precision == "float64" else pixels
    labels, ids = torch.from_numpy(images.labels[positions]), torch.from_numpy(images.ids[positions])
    norm = parse_norm(manifest.norm)
    found = spec.run(oracle, pixels, labels, norm, ids=ids.to(oracle.device), seed=manifest.seed)
    made = rows(
        found,
        model=info.id,
        data=f"{manifest.data.name}@{manifest.data.fingerprint[:8]}",
        images=ids,
        labels=labels,
        method=spec.name,
        passes=oracle.passes().of(ids),
        seed=manifest.seed,
    )
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
    kept_bounds.put(store.folder, made, footer)
