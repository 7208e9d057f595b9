"""What answers for a model says what the model says; where it does not, the model answers for itself."""

from typing import Any

import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, fx, nn
from torch.nn import functional

import atodds
from atodds import data, folding
from atodds.attacks import ensemble
from atodds.attacks.pool import opened
from atodds.models.classifier import Classifier
from atodds.oracle import Oracle
from atodds.threat import Norm, Threat

EVERY = 500


class Network(nn.Module):
    """A small network with a norm, and one way in which a traced copy would say something else."""

    def __init__(self, way: str = "", dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.first, self.norm, self.last = nn.Conv2d(1, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.Linear(96, 10)
        self.way, self.scale, self.shift = way, 1.0, 0.0
        self.to(dtype).eval()

    def forward(self, images: Tensor) -> Tensor:
        x = images - 0.5
        if self.way == "gradient of its own":
            x = _Through.apply(x)  # type: ignore[no-untyped-call]
        if self.way == "no gradient":
            with torch.no_grad():
                x = x * 1
        if self.way == "draws":
            x = x + 0.1 * torch.rand_like(x)
        x = functional.relu(self.norm(self.first(x)))
        if self.way == "another name":
            y = x = x * 1
            y += 1  # x too
        logits: Tensor = self.last(x.flatten(1)) * self.scale + self.shift
        return logits


class _Through(torch.autograd.Function):
    """Nearly the identity; its gradient is another one than that of what it does."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:  # noqa: ARG004
        return torch.round(images * 4) / 4

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Tensor:  # noqa: ARG004
        return slopes


def drawn(count: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels, ids."""
    draw = torch.Generator().manual_seed(2)
    images = torch.rand(count, 1, 8, 8, generator=draw, dtype=torch.float64)
    return images, torch.randint(0, 10, (count,), generator=draw), torch.arange(count) * 3


def lead(logits: Tensor, _: Tensor) -> Tensor:
    return logits[:, 0] - logits[:, 1]


@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_folded_oracle_says_what_the_model_says(batch_size: int | None) -> None:
    images, _, ids = drawn()
    plain, folded = Oracle(Network(), batch_size=batch_size), Oracle(Network(), batch_size=batch_size, folded=True)
    for _ in range(3):
        torch.testing.assert_close(folded.logits(images, ids), plain.logits(images, ids), rtol=1e-10, atol=1e-12)
        found, expected = (each.gradients(images, lead, ids) for each in (folded, plain))
        torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-10, atol=1e-12)
    assert folded.folded
    assert not plain.folded
    assert torch.equal(folded.logits(images, ids, exact=True), plain.logits(images, ids))


def test_passes_are_counted_as_without_a_form() -> None:
    images, _, ids = drawn()
    counts = []
    for folded in (False, True):
        told: list[tuple[int, int]] = []
        oracle = Oracle(Network(), folded=folded, on_passes=lambda *passes, told=told: told.append(passes))
        oracle.logits(images, ids)
        oracle.gradients(images[:5], lead, ids[:5])
        counts.append((told, [each.tolist() for each in oracle.passes().of(ids)]))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("way", ["gradient of its own", "no gradient", "draws", "another name"])
def test_what_a_traced_copy_does_not_know_keeps_the_form_away(way: str) -> None:
    images, _, ids = drawn()
    model = Network(way)
    oracle = Oracle(model, folded=True)
    torch.manual_seed(0)
    found = oracle.gradients(images, lead, ids)
    assert not oracle.folded
    assert oracle.answering(images) is model
    if way == "no gradient":
        assert not found.gradient.any()
    if way == "gradient of its own":
        assert found.gradient.flatten(1).any(1).all()  # that of what it does is 0


def test_random_models_reduced_precision_and_flat_images_have_no_form() -> None:
    images, _, ids = drawn()
    assert Oracle(Network(), folded=True).answering(images) is not None
    for oracle in (Oracle(Network(), folded=True, eot=2), Oracle(Network(), folded=True, precision="bfloat16")):
        oracle.logits(images, ids)
        assert not oracle.folded
    flat = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    oracle = Oracle(flat, folded=True)
    assert oracle.answering(torch.rand(3, 4, dtype=torch.float64)) is flat


def test_weights_that_change_are_folded_again() -> None:
    images, _, ids = drawn()
    model = Network()
    oracle = Oracle(model, folded=True)
    oracle.logits(images, ids)
    with torch.no_grad():
        model.first.weight.mul_(2)
        model.norm.running_mean.add_(0.1)  # type: ignore[union-attr]
    torch.testing.assert_close(oracle.logits(images, ids), model(images), rtol=1e-10, atol=1e-12)
    assert oracle.folded
    model.last.weight = nn.Parameter(model.last.weight.detach() * 3)
    torch.testing.assert_close(oracle.logits(images, ids), model(images), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("changed", [{"scale": 2.0}, {"shift": 1.0}])
def test_a_form_is_held_against_the_model_again_and_again(changed: dict[str, float]) -> None:
    images, _, ids = drawn()
    model = Network()
    oracle = Oracle(model, folded=True)
    with oracle.running():
        oracle.logits(images, ids)
        vars(model).update(changed)  # nothing that the weights would tell of
        for _ in range(EVERY - 1):
            oracle.logits(images[:1], ids[:1])
        assert oracle.folded
        torch.testing.assert_close(oracle.logits(images, ids), model(images), rtol=1e-10, atol=1e-12)
        assert not oracle.folded


def test_images_of_another_size_have_a_form_of_their_own() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    oracle = Oracle(Classifier(model.double().eval(), mean=0.3, std=0.2), folded=True)
    for size in (8, 5, 8):
        images = torch.rand(3, 1, size, size, dtype=torch.float64)
        with torch.no_grad():
            expected = oracle.model(images)
        torch.testing.assert_close(oracle.logits(images, torch.arange(3)), expected, rtol=1e-10, atol=1e-12)
    assert oracle.folded


def test_a_lead_that_rounding_explains_is_shown_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that puts class 1 a hair's breadth above class 0, where the model has them the other way round."""

    class Even(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            total = images.sum((1, 2, 3))
            return torch.stack([total + 1e-3, total, total - 1], 1)

    class Form(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            total = images.sum((1, 2, 3))
            return torch.stack([total, total + 1e-3, total - 1], 1)

    monkeypatch.setattr("atodds.forms.fold", lambda *_: Form())
    images, labels, ids = drawn(6)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    oracle = Oracle(Even(), folded=True)
    with opened(oracle, images, labels, Threat("linf", 0.1), None, ids) as pool:
        rows = torch.arange(6)
        logits = oracle.logits(images, ids)
        assert oracle.folded
        assert pool.seems_fooled(logits, rows).tolist() == [True, True, True, False, False, True]
        before = oracle.passes().of(ids)[0].clone()
        assert pool.fooled(logits, rows, images).tolist() == [False, False, False, False, False, True]
        assert (oracle.passes().of(ids)[0] - before).tolist() == [1, 1, 1, 0, 0, 1]


ATTACKS = [
    "auto_pgd(steps=10)", "auto_pgd_targeted(steps=10)", "fab(steps=10)", "fab_targeted(steps=10)", "hybrid",
    "square(queries=100)", "pgd(steps=10)", "minimum_norm(gradients=30)",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attacks_find_the_same_images_with_the_form_and_without(attack: str, norm: Norm) -> None:
    images = data.load("digits", limit=40).images().double()
    model, threat = Network(), Threat(norm, 0.05 if norm == "linf" else 0.3)
    with torch.no_grad():
        labels = model(images).argmax(1)
    found = []
    for folded in (False, True):
        oracle = Oracle(model, folded=folded, batch_size=64)
        points = ensemble(oracle, images, labels, threat, attacks=attack, seed=1)
        with torch.no_grad():
            found.append(model(points).argmax(1) != labels)
        assert oracle.folded == folded
    assert torch.equal(*found)
    assert found[0].any()
    assert not found[0].all()


def test_a_run_lets_the_form_answer_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, few, asked = Network(), data.load("digits", limit=30), list[Tensor]()

    def fold(model: nn.Module, images: Tensor) -> fx.GraphModule | None:
        asked.append(images)
        return folding.fold(model, images)

    monkeypatch.setattr("atodds.forms.fold", fold)
    settings: dict[str, Any] = {"attacks": "auto_pgd(steps=8),fab_targeted(steps=8)", "batch_size": 16}
    with_form = atodds.evaluate(model, few, eps="0.02,0.05", **settings).table
    assert asked
    monkeypatch.setattr("atodds.forms.fold", lambda *_: None)
    without = atodds.evaluate(model, few, eps="0.02,0.05", **settings).table
    lengths = ["l1", "l2", "linf"]
    assert_frame_equal(with_form.drop(lengths), without.drop(lengths))
    assert_frame_equal(with_form.select(lengths), without.select(lengths), rel_tol=1e-6, abs_tol=0)
    assert without["fooled"].any()
