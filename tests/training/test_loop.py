"""Training learns, repeats, and says where it is."""

import logging
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from atodds.data import ImageSet
from atodds.errors import ArgumentError, ModelError, UnknownNameError
from atodds.models import fingerprint, load_checkpoint, save
from atodds.training import Progress, Recipe, train
from atodds.training.feed import Feed
from atodds.training.objectives import OBJECTIVES
from atodds.training.progress import bar
from atodds.training.recipe import SCHEDULES, Precision

QUICK = Recipe(epochs=4, batch_size=16, lr=0.05)
SMALL = {"width": 8}


def halves(count: int = 65, *, floats: bool = False) -> ImageSet:
    """Images whose left (class 0) or right (class 1) half is bright."""
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 100, (count, 2, 4, 4))
    labels = np.arange(count) % 2
    pixels[labels == 0, :, :, :2] += 150
    pixels[labels == 1, :, :, 2:] += 150
    given = pixels.astype(np.float32) / 300 if floats else pixels.astype(np.uint8)
    return ImageSet.from_arrays(given, labels, classes=["left", "right"], name="halves", ids=np.arange(count) * 3 + 7)


def accuracy(model: torch.nn.Module, images: ImageSet) -> float:
    with torch.no_grad():
        return float((model(images.images()).argmax(1) == torch.tensor(images.labels)).float().mean())


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learns_what_can_be_learned(schedule: str, floats: bool) -> None:
    images = halves(floats=floats)
    model = train(
        "mlp", images, Recipe(epochs=4, batch_size=16, lr=0.05, schedule=schedule), settings=SMALL, device="cpu"
    )
    assert accuracy(model, images) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_and_precision_learns_and_repeats(objective: str, precision: Precision) -> None:
    images, eps = halves(), 0.05 if OBJECTIVES[objective].against else None
    recipe = Recipe(objective, epochs=4, batch_size=16, lr=0.05, eps=eps, precision=precision, shift=0.1)
    one, two = (train("cnn4", images, recipe, settings={"width": 2, "features": 8}, device="cpu") for _ in range(2))
    assert accuracy(one, images) == 1
    assert fingerprint(one) == fingerprint(two)
    assert {tensor.dtype for tensor in one.state_dict().values()} == {torch.float32}
    assert all(tensor.is_contiguous() for tensor in one.state_dict().values())


def test_bfloat16_rounds_and_augmentation_changes_what_is_seen() -> None:
    usual, rounded, moved = (
        train("mlp", halves(), replace(QUICK, **changed), settings=SMALL, device="cpu")
        for changed in ({}, {"precision": "bfloat16"}, {"shift": 0.25})
    )
    assert len({fingerprint(usual), fingerprint(rounded), fingerprint(moved)}) == 3
    for name, tensor in usual.state_dict().items():
        assert torch.allclose(tensor, rounded.state_dict()[name], atol=0.05), name


