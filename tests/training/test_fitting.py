"""A step of the optimizer is that of stochastic gradient descent, however weights lie in memory."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from atodds.data import ImageSet
from atodds.models import Classifier, build
from atodds.training.device import fabric
from atodds.training.feed import Feed
from atodds.training.fitting import Fitting
from atodds.training.recipe import SCHEDULES, Recipe


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("mlp", {"width": 8}), ("cnn4", {"width": 2, "features": 8}), ("resnet8", {"width": 2}),
        ("mobilenet", {"width": 8}), ("densenet10", {}),
    ],
)  # fmt: skip
def test_steps_are_those_of_nesterov_momentum_written_out(
    network: str, settings: Mapping[str, int], channels: int
) -> None:
    draws = np.random.default_rng(1)
    pixels = draws.integers(0, 256, (24, channels, 32, 32), dtype=np.uint8)
    images = ImageSet.from_arrays(pixels, np.arange(24) % 3, name="random")
    recipe = Recipe(epochs=2, batch_size=8, lr=0.001, momentum=0.8, weight_decay=0.01)
    model = Classifier(build(network, images.shape, 3, settings=settings), mean=0.5, std=0.25).double()
    plain = copy.deepcopy(model).train()
    fitting, feed = Fitting.of(model, recipe, fabric("cpu", "float32")), Feed.of(images)
    fitting = replace(fitting, model=model.train())  # without rounding the logits to float32
    feed = Feed(feed.pixels.double() / 255, feed.labels, feed.ids)
    held = {name: torch.zeros_like(weight) for name, weight in plain.named_parameters()}
    for epoch in range(2):
        for lowered in fitting.epoch(feed, epoch):
            batch = lowered.batch
            loss = F.cross_entropy(plain(batch.images), batch.labels)
            slopes = torch.autograd.grad(loss, list(plain.parameters()))
            rate = recipe.lr * SCHEDULES[recipe.schedule](batch.done)
            with torch.no_grad():
                for (name, weight), slope in zip(plain.named_parameters(), slopes, strict=True):
                    full = slope + 0.01 * weight
                    held[name] = 0.8 * held[name] + full
                    weight.sub_(rate * (full + 0.8 * held[name]))
    for (name, weight), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(weight, other, rtol=1e-6, atol=1e-9), name
