"""A whole run: check everything, look at the models, attack, look again."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from atodds import models
from atodds.attacks import registry, window_queries
from atodds.batching import Batching, BatchSizes
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, ThreatError
from atodds.evaluation import audit, battery, executor, progress
from atodds.evaluation.folder import Folder
from atodds.evaluation.manifest import DataInfo, Finding, Manifest, ModelInfo
from atodds.evaluation.plan import CHUNK, Lane, Question, plan
from atodds.evaluation.provenance import commit, machine, now, versions
from atodds.evaluation.runner import REDUCED, Site
from atodds.evaluation.store import Store
from atodds.evaluation.transfers import plan_transfers
from atodds.models.classifier import check_images
from atodds.oracle import Oracle
from atodds.threat import Budget, EpsSpec, Norm, parse_eps_list, parse_norm

log = logging.getLogger("atodds")

KEPT = 1 << 30
"""Bytes of fooling images that are kept unless the caller decides."""

_PRECISIONS = {None: "full", "float32": "full"} | {name: name for name in REDUCED}


@dataclass(frozen=True)
class Settings:
    """How a run is carried out; see `atodds.evaluate` for each."""

    seed: int = 0
    precision: str | None = None
    eot: int | None = None
    alone: bool = False
    keep: bool | None = None
    workers: int = 1
    batch_size: int | None = None
    chunk: int = CHUNK
    command: str = ""
    progress: bool | None = None
    transfer: bool = False


def conduct(
    brought: Mapping[str, nn.Module],
    images: ImageSet,
    norm: str,
    eps: EpsSpec,
    attacks: str | Sequence[str],
    place: str | os.PathLike[str],
    settings: Settings,
    *,
    shared: dict[str, BatchSizes] | None = None,
) -> Store:
    """Carry a run out, or continue it, and give its store. Arguments and errors are those of `atodds.evaluate`.

    Args:
        shared: batch sizes of models, by id, that other runs of the same study have measured on images of the same
            shape. Those that are measured here are added.
    """
    ball = parse_norm(norm)
    budgets = parse_eps_list(eps, ball)
    specs = registry.parse(attacks, ball)
    settings = _showing(_averaged(attacks, settings), brought)
    question = _question(ball, settings)
    for spec in specs:
        spec.check(ball)
    _check_reach(ball, budgets, images)
    _check_readable(images)
    for name, model in brought.items():
        check_images(model, images.shape, images.classes, name)
    known = _identified(brought)
    infos = tuple(known)
    if settings.workers > 1:
        executor.tickets(brought)
    earlier = Store.open(place) if Folder(place).exists("run.json") else None
    outputs = {info.id: _outputs(info, model, images, earlier) for info, model in known.items()}
    specs = registry.parse(attacks, ball, min(outputs.values()))
    lanes = plan(infos, images, budgets, specs, question, chunk=settings.chunk)
    transfers = plan_transfers(lanes, math.prod(images.shape)) if settings.transfer else ()
    sample, budget = battery.sampled(budgets, images)
    looks = _looks(infos, lanes, images)
    manifest = Manifest(
        models=infos,
        data=_described(images),
        norm=ball,
        budgets=budgets,
        attacks=tuple(spec.name for spec in specs),
        alone=settings.alone,
        seed=settings.seed,
        precision=question.precision,
        eot=question.eot,
        keep=_keeps(settings, images, len(infos)),
        jobs=tuple(job.key for lane in lanes for job in lane.jobs),
        transfers=tuple(show.job.key for transfer in transfers for show in transfer.shows),
        looks=(*looks.before.values(), *looks.battery.values(), looks.after),
        batch_sizes={},
        channels_last={},
        in_part={},
        outputs=outputs,
        random=(),
        command=settings.command,
        commit=commit(),
        versions=versions(),
        machine=machine(Oracle(next(iter(known.values())), batch_size=1).device),
        created=earlier.manifest.created if earlier else now(),
    )
    if earlier:
        manifest.grown_from(earlier.manifest, earlier.folder.place)
    seen, sizes = {}, dict[str, BatchSizes]()
    for info, model in known.items():
        batching = _batching(settings, earlier.manifest.sizes(info.id) if earlier else (shared or {}).get(info.id))
        found = earlier.get_findings(looks.before[info.id]) if earlier else None
        seen[looks.before[info.id]] = audit.before(info, model, images, batching) if found is None else found
        sizes[info.id] = _measured(model, images, batching, settings.precision)
    if shared is not None and settings.batch_size is None:
        shared.update(sizes)
    random = tuple(info.id for info in infos if _says(seen[looks.before[info.id]], audit.RANDOM))
    manifest = replace(
        manifest,
        batch_sizes={model: (found.forward, found.gradient) for model, found in sizes.items()},
        channels_last={model: found.channels_last for model, found in sizes.items()},
        in_part={model: bool(found.in_part) for model, found in sizes.items()},
        random=random,
    )
    store = Store.create(place, manifest)
    for key, findings in seen.items():
        store.put_findings(key, findings)
    with progress.bar(lanes, transfers, shown=settings.progress) as told:
        site = Site({info.id: model for info, model in known.items()}, images, store)
        stages: tuple[Sequence[executor.Work], ...] = (lanes, transfers)
        for works in filter(None, stages):
            if settings.workers == 1:
                executor.serial(works, site, told)
            else:
                executor.processes(works, site, told, workers=settings.workers)
    for info, model in known.items():
        if store.get_findings(looks.battery[info.id]) is None:
            batching = Batching(store.manifest.sizes(info.id))
            steady = _is_steady(seen[looks.before[info.id]], question.eot)
            said = battery.battery(
                info, model, sample, ball, budget, store.table(),
                seed=settings.seed, eot=question.eot, batching=batching, precision=REDUCED.get(question.precision),
            ) if steady else ()  # fmt: skip
            store.put_findings(looks.battery[info.id], said)
    claims = _claims(attacks, infos, min(outputs.values()), settings)
    store.put_findings(looks.after, (*battery.after(store.manifest, store.table()), *claims))
    return store


def _averaged(attacks: str | Sequence[str], settings: Settings) -> Settings:
    """The settings with the passes that a preset averages over, where nothing else was asked for."""
    named = registry.pieces(attacks)
    wanted = max((registry.EOT.get(piece, 1) for piece in named), default=1)
    return replace(settings, eot=wanted) if settings.eot is None else settings


def _showing(settings: Settings, brought: Mapping[str, nn.Module]) -> Settings:
    """The settings with what transfer needs."""
    if not settings.transfer:
        return settings
    if len(brought) < 2:
        raise ArgumentError("transfer", True, "one model, and none to show its images to", "Bring two or more.")
    if settings.keep is False:
        raise ArgumentError("keep", False, "transfer shows the fooling images to the others", "Leave --no-keep out.")
    return replace(settings, keep=True)


def _outputs(info: ModelInfo, model: nn.Module, images: ImageSet, earlier: Store | None) -> int:
    """How many classes a model tells apart: as an earlier run has seen, or in a pass on two images."""
    seen = earlier.manifest.outputs.get(info.id) if earlier else None
    two = images.images(range(min(2, len(images))))
    return seen or audit.first_pass(info, Oracle(model, batch_size=len(two)), two).shape[1]


def _claims(attacks: str | Sequence[str], infos: Sequence[ModelInfo], fewest: int, settings: Settings) -> list[Finding]:
    """Where a run that was asked for a preset of AutoAttack is not what the field means by it."""
    presets = [piece for piece in registry.pieces(attacks) if piece in registry.OF_AUTO_ATTACK]
    reasons = [
        (fewest < registry.FEW, f"{fewest} classes: attacks on the margin took the place of those on the DLR loss"),
        (_PRECISIONS[settings.precision] != "full", f"the attacks ran in {settings.precision}"),
    ]
    measured = "; ".join(reason for holds, reason in reasons if holds)
    meaning = "Figures of others under this name were made another way. The verdicts here hold as they are."
    return [
        Finding(
            "not the standard AutoAttack", "note", info.id, measured, meaning,
            f"Name the attacks when you publish the figures, not only {' and '.join(presets)}.",
        )
        for info in infos
        if presets and measured
    ]  # fmt: skip


@dataclass(frozen=True)
class _Looks:
    """Keys of what the audit found: before the run and in the battery, by model, and in the finished table."""

    before: dict[str, str]
    battery: dict[str, str]
    after: str


def _looks(infos: Sequence[ModelInfo], lanes: Sequence[Lane], images: ImageSet) -> _Looks:
    """The keys of the jobs cover all that decides what is seen after the run."""
    jobs = {info.id: [job.key for lane in lanes if lane.model == info.id for job in lane.jobs] for info in infos}
    before = {info.id: _key("before", audit.VERSION, info.id, info.fingerprint, images.fingerprint) for info in infos}
    small = {info.id: _key("battery", battery.VERSION, jobs[info.id]) for info in infos}
    return _Looks(before, small, _key("after", battery.VERSION, jobs))


def _is_steady(seen: Sequence[Finding], eot: int) -> bool:
    """Whether two attacks on a model can be compared: not where it is random and nothing averages over that, or where
    what it says of an image depends on the others. The audit has said so, and each comparison would only say it again.
    """
    return not _says(seen, audit.BATCH) and (eot > 1 or not _says(seen, audit.RANDOM))


def _says(seen: Sequence[Finding], check: str) -> bool:
    return any(finding.check == check for finding in seen)


def described(name: str, model: nn.Module) -> ModelInfo:
    """What identifies a model in tables and pages."""
    fingerprint = models.fingerprint(model)
    return ModelInfo(
        id=f"{name}@{fingerprint[:8]}",
        name=name,
        source=model.source if isinstance(model, models.Classifier) else "",
        fingerprint=fingerprint,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _question(norm: Norm, settings: Settings) -> Question:
    if settings.precision not in _PRECISIONS:
        way_out = "Choose float32, bfloat16 or float16. Verdicts are always in the model's own precision."
        raise ArgumentError("precision", settings.precision, "not a number format that attacks run in", way_out)
    batch_size = 1 if settings.batch_size is None else settings.batch_size
    counts = {
        "eot": 1 if settings.eot is None else settings.eot,
        "workers": settings.workers,
        "chunk": settings.chunk,
        "batch_size": batch_size,
    }
    for name, value in (counts | {"seed": settings.seed}).items():
        if type(value) is not int:
            raise ArgumentError(name, value, f"a {type(value).__name__}, not an int", "Give a whole number.")
    for name, value in counts.items():
        if value < 1:
            raise ArgumentError(name, value, "nothing to do", "Give 1 or more.")
    if not -(1 << 63) <= settings.seed < 1 << 63:
        raise ArgumentError("seed", settings.seed, "more than 64 bits", "Give a smaller number.")
    return Question(norm, settings.seed, _PRECISIONS[settings.precision], counts["eot"], settings.alone)


def _check_reach(norm: Norm, budgets: Sequence[Budget], images: ImageSet) -> None:
    values = math.prod(images.shape)
    widest = {"linf": 1.0, "l2": math.sqrt(values), "l1": float(values)}[norm]
    for budget in budgets:
        if budget.value > widest:
            problem = f"no two images of {values} values are further apart than {widest:.4g} in {norm}"
            raise ThreatError("eps", budget.text, problem, "Give a smaller eps; pixels lie in [0, 1].")


def _check_readable(images: ImageSet) -> None:
    """Decode every image once, so that a damaged one is found now and not after hours."""
    for start in range(0, len(images), CHUNK):
        images.pixels(range(start, min(start + CHUNK, len(images))))


def _identified(brought: Mapping[str, nn.Module]) -> dict[ModelInfo, nn.Module]:
    if not brought:
        raise ArgumentError("models", "none", "no model to attack", "Bring at least one.")
    known: dict[ModelInfo, nn.Module] = {}
    for name, model in brought.items():
        info = described(name, model)
        twin = next((other for other in known if other.fingerprint == info.fingerprint), None)
        if twin:
            raise ArgumentError("models", name, f"the same model as {twin.name}", "Bring each model once.")
        known[info] = model
    return known


def _described(images: ImageSet) -> DataInfo:
    return DataInfo(
        name=images.name,
        split=images.split,
        selection=images.selection,
        fingerprint=images.fingerprint,
        n=len(images),
        classes=images.classes,
        shape=images.shape,
    )


def _batching(settings: Settings, known: BatchSizes | None) -> Batching:
    """The batch size that was asked for, or one that is known already, or one to be measured now."""
    if settings.batch_size is None:
        return Batching(known)
    asked = Batching(settings.batch_size)
    asked.in_part = known.in_part if known else None
    return asked


def _measured(model: nn.Module, images: ImageSet, batching: Batching, precision: str | None) -> BatchSizes:
    """Batch sizes, found by passes on the run's images; nothing else is done with these passes."""
    reduced = REDUCED.get(precision or "")
    oracle = Oracle(model, batch_size=batching, precision=reduced, strict=False, folded=True)
    largest = 512 if oracle.device.type == "cpu" else 4096
    pool = images.images(range(min(len(images), largest))).to(oracle.device)
    pool = pool.repeat(-(-largest // len(pool)), 1, 1, 1)[:largest]
    ids = torch.arange(len(pool))
    with oracle.running():
        while kinds := batching.unsettled:
            if "gradient" in kinds:
                oracle.gradients(pool, lambda logits, _: logits.amax(1), ids)
            if "forward" in kinds:
                oracle.logits(pool, ids)
        window_queries.settle(oracle, pool[:CHUNK], ids[:CHUNK])
    return batching.sizes


def _keeps(settings: Settings, images: ImageSet, count: int) -> bool:
    if settings.keep is not None:
        return settings.keep
    size = 8 * len(images) * math.prod(images.shape) * count
    if size > KEPT:
        log.warning("Fooling images are not kept: up to %.1f GB. Ask for them with --keep.", size / 1e9)
    return size <= KEPT


def _key(*what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
