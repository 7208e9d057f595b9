"""Running a lane: attack, then judge every proposal in full precision, then keep the rows."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from atodds.attacks import registry
from atodds.attacks.pool import Balls
from atodds.batching import Batching
from atodds.data.images import ImageSet
from atodds.evaluation.manifest import Manifest, ModelInfo
from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.provenance import versions
from atodds.evaluation.schema import CLEAN, Judged, judge, verdicts, within
from atodds.evaluation.shards import IMAGES, Footer
from atodds.evaluation.store import Store
from atodds.oracle import Oracle, Precision
from atodds.threat import parse_norm

OnPasses = Callable[[int, int], None]
"""Called with the number of forward and backward passes as they are made."""
OnJob = Callable[[Job, bool], None]
"""Called with each job that is done, and whether it was there already."""


@dataclass(frozen=True)
class Progress:
    """Who is told how the work goes."""

    passes: OnPasses = lambda _forwards, _backwards: None
    job: OnJob = lambda _job, _there: None


@dataclass(frozen=True)
class Site:
    """All that lanes need: models by id, images, and where results go."""

    models: Mapping[str, nn.Module]
    images: ImageSet
    store: Store


@dataclass(frozen=True)
class _Batch:
    """The images of a lane on the model's device, and what the model makes of them."""

    ids: Tensor
    images: Tensor
    labels: Tensor


def run_lane(lane: Lane, site: Site, progress: Progress) -> None:
    """Run the jobs of a lane that have no result yet, and keep each result as soon as it is there.

    Args:
        lane: whose jobs to run, in order.
        site: models, images and store.
        progress: who is told.

    Raises:
        LogitsError, ModelError: from the model.
        StoreFullError: no room for results.
    """
    manifest = site.store.manifest
    model, batching = site.models[lane.model], _batching(manifest, lane.model)
    batch: _Batch | None = None
    clean = torch.zeros(0)
    known: dict[str, _Known] = {}
    ids = torch.from_numpy(site.images.ids[list(lane.positions)])
    for job in lane.jobs:
        there = site.store.get(job.key)
        if there is None:
            began = time.perf_counter()
            batch = batch or _load(site, lane, model)
            oracle = Oracle(
                model,
                batch_size=batching,
                eot=_verdict_passes(manifest, lane.model),
                on_passes=progress.passes,
                strict=False,
            )
            runner = _Runner(manifest, job, lane, oracle, batch)
            table, kept = runner.clean() if job.attack == CLEAN else runner.attack(*_open(job, batch, known), clean)
            footer = runner.footer(time.perf_counter() - began)
            site.store.put(table, footer, kept if manifest.keep and job.attack != CLEAN else None)
        else:
            table = there[0]
        if job.attack == CLEAN:
            clean = torch.from_numpy(table["clean"].to_numpy().astype(np.int64))
        known[job.key] = _Known.of(job, table, ids, manifest.norm)
        progress.job(job, there is not None)


class _Runner:
    """One job: the attack in the precision asked for, the judge in the model's own."""

    def __init__(self, manifest: Manifest, job: Job, lane: Lane, judge_oracle: Oracle, batch: _Batch) -> None:
        self.manifest, self.job, self.lane, self.oracle, self.batch = manifest, job, lane, judge_oracle, batch
        self.norm = parse_norm(manifest.norm)
        self.data = f"{manifest.data.name}@{manifest.data.fingerprint[:8]}"

    def clean(self) -> tuple[pa.Table, None]:
        """The verdicts on the images themselves."""
        ids, images, labels = self.batch.ids, self.batch.images, self.batch.labels
        judged = judge(images, images, labels, self.oracle.logits(images, ids))
        passes = torch.full_like(ids, self.oracle.eot), torch.zeros_like(ids)
        return self._rows(slice(None), torch.zeros(len(ids)), judged.prediction, judged, passes), None

    def attack(self, rows: Tensor, eps: Tensor, clean: Tensor) -> tuple[pa.Table, pa.Table]:
        """The verdicts on what the attack proposes for the images at `rows`, each within its eps, and the images that
        fool."""
        if len(rows) == 0:
            return self._nothing()
        (spec,) = registry.parse(self.job.attack, self.norm)
        ids, images, labels = self.batch.ids[rows], self.batch.images[rows], self.batch.labels[rows]
        attacker = self._attacker()
        proposals = spec.run(
            attacker, images, labels, Balls(self.norm, eps), ids=ids, seed=self.manifest.seed
        )  # fmt: skip
        judged = judge(images, proposals, labels, self.oracle.logits(proposals, ids))
        forwards, backwards = attacker.passes().of(ids.cpu())
        table = self._rows(rows, eps, clean[rows.cpu()], judged, (forwards + self.oracle.eot, backwards))
        hit = judged.fooled
        before = self.oracle.logits(images[hit], ids[hit]) if self.manifest.keep and hit.any() else None
        return table, _images(ids[hit], images[hit], proposals[hit], before, judged.confidence[hit])

    def footer(self, seconds: float) -> Footer:
        """What made this job's shard."""
        info = _info(self.manifest, self.lane.model)
        return Footer(
            job=self.job.key,
            attack=self.job.attack,
            model=info.id,
            weights=info.fingerprint,
            data=self.lane.data,
            versions=versions(),
            device=str(self.oracle.device),
            precision=self.manifest.precision,
            seconds=seconds,
        )

    def _attacker(self) -> Oracle:
        return Oracle(
            self.oracle.model,
            batch_size=self.oracle.batching,
            precision=REDUCED.get(self.manifest.precision),
            eot=self.manifest.eot,
            on_passes=self.oracle.on_passes,
            strict=False,
        )

    def _rows(
        self, rows: Tensor | slice, eps: Tensor, clean: Tensor, judged: Judged, passes: tuple[Tensor, Tensor]
    ) -> pa.Table:
        return verdicts(
            model=self.lane.model,
            data=self.data,
            images=self.batch.ids[rows],
            labels=self.batch.labels[rows],
            clean=clean,
            attack=self.job.attack,
            norm=self.norm,
            eps=eps,
            judged=judged,
            passes=passes,
            seed=self.manifest.seed,
        )

    def _nothing(self) -> tuple[pa.Table, pa.Table]:
        none = torch.zeros(0, dtype=torch.int64, device=self.batch.ids.device)
        empty = self.batch.images[:0]
        judged = judge(empty, empty, none, torch.zeros(0, 2, device=none.device))
        return self._rows(none, none.double(), none, judged, (none, none)), _images(none, empty, empty, None, none)


