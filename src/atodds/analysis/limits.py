"""What a need asks of every model before costs are compared: least accuracy, largest latency and size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atodds.analysis.accuracy import Integers
from atodds.analysis.intervals import Floats, wilson
from atodds.analysis.need import Need
from atodds.analysis.numbers import percent
from atodds.analysis.together import Together
from atodds.errors import NeedError, UnknownNameError


@dataclass(frozen=True)
class Traits:
    """What limits may be set on: parameters, and the milliseconds of one image where they were measured."""

    parameters: int
    latency_ms: float | None = None

    @property
    def size_mb(self) -> float:
        """Millions of bytes of the parameters at 4 bytes each."""
        return 4 * self.parameters / 1e6


def plain_name(model: str) -> str:
    """What a model was called, without the digits of its fingerprint."""
    return model.rpartition("@")[0] or model


@dataclass(frozen=True)
class Excluded:
    """A model that does not meet a limit, and which."""

    model: str
    reason: str


def image_costs(labels: Integers, classes: Sequence[str], need: Need) -> Floats:
    """(n,) what an error on each image costs."""
    by_label = np.ones(max(len(classes), int(labels.max()) + 1))
    for name, cost in need.costs.items():
        if name not in classes:
            raise UnknownNameError.among("cost", name, classes)
        by_label[[label for label, known in enumerate(classes) if known == name]] = cost
    weight: Floats = by_label[labels]
    if not weight.any():
        raise NeedError(
            "cost", dict(need.costs), "errors cost nothing, so every model is as good", "Give a cost above 0."
        )
    return weight


def meeting(seen: Together, need: Need, traits: Mapping[str, Traits]) -> tuple[list[int], tuple[Excluded, ...]]:
    """The places of the models that meet every limit, and why the others do not."""
    kept, excluded = [], []
    for place, model in enumerate(seen.models):
        clean, trait = float(seen.correct[:, place].mean()), traits[model]
        reasons = []
        if need.min_clean is not None and clean < need.min_clean:
            reasons.append(f"clean accuracy {percent(clean)} %, below {percent(need.min_clean)} %")
        if need.latency_ms is not None and (trait.latency_ms or math.inf) > need.latency_ms:
            reasons.append(f"{trait.latency_ms:.3g} ms an image, above {need.latency_ms:g} ms" if trait.latency_ms else
                           "latency not measured")  # fmt: skip
        if need.size_mb is not None and trait.size_mb > need.size_mb:
            reasons.append(f"{trait.size_mb:.3g} MB, above {need.size_mb:g} MB")
        if need.parameters is not None and trait.parameters > need.parameters:
            reasons.append(f"{trait.parameters:,} parameters, above {need.parameters:,}")
        if reasons:
            excluded.append(Excluded(model, "; ".join(reasons)))
        else:
            kept.append(place)
    if not kept:
        raise _nobody(seen, need, traits, excluded)
    return kept, tuple(excluded)


def _nobody(seen: Together, need: Need, traits: Mapping[str, Traits], excluded: list[Excluded]) -> NeedError:
    """Which limits no model meets by itself, with what there is; or that they contradict each other."""
    said, fixes = [], []
    found = [traits[model] for model in seen.models]
    clean = seen.correct.mean(0)
    if need.min_clean is not None and clean.max() < need.min_clean:
        top = int(clean.argmax())
        most = wilson(int(seen.correct[:, top].sum()), len(seen))
        problem = f"no model has a clean accuracy of {percent(need.min_clean)} %"
        said.append(f"{problem}: {plain_name(seen.models[top])} has most, {most}")
        fixes.append(f"min_clean {math.floor(1000 * clean.max()) / 1000:g}")
    for name, limit, values, unit in (
        ("latency_ms", need.latency_ms, [t.latency_ms for t in found], "ms"),
        ("size_mb", need.size_mb, [t.size_mb for t in found], "MB"),
        ("parameters", need.parameters, [t.parameters for t in found], "parameters"),
    ):
        known = [float(value) for value in values if value is not None]
        if limit is not None and known and min(known) > limit:
            said.append(f"no model meets {limit:,.10g} {unit}: the least is {min(known):,.10g}")
            fixes.append(f"{name} {min(known):.10g}")
    if said:
        way_out = f"Ask for {' and '.join(fixes)}, or measure other models too."
        return NeedError("need", "its limits", "; ".join(said), way_out)
    who = ". ".join(f"{plain_name(one.model)}: {one.reason}" for one in excluded)
    way_out = f"Give up one of the limits, or measure other models too. {who}."
    return NeedError("need", "its limits", "no model meets all of them at once, though each is met by some", way_out)
