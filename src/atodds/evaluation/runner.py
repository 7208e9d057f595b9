"""Running a lane: attack, then judge every proposal in full precision, then keep the rows."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from atodds.attacks import registry
from atodds.attacks.pool import Balls
from atodds.attacks.registry import Spec
from atodds.attacks.targets import Mode, target_classes
from atodds.batching import Batching
from atodds.data.images import ImageSet
from atodds.evaluation.manifest import Manifest, ModelInfo
from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.provenance import versions
from atodds.evaluation.schema import CLEAN, Judged, judge, verdicts, within
from atodds.evaluation.shards import IMAGES, Footer
from atodds.evaluation.store import Store
from atodds.oracle import Oracle
from atodds.precision import Precision
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
    """The images of a lane on the model's device, and what the model makes of them; `likely` are the logits that
    targets are chosen by, empty until an attack has a target."""

    ids: Tensor
    images: Tensor
    labels: Tensor
    likely: list[Tensor] = field(default_factory=list)

    def targets(self, mode: Mode, oracle: Oracle, seed: int) -> Tensor:
        """(N,) the class that each image is driven to. The pass is the one that the clean verdict has counted."""
        if not self.likely:
            self.likely.append(oracle.logits(self.images, self.ids))
        return target_classes(self.likely[0], self.labels, mode, ids=self.ids, seed=seed)


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
            runner = _Runner(manifest, job, lane, judge_of(site, lane.model, progress, batching), batch)
            table, kept = runner.clean() if job.attack == CLEAN else runner.attack(known, clean)
            footer = runner.footer(time.perf_counter() - began)
            site.store.put(table, footer, kept if manifest.keep and job.attack != CLEAN else None)
        else:
            table = there[0]
        if job.attack == CLEAN:
            clean = torch.from_numpy(table["clean"].to_numpy().astype(np.int64))
        known[job.key] = _Known.of(job, table, ids, manifest.norm)
        progress.job(job, there is not None)


def judge_of(site: Site, model: str, progress: Progress, batching: Batching | None = None) -> Oracle:
    """What says the verdicts on a model: its own precision, and averages over passes where it draws at random."""
    manifest = site.store.manifest
    return Oracle(
        site.models[model],
        batch_size=batching or _batching(manifest, model),
        eot=_verdict_passes(manifest, model),
        on_passes=progress.passes,
        strict=False,
    )


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
        return self._rows(slice(None), torch.zeros(len(ids)), judged.answers.prediction, None, judged, passes), None

    def attack(self, known: Mapping[str, "_Known"], clean: Tensor) -> tuple[pa.Table, pa.Table]:
        """The verdicts on what the attack proposes for the images that are open to it, each within its eps, and the
        proposals that the model gets wrong."""
        (spec,) = registry.parse(self.job.attack, self.norm)
        rows, eps = _open(self.job, spec, known)
        if len(rows) == 0:
            return self._nothing()
        at = rows.to(self.batch.ids.device)
        ids, images, labels = self.batch.ids[at], self.batch.images[at], self.batch.labels[at]
        targets = self._targets(spec, at)
        attacker = self._attacker()
        proposals = spec.run(
            attacker, images, labels, Balls(self.norm, eps), targets=targets, ids=ids, seed=self.manifest.seed
        )
        judged = judge(images, proposals, labels, self.oracle.logits(proposals, ids), targets)
        forwards, backwards = attacker.passes().of(ids.cpu())
        table = self._rows(at, eps, clean[rows], targets, judged, (forwards + self.oracle.eot, backwards))
        hit = judged.wrong
        before = self.oracle.logits(images[hit], ids[hit]) if self.manifest.keep and hit.any() else None
        return table, _images(ids[hit], images[hit], proposals[hit], before, judged.answers.confidence[hit])

    def _targets(self, spec: Spec, rows: Tensor) -> Tensor | None:
        return None if spec.target is None else self.batch.targets(spec.target, self.oracle, self.manifest.seed)[rows]

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
            folded=_verdict_passes(self.manifest, self.lane.model) == 1,
        )

    def _rows(
        self,
        rows: Tensor | slice,
        eps: Tensor,
        clean: Tensor,
        targets: Tensor | None,
        judged: Judged,
        passes: tuple[Tensor, Tensor],
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
            targets=targets,
            judged=judged,
            passes=passes,
            seed=self.manifest.seed,
        )

    def _nothing(self) -> tuple[pa.Table, pa.Table]:
        none = torch.zeros(0, dtype=torch.int64, device=self.batch.ids.device)
        empty = self.batch.images[:0]
        judged = judge(empty, empty, none, torch.zeros(0, 2, device=none.device))
        rows = self._rows(none, none.double(), none, None, judged, (none, none))
        return rows, _images(none, empty, empty, None, none)


@dataclass(frozen=True)
class _Known:
    """What a finished job says of each image of its lane.

    Attributes:
        attack: name with settings.
        distance: (n,) at which the model got the image wrong; infinite where it did not.
        reached: (n,) the same where it is wrong as the attack wanted, infinite elsewhere.
        eps: (n,) at which it was tried; NaN where it was not, or at no eps in particular.
    """

    attack: str
    distance: Tensor
    reached: Tensor
    eps: Tensor

    @classmethod
    def of(cls, job: Job, table: pa.Table, ids: Tensor, norm: str) -> "_Known":
        """What the rows of a job say."""
        distance = torch.full((len(ids),), torch.inf, dtype=torch.float64)
        reached, eps = distance.clone(), torch.full_like(distance, torch.nan)
        place = {image: row for row, image in enumerate(ids.tolist())}
        for row in table.select(["image", norm, "fooled", "eps"]).to_pylist():
            at = place[row["image"]]
            distance[at] = row[norm]
            reached[at] = row[norm] if row["fooled"] else torch.inf
            eps[at] = torch.nan if row["eps"] is None else row["eps"]
        return cls(job.attack, distance, reached, eps)


def _open(job: Job, spec: Spec, known: Mapping[str, _Known]) -> tuple[Tensor, Tensor]:
    """Positions in the lane of the images that a job attacks, and the eps of each; no limit is infinite.

    An attack that heads for a target is not done with an image that it made something else of."""
    parents = [known[parent] for parent in job.parents]
    nearest = torch.stack([parent.reached if spec.target else parent.distance for parent in parents]).amin(0)
    eps = torch.full_like(nearest, -1)
    for level in job.levels:
        eps[~within(nearest, level)] = level
    if not job.levels:
        eps[nearest > 0] = torch.inf
    for parent in parents:
        if parent.attack == job.attack:
            eps[parent.eps == eps] = -1
    rows = (eps >= 0).nonzero()[:, 0]
    return rows, eps[rows]


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