@dataclass(frozen=True)
class _Known:
    """What a finished job says of each image of its lane.

    Attributes:
        attack: name with settings.
        distance: (n,) at which it fooled the image; infinite where it did not.
        eps: (n,) at which it was tried; NaN where it was not, or at no eps in particular.
    """

    attack: str
    distance: Tensor
    eps: Tensor

    @classmethod
    def of(cls, job: Job, table: pa.Table, ids: Tensor, norm: str) -> "_Known":
        """What the rows of a job say."""
        distance = torch.full((len(ids),), torch.inf, dtype=torch.float64)
        eps = torch.full_like(distance, torch.nan)
        place = {image: row for row, image in enumerate(ids.tolist())}
        for row in table.select(["image", norm, "eps"]).to_pylist():
            distance[place[row["image"]]] = row[norm]
            eps[place[row["image"]]] = torch.nan if row["eps"] is None else row["eps"]
        return cls(job.attack, distance, eps)


def _open(job: Job, batch: _Batch, known: Mapping[str, _Known]) -> tuple[Tensor, Tensor]:
    """Positions in the lane of the images that a job attacks, and the eps of each; no limit is infinite."""
    parents = [known[parent] for parent in job.parents]
    nearest = torch.stack([parent.distance for parent in parents]).amin(0)
    eps = torch.full_like(nearest, -1)
    for level in job.levels:
        eps[~within(nearest, level)] = level
    if not job.levels:
        eps[nearest > 0] = torch.inf
    for parent in parents:
        if parent.attack == job.attack:
            eps[parent.eps == eps] = -1
    rows = (eps >= 0).nonzero()[:, 0]
    return rows.to(batch.ids.device), eps[rows]


def _load(site: Site, lane: Lane, model: nn.Module) -> _Batch:
    positions = list(lane.positions)
    oracle = Oracle(model, batch_size=1)
    images = site.images.images(positions).to(oracle.device)
    return _Batch(
        ids=torch.from_numpy(site.images.ids[positions]).to(oracle.device),
        images=images.double() if oracle.precision == "float64" else images,
        labels=torch.from_numpy(site.images.labels[positions]).to(oracle.device),
    )


def _batching(manifest: Manifest, model: str) -> Batching:
    return Batching(manifest.sizes(model))


REDUCED: dict[str, Precision] = {"bfloat16": "bfloat16", "float16": "float16"}
"""Number formats that attacks may run in besides the model's own."""

VERDICT = 20
"""Passes that a verdict on a random model averages over, at least."""


def _verdict_passes(manifest: Manifest, model: str) -> int:
    return max(VERDICT, manifest.eot) if model in manifest.random else 1


def _info(manifest: Manifest, model: str) -> ModelInfo:
    return next(info for info in manifest.models if info.id == model)


def _images(ids: Tensor, images: Tensor, proposals: Tensor, logits: Tensor | None, confidence: Tensor) -> pa.Table:
    """The sibling shard: images, fooling images and the probabilities of the predictions on both."""
    clean = torch.zeros(len(ids)) if logits is None else torch.softmax(logits.double(), 1).amax(1)
    columns: dict[str, Any] = {
        "image": ids.cpu().numpy(),
        "original": [_raw(image) for image in images],
        "proposal": [_raw(image) for image in proposals],
        "clean_confidence": clean.double().cpu().numpy(),
        "confidence": confidence.double().cpu().numpy(),
    }
    return pa.Table.from_pydict(columns, schema=IMAGES)


def _raw(image: Tensor) -> bytes:
    return image.float().cpu().numpy().astype("<f4").tobytes()
