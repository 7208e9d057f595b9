"""The study of data sizes from end to end, small, and continued where it was stopped."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from atodds import data
from atodds.data.images import ImageSet
from atodds.errors import EmptyDataError, ModelError
from atodds.evaluation.conduct import Settings, conduct
from atodds.models import build
from atodds.studies import data_size, trainings
from atodds.studies.data_size import DataSizeStudy, carry_out
from atodds.studies.data_size_plan import EFFORTS, Plan, planned
from atodds.threat import parse_eps
from atodds.training.suites import Entry

TRAIN, TEST = data.load("digits", split="train"), data.load("digits")
QUIET = Settings(progress=False, keep=False)
WORDS = ["size 100", "size 600"]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    small = replace(
        EFFORTS["laptop"], epochs={"": 2}, least=20, l2="carlini_wagner(searches=2,steps=60,initial=10)",
        linf="ifgsm_search(steps=5,runs=7)", fixed="fgsm",
    )  # fmt: skip
    monkeypatch.setattr("atodds.studies.data_size_plan.EFFORTS", {"laptop": small})
    return planned(TRAIN, data="digits", networks=["linear"], sizes=[100, 600], limit=12)


class _StoppedError(Exception):
    """Stands for a kill."""


def numbers(study: DataSizeStudy) -> list[Any]:
    """Everything that a study says."""
    return [
        (curve.train, curve.test, curve.accuracy, curve.robustness["l2"], curve.robustness["linf"], curve.standing)
        for curve in study.curves
    ]


def test_a_study_that_is_stopped_anywhere_ends_with_the_same_numbers(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = carry_out(plan, TEST, tmp_path / "whole", QUIET)
    (curve,) = whole.curves
    assert [rate.n for rate in curve.train] == [100, 600]
    assert [rate.n for rate in curve.test] == [len(TEST)] * 2
    attacked = {name: store.manifest.data.n for name, store in curve.stores.items()}
    assert attacked == {"l2": 12, "linf": 12, "fixed": 12}
    for norm in data_size.NORMS:
        assert curve.robustness[norm].common == 12  # X holds nothing that a network of any size has wrong

    trained: list[str] = []
    real_train = trainings._one

    def train_one(entry: Entry, images: ImageSet, folder: Path, device: str) -> None:
        trained.append(entry.name)
        if len(trained) == 2:
            raise _StoppedError
        real_train(entry, images, folder, device)

    def stopped(*arguments: Any, **others: Any) -> Any:
        if arguments[2] == "linf":
            raise _StoppedError
        return conduct(*arguments, **others)

    monkeypatch.setattr(trainings, "_one", train_one)
    monkeypatch.setattr(data_size, "conduct", stopped)
    for _ in range(2):  # within the trainings, then between the attacks
        with pytest.raises(_StoppedError):
            carry_out(plan, TEST, tmp_path / "again", QUIET)
    monkeypatch.setattr(data_size, "conduct", conduct)
    told: list[tuple[str, int, int]] = []
    again = carry_out(plan, TEST, tmp_path / "again", QUIET, attacked=lambda *said: told.append(said))
    assert numbers(again) == numbers(whole)
    assert trained == ["linear-600", "linear-100", "linear-100"]  # each once, but for the one that was stopped
    assert told == [("linear", 1, 1)]


def test_a_study_of_other_sizes_eps_or_attacks_finds_room_in_the_same_folder(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may only grow: one that asks less than what lies in its folder is refused."""
    models = {f"linear-{seed}": build("linear", (1, 8, 8), 10, seed=seed) for seed in range(3)}
    monkeypatch.setattr(data_size, "predictions", lambda *_: TEST.labels)
    places: list[str] = []

    def conducted(*given: Any, **_: Any) -> Any:
        places.append(given[5].name)
        return SimpleNamespace(manifest=SimpleNamespace(models=()))

    monkeypatch.setattr(data_size, "conduct", conducted)

    def asked(names: list[str], plan: Plan) -> set[str]:
        places.clear()
        few = {name: models[name] for name in names}
        data_size.attack(plan, "linear", few, names, TEST, tmp_path, QUIET)
        return set(places)

    first = asked(["linear-0", "linear-1"], plan)
    assert len(first) == 3
    assert asked(["linear-0", "linear-1"], plan) == first
    assert not asked(["linear-0", "linear-2"], plan) & first
    assert not asked(["linear-1"], plan) & first
    other = asked(["linear-0", "linear-1"], replace(plan, eps=parse_eps("0.2", "linf")))
    assert {name.rsplit("-", 1)[0] for name in first - other} == {"linear-fixed"}


def test_what_is_attacked_is_drawn_among_what_all_sizes_have_right(plan: Plan) -> None:
    right = np.ones((len(TEST), 2), bool)
    right[::2, 0], right[::3, 1] = False, False
    common = data_size._common(right, TEST, plan, "linear", WORDS)
    assert len(common) == 12
    assert right[np.isin(TEST.ids, common.ids)].all()
    order = torch.randperm(len(TEST)).tolist()
    turned = data_size._common(right[order], TEST.take(order), plan, "linear", WORDS)
    assert set(turned.ids) == set(common.ids)


def test_too_few_images_in_common_name_the_weakest_size(plan: Plan) -> None:
    right = np.zeros((len(TEST), 2), bool)
    right[:4], right[:, 1] = True, True
    with pytest.raises(EmptyDataError, match=r"4 of 355 test images .* Leave out size 100"):
        data_size._common(right, TEST, plan, "linear", WORDS)


def test_a_network_that_learned_nothing_is_refused_before_anything_is_attacked(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = data_size.trained_models

    def stuck(*given: Any) -> dict[str, torch.nn.Module]:
        models = usual(*given)
        for name, model in models.items():
            if name == "linear-600":
                torch.nn.init.zeros_(next(model.parameters()))
        return models

    monkeypatch.setattr(data_size, "trained_models", stuck)
    with pytest.raises(ModelError, match="linear-600 learned nothing: it is right on"):
        carry_out(plan, TEST, tmp_path, QUIET)
    assert not (tmp_path / "runs").exists()
