"""Each way in which a number can mislead has a small model that shows it, and raises exactly that; honest ones none."""

import copy
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import atodds
from atodds.data import ImageSet
from atodds.errors import LogitsError, ModelError
from atodds.evaluation import audit, battery, masking
from atodds.evaluation.manifest import Finding, Manifest
from atodds.evaluation.schema import CLEAN
from atodds.threat import Budget

Manifests = Callable[..., Manifest]
Fit = Callable[[nn.Module], nn.Module]
Defend = Callable[[nn.Module, Tensor], Tensor]


class Defended(nn.Module):
    """A good model behind a bad idea."""

    def __init__(self, inner: nn.Module, idea: Defend) -> None:
        super().__init__()
        self.inner, self.idea = inner, idea

    def forward(self, images: Tensor) -> Tensor:
        return self.idea(self.inner, images)


class Decoy(torch.autograd.Function):
    """Nothing forward; backward, the gradient times something."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


def softmax(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images).softmax(1)  # type: ignore[no-any-return]


def dropout_in_evaluation(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(functional.dropout(images, 0.2, training=True))  # type: ignore[no-any-return]


def noise(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images + 0.05 * torch.randn_like(images))  # type: ignore[no-any-return]


def batch_statistics(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images - images.mean() + 0.3)  # type: ignore[no-any-return]


def eight_bits(inner: nn.Module, images: Tensor) -> Tensor:
    return inner((images * 255).round() / 255)  # type: ignore[no-any-return]


def detached(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images.detach()) + 0 * images.sum()  # type: ignore[no-any-return]


def loud(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images) * 1000  # type: ignore[no-any-return]


def one_of_two(inner: nn.Module, images: Tensor) -> Tensor:
    logits = inner(images)
    return torch.stack([logits[:, :5].amax(1), logits[:, 5:].amax(1)], 1)


def root_at_zero(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images) + 0 * images.sqrt().sum()  # type: ignore[no-any-return]


def misled(images: Tensor, factor: Tensor) -> Tensor:
    return Decoy.apply(images, factor)  # type: ignore[no-any-return, no-untyped-call]


def backwards(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(misled(images, torch.tensor(-1.0)))  # type: ignore[no-any-return]


def right_only_on_clean_images(inner: nn.Module, images: Tensor) -> Tensor:
    scaled = images * 255
    clean = ((scaled - scaled.round()).abs() < 1e-4).flatten(1).all(1)
    return inner(misled(images, torch.where(clean, 1.0, -1.0)[:, None, None, None]))  # type: ignore[no-any-return]


def eight_levels(inner: nn.Module, images: Tensor) -> Tensor:
    return inner((images * 7.99).floor() / 7)  # type: ignore[no-any-return]


def straight_through(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images + ((images * 255).round() / 255 - images).detach())  # type: ignore[no-any-return]


def signs_inside(inner: nn.Module, images: Tensor) -> Tensor:
    flatten, first, _, last = inner.children()
    hidden = first(flatten(images))
    return last((hidden * 2).round().clamp_min(0) / 2)  # type: ignore[no-any-return]


def half_detached(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(0.4 * images + 0.6 * images.detach())  # type: ignore[no-any-return]


def winners_take_all(inner: nn.Module, images: Tensor) -> Tensor:
    flatten, first, _, last = inner.children()
    hidden = first(flatten(images))
    return last(hidden * (hidden >= hidden.topk(6, 1).values[:, -1:]))  # type: ignore[no-any-return]


MASKED = {"a huge eps leaves accuracy", "black-box beats white-box"}
"""What attacks say of a model whose gradients are of no use."""

DEFENCES: dict[Defend, tuple[set[str], set[str]]] = {
    softmax: ({"softmax outputs"}, set()),
    dropout_in_evaluation: ({"random outputs"}, set()),
    noise: ({"random outputs"}, set()),
    batch_statistics: ({"batch dependence"}, set()),
    eight_bits: ({"rounded input", "the audit beats the run", *MASKED}, set()),
    detached: ({"cut gradient", "the audit beats the run", *MASKED}, set()),
    loud: ({"saturated cross-entropy", "the audit beats the run"}, set()),
    one_of_two: (set(), {"few classes"}),
    root_at_zero: ({"gradients that are not numbers"}, set()),
    backwards: ({"gradients that lead astray", "the audit beats the run", *MASKED}, set()),
    right_only_on_clean_images: ({"gradients that lead astray", "one step beats many", *MASKED}, set()),
    eight_levels: ({"quantised input", "the audit beats the run", *MASKED}, set()),
    straight_through: (set(), {"rounded input"}),
    signs_inside: ({"vanishing gradients", "the audit beats the run", *MASKED}, set()),
    half_detached: ({"gradients that lead astray"}, set()),
    winners_take_all: ({"jumping outputs", "the audit beats the run"}, {"fooling images lost by rounding"}),
}
"""A bad idea -> the warnings and the notes that it raises, and no others."""


def audited(model: nn.Module, images: ImageSet, eps: str = "0.1", **settings: object) -> tuple[Finding, ...]:
    usual: dict[str, object] = {"attacks": "fgsm,pgd(steps=10)", "batch_size": 64, "keep": False}
    return atodds.evaluate({"model": model}, images, eps=eps, **(usual | settings)).audit  # type: ignore[arg-type]


def checks(findings: Sequence[Finding], severity: str) -> set[str]:
    return {finding.check for finding in findings if finding.severity == severity}


@pytest.fixture(autouse=True)
def same_draws() -> Any:
    """Random models draw from the global generator: the same in every run of the tests, and given back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("idea", DEFENCES, ids=lambda idea: idea.__name__)
