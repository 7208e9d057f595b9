"""Models of the RobustBench leaderboard: `robustbench:ID@FILE`, built here, or `robustbench:ID` through its package.

An id is that of CIFAR-10 and Linf where it does not say: `robustbench:cifar100/Linf/ID`. The package normalises inside
its models; networks that are built here are normalised as its are. Both take images in [0, 1].
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atodds.errors import MissingExtraError, ModelError, UnknownNameError, WeightsDownloadError
from atodds.models.adapters.common import Brought, calling, library, state_of
from atodds.models.downloaded import check_whole
from atodds.models.robustbench import ENTRIES, Entry, MixedClassifier, find, make
from atodds.models.robustbench.entries import CLASSES, PLAIN, renamed
from atodds.models.spec import Spec
from atodds.models.usage import Usage
from atodds.models.weights import existing, fit, unpickled

SIDES = {"cifar10": 32, "cifar100": 32, "imagenet": 224}
OUTPUTS = {**CLASSES, "imagenet": 1000}
THREATS = ("Linf", "L2", "corruptions", "corruptions_3d")
_PART = re.compile(r"(.*_m)[012](\.\w+)")
"""The name of one of the three files of a mixture."""


def bring(parts: Spec, trust_pickle: bool) -> Brought:
    """The model that a spec names.

    Raises:
        UnknownNameError: no such model; a file that is not there.
        MissingExtraError: only the package has the model, and it is not installed.
        WeightsDownloadError: the package could not fetch its weights, or is not installed.
        WebPageError, TruncatedFileError, UntrustedFileError: a file that is not what it should be.
        ModelError: weights that do not fit.
    """
    entry = find(parts.member)
    if parts.weights is None:
        return _from_package(parts, entry)
    if entry is None:
        raise UnknownNameError.among("model", parts.member, [_short(one) for one in ENTRIES])
    network = make(entry).to_empty(device="cpu")
    by_hand = f"{entry.by_hand}: {_short(entry)}@FILE"
    if isinstance(network, MixedClassifier):
        _fill(network, _three(parts.weights, by_hand), by_hand, trust_pickle)
    else:
        state = _state(parts.weights, by_hand, trust_pickle)
        if entry.network == PLAIN:
            state = renamed(state, entry.depth)
        fit(network, state, parts.weights)
    mean, std = entry.normalisation
    usage = _usage("atodds, as in RobustBench 1.1.1", str(parts.weights), entry.data)
    return Brought(network, mean, std, usage)


def _from_package(parts: Spec, entry: Entry | None) -> Brought:
    """A model that the package builds, and downloads where it is not there yet."""
    *where, name = parts.member.split("/")
    data, threat = (*where, *("cifar10", "Linf")[len(where) :])[:2]
    if data not in SIDES or threat not in THREATS:
        known = f"of {', '.join(SIDES)} and {', '.join(THREATS)}"
        raise UnknownNameError("model", parts.text, "no such board", f"Write robustbench:DATA/THREAT/ID, {known}.")
    try:
        bench, zoo = library("robustbench.utils"), library("robustbench.model_zoo")
    except MissingExtraError as error:
        if entry is None:
            raise
        way_out = f"{entry.by_hand}: {_short(entry)}@FILE. Or let the package fetch it: {error}"
        raise WeightsDownloadError(f"{parts.text} names no file of weights. {way_out}") from error
    held: Mapping[Any, Any] = zoo.model_dicts
    boards = {str(getattr(key, "value", key)): inner for key, inner in held.items()}
    inner = {str(getattr(key, "value", key)): models for key, models in boards.get(data, {}).items()}
    models = inner.get(threat.replace("_3d", ""), {})
    if name not in models:
        raise UnknownNameError.among(f"model of robustbench on {data}, {threat}", name, map(str, models))
    by_hand = f"{entry.by_hand}: {_short(entry)}@FILE." if entry else "Fetch it with a browser, where its page says."
    with calling(parts.text, by_hand):
        network: nn.Module = bench.load_model(model_name=name, dataset=data, threat_model=threat)
    usage = _usage(f"robustbench {getattr(bench, '__version__', '')}".strip(), f"{name} of robustbench", data)
    return Brought(network, (0.0,), (1.0,), usage)


def _usage(through: str, weights: str, data: str) -> Usage:
    side = SIDES[data]
    return Usage(library=through, weights=weights, shape=(3, side, side), outputs=OUTPUTS[data])


def _short(entry: Entry) -> str:
    return entry.spec.removeprefix("robustbench:")


def _state(file: Path, by_hand: str, trust_pickle: bool) -> Mapping[str, Tensor]:
    check_whole(existing(file, "weights"), by_hand)
    return state_of(file, trust_pickle=trust_pickle)


def _three(file: Path, by_hand: str) -> tuple[Path, Path, Path]:
    """The three files of a mixture, of which one is named.

    Raises:
        ModelError: a name that does not tell the others.
    """
    found = _PART.fullmatch(file.name)
    if found is None:
        problem = "a mixture has three files, called ..._m0.pt, ..._m1.pt and ..._m2.pt, and this names none of them"
        raise ModelError(f"{file}: {problem}. {by_hand}.")
    first, second, third = (file.with_name(f"{found[1]}{place}{found[2]}") for place in range(3))
    return first, second, third


def _fill(network: MixedClassifier, files: tuple[Path, Path, Path], by_hand: str, trust_pickle: bool) -> None:
    """Put three files into a mixture: accurate classifier, robust classifier, mixing network with its normalisation."""
    for part, file in zip(network.models, files[:2], strict=True):
        fit(part, _state(file, by_hand, trust_pickle), file)
    check_whole(existing(files[2], "weights"), by_hand)
    held = unpickled(files[2], trust_pickle)
    told = held if isinstance(held, Mapping) else {}
    for key, part in (("model", network.policy_net), ("bn", network.bn)):
        state = told.get(key)
        if not isinstance(state, Mapping):
            problem = f"holds no state dict called {key!r}, which the mixing network's file of a mixture has"
            raise ModelError(f"{files[2]} {problem}. {by_hand}.")
        fit(part, state, files[2])
