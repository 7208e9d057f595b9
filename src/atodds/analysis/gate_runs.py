"""From runs to a gate: whose distances, at which budgets, held against which baseline."""

from collections.abc import Sequence

from atodds.analysis.accuracy import distances
from atodds.analysis.candidates import Measured, attacked_at, check_measured, measuring, of_one_data_set
from atodds.analysis.gate import POWER, Gate, Old, Requirement, gate
from atodds.analysis.intervals import CONFIDENCE
from atodds.errors import ArgumentError, NeedError, UnknownNameError
from atodds.evaluation.manifest import ModelInfo
from atodds.threat import Budget, parse_norm


def check(
    run: Measured,
    requirements: Sequence[Requirement] = (),
    *,
    baseline: Measured | None = None,
    models: Sequence[str] = (),
    confidence: float = CONFIDENCE,
    power: float = POWER,
    seed: int = 0,
) -> Gate:
    """Hold the models of a run against requirements, and against the models of an older run.

    Args:
        run: finished.
        requirements: each is held against every model.
        baseline: an older run; its model is the one of the same name, or its only one. They are compared over the
            images that both have, on clean accuracy and at the budgets of the requirements; where none is required, at
            every budget that both runs were attacked at.
        models: names of those to look at, or NEW=OLD where the baseline's has another name; all where left out.
        confidence, power, seed: as for `gate`.

    Raises:
        NeedError: a norm or a budget that a run was not attacked at, with the command that measures it.
        UnknownNameError: no such model in the run, or in the baseline.
        ArgumentError: runs of different data sets, nothing to check, or as for `gate`.
        EmptyDataError: a model and its baseline share no image.
    """
    manifest, norm = run.manifest, parse_norm(run.manifest.norm)
    wanted = [one.eps for one in requirements if one.eps is not None]
    for one in requirements:
        if one.norm is not None and one.norm != norm:
            told = measuring(manifest, norm=one.norm, eps=[str(one.eps)])
            raise NeedError("--min-robust", one.what, f"the run was attacked in {norm}", f"Measure it: {told}")
    pairs = _pairs(manifest.models, models, None if baseline is None else baseline.manifest.models)
    if baseline is not None:
        of_one_data_set([manifest, baseline.manifest])
        if baseline.manifest.norm != norm:
            told = measuring(baseline.manifest, norm=norm, eps=[b.text for b in wanted or manifest.budgets])
            problem = f"it was attacked in {baseline.manifest.norm}, the run in {norm}"
            raise NeedError("--baseline", baseline.manifest.norm, problem, f"Measure it: {told}")
    table = run.table()
    old = None if baseline is None else baseline.table()
    held = []
    for new, before in pairs:
        check_measured(attacked_at(manifest, table, new.id), manifest, new, wanted, norm)
        twin = None
        if baseline is not None and old is not None and before is not None:
            check_measured(attacked_at(baseline.manifest, old, before.id), baseline.manifest, before, wanted, norm)
            twin = Old(before.name, distances(old, before.id, norm))
        held.append((new.name, distances(table, new.id, norm), twin))
    compared: list[Budget | None] = [None]
    if baseline is not None:
        both = [
            b for b in manifest.budgets if b.value > 0 and any(b.value == o.value for o in baseline.manifest.budgets)
        ]
        compared += list(dict.fromkeys(wanted)) or both
    return gate(held, requirements, compared, confidence=confidence, power=power, seed=seed)


def _pairs(
    infos: Sequence[ModelInfo], chosen: Sequence[str], old: Sequence[ModelInfo] | None
) -> list[tuple[ModelInfo, ModelInfo | None]]:
    """The models to look at, each with its baseline."""
    known = {info.name: info for info in infos}
    if len(known) < len(infos):
        raise ArgumentError("--model", ", ".join(info.name for info in infos), "two models of one name", "Rename one.")
    before = {info.name: info for info in old or ()}
    pairs: list[tuple[ModelInfo, ModelInfo | None]] = []
    for text in chosen or list(known):
        new, _, other = (text, "", "") if text in known else text.partition("=")
        if new not in known:
            raise UnknownNameError.among("--model", new, known)
        if old is None:
            pairs.append((known[new], None))
            continue
        alone = next(iter(before)) if len(before) == 1 and len(chosen or known) == 1 else new
        name = other or (new if new in before else alone)
        if name not in before:
            near = UnknownNameError.among("--baseline", name, before)
            way_out = f"{near.way_out} Pair them: --model {new}=OLD."
            raise UnknownNameError("--baseline", name, "no such model in the baseline", way_out)
        pairs.append((known[new], before[name]))
    return pairs