def test_a_bad_idea_raises_exactly_what_is_bad_about_it(idea: Defend, trained: nn.Module, digits: ImageSet) -> None:
    images = digits
    if idea is one_of_two:
        images = ImageSet.from_arrays(digits.pixels(), digits.labels // 5, classes=("low", "high"))
    found = audited(Defended(trained, idea), images)
    warnings, notes = DEFENCES[idea]
    assert checks(found, "warning") == warnings
    assert checks(found, "note") == notes
    assert checks(found, "error") == set()
    for finding in found:
        assert finding.model.startswith("model@")
        assert finding.measured
        assert finding.meaning
        assert finding.advice


def test_every_finding_has_a_model_that_raises_it() -> None:
    """Names of checks are text in the code: none of them may be left without a test here or below, or undocumented."""
    source = "".join(Path(module.__file__ or "").read_text() for module in (audit, battery, masking))
    below = {"training mode", "fooling images lost by rounding", "reduced precision costs strength"}
    raised = below.union(*(warnings | notes for warnings, notes in DEFENCES.values()))
    assert all(f'"{check}"' in source for check in raised)
    assert {name for name in re.findall(r'(?:inding|beats)\(\s*"([^"]+)"', source) if name not in raised} == set()
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "audit.md").read_text()
    assert {check for check in raised if f"\n| {check} |" not in page} == set()


def test_batch_norm_without_statistics_depends_on_the_batch(fitted: Fit, digits: ImageSet) -> None:
    spatial = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 10))
    found = audited(fitted(spatial), digits)
    assert checks(found, "warning") == {"batch dependence"}


