"""Images that a network makes: in their ball, towards their class, the line between two, and draws of a class."""

import doctest

import numpy as np
import pytest
import torch

from atodds import data
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError
from atodds.explain import synthesis
from atodds.explain.synthesis import class_seeds, generated, noise_seeds, path, towards_classes, towards_loss
from atodds.models import build
from atodds.threat import Threat

DIGITS = data.load("digits", limit=20)
MODEL = build("linear", DIGITS.shape, 10, seed=1)
IMAGES, LABELS = DIGITS.images(), torch.tensor(DIGITS.labels)


def test_the_examples_in_the_documentation_run() -> None:
    assert doctest.testmod(synthesis).failed == 0


@pytest.mark.parametrize("threat", [Threat("linf", 0.3), Threat("l2", 2.0)])
def test_the_loss_rises_within_ball_and_box_and_goes_on_beyond_the_first_mistake(threat: Threat) -> None:
    found = towards_loss(MODEL, IMAGES, LABELS, threat, steps=20)
    gap = (found - IMAGES).flatten(1)
    size = gap.abs().amax(1) if threat.norm == "linf" else gap.norm(dim=1)
    assert float(size.max()) <= threat.eps * (1 + 1e-5)
    assert float(size.min()) > 0.9 * threat.eps  # a linear model's loss is largest on the sphere
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1

    def losses(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(MODEL(images), LABELS, reduction="none")

    assert (losses(found) > losses(IMAGES)).all()


def test_every_class_is_headed_for_its_own_included() -> None:
    found = towards_classes(MODEL, IMAGES, 10, Threat("l2", 3.0), steps=20)
    assert found.shape == (20, 10, *DIGITS.shape)
    before, after = MODEL(IMAGES).softmax(1), MODEL(found.flatten(0, 1)).softmax(1).unflatten(0, (20, 10))
    for target in range(10):
        assert (after[:, target, target] >= before[:, target]).all()


def test_a_path_is_straight_and_tells_what_the_network_says() -> None:
    last = IMAGES.flip(0)
    found = path(MODEL, IMAGES, last, stops=5)
    torch.testing.assert_close(found.images[:, 0], IMAGES)
    torch.testing.assert_close(found.images[:, -1], last)
    torch.testing.assert_close(found.images[:, 2], (IMAGES + last) / 2)
    torch.testing.assert_close(found.probabilities[:, 2], MODEL((IMAGES + last) / 2).softmax(1).detach())


def test_draws_have_the_mean_and_covariance_of_their_class() -> None:
    rng = np.random.default_rng(0)
    pixels = np.clip(0.5 + 0.05 * rng.standard_normal((60, 1, 2, 2)) @ np.array([[1, 0.8], [0, 0.6]]), 0, 1)
    images = ImageSet.from_arrays(torch.from_numpy(pixels).float(), [0, 1] * 30)
    drawn = class_seeds(images, 20_000).flatten(2)
    for label in (0, 1):
        members = pixels[label::2].reshape(30, 4)
        assert drawn[label].mean(0).numpy() == pytest.approx(members.mean(0), abs=0.003)
        assert np.cov(drawn[label].numpy().T) == pytest.approx(np.cov(members.T), abs=2e-4)


def test_images_are_made_for_every_class_from_either_draw() -> None:
    for plain in (False, True):
        made = generated(MODEL, DIGITS, Threat("l2", 4.0), each=3, plain=plain, steps=20)
        seeds = noise_seeds(DIGITS, 3) if plain else class_seeds(DIGITS, 3)
        assert (made.seeds == seeds).all()
        said = MODEL(made.images.flatten(0, 1)).softmax(1).unflatten(0, (10, 3))
        before = MODEL(seeds.flatten(0, 1)).softmax(1).unflatten(0, (10, 3))
        for label in range(10):
            torch.testing.assert_close(made.confidence[label], said[label, :, label].detach())
            assert (made.confidence[label] > before[label, :, label]).all()


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no path"):
        path(MODEL, IMAGES, IMAGES, stops=1)
    with pytest.raises(ArgumentError, match="an end for each"):
        path(MODEL, IMAGES, IMAGES[:2])
    with pytest.raises(ArgumentError, match="no image of class"):
        class_seeds(DIGITS.take([0]), 2)
    with pytest.raises(ArgumentError, match="each"):
        noise_seeds(DIGITS, 0)
    with pytest.raises(ArgumentError, match="classes"):
        towards_classes(MODEL, IMAGES, 1, Threat("l2", 1.0))
