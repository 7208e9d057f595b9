"""Gradients in the image: the closed form of linear networks, alignment, and how they are shown."""

import doctest

import numpy as np
import pytest
import torch
from torch import nn

from atodds import data
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError
from atodds.explain import gradients
from atodds.explain.gradients import aligned, alignment, difference, loss_gradients, mean, object_masks, pictures
from atodds.models import build

DIGITS = data.load("digits", limit=40)


def test_the_examples_in_the_documentation_run() -> None:
    assert doctest.testmod(gradients).failed == 0


def test_the_gradient_of_a_linear_network_is_known() -> None:
    model = build("linear", DIGITS.shape, 10, seed=1)
    images, labels = DIGITS.images(), torch.tensor(DIGITS.labels)
    found = loss_gradients(model, images, labels)
    (weight,) = (p for name, p in model.named_parameters() if name.endswith("weight"))
    said = model(images).softmax(1) - nn.functional.one_hot(labels, 10)
    torch.testing.assert_close(found.flatten(1), (said @ weight).detach())


def test_a_gradient_along_the_image_is_aligned_and_noise_is_not() -> None:
    images = DIGITS.images()
    along, against = aligned(images * 3 + 2, images), aligned(-images, images)
    assert along.correlations == pytest.approx(1)
    assert against.correlations == pytest.approx(1)
    drawn = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    assert aligned(drawn, images).correlation.high < 0.2


def test_the_correlation_is_that_of_numpy() -> None:
    images = DIGITS.images()
    drawn = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) - images
    found = aligned(drawn, images).correlations
    exact = [abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) for a, b in zip(drawn, images, strict=True)]
    assert found == pytest.approx(exact, abs=1e-6)


def test_the_share_on_the_object_is_one_on_ink_and_the_area_for_a_gradient_that_knows_nothing() -> None:
    images = DIGITS.images()
    masks = object_masks(images)
    assert masks is not None
    inside, level = aligned(masks[:, None].float(), images), aligned(torch.ones_like(images), images)
    assert inside.shares == pytest.approx(1)
    assert level.shares == pytest.approx(level.areas)
    nothing = aligned(torch.zeros_like(images), images)
    assert nothing.shares == pytest.approx(nothing.areas)
    assert not nothing.correlations.any()


def test_alignment_does_not_depend_on_the_size_of_gradients() -> None:
    images = DIGITS.images()
    drawn = (torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) - images).double()
    large, small = aligned(drawn, images), aligned(drawn * 1e-30, images)
    assert small.correlations == pytest.approx(large.correlations)
    assert small.shares == pytest.approx(large.shares)


def test_colour_and_light_grounds_have_no_mask() -> None:
    assert object_masks(torch.rand(2, 3, 4, 4)) is None
    assert object_masks(1 - DIGITS.images()) is None
    colour = ImageSet.from_arrays(torch.rand(4, 3, 5, 5), [0, 1, 0, 1])
    assert alignment(build("linear", (3, 5, 5), 2), colour).share is None


def test_a_difference_is_of_pairs() -> None:
    first = np.linspace(0, 1, 50)
    found = difference(first + 0.1, first)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.clear
    assert not mean(np.array([-1.0, 1.0] * 20)).clear


def test_the_interval_holds_the_true_mean_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    held = sum((found := mean(rng.exponential(size=60))).low <= 1 <= found.high for _ in range(100))
    assert 86 <= held <= 99


def test_grey_gradients_are_white_at_0_blue_above_and_red_below() -> None:
    gradient = torch.tensor([[[[0.0, 2.0], [-2.0, 1.0]]]])
    shown = pictures(gradient)[0]
    assert shown[:, 0, 0].tolist() == [1, 1, 1]
    red, _, blue = shown[:, 0, 1]
    assert blue > red
    red, _, blue = shown[:, 1, 0]
    assert red > blue
    halfway = (1 + shown[:, 0, 1]) / 2
    torch.testing.assert_close(shown[:, 1, 1], halfway)


def test_colour_gradients_are_clipped_at_three_deviations() -> None:
    gradient = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 1e-6
    gradient[0, 0, 0, 0] = 1.0
    shown = pictures(gradient)
    assert (float(shown.min()), float(shown.max())) <= (0.0, 1.0)
    flat = gradient[1].double()
    exact = ((flat - flat.mean()) / (6 * flat.std(correction=0)) + 0.5).clamp(0, 1).float()
    torch.testing.assert_close(shown[1], exact)
    assert shown[0, 0, 0, 0] == 1


def test_gradients_of_other_images_are_refused() -> None:
    with pytest.raises(ArgumentError, match="gradients"):
        aligned(torch.zeros(2, 1, 3, 3), torch.zeros(3, 1, 3, 3))
    with pytest.raises(ArgumentError, match="second"):
        difference(np.zeros(2), np.zeros(3))
