"""The models of one or several runs, over the images that all of them have, in the norm that a need asks for."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from atodds.analysis.accuracy import CLEAN, Distances, Integers, distances
from atodds.analysis.need import Need
from atodds.analysis.together import Together, side_by_side
from atodds.errors import ArgumentError, EmptyDataError, NeedError
from atodds.evaluation.manifest import Manifest, ModelInfo
from atodds.threat import Budget, Norm, parse_eps, parse_norm

SAME = 1e-9
"""Budgets that differ relatively by less are one."""


class Measured(Protocol):
    """What is read of a run."""

    @property
    def manifest(self) -> Manifest: ...
    def table(self) -> pl.DataFrame: ...


@dataclass(frozen=True, eq=False)
class Candidates:
    """Models side by side.

    Attributes:
        seen: their distances over the images that all have; labels: (n,) the true classes of these.
        classes: names by label.
        infos: the models, by id; names: what to call each, no two the same.
        measured: the budgets that all models were attacked at.
        anywhere: whether every attack on every model was a search at any distance.
        manifests: of the runs that they are from.
    """

    seen: Together
    labels: Integers
    classes: tuple[str, ...]
    infos: Mapping[str, ModelInfo]
    names: Mapping[str, str]
    measured: tuple[Budget, ...]
    anywhere: bool
    manifests: tuple[Manifest, ...]


def candidates(runs: Sequence[Measured], need: Need) -> Candidates:
    """The models of some runs that a need is to be answered from.

    Raises:
        ArgumentError: no run, runs of different data sets, or different images under the same ids.
        NeedError: no run in the need's norm, or a model that was not attacked at one of its budgets: it says with which
            command that is measured.
        EmptyDataError: no image that all models have.
    """
    if not runs:
        raise ArgumentError("RUN", "none", "nothing to choose from", "Name a run, or several.")
    of_one_data_set([run.manifest for run in runs])
    norm = _norm([run.manifest for run in runs], need)
    inside = [run for run in runs if run.manifest.norm == norm]
    if not inside:
        first = runs[0].manifest
        wanted = [budget.text for budget in need.budgets] or None
        told = measuring(first, norm=norm, eps=wanted)
        problem = f"no run was attacked in {norm}, only in {', '.join(sorted({run.manifest.norm for run in runs}))}"
        raise NeedError("norm", norm, problem, f"Measure it: {told}")
    tables = [run.table().with_columns(data=pl.lit(inside[0].manifest.data.name)) for run in inside]
    infos = {info.id: info for run in inside for info in run.manifest.models}
    found, known = [], []
    for model in infos:
        mine = [k for k, run in enumerate(inside) if model in {info.id for info in run.manifest.models}]
        anywhere = all(attacked_at(inside[k].manifest, tables[k], model) is None for k in mine)
        known.append(None if anywhere else _budgets([inside[k].manifest for k in mine]))
        found.append(distances(pl.concat([tables[k] for k in mine]), model, norm))
        check_measured(known[-1], inside[mine[0]].manifest, infos[model], need.budgets, norm)
    seen = side_by_side(found)
    tied = [budgets for budgets in known if budgets is not None]
    every = [budget for run in inside for budget in run.manifest.budgets]
    common = [b for b in every if all(_has(budgets, b) for budgets in tied) and b.value > 0]
    plain = [info.name for info in infos.values()]
    return Candidates(
        seen=seen,
        labels=common_labels(found, seen.image),
        classes=inside[0].manifest.data.classes,
        infos=infos,
        names={model: info.name if plain.count(info.name) == 1 else model for model, info in infos.items()},
        measured=_distinct([*common, *(parse_eps(budget, norm) for budget in need.budgets if budget.value > 0)]),
        anywhere=not tied,
        manifests=tuple(run.manifest for run in inside),
    )


def of_one_data_set(manifests: Sequence[Manifest]) -> None:
    """Raise ArgumentError unless runs are of the same data set, so that an id means the same image in all of them."""
    first = manifests[0].data
    for other in (manifest.data for manifest in manifests[1:]):
        for what in ("name", "split", "shape", "classes"):
            mine, theirs = getattr(first, what), getattr(other, what)
            if mine != theirs:
                way_out = "Compare runs on the same images: evaluate both models on one data set."
                raise ArgumentError("RUN", theirs, f"another {what} than {mine!r} of the first run", way_out)


def common_labels(found: Sequence[Distances], images: Integers) -> Integers:
    """(n,) the true classes of images that all of some models have.

    Raises:
        ArgumentError: they do not agree, so that the same ids are other images.
    """
    rows = [one.label[np.searchsorted(one.image, images)] for one in found]
    for one, labels in zip(found[1:], rows[1:], strict=True):
        differ = np.flatnonzero(labels != rows[0])
        if differ.size:
            problem = f"{differ.size} of {images.size} shared ids have another true class than for {found[0].model}"
            raise ArgumentError("RUN", one.model, problem, "These are other images: evaluate both on one data set.")
    return rows[0]


def shared_images(first: Distances, second: Distances) -> tuple[Integers, Integers]:
    """The places, in each of two, of the images that both have.

    Raises:
        EmptyDataError: none.
        ArgumentError: as for `common_labels`.
    """
    images, left, right = np.intersect1d(first.image, second.image, assume_unique=True, return_indices=True)
    if not images.size:
        problem = f"{first.model} and {second.model} have no image in common, by their ids."
        raise EmptyDataError(f"{problem} Evaluate both with the same --data, --limit and --how.")
    common_labels([first, second], images)
    return left, right


def measuring(manifest: Manifest, **options: object) -> str:
    """The command that made a run, with other options: `eps` (a list of texts joins those of the run), `limit`, `norm`.

    Another norm or other images make another run, in a folder of their own. Where the run was made from Python, it is
    the call in words.
    """
    given = {name: value for name, value in options.items() if value is not None}
    same_norm = given.get("norm", manifest.norm) == manifest.norm
    eps = given.get("eps")
    if isinstance(eps, list):
        texts = [budget.text for budget in manifest.budgets] if same_norm else []
        given["eps"] = ",".join(dict.fromkeys([*texts, *eps]))
    words = shlex.split(manifest.command)
    if words[:2] != ["atodds", "bench"] and not (words[:2] == ["atodds", "study"] and given.keys() == {"limit"}):
        return f"atodds.evaluate(..., {', '.join(f'{name}={value!r}' for name, value in given.items())})"
    if not same_norm or "limit" in given:
        old = _option(words, "--out") or f"runs/{manifest.data.name}-{manifest.norm}"
        given["out"] = f"{old}-{given['limit']}" if "limit" in given else f"{old}-{given['norm']}"
    for name, value in given.items():
        words = _with(words, f"--{name}", str(value))
    return shlex.join(words)


def check_measured(
    budgets: tuple[Budget, ...] | None, manifest: Manifest, info: ModelInfo, wanted: Sequence[Budget], norm: Norm
) -> None:
    """Raise NeedError, with the command that measures it, unless a model was attacked at all wanted budgets; None for
    the budgets of a model that was searched at any distance."""
    for one in wanted:
        budget = parse_eps(one, norm)
        if budgets is not None and budget.value > 0 and not _has(budgets, budget):
            at = ", ".join(known.text for known in budgets)
            told = measuring(manifest, eps=[each.text for each in wanted])
            raise NeedError("eps", budget.text, f"{info.name} was attacked at {at} only", f"Measure it: {told}")


def searched_anywhere(manifest: Manifest, table: pl.DataFrame) -> bool:
    """Whether every attack of a run looked for the closest fooling image at any distance: its curves hold at any ε."""
    attacked = table.filter(pl.col("attack").is_in(list(manifest.attacks)) & (pl.col("attack") != CLEAN))
    return not attacked.is_empty() and attacked["eps"].null_count() == attacked.height


def attacked_at(manifest: Manifest, table: pl.DataFrame, model: str) -> tuple[Budget, ...] | None:
    """The budgets that a model was attacked at; None where it was searched at any distance."""
    return None if searched_anywhere(manifest, table.filter(pl.col("model") == model)) else manifest.budgets


def _norm(manifests: Sequence[Manifest], need: Need) -> Norm:
    if need.norm is not None:
        return need.norm
    norms = sorted({manifest.norm for manifest in manifests})
    if len(norms) > 1:
        raise NeedError("norm", "none", f"the runs are in {' and '.join(norms)}", f"Say which: {' or '.join(norms)}.")
    return parse_norm(norms[0])


def _budgets(manifests: Sequence[Manifest]) -> tuple[Budget, ...]:
    """The budgets that a model was attacked at on all of its images."""
    if len({manifest.data.fingerprint for manifest in manifests}) == 1:
        return _distinct([budget for manifest in manifests for budget in manifest.budgets])
    first, *others = manifests
    return tuple(budget for budget in first.budgets if all(_has(other.budgets, budget) for other in others))


def _has(budgets: Sequence[Budget], wanted: Budget) -> bool:
    return any(abs(budget.value - wanted.value) <= SAME * max(wanted.value, 1e-300) for budget in budgets)


def _distinct(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    kept: list[Budget] = []
    for budget in sorted(budgets, key=lambda b: (b.value, len(b.text))):
        if not _has(kept, budget):
            kept.append(budget)
    return tuple(kept)


def _option(words: Sequence[str], name: str) -> str | None:
    for place, word in enumerate(words):
        if word == name and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _with(words: Sequence[str], name: str, value: str) -> list[str]:
    """The words of a command with an option set."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == name:
            skip = True
        elif not word.startswith(f"{name}="):
            kept.append(word)
    return [*kept, name, value]
