"""What answers for a model says what the model says; where it does not, the model answers for itself."""

import gc
import random
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn
from torch.nn import functional

import atodds
from atodds import data, folding
from atodds.attacks import ensemble, fab, minimum_norm
from atodds.attacks.pool import opened
from atodds.forms import Forms
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
            x = x + 1e-15 * torch.rand(8, 8)
        if self.way == "chooses":
            x = x if random.random() < 2 else -x
        if self.way == "chooses otherwise":
            x = x if np.random.rand() < 2 else -x  # noqa: NPY002
        if self.way == "forward alone" and not torch.is_grad_enabled():
            x = torch.round(x * 8) / 8
        if self.way == "off the images":
            x = _Clamped.apply(x)  # type: ignore[no-untyped-call]
        x = functional.relu(self.norm(self.first(x)))
        if self.way == "another name":
            y = x = x * 1
            y += 1  # x too
        logits: Tensor = self.last(x.flatten(1)) * self.scale + self.shift
        return logits


class _Clamped(torch.autograd.Function):
    """Does nothing to the images that are asked for, and has its own gradient where it does something."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:  # noqa: ARG004
        return images.clamp(-0.3, 0.3)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Tensor:  # noqa: ARG004
        return slopes


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


WAYS = [
    "gradient of its own", "no gradient", "draws", "chooses", "chooses otherwise", "forward alone", "off the images",
    "another name",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_a_traced_copy_does_not_know_keeps_the_form_away(way: str) -> None:
    images, _, ids = drawn()
    images = images / 2 + 0.25
    model = Network(way)
    oracle = Oracle(model, folded=True)
    found = oracle.gradients(images, lead, ids)
    assert not oracle.folded
    assert oracle.answering(images) is model
    if way == "no gradient":
        assert not found.gradient.any()
    if way == "gradient of its own":
        assert found.gradient.flatten(1).any(1).all()  # that of what it does is 0


def test_random_models_reduced_precision_and_flat_images_have_no_form() -> None:
    images, _, ids = drawn()
    usual = Oracle(Network(), folded=True)
    assert usual.answering(images) is not usual.model
    for oracle in (Oracle(Network(), folded=True, eot=2), Oracle(Network(), folded=True, precision="bfloat16")):
        oracle.logits(images, ids)
        assert not oracle.folded
    flat = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    oracle = Oracle(flat, folded=True)
    assert oracle.answering(torch.rand(3, 4, dtype=torch.float64)) is flat


def _mul(model: Network) -> None:
    with torch.no_grad():
        model.first.weight.mul_(2)


def _statistics(model: Network) -> None:
    model.get_buffer("norm.running_mean").add_(0.1)


def _parameter(model: Network) -> None:
    model.last.weight = nn.Parameter(model.last.weight.detach() * 3)


def _module(model: Network) -> None:
    model.norm = nn.BatchNorm2d(6, eps=0.5 + model.norm.eps).double().eval()


def _data(model: Network) -> None:
    model.first.weight.data.mul_(2)  # leaves no trace but what the model says


def _twice(model: Network) -> None:
    for factor in (2, 3):
        model.first.weight.data = model.first.weight.data * factor


def _hook(model: Network) -> None:
    model.norm.register_forward_hook(lambda *given: given[-1] + 1)


@pytest.mark.parametrize("change", [_mul, _statistics, _parameter, _module, _data, _twice, _hook])
def test_a_model_that_changes_is_folded_again(change: Callable[[Network], None]) -> None:
    images, _, ids = drawn()
    model = Network()
    oracle = Oracle(model, folded=True)
    before = oracle.logits(images, ids)
    for _ in range(3):
        change(model)
        with torch.no_grad():
            expected = model(images)
        torch.testing.assert_close(oracle.logits(images, ids), expected, rtol=1e-10, atol=1e-12)
    assert (before - expected).abs().max() > 0.01
    assert oracle.folded == (change not in (_data, _hook))


def test_hooks_that_are_added_later_see_every_call() -> None:
    images, _, ids = drawn()
    model, seen = Network(), list[int]()
    oracle = Oracle(model, folded=True)
    for count in range(4):
        oracle.logits(images, ids)
        if count == 1:
            assert oracle.folded
            model.norm.register_forward_hook(lambda *_: seen.append(1))
    assert len(seen) == 2
    model = Network()
    model.norm.register_full_backward_hook(lambda *_: None)
    assert Oracle(model, folded=True).answering(images) is model


def test_forms_of_earlier_weights_are_not_kept() -> None:
    images, _, ids = drawn()
    model, made = Network(), list[weakref.ref[nn.Module]]()
    oracle = Oracle(model, folded=True)
    for _ in range(5):
        _mul(model)
        oracle.logits(images, ids)
        made.append(weakref.ref(oracle.answering(images)))
    gc.collect()
    assert sum(form() is not None for form in made) == 1


def test_comparing_leaves_generators_alone() -> None:
    def draws() -> tuple[float, ...]:
        return float(torch.rand(1)), random.random(), np.random.rand()  # noqa: NPY002

    def seed() -> None:
        for start in (torch.manual_seed, random.seed, np.random.seed):
            start(3)

    images, _, _ = drawn()
    seed()
    first = draws()
    for way in ("", "draws", "chooses", "chooses otherwise"):
        seed()
        Oracle(Network(way), folded=True).answering(images)
        assert draws() == first


def test_comparing_keeps_to_the_batch_size() -> None:
    sizes = []

    class Seen(Network):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images) if isinstance(images, Tensor) else 0)
            return super().forward(images)

    images, _, ids = drawn()
    oracle = Oracle(Seen(), folded=True, batch_size=3)
    oracle.logits(images, ids)
    assert oracle.folded
    assert max(sizes) == 3


def test_models_that_hold_what_has_no_address() -> None:
    images, labels, ids = drawn()

    class Sparse(Network):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("neighbours", torch.eye(10, dtype=torch.float64).to_sparse())

    found = ensemble(Sparse(), images, labels, Threat("linf", 0.1), attacks="fgsm,square(queries=60)", ids=ids)
    assert found.shape == images.shape


@pytest.mark.parametrize("first", [1, 5])
def test_a_map_that_is_the_same_for_all_images_is_not_written_into(first: int) -> None:
    class Position(Network):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.rand(1, 6, 4, 4, dtype=torch.float64))
            self.projection = nn.Conv2d(6, 6, 1).double()

        def forward(self, images: Tensor) -> Tensor:
            maps = self.projection(self.place) + functional.gelu(self.norm(self.first(images)))
            logits: Tensor = self.last(functional.relu(maps).flatten(1))
            return logits

    images, _, ids = drawn()
    model = Position().eval().requires_grad_(False)
    oracle = Oracle(model, folded=True)
    with oracle.running():
        for count in (first, 5, 20):
            logits = oracle.logits(images[:count], ids[:count])
            torch.testing.assert_close(logits, model(images[:count]), rtol=1e-10, atol=1e-12)
    assert oracle.folded


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


class Even(nn.Module):
    """Two logits, 0 and what lies between the mean of an image and 0.5: all of them are near 0 where it counts."""

    def __init__(self, off: float = 0.0) -> None:
        super().__init__()
        self.off = off

    def forward(self, images: Tensor) -> Tensor:
        away = (images - 0.5).mean((1, 2, 3)) + self.off
        return torch.stack([torch.zeros_like(away), away], 1)


def test_a_lead_that_rounding_explains_is_shown_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atodds.forms.fold", lambda *_: Even(1e-6))
    images, _, ids = drawn(14)
    images = (images - images.mean((1, 2, 3), keepdim=True)) / 4 + 0.5
    images += torch.tensor([0.1] * 8 + [-5e-7, -5e-7, 5e-7, 5e-7, 0.1, -0.1])[:, None, None, None]
    images, labels = images.float(), torch.tensor([1] * 8 + [0, 1, 0, 1, 0, 1])
    oracle = Oracle(Even(), folded=True)
    with opened(oracle, images, labels, Threat("linf", 0.1), None, ids) as pool:
        rows = torch.arange(14)
        logits = oracle.logits(images, ids)
        assert oracle.folded
        assert pool.seems_fooled(logits, rows)[8:].tolist() == [True, False, True, False, True, True]
        before = oracle.passes().of(ids)[0].clone()
        assert pool.fooled(logits, rows, images)[8:].tolist() == [False, False, True, False, True, True]
        assert (oracle.passes().of(ids)[0] - before).tolist() == [0] * 8 + [1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("attack", [partial(fab, steps=30), partial(minimum_norm, gradients=40)])
def test_the_closest_that_is_found_fools_the_model_itself(
    attack: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer of the model, these would end where only its form, which is far off here, is fooled."""

    def agree(forms: Forms, *_: object) -> bool:
        forms.slack = 0.003
        return True

    monkeypatch.setattr("atodds.forms.fold", lambda *_: Even(0.0015))
    monkeypatch.setattr("atodds.forms.Forms._agree", agree)
    images = (drawn()[0] / 4 + 0.1).float()
    labels, model = torch.zeros(len(images), dtype=torch.int64), Even()
    oracle = Oracle(model, folded=True)
    points = attack(oracle, images, labels, "l2")
    assert oracle.folded
    with torch.no_grad():
        assert bool((model(points).argmax(1) != labels).all())
    away, closest = (points - images).flatten(1).norm(dim=1), 8 * (0.5 - images.mean((1, 2, 3)))
    assert bool((away < 1.06 * closest).all())


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


