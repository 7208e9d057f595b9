"""The plan of the study of many models: its runs, its networks, and what is refused."""

import pytest
import torch
from torch import nn

from atodds.attacks import registry
from atodds.errors import ArgumentError, UnknownNameError
from atodds.models.classifier import Classifier
from atodds.models.networks import build
from atodds.studies import compare_models
from atodds.studies.compare_models import BUDGETS, PRESETS, suite, traits_of
from atodds.threat import parse_eps_list
from atodds.training.suites import SUITES


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_of_a_preset_can_be_read(preset: str) -> None:
    parts = compare_models.parts(preset)
    assert {part.norm for part in parts} == {"l1", "l2", "linf"}
    for part in parts:
        for spec in registry.parse(part.attacks, part.norm):
            spec.check(part.norm)


def test_budgets_can_be_read() -> None:
    for (_, norm), text in BUDGETS.items():
        assert len(parse_eps_list(text, norm)) >= 3


@pytest.mark.parametrize("data", SUITES)
def test_a_suite_has_eighteen_networks_of_six_families_or_more(data: str) -> None:
    entries = suite(data)
    assert len({entry.name for entry in entries}) == len(entries) >= 18
    assert len({entry.family for entry in entries}) >= 6


def test_a_data_set_without_networks_is_an_error_that_names_those_with() -> None:
    with pytest.raises(ArgumentError, match=r"stl10.*digits"):
        suite("stl10")


def test_too_few_models_and_unknown_presets_and_families_are_refused(tmp_path: object) -> None:
    from atodds import data
    from atodds.evaluation.conduct import Settings

    images = data.load("digits", limit=10)
    two = {"a": nn.Linear(1, 2), "b": nn.Linear(1, 2)}
    with pytest.raises(ArgumentError, match="too few"):
        compare_models.compare(two, images, str(tmp_path), Settings())
    with pytest.raises(UnknownNameError, match="preset"):
        compare_models.compare(two, images, str(tmp_path), Settings(), preset="huge")
    three = two | {"c": nn.Linear(1, 2)}
    with pytest.raises(UnknownNameError, match="family"):
        compare_models.compare(three, images, str(tmp_path), Settings(), families={"d": "plain"})


def test_traits_are_known_of_networks_of_ours_and_of_those_with_a_family() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    assert traits_of(plain) is None
    told = traits_of(plain, "mine")
    assert told is not None
    assert (told.family, told.depth, told.size) == ("mine", 2, 64 * 5 + 5 + 5 * 3 + 3)
    ours = Classifier(build("cnn4", (1, 8, 8), 10), mean=0.5, std=0.5, name="x")
    assert traits_of(ours) is None  # no card, no family
    assert torch.is_tensor(ours(torch.zeros(1, 1, 8, 8)))