def test_a_model_that_cannot_take_one_image_is_refused_before_any_attack(digits: ImageSet, tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 10)).double()
    with pytest.raises(ModelError, match=r"one image alone.*track_running_stats=True"):
        atodds.evaluate(flat, digits, eps=0.1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_for_other_images_is_refused_before_any_attack(digits: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1x8x8"):
        atodds.evaluate(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), digits, eps=0.1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_returns_no_numbers_is_refused_before_any_attack(
    trained: nn.Module, digits: ImageSet, tmp_path: Path, value: float
) -> None:
    def broken(inner: nn.Module, images: Tensor) -> Tensor:
        logits: Tensor = inner(images).clone()
        logits[-1, 3] = value
        return logits

    with pytest.raises(LogitsError, match=r"^model: .*takes images in \[0, 1\]"):
        atodds.evaluate({"model": Defended(trained, broken)}, digits, eps=0.1, out=tmp_path / "run", batch_size=64)
    assert not (tmp_path / "run").exists()


def test_a_model_that_rules_classes_out_is_as_honest_as_another(trained: nn.Module, digits: ImageSet) -> None:
    """Minus infinity for a class that is never meant is no missing number."""

    def without_nine(inner: nn.Module, images: Tensor) -> Tensor:
        return inner(images).index_fill(1, torch.tensor([9]), -torch.inf)  # type: ignore[no-any-return]

    images = digits.take(np.flatnonzero(digits.labels < 9))
    found = audited(Defended(trained, without_nine), images, "0.02,0.1", attacks="basic")
    assert checks(found, "warning") | checks(found, "error") == set()


def test_training_mode_is_noted_where_it_would_matter(fitted: Fit, digits: ImageSet) -> None:
    dropping = fitted(nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10)))
    plain = fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert "training mode" not in checks(audited(dropping.eval(), digits), "note")
    assert "training mode" in checks(audited(dropping.train(), digits), "note")
    assert "training mode" not in checks(audited(plain.train(), digits), "note")
    assert dropping.training


class Threshold(nn.Module):
    """Light where the mean is above a level that lies between two levels of an 8-bit image."""

    def forward(self, images: Tensor) -> Tensor:
        light = images.flatten(1).mean(1) - 127.95 / 255
        return torch.stack([light, -light, light - 1, light - 1], 1)


def test_fooling_images_that_no_file_can_hold_are_noted(greys: Callable[..., ImageSet]) -> None:
    """At 128 of 255, 0.1 of a level is enough to fool, and rounding takes it back; at 140, nothing fools."""
    found = audited(Threshold(), greys((128,) * 5 + (140,) * 5, (0,) * 10), eps="0.1/255")
    assert checks(found, "note") == {"fooling images lost by rounding"}
    assert checks(found, "warning") == set()
    assert found[0].measured.startswith("5 of 5 fooling images at linf 0.1/255")


def test_averaging_over_draws_makes_attacks_on_a_random_model_comparable(trained: nn.Module, digits: ImageSet) -> None:
    """A defence by noise and by a decoy: with one draw only the noise is told, averaged the decoy is found too."""

    def noisy_and_backwards(inner: nn.Module, images: Tensor) -> Tensor:
        return backwards(inner, images + 0.02 * torch.randn_like(images))

    model = Defended(trained, noisy_and_backwards)
    assert checks(audited(model, digits), "warning") == {"random outputs"}
    assert checks(audited(model, digits, eot=4), "warning") >= {"random outputs", *MASKED}


def test_weak_attacks_are_told_even_on_an_honest_model(trained: nn.Module, digits: ImageSet) -> None:
    found = audited(trained, digits, attacks="random_noise(queries=1)")
    assert checks(found, "warning") == {"the audit beats the run"}
    (finding,) = found
    assert "that the run left standing at linf 0.1 fall" in finding.measured


@pytest.fixture(scope="module", params=["linear", "deep", "convolutional", "float32"])
def honest(request: pytest.FixtureRequest, fitted: Fit) -> nn.Module:
    """Networks that hide nothing."""
    made: dict[str, list[nn.Module]] = {
        "linear": [nn.Flatten(), nn.Linear(64, 10)],
        "deep": [nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 10)],
        "convolutional": [
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1), nn.Flatten(),
            nn.Linear(54, 10),
        ],
        "float32": [nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)],
    }  # fmt: skip
    model = fitted(nn.Sequential(*made[request.param]))
    return model.float() if request.param == "float32" else model


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_honest_models_raise_nothing_above_a_note(honest: nn.Module, norm: str, digits: ImageSet) -> None:
    for eps in {"linf": ("0.02", "0.1", "0.3"), "l2": ("0.2", "1"), "l1": ("1", "5")}[norm]:
        found = audited(honest, digits, eps, norm=norm, attacks="basic,pgd(loss=margin)")
        assert checks(found, "warning") | checks(found, "error") == set()


