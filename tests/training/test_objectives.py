"""Each objective computes the loss that its paper defines."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds import norms
from atodds.attacks import pgd
from atodds.errors import ArgumentError
from atodds.threat import NORMS, Norm, Threat
from atodds.training.inner import Inner, climb, random_start
from atodds.training.objectives import OBJECTIVES, Batch, Follow, Lowered, free, standard, trades

AGAINST = [name for name, objective in OBJECTIVES.items() if objective.against]


def linear() -> nn.Module:
    """Two logits, w·x and -w·x, with w from -1 to 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    with torch.no_grad():
        weight = torch.linspace(-1, 1, 16)
        model.get_parameter("1.weight").copy_(torch.stack([weight, -weight]))
    return model


def normed() -> nn.Module:
    """A model with batch norm, in training mode."""
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)).train()


def batch(count: int = 6, seed: int = 0, inner: Inner | None = None) -> Batch:
    """Images so far from the borders of the box that no attack here reaches them."""
    images = 0.3 + 0.4 * torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(count) % 2, torch.arange(count), seed, inner=inner)


def within(eps: float = 0.1, steps: int = 10, step_size: float = 0.05, norm: Norm = "linf", beta: float = 6.0) -> Inner:
    return Inner(Threat(norm, eps), steps, step_size, beta)


def first(follow: Follow, model: nn.Module, given: Batch) -> Lowered:
    return next(iter(follow(model, [given])))


def gap(given: Batch, eps: float = 0.1) -> Tensor:
    """(B, 1, 4, 4): the step of length eps in l-inf that lowers the label's logit most."""
    weight = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    return eps * torch.where(given.labels == 0, -1.0, 1.0).view(-1, 1, 1, 1) * weight.sign()


def test_standard_is_cross_entropy_on_the_images() -> None:
    model, given = linear(), batch()
    lowered = first(standard, model, given)
    assert torch.equal(lowered.loss, F.cross_entropy(model(given.images), given.labels))
    assert torch.equal(lowered.logits, model(given.images))
    assert lowered.batch is given


@pytest.mark.parametrize(("name", "steps", "step_size"), [("adversarial", 10, 0.05), ("fast", 1, 0.25)])
def test_adversarial_is_the_worst_case_in_the_ball(name: str, steps: int, step_size: float) -> None:
    """For a linear model the worst case is known: each pixel moves by eps against the label's weight."""
    model, given = linear(), batch(inner=within(steps=steps, step_size=step_size))
    worst = F.cross_entropy(model(given.images + gap(given)), given.labels)
    loss = first(OBJECTIVES[name].follow, model, given).loss
    assert float(loss.detach()) == pytest.approx(float(worst.detach()), rel=1e-4)
    assert loss > first(standard, model, given).loss


