"""Cheaper adversarial training: who is skipped, what stands still, and what it costs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from atodds import data
from atodds.threat import Threat
from atodds.training import Recipe, train
from atodds.training.inner import Inner
from atodds.training.loop import Progress
from atodds.training.objectives import OBJECTIVES, Batch, Lowered
from atodds.training.thrift import LOOK, REST, Frozen, Weak, first_step

DIGITS = data.load("digits", split="train").limit(200)
ADVERSARIAL = OBJECTIVES["adversarial"].follow


def linear() -> nn.Module:
    """Two logits, w·x and -w·x, with w from -1 to 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    with torch.no_grad():
        weight = torch.linspace(-1, 1, 16)
        model.get_parameter("1.weight").copy_(torch.stack([weight, -weight]))
    return model


def batch(inner: Inner, count: int = 10) -> Batch:
    images = 0.3 + 0.4 * torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(count) % 2, torch.arange(count), 0, inner=inner)


def lowered(inner: Inner) -> Lowered:
    return next(iter(ADVERSARIAL(linear(), [batch(inner)])))


def test_those_that_can_reach_the_smallest_loss_are_left_alone() -> None:
    inner = Inner(Threat("linf", 0.05), 5, 0.02)
    whole = lowered(inner)
    found = lowered(replace(inner, skip=0.4))
    assert len(found.batch.labels) == 6
    losses = nn.functional.cross_entropy(whole.logits, whole.batch.labels, reduction="none")
    assert set(found.batch.ids.tolist()) == set(losses.topk(6).indices.tolist())
    rows = found.batch.ids
    torch.testing.assert_close(found.logits, whole.logits[rows])


def test_to_first_order_the_reach_is_the_loss_at_the_corner_of_the_ball() -> None:
    model, inner = linear(), Inner(Threat("linf", 1e-4), 1, 1e-4)
    given = batch(inner)
    start = given.images.clone()
    points, reach = first_step(model, start.clone(), given.images, given.labels, inner)
    exact = nn.functional.cross_entropy(model(points), given.labels, reduction="none")
    torch.testing.assert_close(reach, exact.detach(), rtol=0, atol=1e-6)


def test_the_quantile_runs_and_a_batch_keeps_two() -> None:
    weak = Weak(0.5)
    assert len(weak.strong(torch.arange(10.0))) == 5
    assert weak.strong(torch.zeros(10)).tolist() == [0, 1]
    assert float(weak.level or 0) == pytest.approx(0.9 * 4.5)
    assert len(weak.strong(torch.arange(10.0) + 100)) == 10


def test_passes_are_counted() -> None:
    inner = Inner(Threat("linf", 0.05), 5, 0.02)
    assert lowered(inner).passes == 10 * 6
    assert lowered(replace(inner, skip=0.4)).passes == 10 + 6 * 5
    counted: list[Progress] = []
    recipe = Recipe(objective="adversarial", eps=0.1, attack_steps=3, epochs=1, batch_size=50)
    train("linear", DIGITS, recipe, device="cpu", on_progress=counted.append)
    assert counted[-1].passes == 200 * 4
    train("linear", DIGITS, replace(recipe, skip=0.5), device="cpu", on_progress=counted.append)
    assert 200 + 3 * 60 < counted[-1].passes < 200 + 3 * 140


class _Given(nn.Module):
    """Two layers whose gradients a test gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(20, 20, bias=False) for _ in range(3))


def _gradient(signal: float, step: int, layer: int) -> Tensor:
    generator = torch.Generator().manual_seed(10 * step + layer)
    return signal + torch.randn(20, 20, generator=generator)


@pytest.mark.parametrize(
    ("signals", "still"),
    [((0, 0, 0), (True, True)), ((0, 5, 0), (True, False)), ((5, 0, 0), (False, False))],
    ids=["all noise", "first is noise", "second is noise"],
)
def test_layers_stand_still_where_they_and_all_before_them_are_noise(
    signals: tuple[float, float, float], still: tuple[bool, bool]
) -> None:
    model = _Given()
    layers = Frozen(model, level=2.0)
    for step in range(LOOK):
        for place, layer in enumerate((model.first, model.second, model.last)):
            layer.weight.grad = _gradient(signals[place], step, place)
        layers.look()
    assert tuple(not layer.weight.requires_grad for layer in (model.first, model.second)) == still
    assert model.last.weight.requires_grad
    for _ in range(REST):
        layers.look()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_signal_of_noise_alone_is_about_1() -> None:
    model = _Given()
    layers = Frozen(model, level=0.5)
    for step in range(LOOK):
        for place, layer in enumerate((model.first, model.second, model.last)):
            layer.weight.grad = _gradient(0, step, place)
        layers.look()
    noise = [layer.signal(LOOK) for layer in layers.layers]
    assert noise == pytest.approx([1, 1, 1], abs=0.3)


def test_all_layers_learn_again_when_the_pass_ends_also_by_an_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2))
    given = batch(Inner(Threat("linf", 0.05), 2, 0.02, freeze=1e9))
    images = torch.rand(LOOK + 4, 10, 1, 4, 4, generator=torch.Generator().manual_seed(2))

    def follow(count: int) -> None:
        for step, found in enumerate(ADVERSARIAL(model, [replace(given, images=part) for part in images])):
            model.zero_grad()
            found.loss.backward()
            if step == LOOK:
                assert not model.get_parameter("1.weight").requires_grad
                assert model.get_parameter("3.weight").requires_grad
            if step == count:
                raise KeyError

    follow(LOOK + 100)
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(KeyError):
        follow(LOOK + 2)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_thrifty_training_is_a_function_of_seed_and_images_alone() -> None:
    recipe = Recipe(objective="adversarial", eps=0.1, attack_steps=2, epochs=1, batch_size=20, skip=0.3, freeze=2.0)
    first, again = (train("mlp", DIGITS, recipe, settings={"width": 8}, device="cpu") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    other = train("mlp", DIGITS, replace(recipe, skip=0.0, freeze=0.0), settings={"width": 8}, device="cpu")
    assert not torch.equal(next(other.parameters()), next(first.parameters()))