@pytest.mark.parametrize("seed", range(5))
def test_random_networks_raise_nothing_above_a_note(digits: ImageSet, seed: int) -> None:
    """Labels are what the network says, so that every image is classified rightly."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 16), nn.ReLU(), nn.Linear(16, 5))
    labels = model(digits.images()).argmax(1)
    images = ImageSet.from_arrays(digits.pixels(), labels, classes=tuple("abcde"))
    found = audited(model, images, "0.02,0.1,0.3", attacks="basic")
    assert checks(found, "warning") | checks(found, "error") == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "eps"),
    [
        ("cifar10_resnet20", "0.5/255,1/255,2/255"),
        ("cifar10_smallresnet_robust", "2/255,4/255,8/255"),
        ("mnist_lenet5", "0.05,0.1,0.3"),
        ("mnist_lenet5_robust", "0.1,0.3,0.4"),
    ],
)
def test_real_networks_raise_nothing_above_a_note(shared: Path, factory: str, eps: str) -> None:
    images = atodds.data.load(factory.partition("_")[0], root=shared / "data", limit=50)
    found = audited(atodds.models.load(f"{shared / 'models' / 'zoo.py'}:{factory}"), images, eps, attacks="basic")
    assert checks(found, "warning") | checks(found, "error") == set()


def rows(model: str, attack: str, found: Sequence[int], eps: float = 0.1) -> pl.DataFrame:
    far = [eps if k in found else math.inf for k in range(100)]
    return pl.DataFrame({"model": model, "image": range(100), "attack": attack, "eps": eps, "linf": far})


@pytest.mark.parametrize(
    ("attacks", "alone", "by_noise", "told"),
    [
        ("pgd,random_noise", False, (1, 2, 3), True),
        ("pgd,random_noise", False, (1,), False),
        ("random_noise,pgd", False, (1, 2, 3), False),  # in a cascade PGD never got these
        ("random_noise,pgd", True, (1, 2, 3), True),
        ("pgd,random_noise", True, (50, 51, 52), False),  # PGD has these too
        ("random_noise", True, (1, 2, 3), False),
        ("pgd(steps=3),random_noise(queries=5)", False, (1, 2, 3), True),
    ],
)
def test_what_only_attacks_without_gradients_found_is_told(
    manifest: Manifests, attacks: str, alone: bool, by_noise: Sequence[int], told: bool
) -> None:
    names = tuple(attacks.split(","))
    said = manifest(attacks=names, alone=alone)
    said = replace(said, data=replace(said.data, n=100))
    model = said.models[0].id
    fooled = {name: range(50, 60) if name.startswith("pgd") else by_noise for name in names}
    table = pl.concat([rows(model, CLEAN, (99,)), *(rows(model, name, found) for name, found in fooled.items())])
    found = battery.after(said, table)
    assert [finding.check for finding in found] == ["black-box beats white-box"] * told
    assert all(finding.measured.startswith(f"{len(by_noise)} of 1") for finding in found)


@pytest.mark.parametrize(("only", "severity"), [(4, "note"), (5, "note"), (6, "warning"), (40, "warning")])
def test_gradients_are_of_no_use_where_a_third_of_the_images_is_found_without_them(
    manifest: Manifests, only: int, severity: str
) -> None:
    said = manifest(attacks=("pgd", "random_noise"))
    said = replace(said, data=replace(said.data, n=100))
    model = said.models[0].id
    table = pl.concat([rows(model, "pgd", range(50, 60)), rows(model, "random_noise", range(only))])
    (finding,) = battery.after(said, table)
    assert finding.severity == severity
    assert finding.measured.startswith(f"{only} of {10 + only} fooled images")


@pytest.mark.parametrize(("later", "told"), [(0.1, False), (0.2, True)])
def test_what_gradients_find_only_at_a_larger_eps_is_told(manifest: Manifests, later: float, told: bool) -> None:
    said = manifest(attacks=("pgd", "random_noise"), alone=True)
    said = replace(said, data=replace(said.data, n=100))
    model = said.models[0].id
    table = pl.concat(
        [
            rows(model, "random_noise", (1, 2, 3), 0.1),
            rows(model, "pgd", (50,), 0.1),
            rows(model, "pgd", (1, 2, 3), later),
        ]
    )
    assert [finding.check for finding in battery.after(said, table)] == ["black-box beats white-box"] * told


@pytest.mark.parametrize(("distance", "told"), [(0.09, False), (0.11, True)])
def test_an_attack_without_a_budget_has_found_an_image_where_it_lies(
    manifest: Manifests, distance: float, told: bool
) -> None:
    said = manifest(attacks=("fab", "random_noise"))
    said = replace(said, data=replace(said.data, n=100))
    model, nowhere = said.models[0].id, pl.lit(None, pl.Float64).alias("eps")
    sought = rows(model, "fab", (1, 2, 3, 4), distance).with_columns(nowhere)
    table = pl.concat([sought, rows(model, "random_noise", (1, 2, 3), 0.1)])
    assert [finding.check for finding in battery.after(said, table)] == ["black-box beats white-box"] * told


def test_the_table_of_a_masked_model_says_so_itself(trained: nn.Module, digits: ImageSet) -> None:
    found = audited(Defended(trained, eight_bits), digits, "0.1", attacks="pgd(steps=3),random_noise(queries=20)")
    told = [finding for finding in found if finding.check == "black-box beats white-box"]
    assert len(told) == 2
    assert any("smaller eps (random_noise(queries=20))" in finding.measured for finding in told)


def test_the_sample_is_spread_over_the_images_and_the_budgets(digits: ImageSet) -> None:
    budgets = [Budget(value, str(value)) for value in (0.0, 0.1, 0.2, 0.3)]
    everything = atodds.data.load("digits")
    sample, budget = battery.sampled(budgets, everything)
    assert len(sample) == 100
    assert budget.value == 0.2
    assert np.diff(sample.ids).max() <= 4
    assert battery.sampled(budgets[:1], digits.take([3]))[1].value == 0
    assert len(battery.sampled(budgets, digits.take([3]))[0]) == 1


class Coarse(nn.Module):
    """A network whose gradient is gone once it runs under autocast."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            images = images.detach() + 0 * images  # bfloat16 has rounded the gradient away
        logits: Tensor = self.inner(images.to(torch.float32))
        return logits


