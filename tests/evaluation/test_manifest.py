"""`run.json` is read as what a stranger may have written: checked, and refused with our own error."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds.errors import AtoddsError, NewerRunError, NotARunError, OlderRunError, OtherPlanError
from atodds.evaluation.manifest import FORMAT, Finding, Manifest, ModelInfo, finding_from
from atodds.threat import Budget

Manifests = Callable[..., Manifest]
Said = dict[str, Any]


def test_a_manifest_comes_back_as_it_was(manifest: Manifests) -> None:
    whole = manifest(command="atodds bench 'モデル.py:make' \udcff", budgets=(Budget(0.0, "0"), Budget(0.1, "0.1")))
    assert Manifest.from_json(whole.to_json().encode(), "here") == whole


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["jobs"], ["../../x"]),
        (["jobs"], ["/etc/passwd"]),
        (["jobs"], ["0" * 31 + "\n"]),
        (["jobs"], ["0" * 32 + "\n"]),
        (["jobs"], ["A" * 32]),
        (["jobs"], [7]),
        (["jobs"], "0" * 32),
        (["jobs"], ["0" * 32] * 2),
        (["transfers"], ["../../x"]),
        (["transfers"], ["0" * 32] * 2),
        (["transfers"], None),
        (["looks"], ["../audit"]),
        (["models"], []),
        (["models"], {}),
        (["models", 0, "parameters"], "many"),
        (["models", 0, "parameters"], True),
        (["models", 0, "id"], 3),
        (["models", 0, "extra"], "field"),
        (["data"], None),
        (["data", "n"], 2.5),
        (["data", "shape"], [1, 2]),
        (["data", "shape"], [1, 2, "3"]),
        (["data", "shape"], 7),
        (["data", "shape"], [1, -2, 2]),
        (["data", "classes"], [1]),
        (["norm"], "l3"),
        (["norm"], ["linf"]),
        (["budgets"], []),
        (["budgets", 0, "value"], float("nan")),
        (["budgets", 0, "value"], float("inf")),
        (["budgets", 0, "value"], -1),
        (["budgets", 0, "value"], 10**400),
        (["budgets", 0, "value"], True),
        (["budgets", 0, "text"], None),
        (["attacks"], [None]),
        (["alone"], 1),
        (["seed"], "0"),
        (["seed"], 0.5),
        (["batch_sizes"], {"m": [0, 1]}),
        (["batch_sizes"], {"m": [1]}),
        (["batch_sizes"], {"m": [1, -1]}),
        (["batch_sizes"], [1, 2]),
        (["versions"], {"torch": 2}),
        (["machine"], "laptop"),
        (["created"], 20260101),
        (["format"], "1"),
        (["format"], None),
        (["format"], 0),
        (["format"], True),
    ],
)
def test_a_manifest_that_says_nonsense_is_no_run(manifest: Manifests, path: list[str | int], value: object) -> None:
    said = dataclasses.asdict(manifest())
    spot: Any = said
    for step in path[:-1]:
        spot = spot[step]
    spot[path[-1]] = value
    with pytest.raises(NotARunError, match="here"):
        Manifest.from_json(json.dumps(said), "here")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Manifest)])
def test_a_manifest_that_lacks_something_is_no_run(manifest: Manifests, name: str) -> None:
    said = dataclasses.asdict(manifest())
    del said[name]
    with pytest.raises(NotARunError):
        Manifest.from_json(json.dumps(said), "here")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"run"',
        b"{}",
        b"\xff\xfe",
        b"PAR1",
        b"[" * 100_000,
        b'{"format": ' + b"1" * 5000 + b"}",
        b'{"format": 3, "models": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_text_that_is_no_manifest_is_no_run(text: bytes) -> None:
    with pytest.raises(NotARunError):
        Manifest.from_json(text, "here")


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_any_json_is_a_run_or_our_error(value: object) -> None:
    with pytest.raises(AtoddsError):
        Manifest.from_json(json.dumps({"format": FORMAT, "models": value, "data": value}), "here")


def test_a_run_of_a_newer_version_says_so(manifest: Manifests) -> None:
    said = dataclasses.asdict(manifest()) | {"format": FORMAT + 1, "models": "in some new way"}
    with pytest.raises(NewerRunError, match="Upgrade atodds"):
        Manifest.from_json(json.dumps(said), "here")


def test_a_run_of_an_older_version_says_so(manifest: Manifests) -> None:
    said = dataclasses.asdict(manifest()) | {"format": FORMAT - 1, "models": "in some old way"}
    with pytest.raises(OlderRunError, match=r"older version.*Give another folder"):
        Manifest.from_json(json.dumps(said), "here")


def grown(manifest: Manifests, **changes: object) -> None:
    manifest(**changes).grown_from(manifest(), "here")


def test_a_run_may_grow(manifest: Manifests, info: ModelInfo) -> None:
    grown(manifest)
    grown(manifest, models=(dataclasses.replace(info, source="nets.py:make", name="other"),))
    grown(manifest, models=(ModelInfo("b", "b", "", "b" * 64, 1), info))
    grown(manifest, budgets=(Budget(1 / 255, "1/255"), Budget(1.5 / 255, "1.5/255"), Budget(2 / 255, "2/255")))
    grown(manifest, attacks=("pgd", "random_noise", "fgsm"))
    grown(manifest, transfers=("4" * 32,))
    grown(manifest, keep=False, command="another", created="later", jobs=("3" * 32,))


def test_the_same_budget_in_other_words_is_the_same_question(manifest: Manifests) -> None:
    grown(manifest, budgets=(Budget(1 / 255, "0.00392156862745098"), Budget(2 / 255, "2 / 255")))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"models": (ModelInfo("b", "b", "", "b" * 64, 1),)}, "models no longer asked for: brightness@"),
        ({"budgets": (Budget(1 / 255, "1/255"), Budget(0.00784, "2/255"))}, "eps no longer asked for: 2/255"),
        ({"budgets": (Budget(1 / 255, "1/255"),)}, "eps no longer asked for: 2/255"),
        ({"attacks": ("fgsm",)}, "attacks no longer asked for: pgd"),
        ({"norm": "l2"}, "norm was linf, now l2"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"alone": True}, "alone was False, now True"),
        ({"precision": "bfloat16"}, "precision was full, now bfloat16"),
        ({"eot": 5}, "eot was 1, now 5"),
    ],
)
def test_a_run_that_is_asked_something_else_says_what(manifest: Manifests, changes: Said, told: str) -> None:
    with pytest.raises(OtherPlanError, match="here holds a run that was asked something else") as caught:
        grown(manifest, **changes)
    assert told in str(caught.value)
    assert "--out" in str(caught.value)


def test_other_images_are_another_question(manifest: Manifests) -> None:
    renamed = dataclasses.replace(manifest().data, name="blacks")  # the name is in every row
    with pytest.raises(OtherPlanError, match=r"images were 3 of greys .* now 3 of blacks"):
        grown(manifest, data=renamed)
    other = dataclasses.replace(manifest().data, fingerprint="cd" * 32, n=4)
    with pytest.raises(OtherPlanError, match=r"images were 3 of greys \(all, abababab\), now 4 of greys"):
        grown(manifest, data=other)


@pytest.mark.parametrize("said", [None, [], {}, {"check": 1}, "text"])
def test_a_finding_is_checked_too(said: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        finding_from(said)


def test_a_finding_has_a_severity_of_ours() -> None:
    finding = Finding("check", "note", "m", "seen", "means", "do")
    assert finding_from(dataclasses.asdict(finding)) == finding
    with pytest.raises(ValueError, match="severity"):
        finding_from(dataclasses.asdict(finding) | {"severity": "<script>"})
