"""Which training images to keep for robustness: random subsets against rules that choose, at equal size.

The study of data sizes ends with this question. Here each network is trained, several times from other weights, on as
many images as before, but chosen by a rule from the largest subset of the study; and attacked like its curves are: on
the images that all of these networks classify rightly, and at a fixed ε.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from atodds.analysis.arms import Arm, arms
from atodds.analysis.intervals import Bools, Floats
from atodds.analysis.together import together
from atodds.batching import Batching
from atodds.data.images import ImageSet
from atodds.data.selection import RANDOM, RULES, select
from atodds.errors import ArgumentError, UnknownNameError
from atodds.evaluation.conduct import Settings
from atodds.evaluation.store import Store
from atodds.oracle import Oracle
from atodds.studies.data_size import NETWORKS, NORMS, Attacked, attack, trained_models
from atodds.studies.data_size_plan import Plan, Variant, check_kept, entry
from atodds.studies.trainings import OnDone, train_missing
from atodds.threat import Norm
from atodds.training.kept import made
from atodds.training.suites import Entry

Measured = Literal["accuracy", "fixed"] | Norm
REPEATS = 3
_DECODED = 2048
"""Images that are held as numbers at once."""


@dataclass(frozen=True)
class Chosen:
    """A job: a network on what a rule chose."""

    rule: str
    entry: Entry
    images: ImageSet


@dataclass(frozen=True)
class SelectionPlan:
    """What is compared, checked.

    Attributes:
        study: from whose largest subset images are chosen.
        rules: "random" first.
        keep: images that each of them chooses.
        repeats: trainings for each rule and network.
    """

    study: Plan
    rules: tuple[str, ...]
    keep: int
    repeats: int

    @property
    def pool(self) -> ImageSet:
        """What is chosen from."""
        return self.study.subsets[-1]

    def name(self, variant: Variant, rule: str, repeat: int) -> str:
        """Of a network."""
        return f"{variant.name}-{self.keep}-{rule}-{repeat}"


@dataclass(frozen=True)
class Selected:
    """What the rules did for a network.

    Attributes:
        variant: which one.
        found: the rules, "random" first, by what was measured: "accuracy" on all test images, the mean distances "l2"
            and "linf", robust accuracy at the study's ε as "fixed".
        n: images behind each.
        missed: images that all networks classify rightly, but that some were not fooled on, by norm: left out.
        stores: the runs.
    """

    variant: Variant
    found: Mapping[Measured, tuple[Arm, ...]]
    n: Mapping[Measured, int]
    missed: Mapping[Measured, int]
    stores: Mapping[str, Store]


def planned_selection(
    plan: Plan, rules: Sequence[str], *, keep: int | None = None, repeats: int = REPEATS, folder: Path | None = None
) -> SelectionPlan:
    """The comparison, with everything checked that can be wrong before the first network is trained.

    Args:
        plan: of the study.
        rules: names of `data.selection.RULES`; "random" is always among them.
        keep: images that each rule chooses; a tenth of the largest subset where left out.
        repeats: trainings for each rule and network.
        folder: where networks are kept: one that is there must be the one that is wanted.

    Raises:
        UnknownNameError: no such rule.
        ArgumentError: no rule, or one twice; a size that the data do not have or that leaves no choice; no repeat.
        ModelError: a checkpoint of another network under the name of one that is wanted.
    """
    for rule in rules:
        if rule not in RULES:
            raise UnknownNameError.among("select", rule, RULES)
    wanted = (RANDOM, *(rule for rule in rules if rule != RANDOM))
    if len(wanted) < 2 or len(set(rules)) < len(rules):
        others = ", ".join(rule for rule in RULES if rule != RANDOM)
        raise ArgumentError("select", ",".join(rules), "not rules to hold against random, each once", f"Name {others}.")
    if repeats < 1:
        raise ArgumentError("repeats", repeats, "not a number of trainings", "Give 1 or more; 3 show what a seed does.")
    pool = plan.subsets[-1]
    size = max(len(pool.classes), len(pool) // 10) if keep is None else keep
    if not len(pool.classes) <= size < len(pool):
        problem = f"not fewer than the {len(pool)} that are chosen from, and one of each class"
        raise ArgumentError("keep", size, problem, f"Give {len(pool.classes)} to {len(pool) - 1}, such as a tenth.")
    made_plan = SelectionPlan(plan, wanted, size, repeats)
    for variant in plan.variants:
        for rule in wanted:
            for repeat in range(repeats):
                check_kept(made_plan.name(variant, rule, repeat), variant.network, folder)
    return made_plan


def carry_out_selection(
    plan: SelectionPlan,
    test: ImageSet,
    place: str | os.PathLike[str],
    settings: Settings,
    *,
    device: torch.device | None = None,
    trained: OnDone | None = None,
    attacked: OnDone | None = None,
) -> tuple[Selected, ...]:
    """Carry the comparison out, or continue it, in the folder of the study.

    Arguments and errors are those of `data_size.carry_out`.
    """
    where, folder = device or torch.device("cpu"), Path(place)
    done: list[Selected] = []
    for variant in plan.study.variants:
        jobs = _jobs(plan, variant, folder, where)
        train_missing(jobs, folder / NETWORKS, workers=settings.workers, device=where.type, told=trained)
        models = trained_models(jobs, folder, where)
        words = [f"rule {job.rule}" for job in jobs]
        seen = attack(plan.study, f"{variant.name}-{plan.keep}-select", models, words, test, folder, settings)
        done.append(_compared(plan, variant, seen))
        if attacked is not None:
            attacked(variant.name, len(done), len(plan.study.variants))
    return tuple(done)


def margins(model: nn.Module, images: ImageSet) -> Floats:
    """(N,) the logit of the label less the largest other: below 0 where the model is wrong.

    Raises:
        LogitsError: outputs that are no logits.
        DataError: images that cannot be decoded.
    """
    oracle, parts = Oracle(model, batch_size=Batching(256)), []
    with oracle.running():
        for start in range(0, len(images), _DECODED):
            rows = range(start, min(start + _DECODED, len(images)))
            logits = oracle.logits(images.images(rows).to(oracle.device), torch.arange(len(rows), device=oracle.device))
            labels = torch.tensor(images.labels[rows.start : rows.stop], device=logits.device)[:, None]
            own = logits.gather(1, labels)[:, 0]
            other = logits.scatter(1, labels, -torch.inf).amax(1)
            parts.append((own - other).double().cpu())
    found: Floats = torch.cat(parts).numpy()
    return found


def _jobs(plan: SelectionPlan, variant: Variant, folder: Path, device: torch.device) -> list[Chosen]:
    """The trainings of a network, rule after rule."""
    study, seen = plan.study, None
    if any(RULES[rule].by_margin for rule in plan.rules):
        largest = study.trainings(variant)[-1]
        seen = margins(made(largest.entry, largest.images, folder / NETWORKS, device=device.type).to(device), plan.pool)
    jobs = []
    for rule in plan.rules:
        for repeat in range(plan.repeats):
            seed = study.seed + repeat
            if rule == RANDOM or repeat == 0:
                images = select(plan.pool, plan.keep, rule, seed=seed, margins=seen)
            one = entry(variant, images, study.effort, study.eps, seed)
            jobs.append(Chosen(rule, replace(one, name=plan.name(variant, rule, repeat)), images))
    return jobs


def _compared(plan: SelectionPlan, variant: Variant, seen: Attacked) -> Selected:
    """The rules against random, by everything that was measured."""
    tables: dict[Measured, Floats | Bools] = {"accuracy": seen.right}
    missed: dict[Measured, int] = {}
    for norm in NORMS:
        found = together(seen.stores[norm].table(), norm, seen.ids)
        common = found.correct.all(1)
        fooled = common & np.isfinite(found.values).all(1)
        tables[norm], missed[norm] = found.values[fooled], int((common & ~fooled).sum())
    fixed = together(seen.stores["fixed"].table(), "linf", seen.ids)
    tables["fixed"] = fixed.standing(plan.study.eps.value)
    shape = (len(plan.rules), plan.repeats)
    return Selected(
        variant=variant,
        found={
            name: arms(np.asarray(table, np.float64).reshape(-1, *shape), plan.rules, seed=plan.study.seed)
            for name, table in tables.items()
        },
        n={name: len(table) for name, table in tables.items()},
        missed=missed,
        stores=seen.stores,
    )