def test_what_comes_back_is_ready_to_be_measured_and_says_how_it_was_made() -> None:
    images = halves()
    model = train("cnn4", images, QUICK, settings={"width": 2, "features": 4}, device="cpu")
    assert not any(module.training for module in model.modules())
    assert model.name == "cnn4-halves"
    card = model.card
    assert card is not None
    assert (card.network, card.shape, card.classes) == ("cnn4", (2, 4, 4), ("left", "right"))
    assert card.settings == {"width": 2, "features": 4}
    assert (card.data, card.data_fingerprint) == ("halves", images.fingerprint)
    assert card.recipe == QUICK.told()
    assert card.mean == pytest.approx(images.images().mean((0, 2, 3)).tolist(), abs=1e-6)
    assert card.std == pytest.approx(images.images().std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_the_same_seed_gives_identical_weights_and_another_seed_others(tmp_path: Path) -> None:
    torch.rand(3)
    one = train("resnet8", halves(), QUICK, settings={"width": 2}, device="cpu")
    torch.rand(5)
    two = train("resnet8", halves(), QUICK, settings={"width": 2}, device="cpu")
    assert fingerprint(one) == fingerprint(two)
    assert save(one, tmp_path / "1.safetensors").read_bytes() == save(two, tmp_path / "2.safetensors").read_bytes()
    assert fingerprint(load_checkpoint(tmp_path / "1.safetensors")) == fingerprint(one)
    other = train("resnet8", halves(), Recipe(epochs=4, batch_size=16, lr=0.05, seed=1), settings={"width": 2})
    assert fingerprint(other) != fingerprint(one)


def test_no_global_generator_is_read_or_moved() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    train("mlp", halves(), Recipe(objective="adversarial", eps=0.05, attack_steps=2, epochs=1), settings=SMALL)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_weights_do_not_depend_on_the_place_of_an_image_in_the_set() -> None:
    images = halves()
    backwards = images.take(list(range(len(images)))[::-1])
    one, two = (train("mlp", given, QUICK, settings=SMALL, device="cpu") for given in (images, backwards))
    for name, tensor in one.state_dict().items():
        assert torch.allclose(tensor, two.state_dict()[name], atol=1e-5), name


def test_adversarial_training_buys_robustness() -> None:
    """Eight clean but tiny features against one robust one: only the standard network leans on the tiny ones."""
    draws = np.random.default_rng(0)
    labels = np.arange(400) % 2
    pixels = np.full((400, 1, 4, 4), 0.5, np.float32)
    pixels[:, 0, 0, 0] += np.where(draws.random(400) < 0.9, 1, -1) * (2 * labels - 1) * 0.4
    pixels[:, 0, 1:] += ((2 * labels - 1) * 0.03)[:, None, None]
    images = ImageSet.from_arrays(pixels, labels, classes=["a", "b"], name="odds")
    worst = images.images()
    worst[:, 0, 1:] -= torch.tensor((2 * labels - 1) * 0.06, dtype=torch.float32)[:, None, None]
    against = {"objective": "adversarial", "eps": 0.06, "attack_steps": 3}
    standard = train("mlp", images, Recipe(epochs=10, lr=0.05), settings=SMALL, device="cpu")
    robust = train("mlp", images, Recipe(epochs=10, lr=0.05, **against), settings=SMALL, device="cpu")  # type: ignore[arg-type]
    moved = ImageSet.from_arrays(worst, labels, classes=["a", "b"])
    assert accuracy(standard, images) == 1
    assert accuracy(robust, images) == pytest.approx(0.9, abs=0.05)
    assert accuracy(robust, moved) > accuracy(standard, moved) + 0.3


def test_every_epoch_takes_every_image_once_in_an_order_and_with_random_starts_of_its_own() -> None:
    images = halves(65)
    epochs = [list(Feed.of(images).epoch(QUICK, epoch)) for epoch in (0, 1, 0)]
    orders = [torch.cat([batch.ids for batch in batches]).tolist() for batches in epochs]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == images.ids.tolist() != orders[0]
    seeds = [{batch.seed for batch in batches} for batches in epochs]
    assert len(seeds[0]) == len(seeds[1]) == 1
    assert seeds[0] == seeds[2] != seeds[1]
    for batch in epochs[0]:
        positions = ((batch.ids - 7) // 3).tolist()
        assert torch.equal(batch.images, images.images(positions))
        assert torch.equal(batch.labels, torch.tensor(images.labels[positions]))


def test_every_image_is_seen_once_an_epoch_in_batches_of_one_size() -> None:
    seen: list[Progress] = []
    train("mlp", halves(65), Recipe(epochs=2, batch_size=16), settings=SMALL, device="cpu", on_progress=seen.append)
    assert {progress.steps for progress in seen} == {5}  # 13 each, instead of four of 16 and one of a single image
    ends = [progress for progress in seen if progress.step == progress.steps]
    assert [progress.epoch for progress in ends] == [1, 2]
    assert ends[-1].left == pytest.approx(0, abs=1e-6)
    assert all(0 <= progress.accuracy <= 1 and progress.loss > 0 for progress in seen)
    assert [progress.seconds for progress in seen] == sorted(progress.seconds for progress in seen)


def test_one_image_a_step_and_more_images_a_step_than_there_are_both_work() -> None:
    for size in (1, 1000):
        train("mlp", halves(7), Recipe(epochs=1, batch_size=size), settings=SMALL, device="cpu")


def test_training_that_diverges_stops_and_says_so() -> None:
    with pytest.raises(ModelError, match=r"diverged in epoch \d+ of 50: .*Take a smaller lr than 1e\+10"):
        train("mlp", halves(), Recipe(epochs=50, lr=1e10), settings=SMALL, device="cpu")


@pytest.mark.parametrize(
    ("network", "device", "error", "said"),
    [
        ("mpl", "cpu", UnknownNameError, "Did you mean mlp"),
        ("cnn7", "cpu", ArgumentError, "at least 16x16"),
        ("mlp", "gpu", UnknownNameError, "Known: auto, cpu, cuda, mps"),
    ],
)
def test_what_cannot_be_trained_is_refused_first(network: str, device: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        train(network, halves(), QUICK, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ArgumentError, match="Take 'cpu' or 'auto'"):
        train("mlp", halves(), QUICK, device="cuda")


def test_class_names_that_no_card_could_hold_are_refused_before_training() -> None:
    images = ImageSet.from_arrays(np.zeros((4, 1, 4, 4), np.uint8), [0, 1, 0, 1], classes=["a\nb", "c"])
    with pytest.raises(ModelError, match="classes is not a line of text"):
        train("mlp", images, Recipe(epochs=10**6), settings=SMALL)


def test_a_constant_channel_has_a_std_of_one() -> None:
    pixels = torch.full((5, 2, 3, 3), 51, dtype=torch.uint8)
    pixels[:, 1, 0] = 255
    mean, std = Feed(pixels, torch.zeros(5), torch.arange(5)).statistics()
    assert mean == pytest.approx((0.2, (0.2 * 2 + 1) / 3), abs=1e-6)
    assert std[0] == 1
    assert std[1] == pytest.approx(0.8 * np.sqrt(2 / 9), abs=1e-6)


def test_nothing_is_printed_or_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train("mlp", halves(), QUICK, settings=SMALL)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_bar_shows_where_training_is() -> None:
    screen = StringIO()
    with bar("[red] net", Console(file=screen, force_terminal=True, width=160)) as show:
        show(Progress(3, 4, 5, 10, 0.25, 0.875, 7.0, 3.0, 0.75))
    shown = screen.getvalue()
    assert "[red] net" in shown
    assert "epoch 3/4" in shown
    assert "loss 0.250" in shown
    assert "accuracy 87.5 %" in shown
    assert "validation 75.0 %" in shown
