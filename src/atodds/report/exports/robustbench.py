"""An entry of the RobustBench leaderboard: a file of its folder model_info."""

import json
from collections.abc import Mapping

from atodds.attacks.registry import parse
from atodds.errors import ArgumentError
from atodds.report.exports.measured import Measured, shares
from atodds.threat import parse_norm

FIELDS = (
    "link", "name", "authors", "venue", "architecture", "additional_data", "number_forward_passes", "reported",
    "footnote",
)  # fmt: skip
"""What only the user can say."""
_TRUTH = {"true": True, "false": False}


def write(found: Measured, fields: Mapping[str, str]) -> str:
    """The text of the file, with the fields and kinds of value of the leaderboard's own files: accuracies and eps
    are text. What nobody said is null. The footnote says n and the intervals.

    Raises:
        ArgumentError: the run was not attacked with the standard ensemble, or has no budget above 0; a field that is
            not of its kind.
    """
    manifest = found.manifest
    standard = {spec.name for spec in parse("standard", parse_norm(manifest.norm), len(manifest.data.classes))}
    if not standard <= set(manifest.attacks):
        problem = f"{found.name} was not attacked with all of the standard ensemble"
        way_out = "The leaderboard's robust accuracy is AutoAttack's: evaluate with --attacks standard."
        raise ArgumentError("attacks", ", ".join(manifest.attacks), problem, way_out)
    if not found.attacked:
        raise ArgumentError("eps", "0", "no budget above 0", "Evaluate at the leaderboard's eps, such as 8/255.")
    budget, rate = found.attacked[-1]
    measured = (
        f"Evaluated with atodds on {manifest.data.n:,} images of {manifest.data.name} ({manifest.data.selection}): "
        f"clean accuracy {shares(found.accuracy)}; robust accuracy {shares(rate)}."
    )
    entry: dict[str, object] = {
        "link": fields.get("link"),
        "name": fields.get("name", found.name),
        "authors": fields.get("authors"),
        "additional_data": _truth(fields),
        "number_forward_passes": _count(fields),
        "dataset": manifest.data.name,
        "venue": fields.get("venue"),
        "architecture": fields.get("architecture"),
        "eps": budget.text,
        "clean_acc": f"{100 * found.accuracy.value:.2f}",
        "reported": fields.get("reported"),
        "autoattack_acc": f"{100 * rate.value:.2f}",
        "unreliable": bool(found.warnings or found.errors),
        "footnote": " ".join(text for text in (fields.get("footnote"), measured) if text),
    }
    return json.dumps(entry, indent=2, ensure_ascii=True) + "\n"


def _truth(fields: Mapping[str, str]) -> bool | None:
    said = fields.get("additional_data")
    if said is None:
        return None
    if said.lower() not in _TRUTH:
        raise ArgumentError("additional_data", said, "neither true nor false", "Write additional_data=true or =false.")
    return _TRUTH[said.lower()]


def _count(fields: Mapping[str, str]) -> int:
    said = fields.get("number_forward_passes", "1")
    if not said.isdecimal() or int(said) < 1:
        raise ArgumentError("number_forward_passes", said, "not a count", "Write a whole number, 1 or more.")
    return int(said)
