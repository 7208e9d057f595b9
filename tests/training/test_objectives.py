"""Each objective computes the loss that its paper defines."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atodds.errors import ArgumentError
from atodds.threat import Threat
from atodds.training.objectives import OBJECTIVES, Batch, Inner, adversarial, standard


def linear() -> nn.Module:
    """Two logits, w·x and -w·x, with w from -1 to 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    with torch.no_grad():
        weight = torch.linspace(-1, 1, 16)
        model.get_parameter("1.weight").copy_(torch.stack([weight, -weight]))
    return model


def batch(count: int = 6, seed: int = 0) -> Batch:
    """Images so far from the borders of the box that no attack here reaches them."""
    images = 0.3 + 0.4 * torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(count) % 2, torch.arange(count), seed)


def test_standard_is_cross_entropy_on_the_images() -> None:
    model, given = linear(), batch()
    loss, logits = standard(model, given, None)
    assert torch.equal(loss, F.cross_entropy(model(given.images), given.labels))
    assert torch.equal(logits, model(given.images))


def test_adversarial_is_the_worst_case_in_the_ball() -> None:
    """For a linear model the worst case is known: each pixel moves by eps against the label's weight."""
    model, given, eps = linear(), batch(), 0.1
    weight = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    direction = torch.where(given.labels == 0, -1.0, 1.0).view(-1, 1, 1, 1) * weight.sign()
    worst = F.cross_entropy(model(given.images + eps * direction), given.labels)
    loss, _ = adversarial(model, given, Inner(Threat("linf", eps), steps=10, step_size=0.05))
    assert float(loss.detach()) == pytest.approx(float(worst.detach()), rel=1e-4)
    assert loss > standard(model, given, None)[0]


def test_an_empty_ball_is_standard_training() -> None:
    model, given = linear(), batch()
    loss, _ = adversarial(model, given, Inner(Threat("linf", 0), steps=2, step_size=0.0))
    assert torch.allclose(loss, standard(model, given, None)[0], atol=1e-6)


def test_the_attack_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)).train()
    given = batch()
    loss, _ = adversarial(model, given, Inner(Threat("linf", 0.1), steps=3, step_size=0.05))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert model.get_buffer("1.num_batches_tracked") == 1  # the attack's passes move no running statistics
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_random_starts_depend_on_seed_and_id_alone() -> None:
    model, inner = linear(), Inner(Threat("linf", 0.1), steps=1, step_size=0.01)

    def logits(given: Batch) -> torch.Tensor:
        return adversarial(model, given, inner)[1]

    given = batch()
    backwards = Batch(given.images.flip(0), given.labels.flip(0), given.ids.flip(0), given.seed)
    assert torch.allclose(logits(given), logits(backwards).flip(0), atol=1e-6)
    assert not torch.allclose(logits(given), logits(batch(seed=1)), atol=1e-6)


def test_adversarial_training_without_an_attack_is_refused() -> None:
    with pytest.raises(ArgumentError, match="inner"):
        adversarial(linear(), batch(), None)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_lowered(name: str) -> None:
    model, given = linear(), batch()
    inner = Inner(Threat("linf", 0.05), steps=2, step_size=0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        loss, _ = OBJECTIVES[name](model, given, inner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
