"""Augmentation moves images as it says, each by itself."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from atodds.data.augment import Augmentation, augment
from atodds.errors import ArgumentError

MANY = 400
IDS = torch.arange(MANY) * 3 + 1


def batch(count: int = MANY, height: int = 8, width: int = 12) -> Tensor:
    """Images in which every pixel has a value of its own."""
    one = torch.arange(height * width, dtype=torch.uint8).view(1, 1, height, width)
    return torch.cat([one, 255 - one], 1).expand(count, 2, height, width).contiguous()


def moved(how: Augmentation, images: Tensor | None = None, seed: int = 0, epoch: int = 0) -> Tensor:
    given = batch() if images is None else images
    return augment(given, IDS[: len(given)], how, seed=seed, epoch=epoch)


def test_nothing_is_done_where_nothing_is_asked() -> None:
    images = batch()
    assert moved(Augmentation(), images) is images
    assert not Augmentation()
    assert Augmentation(flip=True)


def test_a_flip_mirrors_every_second_image_by_chance() -> None:
    images = batch()
    seen = moved(Augmentation(flip=True), images)
    mirrored = (seen == images.flip(3)).flatten(1).all(1)
    still = (seen == images).flatten(1).all(1)
    assert torch.equal(mirrored, ~still)
    assert 160 < int(mirrored.sum()) < 240  # four standard deviations


def test_a_shift_moves_by_whole_pixels_and_repeats_the_border() -> None:
    images = batch(height=8, width=12)
    seen = moved(Augmentation(shift=0.25), images)
    wanted: dict[tuple[int, int], Tensor] = {}
    for down in range(-2, 3):
        for right in range(-3, 4):
            rows = [min(max(row + down, 0), 7) for row in range(8)]
            columns = [min(max(column + right, 0), 11) for column in range(12)]
            wanted[down, right] = images[0][:, rows][:, :, columns]
    found = [next(by for by, image in wanted.items() if torch.equal(image, one)) for one in seen]
    assert set(found) == set(wanted)
    counts = [found.count(by) for by in wanted]
    assert max(counts) < MANY / len(wanted) + 5 * math.sqrt(MANY / len(wanted))


def test_a_rotation_of_a_disc_leaves_it_and_a_gradient_turns_by_its_angle() -> None:
    side = 41
    line = torch.linspace(-1, 1, side)
    down, right = torch.meshgrid(line, line, indexing="ij")
    ramp = (0.5 + 0.25 * right).expand(50, 1, side, side)
    seen = moved(Augmentation(rotation=30), ramp)
    centre = slice(12, 29)
    slopes = torch.stack([seen[:, 0, centre, centre].diff(dim=axis).mean((1, 2)) for axis in (1, 2)], 1)
    angles = torch.rad2deg(torch.atan2(slopes[:, 0], slopes[:, 1]))
    assert angles.abs().max() <= 30 + 0.1
    assert angles.min() < -20
    assert angles.max() > 20
    assert torch.allclose(slopes.norm(dim=1), torch.tensor(0.25 * 2 / (side - 1)), rtol=1e-3)
    disc = torch.exp(-8 * (down**2 + right**2)).expand(50, 1, side, side)
    assert torch.allclose(moved(Augmentation(rotation=30), disc), disc, atol=0.01)


def test_a_rotation_keeps_angles_where_images_are_not_square() -> None:
    down, right = torch.meshgrid(torch.arange(31.0) - 15, torch.arange(61.0) - 30, indexing="ij")
    disc = torch.exp(-(down**2 + right**2) / 30).expand(50, 1, 31, 61)
    curvature = 2 / 30  # at the centre, along each axis: between pixels a bilinear value is off by an eighth of each
    assert torch.allclose(moved(Augmentation(rotation=45), disc), disc, atol=2 * curvature / 8 + 1e-3)


@pytest.mark.parametrize("how", [Augmentation(shift=0.2, flip=True), Augmentation(0.2, True, 15)], ids=str)
@pytest.mark.parametrize("floats", [False, True])
def test_draws_depend_on_seed_id_and_epoch_alone(how: Augmentation, floats: bool) -> None:
    images = torch.randint(0, 256, (30, 3, 9, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images = images.float() / 255 if floats else images
    seen = moved(how, images)
    assert seen.dtype == images.dtype
    assert seen.shape == images.shape
    order = torch.arange(29, -1, -1)
    assert torch.equal(augment(images[order], IDS[:30][order], how, seed=0, epoch=0)[order], seen)
    assert torch.equal(augment(images[4:9], IDS[4:9], how, seed=0, epoch=0), seen[4:9])
    assert torch.equal(moved(how, images), seen)
    assert not torch.equal(moved(how, images, seed=1), seen)
    assert not torch.equal(moved(how, images, epoch=1), seen)


def test_images_themselves_are_not_written_to() -> None:
    images = batch()
    moved(Augmentation(0.2, True, 15), images)
    assert torch.equal(images, batch())


@pytest.mark.parametrize(
    "settings", [{"shift": -0.1}, {"shift": 2}, {"shift": True}, {"flip": 1}, {"rotation": 200}, {"rotation": "15"}]
)
def test_what_means_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(settings))):
        Augmentation(**settings)
