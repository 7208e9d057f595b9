"""The two networks of a bench without arguments show the trade-off, and are trained once."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from atodds import data
from atodds.attacks import pgd
from atodds.models import Classifier, fingerprint
from atodds.threat import Threat
from atodds.training import digits, digits_pair
from atodds.training.loop import Progress

Pair = tuple[Classifier, Classifier]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return digits_pair(tmp_path_factory.mktemp("pair"))


def accuracy(model: Classifier, eps: float) -> float:
    images = data.load("digits", split="test")
    pixels, labels, ids = images.images(), torch.tensor(images.labels), torch.tensor(images.ids)
    if eps:
        pixels = pgd(model, pixels, labels, Threat("linf", eps), ids=ids, steps=20)
    with torch.no_grad():
        return float((model(pixels).argmax(1) == labels).float().mean())


def test_the_standard_one_is_more_accurate_and_the_robust_one_more_robust(pair: Pair) -> None:
    standard, robust = pair
    assert accuracy(standard, 0) > 0.97
    assert accuracy(standard, 0) > accuracy(robust, 0) > 0.93
    assert accuracy(robust, 0.1) > accuracy(standard, 0.1) + 0.2
    assert accuracy(robust, 0.2) > accuracy(standard, 0.2) + 0.5


def test_they_have_names_and_cards(pair: Pair) -> None:
    assert [model.name for model in pair] == ["digits_standard", "digits_robust"]
    cards = [model.card for model in pair]
    assert [card.recipe["objective"] for card in cards if card] == ["standard", "adversarial"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair after one epoch, for what does not depend on how good it is."""
    monkeypatch.setattr(digits, "RECIPES", {name: replace(each, epochs=1) for name, each in digits.RECIPES.items()})


def made(folder: Path) -> tuple[list[str], set[str]]:
    """Fingerprints of the pair that a call returns, and the names of those that it trained."""
    trained: set[str] = set()

    def note(name: str, _: Progress) -> None:
        trained.add(name)

    return [fingerprint(model) for model in digits_pair(folder, on_progress=note)], trained


@pytest.mark.usefixtures("quick")
def test_a_second_call_trains_nothing(tmp_path: Path) -> None:
    first, trained = made(tmp_path)
    assert trained == {"digits_standard", "digits_robust"}
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(before) == {"digits_standard.safetensors", "digits_robust.safetensors"}
    assert made(tmp_path) == (first, set())
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("quick")
def test_a_checkpoint_that_is_not_the_one_wanted_is_trained_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = made(tmp_path)
    file = tmp_path / "digits_standard.safetensors"
    content = file.read_bytes()
    with safe_open(file, framework="pt") as opened:
        card = json.loads(opened.metadata()["atodds"])
    tensors = load_file(file)

    def write(**entries: object) -> None:
        save_file(tensors, file, {"atodds": json.dumps(card | entries)})

    for harm in (
        lambda: file.write_bytes(content[:-7]),
        lambda: write(recipe=card["recipe"] | {"epochs": 2}),
        lambda: write(recipe=card["recipe"] | {"training_code": 0}),
        lambda: write(data_fingerprint="0"),
    ):
        harm()
        caplog.clear()
        with caplog.at_level(logging.INFO, "atodds"):
            assert made(tmp_path) == (first, {"digits_standard"})
        assert "digits_standard again" in caplog.text
        assert file.read_bytes() == content


@pytest.mark.usefixtures("quick")
def test_the_number_of_threads_changes_neither_the_weights_nor_the_caller_s(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    weights = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            weights.append(made(tmp_path / str(threads))[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert weights[0] == weights[1]
