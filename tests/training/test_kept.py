"""Networks that are trained once, and go on where they were killed."""

from dataclasses import replace
from pathlib import Path

import pytest

from atodds import data
from atodds.models import Classifier, fingerprint
from atodds.training import Entry, Progress, Recipe, kept, state

IMAGES = data.load("digits", split="train", limit=60)
ENTRY = Entry("net-0.5", "mlp", {"width": 8}, Recipe(epochs=4, batch_size=20, lr=0.05))


class KilledError(Exception):
    """Stands for the death of a process."""


def epochs(folder: Path, entry: Entry = ENTRY, die: int = 0) -> tuple[str, list[int]]:
    """The fingerprint of what comes out, and the epochs that were trained for it."""
    seen: list[int] = []

    def told(progress: Progress) -> None:
        if progress.step == progress.steps:
            seen.append(progress.epoch)
            if progress.epoch == die:
                raise KilledError

    return fingerprint(kept.made(entry, IMAGES, folder, on_progress=told)), seen


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every epoch, however short."""
    monkeypatch.setattr(kept, "_EVERY", 0.0)


@pytest.mark.usefixtures("often")
def test_a_training_that_was_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, seen = epochs(tmp_path / "whole")
    assert seen == [1, 2, 3, 4]
    with pytest.raises(KilledError):
        epochs(tmp_path / "broken", die=3)
    assert epochs(tmp_path / "broken") == (whole, [3, 4])
    assert epochs(tmp_path / "broken") == (whole, [])
    for folder in ("whole", "broken"):
        assert [file.name for file in (tmp_path / folder).iterdir()] == ["net-0.5.safetensors"]


@pytest.mark.usefixtures("often")
def test_what_another_recipe_began_is_not_gone_on_with(tmp_path: Path) -> None:
    other = replace(ENTRY, recipe=replace(ENTRY.recipe, lr=0.1))
    with pytest.raises(KilledError):
        epochs(tmp_path, other, die=3)
    assert epochs(tmp_path)[1] == [1, 2, 3, 4]


def test_short_trainings_are_not_held_up_by_keeping_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []
    keep = state.keep

    def noted(folder: Path, classifier: Classifier, now: state.State) -> None:
        times.append(len(now.epochs))
        keep(folder, classifier, now)

    monkeypatch.setattr(state, "keep", noted)
    epochs(tmp_path)
    assert times == [0, 4]