def test_trades_is_cross_entropy_plus_the_divergence_at_the_border_of_the_ball() -> None:
    """A linear model's divergence rises from the centre on: from a start near it, each image ends at one of two
    corners.
    """
    model, given = linear(), batch(inner=within(steps=20, step_size=0.02, beta=3.0))
    lowered = first(trades, model, given)
    corners = [model(given.images + sign * gap(given)) for sign in (1, -1)]
    misses = torch.stack([(lowered.logits - corner).abs().amax(1) for corner in corners])
    assert misses.amin(0).max() < 1e-5
    said, moved = (logits.softmax(1).double() for logits in (model(given.images), lowered.logits))
    apart = (said * (said.log() - moved.log())).sum(1).mean()
    wanted = F.cross_entropy(model(given.images), given.labels) + 3.0 * apart
    assert float(lowered.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    without = first(trades, model, replace(given, inner=within(beta=0.0))).loss
    assert torch.allclose(without, first(standard, model, given).loss)


def test_free_training_moves_an_image_by_the_gradient_of_each_loss_and_hands_the_perturbations_on() -> None:
    model, inner = linear(), within(eps=0.1, steps=3, step_size=0.04)
    one, two = batch(inner=inner), batch(seed=1, inner=inner)
    two = replace(two, images=two.images.flip(0)[:5], labels=two.labels[:5], ids=two.ids[:5])
    seen = []
    for lowered in free(model, [one, two]):
        seen.append(lowered)
        lowered.loss.backward()  # the weights stay, so that every image is known
    assert [lowered.batch for lowered in seen] == [one] * 3 + [two] * 3
    for count, lowered in enumerate(seen[:3]):
        wanted = model(one.images + gap(one, 0.04 * count))
        assert torch.allclose(lowered.logits, wanted, atol=1e-5), count
    assert torch.allclose(seen[3].logits, model(two.images + gap(one, 0.1)[:5]), atol=1e-5)


def test_free_training_that_is_not_lowered_says_so() -> None:
    with pytest.raises(ArgumentError, match="backward"):
        list(free(linear(), [batch(inner=within())]))


@pytest.mark.parametrize("norm", NORMS)
def test_the_climb_ends_in_the_ball_as_high_as_pgd_that_takes_every_step(norm: Norm) -> None:
    """On a linear model both reach the worst case, so training is against the attack that the package measures with."""
    model, eps = linear(), {"linf": 0.1, "l2": 0.3, "l1": 1.0}[norm]
    given, inner = batch(), within(eps, 20, eps / 4, norm)

    def height(images: Tensor) -> Tensor:
        return F.cross_entropy(model(images), given.labels, reduction="none").detach()

    def higher(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, given.labels, reduction="sum")

    start = random_start(given.images, given.ids, inner.threat, 5)
    assert norms.distance(start, given.images, norm).max() <= eps * (1 + 1e-6)
    found = climb(model, higher, start, given.images, inner)
    theirs = pgd(
        model, given.images, given.labels, inner.threat, ids=given.ids, seed=5, steps=20, step_size=eps / 4, stop=False
    )
    assert torch.allclose(height(found), height(theirs), rtol=1e-4)
    assert (height(found) > height(given.images)).all()
    assert norms.distance(found, given.images, norm).max() <= eps * (1 + 1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("name", ["adversarial", "fast", "trades"])
def test_an_empty_ball_is_standard_training(name: str) -> None:
    model, given = linear(), batch(inner=within(eps=0.0, steps=2, step_size=0.0))
    loss = first(OBJECTIVES[name].follow, model, given).loss
    assert torch.allclose(loss, first(standard, model, given).loss, atol=1e-5)


@pytest.mark.parametrize(("name", "passes"), [("adversarial", 1), ("fast", 1), ("trades", 2)])
def test_the_attack_leaves_the_model_as_it_was(name: str, passes: int) -> None:
    model, given = normed(), batch(inner=within(steps=3))
    loss = first(OBJECTIVES[name].follow, model, given).loss
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert model.get_buffer("1.num_batches_tracked") == passes  # the attack's own move no running statistics
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["adversarial", "trades"])
def test_random_starts_depend_on_seed_and_id_alone(name: str) -> None:
    model, inner = linear(), within(steps=1, step_size=0.0001)
    follow = OBJECTIVES[name].follow

    def logits(given: Batch) -> Tensor:
        return first(follow, model, given).logits

    given = batch(inner=inner)
    backwards = replace(given, images=given.images.flip(0), labels=given.labels.flip(0), ids=given.ids.flip(0))
    assert torch.allclose(logits(given), logits(backwards).flip(0), atol=1e-6)
    assert not torch.allclose(logits(given), logits(batch(seed=1, inner=inner)), atol=1e-5)


@pytest.mark.parametrize("name", AGAINST)
def test_training_against_nothing_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="inner"):
        first(OBJECTIVES[name].follow, linear(), batch())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_lowered_in_every_norm(name: str, norm: Norm) -> None:
    model, eps = linear(), {"linf": 0.05, "l2": 0.2, "l1": 0.5}[norm]
    given = batch(inner=within(eps, 2, eps, norm, beta=1.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for lowered in OBJECTIVES[name].follow(model, repeated(given, 20)):
        optimizer.zero_grad()
        lowered.loss.backward()
        optimizer.step()
        losses.append(float(lowered.loss.detach()))
    assert losses[-1] < losses[1]  # the first of free training is that of the images themselves


def repeated(given: Batch, times: int) -> Iterator[Batch]:
    return (given for _ in range(times))


def test_a_batch_is_drawn_only_when_the_one_before_it_was_lowered() -> None:
    """So the loop may set what the next batch depends on, such as weights, between the two."""
    drawn: list[int] = []

    def source() -> Iterator[Batch]:
        for number in range(2):
            drawn.append(number)
            yield batch(inner=within(steps=1))

    follows: list[Callable[..., Iterator[Lowered]]] = [objective.follow for objective in OBJECTIVES.values()]
    for follow in follows:
        drawn.clear()
        losses = follow(linear(), source())
        next(losses)
        assert drawn == [0]