class Counted(nn.Module):
    """A form that counts its calls."""

    calls = 0

    def __init__(self, form: nn.Module) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Tensor:
        Counted.calls += 1
        logits: Tensor = self.form(images)
        return logits


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    """Forms are counted."""

    def fold(model: nn.Module, images: Tensor) -> nn.Module | None:
        form = folding.fold(model, images)
        return None if form is None else Counted(form)

    Counted.calls = 0
    monkeypatch.setattr("atodds.forms.fold", fold)
    return Counted


def test_a_run_lets_the_form_answer_and_says_the_same(monkeypatch: pytest.MonkeyPatch, counted: type[Counted]) -> None:
    model, few = Network(), data.load("digits", limit=30)
    settings: dict[str, Any] = {"attacks": "auto_pgd(steps=8),fab_targeted(steps=8)", "batch_size": 16}
    with_form = atodds.evaluate(model, few, eps="0.02,0.05", **settings).table
    assert counted.calls > 100
    monkeypatch.setattr("atodds.forms.fold", lambda *_: None)
    without = atodds.evaluate(model, few, eps="0.02,0.05", **settings).table
    lengths = ["l1", "l2", "linf"]
    assert_frame_equal(with_form.drop(lengths), without.drop(lengths))
    assert_frame_equal(with_form.select(lengths), without.select(lengths), rel_tol=1e-6, abs_tol=0)
    assert without["fooled"].any()


def test_a_model_that_the_audit_finds_random_answers_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    class Recorded(Oracle):
        def __init__(self, *given: Any, folded: bool = False, **settings: Any) -> None:
            asked.append(folded)
            super().__init__(*given, folded=folded, **settings)

    class Noisy(Network):
        """Draws from a generator of its own, which nobody else sees."""

        def __init__(self) -> None:
            super().__init__()
            self.source = random.Random(4)

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * (1 + self.source.random())

    monkeypatch.setattr("atodds.evaluation.runner.Oracle", Recorded)
    for model, expected in ((Noisy(), False), (Network(), True)):
        asked.clear()
        atodds.evaluate(model, data.load("digits", limit=30), eps="0.05", attacks="pgd(steps=5)", batch_size=16, eot=1)
        assert asked
        assert any(asked) == expected


def test_an_ensemble_of_attacks_on_a_bare_model_lets_the_form_answer(counted: type[Counted]) -> None:
    images, labels, _ = drawn()
    ensemble(Network(), images, labels, Threat("linf", 0.1), attacks="auto_pgd(steps=5)")
    assert counted.calls > 5
