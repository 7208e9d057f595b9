"""Metadata of a model card on the Hugging Face hub: the section model-index, in YAML.

Text is written as double-quoted scalars with every sign escaped that YAML does not print, so that no name can end its
line, open another key or hide.
"""

import json
import re
from collections.abc import Iterator, Mapping

from atodds.analysis import Rate
from atodds.analysis.numbers import percent
from atodds.report.exports.measured import Measured, shares
from atodds.version import __version__

FIELDS = ("license", "dataset", "url")
"""What only the user can say: the license, the data set's id on the hub, and where the run can be read."""


def write(found: Measured, fields: Mapping[str, str]) -> str:
    """A card: its metadata, then the same numbers as a table."""
    return f"---\n{metadata(found, fields)}---\n\n{_table(found)}"


def metadata(found: Measured, fields: Mapping[str, str]) -> str:
    """The YAML between the dashes: model-index with accuracy and robust accuracies in [0, 1], each with its n and its
    95 % interval in `args`."""
    return "\n".join(_lines(found, fields)) + "\n"


def _lines(found: Measured, fields: Mapping[str, str]) -> Iterator[str]:
    data = found.manifest.data
    if license_ := fields.get("license"):
        yield f"license: {quoted(license_)}"
    yield "tags:"
    yield from ("- image-classification", "- adversarial-robustness")
    yield "model-index:"
    yield f"- name: {quoted(found.name)}"
    yield "  results:"
    yield "  - task:"
    yield "      type: image-classification"
    yield "      name: Image classification"
    yield "    dataset:"
    yield f"      type: {quoted(fields.get('dataset', data.name))}"
    yield f"      name: {quoted(data.name)}"
    yield f"      split: {quoted(data.split)}"
    yield "      args:"
    yield f"        n: {data.n}"
    yield f"        selection: {quoted(data.selection)}"
    yield f"        fingerprint: {quoted(data.fingerprint)}"
    yield "    metrics:"
    yield from _metric("accuracy", "Accuracy", found.accuracy, {})
    attacks = ", ".join(found.manifest.attacks)
    for budget, rate in found.attacked:
        told = {"norm": found.manifest.norm, "eps": budget.text, "attacks": attacks}
        yield from _metric("robust_accuracy", f"Robust accuracy, {found.manifest.norm} {budget}", rate, told)
    if url := fields.get("url"):
        yield "    source:"
        yield f"      name: {quoted(f'atodds {__version__}')}"
        yield f"      url: {quoted(url)}"


def _metric(kind: str, name: str, rate: Rate, more: Mapping[str, str]) -> Iterator[str]:
    yield f"    - type: {kind}"
    yield f"      value: {rate.value:.6f}"
    yield f"      name: {quoted(name)}"
    yield "      args:"
    yield f"        n: {rate.n}"
    yield f"        low: {rate.low:.6f}"
    yield f"        high: {rate.high:.6f}"
    yield "        confidence: 0.95"
    for key, text in more.items():
        yield f"        {key}: {quoted(text)}"


def quoted(text: str) -> str:
    """Text as a scalar of YAML in double quotes, which is also JSON but for signs beyond the first plane."""
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in plain)


def _escaped(sign: str) -> str:
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _table(found: Measured) -> str:
    manifest = found.manifest
    head = (
        f"# {marked(found.name)}\n\nMeasured with atodds on {manifest.data.n:,} images of {marked(manifest.data.name)} "
        f"({marked(manifest.data.selection)}). Robust accuracy is an upper bound: an attack that was not run might "
        f"find more.\n\n| | value | |\n|---|---|---|\n"
    )
    rows = [("accuracy", found.accuracy)]
    rows += [(f"robust accuracy, {manifest.norm} {budget}", rate) for budget, rate in found.attacked]
    lines = [f"| {marked(name)} | {percent(rate.value)} % | {shares(rate)} |" for name, rate in rows]
    return head + "\n".join(lines) + f"\n\nAttacks: {marked(', '.join(manifest.attacks))}.\n"


def marked(text: str) -> str:
    """Text inside Markdown: on one line, its signs without meaning."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&~-])", r"\\\1", line)
