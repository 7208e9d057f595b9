"""A model that resizes is the same function of the image on every device, and gradients pass through."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds.models import Classifier, Usage, fingerprint
from atodds.models.resizing import Resizing

IMAGES = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(4))


class Same(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.parametrize(("height", "width"), [(6, 5), (24, 30), (5, 17), (12, 10), (12, 4)])
def test_it_is_the_bilinear_resize_with_anti_aliasing(height: int, width: int) -> None:
    expected = F.interpolate(IMAGES, (height, width), mode="bilinear", antialias=True)
    assert torch.allclose(Resizing(Same(), height, width)(IMAGES), expected, atol=1e-6)


def test_an_image_of_one_colour_keeps_it() -> None:
    assert torch.allclose(Resizing(Same(), 7, 31)(torch.full((1, 3, 13, 11), 0.3)), torch.tensor(0.3), atol=1e-6)


def test_images_of_the_right_size_are_left_as_they_are() -> None:
    assert torch.equal(Resizing(Same(), 12, 10)(IMAGES), IMAGES)


def test_gradients_reach_every_pixel_of_the_image() -> None:
    leaf = IMAGES.clone().double().requires_grad_(True)
    resized = Resizing(Same(), 5, 4)(leaf)
    assert resized.dtype == torch.float64
    resized.sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad > 0).all()
    # Each of the 20 new pixels is a mean of old ones, with weights that sum to 1.
    assert leaf.grad.sum().item() == pytest.approx(2 * 3 * 20)


def test_a_model_that_resizes_is_another_model() -> None:
    network = nn.Flatten()
    marks = {fingerprint(Resizing(network, 8, side)) for side in (8, 9)} | {fingerprint(network)}
    assert len(marks) == 3


def test_normalisation_and_resize_may_be_exchanged() -> None:
    usage = Usage("timm 1.0", "tiny", (3, 6, 6), 2, resized=True)
    model = Classifier(Resizing(nn.Flatten(), 6, 6), mean=0.4, std=0.2, usage=usage)
    resized = F.interpolate(IMAGES, (6, 6), mode="bilinear", antialias=True)
    assert torch.allclose(model(IMAGES), ((resized - 0.4) / 0.2).flatten(1), atol=1e-5)
