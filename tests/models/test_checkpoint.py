"""A checkpoint holds what was saved, is written whole or not at all, and is read as a file that anyone may have made.

So the cards here lie in every way that a card can.
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from atodds.errors import ArgumentError, ModelError, UnknownNameError
from atodds.models import Card, Classifier, build, fingerprint, load_checkpoint, save
from atodds.models.card import FORMAT
from atodds.models.fingerprint import tensors_digest
from atodds.models.networks import complete

SHAPE = (1, 8, 8)
SETTINGS = {"width": 2, "features": 3}
CARD = Card(
    network="cnn4",
    settings=complete("cnn4", SHAPE, SETTINGS),
    shape=SHAPE,
    classes=("zéro", "one & only", "二"),
    mean=(0.3,),
    std=(0.4,),
    data="digits",
    data_fingerprint="ab" * 32,
    recipe={"objective": "standard", "epochs": 3, "lr": 0.1, "eps": None, "nesterov": True},
)


def classifier(card: Card | None = CARD) -> Classifier:
    return Classifier(build("cnn4", SHAPE, 3, settings=SETTINGS), mean=[0.3], std=[0.4], name="small", card=card).eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(classifier(), tmp_path / "small.safetensors")


def card_text(file: Path) -> str:
    with safe_open(file, framework="pt") as opened:
        return str(opened.metadata()["atodds"])


def altered(file: Path, **entries: object) -> Path:
    """The same file with other entries in its card; one that is `...` is left out."""
    told = json.loads(card_text(file)) | entries
    text = json.dumps({key: value for key, value in told.items() if value is not ...})
    save_file(load_file(file), file, {"atodds": text})
    return file


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_written(file: Path) -> None:
    made, read = classifier(), load_checkpoint(file)
    images = torch.rand(4, *SHAPE)
    assert torch.equal(read(images), made(images))
    assert fingerprint(read) == fingerprint(made)
    assert read.card == replace(CARD, weights=tensors_digest(made.network.state_dict()))
    assert read.name == "small"
    assert not read.training


def test_the_same_network_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    again = save(classifier(), tmp_path / "again.safetensors")
    assert again.read_bytes() == file.read_bytes()
    assert save(load_checkpoint(file), again).read_bytes() == file.read_bytes()


def test_a_trained_network_needs_no_name_but_gets_that_of_its_file(tmp_path: Path) -> None:
    assert load_checkpoint(save(classifier(), tmp_path / "deep" / "er" / "x.safetensors")).name == "x"
    assert load_checkpoint(tmp_path / "deep" / "er" / "x.safetensors", name="mine").name == "mine"
    odd = save(classifier(), tmp_path / "tab\there.safetensors")
    assert load_checkpoint(odd).name == "tab?here"


def test_it_is_plain_safetensors_for_everybody_else(file: Path) -> None:
    assert load_file(file).keys() == classifier().network.state_dict().keys()


def test_without_normalisation_the_card_says_so(tmp_path: Path) -> None:
    card = replace(CARD, mean=(), std=())
    made = Classifier(build("cnn4", SHAPE, 3, settings=SETTINGS), card=card)
    assert load_checkpoint(save(made, tmp_path / "x.safetensors")).mean is None


# ---- writing -------------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(classifier(), tmp_path / "x.safetensors")
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"cannot be written: No space left on device"):
        save(Classifier(build("cnn4", SHAPE, 3, seed=9, settings=SETTINGS), mean=[0.3], std=[0.4], card=CARD), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_folder_that_cannot_be_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(ModelError, match="cannot be written"):
        save(classifier(), tmp_path / "taken" / "x.safetensors")


def test_only_what_has_a_card_is_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="small has no card"):
        save(classifier(None), tmp_path / "x.safetensors")
    with pytest.raises(ArgumentError, match=r"End it in \.safetensors"):
        save(classifier(), tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (replace(CARD, network="mlp", settings={"width": 4}), "weights are of another network"),
        (replace(CARD, settings={"width": 3, "features": 3}), "weights are of another network"),
        (replace(CARD, classes=("a", "b")), "weights are of another network"),
        (replace(CARD, mean=(0.5,)), "another mean or std"),
        (replace(CARD, mean=(), std=()), "another mean or std"),
        (replace(CARD, data="two\nlines"), "not a line of text"),
    ],
)
def test_a_card_that_does_not_describe_the_network_is_not_saved(tmp_path: Path, card: Card, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        save(classifier(card), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


# ---- reading what anyone may have made -----------------------------------------------------------------------------


def test_a_newer_format_asks_for_an_upgrade(file: Path) -> None:
    with pytest.raises(ModelError, match=rf"has format {FORMAT + 1}.*pip install --upgrade atodds"):
        load_checkpoint(altered(file, format=FORMAT + 1, something="new"))


LIES: dict[str, dict[str, Any]] = {
    "no format": {"format": ...},
    "a format that is text": {"format": "1"},
    "format 0": {"format": 0},
    "format true": {"format": True},
    "an unknown network": {"network": "resnet21"},
    "a network that is code": {"network": "os:system"},
    "a network that is a list": {"network": ["cnn4"]},
    "no network": {"network": ...},
    "an entry too many": {"hook": "print"},
    "another network": {"network": "mlp", "settings": {"width": 2}},
    "an unknown setting": {"settings": {"width": 2, "features": 3, "depth": 4}},
    "a huge width": {"settings": {"width": 60000, "features": 65536}},
    "a wider width": {"settings": {"width": 3, "features": 3}},
    "a width beyond all bounds": {"settings": {"width": 10**30, "features": 3}},
    "a negative width": {"settings": {"width": -2, "features": 3}},
    "a width that is text": {"settings": {"width": "2", "features": 3}},
    "settings that are a list": {"settings": [1, 2]},
    "a huge image": {"shape": [1, 65536, 65536]},
    "an image of nothing": {"shape": [1, 0, 8]},
    "an image without channels": {"shape": [8, 8]},
    "an image of text": {"shape": "188"},
    "one class": {"classes": ["a"]},
    "another number of classes": {"classes": ["a", "b"]},
    "classes that are numbers": {"classes": [1, 2, 3]},
    "a class that steers the terminal": {"classes": ["a", "b", "\x1b[2J"]},
    "a class of half a letter": {"classes": ["a", "b", "\ud800"]},
    "a class without end": {"classes": ["a", "b", "c" * 2000]},
    "a std of 0": {"std": [0.0]},
    "a mean that is not finite": {"mean": [float("nan")]},
    "an infinite std": {"std": [float("inf")]},
    "a mean beyond float": {"mean": [10**400]},
    "a mean beyond float32": {"mean": [1e300]},
    "a mean of two channels": {"mean": [0.1, 0.2], "std": [0.1, 0.2]},
    "a mean without std": {"std": []},
    "a recipe within a recipe": {"recipe": {"a": {"b": 1}}},
    "a recipe that is a list": {"recipe": []},
    "data that are a number": {"data": 5},
    "other weights": {"weights": "00" * 32},
    "no digest": {"weights": ""},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_card_that_lies_is_refused_before_anything_is_built(file: Path, lie: str) -> None:
    altered(file, **LIES[lie])
    began = time.perf_counter()
    with pytest.raises(ModelError, match="small"):
        load_checkpoint(file)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "1", '"cnn4"', "[" * 100_000, "{}", '{"format": 1}', '{"format": ' + "9" * 5000 + "}"],
)
def test_a_card_that_is_none_is_refused(file: Path, text: str) -> None:
    save_file(load_file(file), file, {"atodds": text})
    with pytest.raises(ModelError, match="small"):
        load_checkpoint(file)


def test_a_card_without_end_is_not_even_read(file: Path) -> None:
    save_file(load_file(file), file, {"atodds": " " * 2_000_000})
    with pytest.raises(ModelError, match="2000000 characters"):
        load_checkpoint(file)


def _with(tensors: dict[str, Tensor], file: Path) -> Path:
    save_file(tensors, file, {"atodds": card_text(file)})
    return file


def test_tensors_that_the_card_does_not_imply_are_refused(file: Path) -> None:
    held = load_file(file)
    for wrong in (
        held | {"more": torch.zeros(1)},
        {name: tensor for name, tensor in held.items() if name != "head.bias"},
        held | {"head.bias": torch.zeros(4)},
        held | {"head.bias": held["head.bias"].half()},
        held | {"head.bias": held["head.bias"].double()},
    ):
        with pytest.raises(ModelError, match="its tensors are others"):
            load_checkpoint(_with(wrong, file))


def test_one_bit_that_flips_in_the_weights_is_seen(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(file)


def test_a_file_without_a_card_says_how_to_load_it(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"NETWORK@"):
        load_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(UnknownNameError, match=r"Did you mean .*x\.safetensors"):
        load_checkpoint(tmp_path / "xx.safetensors")


def test_a_name_of_the_caller_is_the_caller_s_mistake(file: Path) -> None:
    with pytest.raises(ArgumentError, match="name"):
        load_checkpoint(file, name="two\nlines")
