"""A training that is interrupted anywhere ends as one that was not, and never goes on with another's weights."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from atodds.data import ImageSet
from atodds.data.subsets import parts
from atodds.errors import ArgumentError, AtoddsError, ModelError, OtherPlanError
from atodds.models import Card, fingerprint, load_checkpoint
from atodds.training import Progress, Recipe, state, train
from atodds.training.state import Epoch, State

SETTINGS = {"width": 2, "features": 8}
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.05, shift=0.1)


class KilledError(Exception):
    """Stands for the death of a process."""


def images(count: int = 64, seed: int = 0, name: str = "some") -> ImageSet:
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    pixels = draws.integers(0, 100, (count, 1, 8, 8)) + 40 * labels[:, None, None, None]
    return ImageSet.from_arrays(pixels.astype(np.uint8), labels, name=name)


def trained(folder: Path | None, recipe: Recipe = RECIPE, **changed: Any) -> str:
    """The fingerprint of what a training in a folder ends with."""
    arguments: dict[str, Any] = {"settings": SETTINGS, "device": "cpu", "name": "net"} | changed
    network, given = arguments.pop("network", "cnn4"), arguments.pop("data", images())
    return fingerprint(train(network, given, recipe, out=folder, **arguments))


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (state.LAST, state.BEST)}


def dying(at: int) -> Callable[[Progress], None]:
    """Dies in the middle of an epoch."""

    def told(progress: Progress) -> None:
        if progress.epoch == at and progress.step == progress.steps:
            raise KilledError

    return told


# ---- resuming ------------------------------------------------------------------------------------------------------


def test_where_it_is_kept_changes_nothing(tmp_path: Path) -> None:
    assert trained(tmp_path / "kept") == trained(None)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == sorted(
        [state.STATE, state.LAST, state.BEST, state.EPOCHS]
    )


@pytest.mark.parametrize("objective", ["standard", "adversarial", "free"])
def test_training_that_dies_in_any_epoch_ends_with_the_same_bytes(tmp_path: Path, objective: str) -> None:
    recipe = RECIPE if objective == "standard" else replace(RECIPE, objective=objective, eps=0.05, attack_steps=2)
    whole = trained(tmp_path / "whole", recipe)
    for epoch in range(1, 5):
        with pytest.raises(KilledError):
            trained(tmp_path / "broken", recipe, on_progress=dying(epoch))
    assert trained(tmp_path / "broken", recipe) == whole
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


@pytest.mark.parametrize("number", range(10))
def test_training_that_dies_while_it_writes_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Dies before the k-th file is put in its place."""
    whole = trained(tmp_path / "whole", replace(RECIPE, epochs=2))
    written = 0
    put = Path.replace

    def failing(self: Path, target: Path) -> Path:
        nonlocal written
        written += 1
        if written == number + 1:
            raise KilledError
        return put(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", failing)
        try:
            trained(tmp_path / "broken", replace(RECIPE, epochs=2))
        except KilledError:
            pass
        else:
            assert number >= 9
    assert trained(tmp_path / "broken", replace(RECIPE, epochs=2)) == whole
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    assert not [path for path in (tmp_path / "broken").iterdir() if path.suffix == ".part"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = trained(tmp_path)
    seen: list[Progress] = []
    before = files(tmp_path)
    assert trained(tmp_path, on_progress=seen.append) == first
    assert not seen
    assert files(tmp_path) == before


def test_progress_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        trained(tmp_path, on_progress=dying(3))
    seen: list[Progress] = []
    trained(tmp_path, on_progress=seen.append)
    assert [progress.epoch for progress in seen if progress.step == progress.steps] == [3, 4]
    assert seen[-1].left == pytest.approx(0, abs=1e-6)


NURSERY = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import lightning_fabric, torch
from test_state import RECIPE, trained

torch.set_num_threads(1)
trained(Path(sys.argv[2]), RECIPE)  # imports what is imported late, once and not in every child
for line in sys.stdin:
    folder, at = line.split()
    child = os.fork()
    if child == 0:
        def told(progress):
            if progress.epoch == int(at) and progress.step == progress.steps:
                os.kill(os.getpid(), signal.SIGKILL)
        trained(Path(folder), RECIPE, on_progress=told)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Trains the same again and again without importing everything again: a folder and the epoch to die in on each line in,
the exit status out.
"""


def test_kill_minus_nine_in_any_epoch_changes_no_bit(tmp_path: Path) -> None:
    lines = [(tmp_path / f"once{epoch}", epoch) for epoch in range(1, 5)]  # killed in one epoch
    lines += [(tmp_path / "often", epoch) for epoch in (1, 1, 2, 3, 4)]  # and in each in turn
    lines += [(folder, 0) for folder in dict.fromkeys(folder for folder, _ in lines)]
    words = [sys.executable, "-c", NURSERY, str(Path(__file__).parent), str(tmp_path / "whole")]
    given = "".join(f"{folder} {epoch}\n" for folder, epoch in lines)
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=True, timeout=300)
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses == [-signal.SIGKILL if epoch else 0 for _, epoch in lines]
    wanted = files(tmp_path / "whole")
    assert all(files(folder) == wanted for folder, _ in lines)


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_last_and_best_are_checkpoints_with_a_card(tmp_path: Path) -> None:
    last = trained(tmp_path)
    assert fingerprint(load_checkpoint(tmp_path / state.LAST)) == last
    for name in (state.LAST, state.BEST):
        card = load_checkpoint(tmp_path / name).card
        assert card is not None
        assert (card.network, card.recipe) == ("cnn4", RECIPE.told())
        assert len(card.mean) == 1


PERCEPTRON: dict[str, Any] = {"network": "mlp", "settings": {"width": 16}}


def scores(folder: Path) -> list[float]:
    with (folder / state.EPOCHS).open() as table:
        rows = list(csv.DictReader(table))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    return [float(row["validation"]) for row in rows]


def share(folder: Path, name: str, held_out: ImageSet) -> float:
    with torch.no_grad():
        right = load_checkpoint(folder / name)(held_out.images()).argmax(1) == torch.tensor(held_out.labels)
    return float(right.float().mean())


def test_the_best_epoch_is_the_one_with_the_highest_accuracy_on_the_validation_images(tmp_path: Path) -> None:
    training, held_out = parts(images(120), [80, 40])
    recipe = replace(RECIPE, epochs=6, lr=0.5, schedule="constant")  # so steep that accuracy jumps up and down
    trained(tmp_path, recipe, data=training, validation=held_out, **PERCEPTRON)
    told = scores(tmp_path)
    assert len(set(told)) > 1
    assert share(tmp_path, state.BEST, held_out) == pytest.approx(max(told))
    assert share(tmp_path, state.LAST, held_out) == pytest.approx(told[-1])


@pytest.mark.parametrize(
    ("scores", "best"), [([], None), ([0.5], 1), ([0.5, 0.7, 0.6], 2), ([0.5, 0.7, 0.7], 2), ([0.1, 0.2, 0.3], 3)]
)
@pytest.mark.parametrize("validated", [True, False])
def test_of_equally_good_epochs_the_first_is_the_best(scores: list[float], best: int | None, validated: bool) -> None:
    epochs = tuple(
        Epoch(number + 1, 1.0, 1 - score if validated else score, score if validated else None, 0.0)
        for number, score in enumerate(scores)
    )
    found = State(Card("mlp", {}, (1, 1, 1), ("a", "b")), "", epochs, {}, {}).best
    assert (None if found is None else found.epoch) == best


def test_a_robust_recipe_is_validated_under_attack(tmp_path: Path) -> None:
    training, held_out = parts(images(120), [80, 40])
    recipe = replace(RECIPE, objective="adversarial", eps=0.1, attack_steps=2)
    trained(tmp_path, recipe, data=training, validation=held_out, **PERCEPTRON)
    assert 0 <= scores(tmp_path)[-1] < share(tmp_path, state.LAST, held_out)


def test_validation_changes_no_weight(tmp_path: Path) -> None:
    training, held_out = parts(images(120), [80, 40])
    seen: list[Progress] = []
    assert trained(tmp_path, data=training, validation=held_out, on_progress=seen.append) == trained(
        None, data=training
    )
    assert [progress.validation is None for progress in seen if progress.epoch == 1] == [True] * sum(
        progress.epoch == 1 for progress in seen
    )
    assert isinstance(seen[-1].validation, float)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": replace(RECIPE, lr=0.04)}, "lr 0.05, not 0.04"),
        ({"recipe": replace(RECIPE, epochs=5)}, "epochs 4, not 5"),
        ({"recipe": replace(RECIPE, seed=1)}, "seed 0, not 1"),
        ({"settings": {"width": 3, "features": 8}}, "width 2, not 3"),
        ({"data": images(60)}, "images '1x8x8 some"),
        ({"validation": images(seed=5, name="others")}, "validation images"),
    ],
)
def test_a_folder_of_another_training_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    trained(tmp_path)
    before = files(tmp_path)
    with pytest.raises(OtherPlanError, match=said):
        trained(tmp_path, changed.pop("recipe", RECIPE), **changed)
    assert files(tmp_path) == before


def test_a_folder_of_another_network_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(OtherPlanError, match="network 'cnn4', not 'mlp'"):
        train("mlp", images(), RECIPE, settings={"width": 8}, out=tmp_path, device="cpu")


def test_checkpoints_of_unknown_origin_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / state.BEST).write_bytes(b"precious")
    with pytest.raises(OtherPlanError, match=r"best\.safetensors, but no training"):
        trained(tmp_path)
    assert (tmp_path / state.BEST).read_bytes() == b"precious"


def harm_bytes(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def harm_metadata(file: Path, **entries: object) -> None:
    with safe_open(file, framework="pt") as opened:
        told = json.loads(opened.metadata()["atodds-training"])
    save_file(load_file(file), file, {"atodds-training": json.dumps(told | entries)})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (harm_bytes, "damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "not a safetensors file"),
        (lambda file: save_file(load_file(file), file, {"atodds-training": "[]"}), "not the state of a training"),
        (lambda file: save_file(load_file(file), file), "not the state of a training"),
        (lambda file: harm_metadata(file, epochs=[{"epoch": 1}]), "not the state of a training"),
        (lambda file: harm_metadata(file, format=99), "newer atodds"),
    ],
)
def test_a_state_that_cannot_be_trusted_is_refused(tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    trained(tmp_path)
    harm(tmp_path / state.STATE)
    with pytest.raises(ModelError, match=said):
        trained(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    seen: list[Progress] = []
    with pytest.raises(AtoddsError, match="cannot be written"):
        trained(tmp_path / "file" / "folder", on_progress=seen.append)
    assert not seen


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        (images(8), "8 of its images are trained on"),
        (images(8, name="others").take([0, 1, 2]), None),
        (ImageSet.from_arrays(np.zeros((4, 1, 9, 9), np.uint8), [0, 1, 2, 3]), "1x9x9, beside 1x8x8"),
        (ImageSet.from_arrays(np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, 2]), "other classes"),
    ],
)
def test_validation_images_that_tell_nothing_are_refused(validation: ImageSet, said: str | None) -> None:
    if said is None:
        trained(None, replace(RECIPE, epochs=1), validation=validation)
        return
    with pytest.raises(ArgumentError, match=said):
        trained(None, validation=validation)
