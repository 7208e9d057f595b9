"""What a run is: the question that it answers, and how it was made. Everything in `run.json`."""

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from atodds.batching import BatchSizes, Kind
from atodds.errors import NewerRunError, NotARunError, OlderRunError, OtherPlanError
from atodds.threat import NORMS, Budget

FORMAT = 3
Severity = Literal["note", "warning", "error"]
_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ModelInfo:
    """A model of a run. `id` is the table's `model` column: its name and the first 8 digits of its fingerprint."""

    id: str
    name: str
    source: str
    fingerprint: str
    parameters: int


@dataclass(frozen=True)
class DataInfo:
    """The images of a run; `shape` is (C, H, W)."""

    name: str
    split: str
    selection: str
    fingerprint: str
    n: int
    classes: tuple[str, ...]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Finding:
    """Something that the audit saw: the check, how grave it is, what was measured, what it means, and what to do."""

    check: str
    severity: Severity
    model: str
    measured: str
    meaning: str
    advice: str


@dataclass(frozen=True)
class Manifest:
    """A run's question and its making.

    Attributes:
        models, data: what was attacked.
        norm, budgets, attacks: how; budgets ascending, as they were typed.
        alone: every attack ran on every correctly classified image, not only on those that none before had fooled.
        seed: of all draws.
        precision: number format of the attacks; "full" is the model's own. Verdicts are always in the model's own.
        eot: passes that each answer of a random model was averaged over.
        keep: fooling images are kept.
        jobs: keys of all jobs, in the order of the plan.
        transfers: keys of the jobs that show each model what was found on the others; none unless asked for.
        looks: keys of what the audit found.
        batch_sizes: model id -> images at once, in forward passes and with backward passes.
        channels_last: model id -> the kinds of pass for which channels come last in memory.
        in_part: model id -> whether layers are computed in part where a window of an image changes.
        outputs: model id -> number of logits.
        random: ids of the models that gave one image different answers: verdicts on them average over passes.
        command, commit, versions, machine, created: how it was made.
    """

    models: tuple[ModelInfo, ...]
    data: DataInfo
    norm: str
    budgets: tuple[Budget, ...]
    attacks: tuple[str, ...]
    alone: bool
    seed: int
    precision: str
    eot: int
    keep: bool
    jobs: tuple[str, ...]
    transfers: tuple[str, ...]
    looks: tuple[str, ...]
    batch_sizes: dict[str, tuple[int, int]]
    channels_last: dict[str, tuple[Kind, ...]]
    in_part: dict[str, bool]
    outputs: dict[str, int]
    random: tuple[str, ...]
    command: str
    commit: str
    versions: dict[str, str]
    machine: dict[str, str]
    created: str
    format: int = FORMAT

    def sizes(self, model: str) -> BatchSizes | None:
        """What was measured for a model; None where it is not known."""
        found = self.batch_sizes.get(model)
        return BatchSizes(*found, self.channels_last.get(model, ()), self.in_part.get(model)) if found else None

    def to_json(self) -> str:
        """The text of `run.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, place: str) -> "Manifest":
        """The manifest that a text holds. The text is not trusted: types and names are checked.

        Raises:
            NotARunError: not a manifest.
            NewerRunError, OlderRunError: of another format.
        """
        try:
            said = json.loads(text)
            if not isinstance(said, dict) or type(said.get("format")) is not int or said["format"] < 1:
                raise NotARunError(f"{place} holds no run: its run.json is something else.")
            if said["format"] > FORMAT:
                raise NewerRunError(
                    f"{place} was made by a newer version of atodds (format {said['format']}, here {FORMAT}). "
                    "Upgrade atodds to read it."
                )
            if said["format"] < FORMAT:
                raise OlderRunError(
                    f"{place} was made by an older version of atodds (format {said['format']}, here {FORMAT}), which "
                    "keeps a run in another way. Give another folder (--out), or delete this one and evaluate again."
                )
            return _manifest(said)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise NotARunError(f"{place} holds no readable run: run.json is damaged ({error}).") from error

    def grown_from(self, old: "Manifest", place: str) -> None:
        """Check that this run asks at least what the old one in the same folder asked, so that nothing is lost.

        Raises:
            OtherPlanError: it asks something else.
        """
        same = ("norm", "alone", "seed", "precision", "eot")
        changes = [f"{name} was {getattr(old, name)}, now {getattr(self, name)}" for name in same
                   if getattr(old, name) != getattr(self, name)]  # fmt: skip
        if (old.data.name, old.data.fingerprint) != (self.data.name, self.data.fingerprint):
            changes.append(f"images were {_images(old.data)}, now {_images(self.data)}")
        weights = {(model.id, model.fingerprint) for model in self.models}
        values = {budget.value for budget in self.budgets}
        for what, gone in (
            ("models", [model.id for model in old.models if (model.id, model.fingerprint) not in weights]),
            ("eps", [budget.text for budget in old.budgets if budget.value not in values]),
            ("attacks", [name for name in old.attacks if name not in self.attacks]),
        ):
            if gone:
                changes.append(f"{what} no longer asked for: {', '.join(gone)}")
        if old.transfers and not self.transfers:
            changes.append("transfer no longer asked for")
        if changes:
            raise OtherPlanError(
                f"{place} holds a run that was asked something else: {'; '.join(changes)}. "
                "Give another folder (--out), or ask for all that it holds and more: a run may grow."
            )


def _images(data: DataInfo) -> str:
    return f"{data.n} of {data.name} ({data.selection}, {data.fingerprint[:8]})"


def _manifest(said: dict[str, Any]) -> Manifest:
    data = said["data"]
    manifest = Manifest(
        models=tuple(ModelInfo(**_texts(model, parameters=int)) for model in said["models"]),
        data=DataInfo(
            **_texts({key: value for key, value in data.items() if key not in ("classes", "shape")}, n=int),
            classes=tuple(_is(name, str) for name in data["classes"]),
            shape=_shape(data["shape"]),
        ),
        norm=_is(said["norm"], str),
        budgets=tuple(Budget(_finite(budget["value"]), _is(budget["text"], str)) for budget in said["budgets"]),
        attacks=tuple(_is(name, str) for name in said["attacks"]),
        alone=_is(said["alone"], bool),
        seed=_is(said["seed"], int),
        precision=_is(said["precision"], str),
        eot=_is(said["eot"], int),
        keep=_is(said["keep"], bool),
        jobs=tuple(_is(key, str) for key in said["jobs"]),
        transfers=tuple(_is(key, str) for key in said["transfers"]),
        looks=tuple(_is(key, str) for key in said["looks"]),
        batch_sizes={model: (_count(a), _count(b)) for model, (a, b) in said["batch_sizes"].items()},
        channels_last={_is(model, str): _kinds(kinds) for model, kinds in said["channels_last"].items()},
        in_part={_is(model, str): _is(choice, bool) for model, choice in said["in_part"].items()},
        outputs={_is(model, str): _count(number) for model, number in said["outputs"].items()},
        random=tuple(_is(model, str) for model in said["random"]),
        command=_is(said["command"], str),
        commit=_is(said["commit"], str),
        versions=_texts(said["versions"]),
        machine=_texts(said["machine"]),
        created=_is(said["created"], str),
        format=said["format"],
    )
    if manifest.norm not in NORMS or not manifest.models or not manifest.budgets:
        raise ValueError("unknown norm, no model, or no budget")
    for keys in (manifest.jobs, manifest.transfers, manifest.looks):
        if not all(_KEY.fullmatch(key) for key in keys) or len(set(keys)) < len(keys):
            raise ValueError("keys that are none, or that come twice")
    return manifest


def _is(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} is not {kind.__name__}")
    return value


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a budget")
    return float(value)


def _shape(value: Any) -> tuple[int, int, int]:
    channels, height, width = (_count(side) for side in value)
    return channels, height, width


def _kinds(said: Any) -> tuple[Kind, ...]:
    found: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind in said)
    if not isinstance(said, list) or len(found) < len(said):
        raise ValueError(f"{said!r} are not kinds of passes")
    return found


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is not a count")
    return value


def _texts(said: dict[str, Any], **others: type) -> dict[str, Any]:
    return {_is(key, str): _is(value, others.get(key, str)) for key, value in said.items()}


def finding_from(said: Any) -> Finding:
    """A finding from untrusted JSON.

    Raises:
        ValueError, TypeError: it is none.
    """
    finding = Finding(**_texts(_is(said, dict)))
    if finding.severity not in get_args(Severity):
        raise ValueError(f"{finding.severity!r} is no severity")
    return finding
