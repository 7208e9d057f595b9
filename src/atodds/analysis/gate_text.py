"""A gate for people and for machines: one sentence, a Markdown page, and JUnit XML."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from atodds.analysis.gate import Check, Gate, Verdict
from atodds.analysis.numbers import percent
from atodds.evaluation.manifest import Finding

SIGNS: dict[Verdict, str] = {"met": "✓", "not met": "✕", "cannot tell": "?"}
_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def headline(gate: Gate) -> str:
    """The verdict and what it rests on, in one sentence."""
    failed = [check for check in gate.checks if check.verdict == "not met"]
    if failed:
        more = f" And {len(failed) - 1} more of {len(gate.checks)} checks." if len(failed) > 1 else ""
        return f"Not met: {failed[0].model}, {sentence(failed[0])}.{more}"
    open_ones = [check for check in gate.checks if check.verdict == "cannot tell"]
    if open_ones:
        lacking = [check.more for check in open_ones]
        if None in lacking:
            never = open_ones[lacking.index(None)]
            return f"Cannot tell, and more images will not: {never.model}, {sentence(never)}."
        most = max(range(len(lacking)), key=lambda k: lacking[k] or 0)
        return (
            f"Cannot tell, {lacking[most]:,} more images needed: {open_ones[most].model}, {sentence(open_ones[most])}."
        )
    checks = f"all {len(gate.checks)} checks hold" if len(gate.checks) > 1 else sentence(gate.checks[0])
    return f"Met: {checks} at {percent(gate.confidence, 0)} % confidence."


def sentence(check: Check) -> str:
    """What was asked and what was measured: "clean accuracy 81.4 % (77.7–84.7), 90.0 % required"."""
    if check.required is not None:
        return f"{check.what} {check.rate}, {percent(check.required)} % required"
    return f"{check.what} {check.rate}, baseline {check.baseline}: {check.difference}"


def decided(check: Check) -> str:
    """The verdict with what goes with it."""
    if check.verdict == "cannot tell":
        lacking = "no number of images would tell" if check.more is None else f"{check.more:,} more images needed"
        return f"cannot tell: {lacking}"
    if check.required is None:
        points = f"{100 * (check.detectable or 0):.1f}"
        return "clearly worse" if check.verdict == "not met" else f"not clearly worse; {points} points would have shown"
    return check.verdict


def markdown(gate: Gate, *, findings: Sequence[Finding] = (), command: str = "") -> str:
    """A page in GitHub's Markdown, fit for a step summary. Names are escaped: they stay text."""
    lines = [f"### atodds check: {SIGNS[gate.verdict]} {gate.verdict}", "", _plain(headline(gate)), ""]
    lines += ["| | model | check | measured | n | verdict |", "|---|---|---|---|---:|---|"]
    for check in gate.checks:
        asked = f"{check.what} ≥ {percent(check.required)} %" if check.required is not None else (
            f"{check.what}, against {check.baseline}")  # fmt: skip
        measured = str(check.rate) if check.difference is None else f"{check.rate}; {check.difference}"
        cells = (SIGNS[check.verdict], check.model, asked, measured, f"{check.rate.n:,}", decided(check))
        lines.append(f"| {' | '.join(_plain(cell) for cell in cells)} |")
    level = percent((1 - gate.confidence) / 2)
    lines += [
        "",
        f"Exact {percent(gate.confidence, 0)} % intervals. Exact binomial tests against what is required, exact "
        f"McNemar tests against the baseline over shared images; with Holm's correction for {len(gate.checks)} checks "
        f"a model that meets all is failed in at most {level} % of measurements. Images needed: for a power of "
        f"{percent(gate.power, 0)} %, if the truth is as measured.",
    ]
    grave = [one for one in findings if one.severity != "note"]
    if grave:
        lines += ["", f"The audit found {len(grave)} things to read before these numbers are used:", ""]
        lines += [f"- {one.severity}: {_plain(one.check)}: {_plain(one.measured)}" for one in grave]
    if command:
        fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", command)), default=0))
        lines += ["", f"{fence}\n{command}\n{fence}"]
    return "\n".join(lines) + "\n"


def junit(gate: Gate, *, command: str = "") -> str:
    """One test case a check: a failure where it is not met, skipped where it cannot be told."""
    count = {verdict: sum(check.verdict == verdict for check in gate.checks) for verdict in SIGNS}
    totals = {
        "tests": str(len(gate.checks)), "failures": str(count["not met"]), "errors": "0",
        "skipped": str(count["cannot tell"]),
    }  # fmt: skip
    root = ElementTree.Element("testsuites", {"name": "atodds check", **totals})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "atodds check", "time": "0", **totals})
    if command:
        properties = ElementTree.SubElement(suite, "properties")
        ElementTree.SubElement(properties, "property", {"name": "command", "value": _xml(command)})
    for check in gate.checks:
        against = "" if check.required is not None else ", against the baseline"
        names = {"classname": _xml(check.model), "name": _xml(check.what + against), "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", names)
        said = _xml(f"{sentence(check)}: {decided(check)}")
        if check.verdict == "not met":
            ElementTree.SubElement(case, "failure", {"message": said, "type": "not met"}).text = said
        elif check.verdict == "cannot tell":
            ElementTree.SubElement(case, "skipped", {"message": said})
        else:
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown and the HTML in it leave alone, on one line."""
    one_line = " ".join(text.split())
    escaped = _MARKUP.sub(r"\\\1", one_line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")


def _xml(text: str) -> str:
    """Text without the characters that XML cannot hold at all; the library escapes the others."""
    return _NOT_XML.sub("\ufffd", text)
