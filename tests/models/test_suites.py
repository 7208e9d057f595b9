"""The suite imagenet-18 names all models of the study, and what stands for each today."""

import importlib.util
from pathlib import Path

import pytest

from atodds.errors import ArgumentError, UnknownNameError
from atodds.models import SUITES, expand, load, suite
from atodds.models.spec import LIBRARIES, parse

DOCS = Path(__file__).resolve().parents[2] / "docs"
MEMBERS = SUITES["imagenet-18"].members
FAMILIES = {"alexnet": 1, "vgg": 2, "inception": 5, "resnet": 3, "densenet": 3, "mobilenet": 3, "nasnet": 1}


def test_it_has_the_eighteen_models_of_the_study_by_family() -> None:
    assert len({member.name for member in MEMBERS}) == 18
    assert {family: sum(member.family == family for member in MEMBERS) for family in FAMILIES} == FAMILIES
    assert sum(FAMILIES.values()) == 18


def test_what_can_be_loaded_is_a_model_of_a_library_with_weights_named() -> None:
    for member in MEMBERS:
        assert bool(member.spec) == (member.kinship != "none") == bool(member.size)
        if member.spec:
            parts = parse(member.spec)
            assert parts.library in LIBRARIES
            assert parts.library == "hf" or parts.variant or "." in parts.member, f"{member.spec}: weights may change"
    names = [parse(spec).name for spec in suite("imagenet-18").specs]
    assert len(set(names)) == len(names) == 16


def test_accuracies_of_the_same_weights_agree_with_the_study() -> None:
    for member in MEMBERS:
        if member.todays is not None and member.kinship == "same weights":
            assert abs(member.todays - member.top1) < 0.6, member.name


def test_a_suite_is_expanded_where_it_stands() -> None:
    expanded = list(expand(["zoo.py:one", "suite:imagenet-18", "name=zoo.py:two"]))
    assert expanded == ["zoo.py:one", *suite("imagenet-18").specs, "name=zoo.py:two"]


def test_what_is_no_suite_says_so() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean imagenet-18"):
        list(expand(["suite:imagenet"]))
    with pytest.raises(ArgumentError, match="one name, mine, for several models"):
        list(expand(["mine=suite:imagenet-18"]))
    with pytest.raises(ArgumentError, match="several models, not one"):
        load("suite:imagenet-18")


def test_a_member_is_here_where_its_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"timm": object()}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there.get(name))
    assert {member.library for member in MEMBERS if member.is_here} == {"timm"}
    assert {member.library for member in MEMBERS} == {"", "timm", "torchvision", "transformers"}


def test_the_documentation_has_the_same_table() -> None:
    lines = (DOCS / "imagenet-18.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert set(rows) == {member.name for member in MEMBERS}
    for member in MEMBERS:
        todays = "" if member.todays is None else f", {member.todays:.1f} %"
        today = f"`{member.spec}`<br>{member.size} px{todays}" if member.spec else "none"
        told = f"{member.kinship}: {member.why}" if member.spec else member.why
        assert rows[member.name] == f"| `{member.name}`<br>{member.top1:.1f} % | {today} | {told} |"