def test_reduced_precision_that_costs_strength_is_told(trained: nn.Module) -> None:
    images, inner = atodds.data.load("digits", limit=60), copy.deepcopy(trained).float()
    for model, said in ((Coarse(inner), True), (inner, False)):
        run = atodds.evaluate(
            model, images, eps="0.1", attacks="pgd(steps=10,random_start=False)", precision="bfloat16", keep=False
        )
        found = [one for one in run.audit if one.check == "reduced precision costs strength"]
        assert [one.severity for one in found] == ["warning"] * said


@pytest.mark.parametrize(("classes", "named"), [(2, False), (10, True)])
def test_the_dlr_loss_is_advised_only_where_there_are_classes_for_it(
    trained: nn.Module, digits: ImageSet, classes: int, named: bool
) -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = 1e4 * trained(images.double())
            return logits if classes == 10 else torch.stack([logits[:, :5].amax(1), logits[:, 5:].amax(1)], 1)

    labels = digits.labels if classes == 10 else digits.labels // 5
    names = tuple("abcdefghij"[:classes])
    found = audited(
        Sure(), ImageSet.from_arrays(digits.pixels(), labels, classes=names), "0.05", attacks="pgd(steps=3)"
    )
    (said,) = (one for one in found if one.check == "saturated cross-entropy")
    assert ("loss=dlr" in said.advice) == named
