"""Rules that choose training images, held against random ones: from end to end, small, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atodds import data
from atodds.data.selection import select
from atodds.errors import ArgumentError, ModelError, UnknownNameError
from atodds.evaluation.conduct import Settings
from atodds.models import load_checkpoint
from atodds.models.card import Card
from atodds.models.checkpoint import save
from atodds.models.classifier import Classifier
from atodds.models.networks import build
from atodds.studies.data_selection import carry_out_selection, margins, planned_selection
from atodds.studies.data_size import NETWORKS, NORMS
from atodds.studies.data_size_plan import EFFORTS, Plan, planned

TRAIN, TEST = data.load("digits", split="train"), data.load("digits")


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    small = replace(
        EFFORTS["laptop"], epochs={"": 2}, least=20, dark="carlini_wagner(searches=2,steps=30,lr=0.1,initial=10)",
        linf="ifgsm_search(steps=5,runs=7)", fixed="fgsm",
    )  # fmt: skip
    monkeypatch.setattr("atodds.studies.data_size_plan.EFFORTS", {"laptop": small})
    return planned(TRAIN, data="digits", networks=["linear"], sizes=[100, 600], limit=12)


def test_margins_are_those_of_the_logits() -> None:
    model = Classifier(build("linear", (1, 8, 8), 10, seed=3), mean=0.3, std=0.2)
    few = TRAIN.take(range(40))
    with torch.no_grad():
        logits = model(few.images()).double().numpy()
    rest = np.where(np.eye(10, dtype=bool)[few.labels], -np.inf, logits)
    wanted = logits[np.arange(40), few.labels] - rest.max(1)
    assert margins(model, few) == pytest.approx(wanted, abs=1e-5)
    assert (margins(model, few) > 0).tolist() == (logits.argmax(1) == few.labels).tolist()


def test_networks_learn_what_the_rules_choose_and_are_held_against_random(plan: Plan, tmp_path: Path) -> None:
    comparison = planned_selection(plan, ["small-margin"], keep=100, repeats=2)
    assert comparison.rules == ("random", "small-margin")
    (one,) = carry_out_selection(comparison, TEST, tmp_path, Settings(progress=False, keep=False))
    folder, pool = tmp_path / NETWORKS, plan.subsets[-1]
    hits = []
    for rule in comparison.rules:
        for repeat in range(2):
            model = load_checkpoint(folder / f"linear-100-{rule}-{repeat}.safetensors")
            seen = margins(load_checkpoint(folder / "linear-600.safetensors"), pool)
            assert model.card is not None
            assert model.card.recipe["seed"] == repeat
            assert model.card.data_fingerprint == select(pool, 100, rule, seed=repeat, margins=seen).fingerprint
            with torch.no_grad():
                hits.append((model(TEST.images()).argmax(1).numpy() == TEST.labels).mean())
    random, chosen = one.found["accuracy"]
    assert random.each + chosen.each == pytest.approx(hits)
    assert chosen.gap is not None
    assert chosen.gap.value == pytest.approx(np.mean(hits[2:]) - np.mean(hits[:2]))
    assert (one.n["accuracy"], one.n["fixed"]) == (len(TEST), 12)
    for norm in NORMS:
        assert one.n[norm] + one.missed[norm] == 12  # X holds nothing that one of these networks has wrong


def test_without_a_size_a_tenth_is_kept(plan: Plan) -> None:
    assert planned_selection(plan, ["herding", "random"]).keep == 60
    assert planned_selection(plan, ["herding", "random"]).rules == ("random", "herding")


def test_what_compares_nothing_is_refused_before_work(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="k-center"):
        planned_selection(plan, ["k-centre"])
    for rules in ([], ["random"], ["herding", "herding"]):
        with pytest.raises(ArgumentError, match="hold against random"):
            planned_selection(plan, rules)
    for keep in (5, 600, 700):
        with pytest.raises(ArgumentError, match=f"keep={keep}: .* Give 10 to 599"):
            planned_selection(plan, ["herding"], keep=keep)
    with pytest.raises(ArgumentError, match="number of trainings"):
        planned_selection(plan, ["herding"], repeats=0)
    shape = (1, 8, 8)
    other = Classifier(
        build("mlp", shape, 10), mean=0.0, std=1.0, card=Card("mlp", {"width": 1024}, shape, TRAIN.classes)
    )
    save(other, tmp_path / "linear-60-random-0.safetensors")
    with pytest.raises(ModelError, match="holds mlp, not the linear"):
        planned_selection(plan, ["herding"], folder=tmp_path)
