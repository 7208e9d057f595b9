"""The oracle gives what the model gives, whatever the batch size, the mode or the device state it is called in."""

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds.batching import Batching, BatchSizes
from atodds.errors import ArgumentError, LogitsError, ModelError
from atodds.oracle import Objective, Oracle
from atodds.precision import Precision


def small(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network with all that a batch size might disturb: convolution, batch norm, dropout, pooling."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5),
            nn.Linear(54, 4),
        )  # fmt: skip
        norm = net[1]
        assert isinstance(norm, nn.BatchNorm2d)
        norm.running_mean = torch.randn(6)
        norm.running_var = torch.rand(6) + 0.5
    return net.to(dtype).eval()


def pool(count: int = 65, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels, ids."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, 8, 8, generator=draw, dtype=torch.float64).to(dtype)
    return images, torch.randint(0, 4, (count,), generator=draw), torch.arange(count) * 5 + 3


def cross_entropy(labels: Tensor) -> Objective:
    return lambda logits, positions: F.cross_entropy(logits, labels[positions], reduction="none")


class Function(nn.Module):
    """A module without parameters around a function."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> object:
        return self.function(images)


def of_sum(images: Tensor) -> Tensor:
    """Two logits: 0 and the sum of the image."""
    total = images.flatten(1).sum(1)
    return torch.stack([torch.zeros_like(total), total], 1)


# --- the same answer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64, None, BatchSizes(3, 50)])
def test_answers_do_not_depend_on_the_batch_size(size: int | BatchSizes | None) -> None:
    model, (images, labels, ids) = small(dtype=torch.float64), pool(65, torch.float64)
    oracle = Oracle(model, batch_size=size)
    with torch.no_grad():
        logits = model(images)
    leaf = images.clone().requires_grad_(True)
    losses = F.cross_entropy(model(leaf), labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    for _ in range(3):
        torch.testing.assert_close(oracle.logits(images, ids), logits, rtol=1e-12, atol=1e-13)
        found = oracle.gradients(images, cross_entropy(labels), ids)
        torch.testing.assert_close(found.gradient, gradient, rtol=1e-10, atol=1e-15)
        torch.testing.assert_close(found.logits, logits, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(found.objective, losses.detach(), rtol=1e-12, atol=1e-13)


def test_the_gradient_of_a_linear_model_is_the_one_in_the_textbook() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double()
    linear = model[1]
    assert isinstance(linear, nn.Linear)
    images = torch.rand(9, 3, 2, 2, dtype=torch.float64)
    labels = torch.arange(9) % 5
    found = Oracle(model, batch_size=4).gradients(images, cross_entropy(labels), torch.arange(9))
    probability = F.softmax(images.flatten(1) @ linear.weight.T + linear.bias, 1)
    expected = (probability - F.one_hot(labels, 5)) @ linear.weight
    torch.testing.assert_close(found.gradient.flatten(1), expected.detach(), rtol=1e-12, atol=1e-14)
    assert found.gradient.shape == images.shape


def test_positions_are_those_in_the_pool() -> None:
    seen: list[int] = []

    def objective(logits: Tensor, positions: Tensor) -> Tensor:
        seen.extend(positions.tolist())
        return logits[:, 0]

    Oracle(small(), batch_size=7).gradients(pool(20)[0], objective, torch.arange(20))
    assert seen == list(range(20))


# --- the caller's modes ------------------------------------------------------------------------------------------

CONTEXTS: list[Callable[[], AbstractContextManager[object]]] = [
    nullcontext, torch.no_grad, torch.inference_mode, torch.enable_grad,
]  # fmt: skip


@pytest.mark.parametrize("outside", CONTEXTS)
@pytest.mark.parametrize("size", [3, 100])
def test_answers_are_the_same_in_every_mode_of_autograd(
    outside: Callable[[], AbstractContextManager[object]], size: int
) -> None:
    model, (images, labels, ids) = small(), pool(10)
    oracle = Oracle(model, batch_size=size)
    expected = oracle.gradients(images, cross_entropy(labels), ids)
    with outside():
        fresh = images * 1  # inside inference_mode: an inference tensor
        for given in (images, fresh):
            found = Oracle(model, batch_size=size).gradients(given, cross_entropy(labels), ids)
            torch.testing.assert_close(found.gradient, expected.gradient)
            torch.testing.assert_close(oracle.logits(given, ids), expected.logits)
            again = oracle.gradients(given, cross_entropy(labels), ids)
            assert torch.equal(again.gradient, found.gradient)
            assert not any(part.requires_grad for part in (again.gradient, again.logits, again.objective))
    found = oracle.gradients(fresh, cross_entropy(labels), ids)  # and brought outside
    assert torch.equal(found.gradient, again.gradient)
    assert torch.equal(fresh, images)


def test_images_that_require_gradients_stay_as_they_are() -> None:
    images, labels, ids = pool(10)
    images.requires_grad_(True)
    before, oracle = images.detach().clone(), Oracle(small(), batch_size=4)
    found = oracle.gradients(images, cross_entropy(labels), ids)
    oracle.logits(images, ids)
    assert images.requires_grad
    assert images.grad is None
    assert torch.equal(images, before)
    assert not found.gradient.requires_grad


@pytest.mark.parametrize("layout", ["channels-last", "strided", "expanded", "transposed"])
def test_memory_layouts_do_not_matter(layout: str) -> None:
    images, labels, ids = pool(12, torch.float64)
    model = small(dtype=torch.float64)
    match layout:
        case "channels-last":
            given = images.to(memory_format=torch.channels_last)
        case "strided":
            given = images.repeat_interleave(2, dim=3)[..., ::2]
        case "expanded":
            images = images[:1].repeat(12, 1, 1, 1)
            given = images[:1].expand(12, -1, -1, -1)
        case _:
            given = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert layout == "channels-last" or not given.is_contiguous()
    expected = Oracle(model, batch_size=5).gradients(images, cross_entropy(labels), ids)
    turned: Any = small(dtype=torch.float64)
    for asked in (model, turned.to(memory_format=torch.channels_last)):
        found = Oracle(asked, batch_size=5).gradients(given, cross_entropy(labels), ids)
        torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-10, atol=1e-15)
        torch.testing.assert_close(
            Oracle(asked, batch_size=5).logits(given, ids), expected.logits, rtol=1e-12, atol=1e-13
        )
    found.gradient.flatten(1).add_(1)  # an ordinary tensor of its own


# --- the model comes back as it came -----------------------------------------------------------------------------


def flags(model: nn.Module) -> tuple[list[bool], list[bool]]:
    return [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]


def mixed() -> nn.Module:
    """A model in training, parts of which are frozen and parts in eval mode."""
    model = small().train()
    for number, module in enumerate(model.modules()):
        module.training = number % 2 == 0
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    return model


class Boom(BaseException):
    """Such as KeyboardInterrupt: no Exception."""


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, Boom])
def test_the_model_comes_back_as_it_came(error: type[BaseException] | None) -> None:
    model, (images, labels, ids) = mixed(), pool(8)
    before, state = flags(model), {name: value.clone() for name, value in model.state_dict().items()}
    inside: list[tuple[list[bool], list[bool]]] = []

    def objective(logits: Tensor, positions: Tensor) -> Tensor:
        inside.append(flags(model))
        if error is not None:
            raise error
        return F.cross_entropy(logits, labels[positions], reduction="none")

    oracle = Oracle(model, batch_size=3)
    with nullcontext() if error is None else pytest.raises(error):
        oracle.gradients(images, objective, ids)
    assert flags(model) == before
    assert not any(inside[0][0])
    assert not any(inside[0][1])
    with oracle.running(), oracle.running():
        oracle.logits(images, ids)
        assert flags(model) == inside[0]  # nested: still running
    assert flags(model) == before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_in_training_is_judged_in_eval_mode() -> None:
    images, labels, ids = pool(20)
    asked, kept = small().train(), small()
    assert torch.equal(Oracle(asked, batch_size=9).logits(images, ids), Oracle(kept, batch_size=9).logits(images, ids))
    gradients = [Oracle(model, batch_size=9).gradients(images, cross_entropy(labels), ids) for model in (asked, kept)]
    assert torch.equal(gradients[0].gradient, gradients[1].gradient)
    assert torch.equal(asked.state_dict()["1.running_mean"], kept.state_dict()["1.running_mean"])


def test_the_global_random_state_is_untouched() -> None:
    images, labels, ids = pool(20)
    before = torch.get_rng_state()
    oracle = Oracle(small().train())
    oracle.gradients(images, cross_entropy(labels), ids)
    oracle.logits(images, ids)
    assert torch.equal(torch.get_rng_state(), before)


class Normalising(nn.Module):
    """Writes into its input, as careless models do."""

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.25).mul_(2)
        return of_sum(F.relu(images))


@pytest.mark.parametrize("model", [Normalising(), nn.Sequential(nn.ReLU(inplace=True), Function(of_sum))])
@pytest.mark.parametrize("order", ["logits first", "gradients first"])
@pytest.mark.parametrize("context", [nullcontext, torch.inference_mode])
def test_a_model_that_writes_into_its_input_does_no_harm(
    model: nn.Module, order: str, context: Callable[[], AbstractContextManager[object]]
) -> None:
    with context():
        images, _, ids = pool(10)
        before, oracle = images.clone(), Oracle(model, batch_size=4)
        if order == "logits first":
            oracle.logits(images, ids)
        for _ in range(2):
            found = oracle.gradients(images, lambda logits, _: logits[:, 1], ids)
            oracle.logits(images, ids)
        assert torch.equal(images, before)
        slope = 2.0 * (images > 0.25) if isinstance(model, Normalising) else torch.ones_like(images)
        torch.testing.assert_close(found.gradient, slope)


# --- what models return ------------------------------------------------------------------------------------------


@dataclass
class Output:
    logits: Tensor
    loss: None = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: z,
        lambda z: (z, "features"),
        lambda z: [z],
        lambda z: {"logits": z, "other": 1},
        lambda z: Output(z),
        lambda z: (z.double(),),
        lambda z: z.bfloat16().float(),
    ],
)
def test_logits_are_found_in_what_a_model_returns(wrap: Callable[[Tensor], object]) -> None:
    images, _, ids = pool(6)
    oracle = Oracle(Function(lambda images: wrap(of_sum(images))), batch_size=4)
    torch.testing.assert_close(oracle.logits(images, ids), of_sum(images), rtol=1e-2, atol=0, check_dtype=False)
    found = oracle.gradients(images, lambda logits, _: logits[:, 1], ids)
    torch.testing.assert_close(found.gradient, torch.ones_like(images))
    assert found.gradient.dtype == images.dtype


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (lambda images: images, "outputs of shape (4, 3, 8, 8) for 4 images"),
        (lambda images: images.flatten(1)[:, :1], "shape (4, 1)"),
        (lambda images: images.flatten(1)[:, 0], "shape (4,)"),
        (lambda images: images.sum(), "shape ()"),
        (lambda images: images.flatten(1)[:1], "shape (1, 192) for 4 images"),
        (lambda _: None, "returned NoneType"),
        (lambda _: (), "returned tuple"),
        (lambda _: {"scores": 1}, "returned dict"),
        (lambda _: "cat", "returned str"),
    ],
)
def test_other_outputs_are_refused_with_what_to_return(output: Callable[[Tensor], object], problem: str) -> None:
    images, _, ids = pool(4)
    oracle = Oracle(Function(output), batch_size=4)
    for ask in (lambda: oracle.logits(images, ids), lambda: oracle.gradients(images, lambda z, _: z[:, 0], ids)):
        with pytest.raises(LogitsError) as caught:
            ask()
        assert problem in str(caught.value)
        assert "return" in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    images, _, ids = pool(9)

    def broken(images: Tensor) -> Tensor:
        logits = of_sum(images)
        logits[images.flatten(1)[:, 0] == float(pool(9)[0].flatten(1)[7, 0]), 1] = value
        return logits

    oracle = Oracle(Function(broken), batch_size=4)
    with pytest.raises(LogitsError, match=r"returned \[0\.0, (nan|inf)\] for an image: no finite logits"):
        oracle.logits(images, ids)
    with pytest.raises(LogitsError, match="no finite logits"):
        oracle.gradients(images, lambda logits, _: logits[:, 0], ids)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_oracle_that_is_not_strict_lets_them_through_and_has_no_gradient_there(value: float) -> None:
    images, _, ids = pool(9)
    bad = torch.tensor([False, True, False, True, False, False, False, False, True])
    marks = images.flatten(1)[:, 0]

    def broken(images: Tensor) -> Tensor:
        wrong = torch.isin(images.detach().flatten(1)[:, 0], marks[bad])
        return of_sum(images) * torch.where(wrong, value, 1.0)[:, None]

    oracle = Oracle(Function(broken), batch_size=4, strict=False)
    assert torch.equal(oracle.logits(images, ids).amax(1).isfinite(), ~bad)
    found = oracle.gradients(images, lambda logits, _: logits[:, 1], ids)
    assert torch.equal(found.logits.amax(1).isfinite(), ~bad)
    assert torch.equal(found.gradient, torch.ones_like(images) * ~bad[:, None, None, None])
    assert oracle.odd_gradients == 3


def test_a_class_that_is_masked_with_minus_infinity_is_fine() -> None:
    images, _, ids = pool(5)
    masked = Function(lambda x: torch.cat([of_sum(x), torch.full((len(x), 1), -torch.inf)], 1))
    assert Oracle(masked).logits(images, ids).argmax(1).tolist() == [1] * 5


# --- gradients that are missing or odd ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        Function(lambda x: of_sum(x.detach())),
        Function(lambda x: of_sum((x * 255).round().int().float())),
        Function(lambda x: torch.zeros(len(x), 3)),
        nn.Sequential(Function(lambda x: of_sum(x.detach())), nn.Linear(2, 3)),
        Function(torch.inference_mode()(of_sum)),
        Function(torch.no_grad()(of_sum)),
    ],
)
def test_a_model_cut_off_from_its_input_has_gradient_zero(model: nn.Module) -> None:
    images, _, ids = pool(7)
    for size in (3, 100):
        found = Oracle(model, batch_size=size).gradients(images, lambda logits, _: logits[:, 1], ids)
        assert torch.equal(found.gradient, torch.zeros_like(images))
        assert torch.equal(found.objective, found.logits[:, 1])
        found.logits.add_(1)  # an ordinary tensor
        assert not found.logits.requires_grad


def test_values_of_a_gradient_that_are_no_numbers_are_zero_and_counted() -> None:
    images, _, ids = pool(7)
    images[2, 0, 0, 0] = images[5, 1, 1, 1] = images[5, 2, 2, 2] = 0  # where the root has slope infinity
    oracle = Oracle(Function(lambda x: of_sum(x.sqrt())), batch_size=4)
    found = oracle.gradients(images, lambda logits, _: logits[:, 1], ids)
    expected = torch.where(images > 0, 0.5 / images.clamp_min(1e-12).sqrt(), 0)
    torch.testing.assert_close(found.gradient, expected)
    assert oracle.odd_gradients == 2

    class NotANumber(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, images: Tensor) -> Tensor:  # noqa: ARG004
            return images.clone()

        @staticmethod
        def backward(ctx: object, *above: Tensor) -> Tensor:  # noqa: ARG004
            return torch.full_like(above[0], torch.nan)

    apply: Callable[[Tensor], Tensor] = NotANumber.apply
    broken = Oracle(Function(lambda x: of_sum(apply(x))), batch_size=4)
    found = broken.gradients(images, lambda logits, _: logits[:, 1], ids)
    assert not found.gradient.any()
    assert broken.odd_gradients == 7


def test_large_finite_gradients_are_kept() -> None:
    images, _, ids = pool(3)
    oracle = Oracle(Function(lambda x: of_sum(x - x.detach()) * 1e38), batch_size=4)
    found = oracle.gradients(images, lambda logits, _: logits[:, 1], ids)
    assert found.gradient.sum().isinf()
    assert bool((found.gradient == 1e38).all())
    assert oracle.odd_gradients == 0


# --- precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "digits"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_reduced_precision_gives_nearly_the_same(precision: Precision, digits: float) -> None:
    model, (images, labels, ids) = small(), pool(30)
    exact = Oracle(model, batch_size=16).gradients(images, cross_entropy(labels), ids)
    found = Oracle(model, batch_size=16, precision=precision).gradients(images, cross_entropy(labels), ids)
    assert found.gradient.dtype == found.logits.dtype == torch.float32
    assert not torch.equal(found.logits, exact.logits)
    torch.testing.assert_close(found.logits, exact.logits, rtol=digits, atol=digits * 5)
    apart = (found.gradient - exact.gradient).norm() / exact.gradient.norm()
    assert float(apart) < 5 * digits


def test_float16_keeps_gradients_that_it_could_not_hold_unscaled() -> None:
    images, _, ids = pool(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
    found = Oracle(model, precision="float16").gradients(images, lambda logits, _: logits[:, 0] * 3e-6, ids)
    torch.testing.assert_close(found.gradient, torch.full_like(images, 3e-8), rtol=0.02, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_images_are_given_in_the_models_own_type_and_gradients_in_the_images(dtype: torch.dtype) -> None:
    model = small(dtype=dtype)
    oracle = Oracle(model)
    assert oracle.precision == str(dtype).removeprefix("torch.")
    for given in (torch.float32, torch.float64):
        images, labels, ids = pool(6, given)
        found = oracle.gradients(images, cross_entropy(labels), ids)
        assert found.gradient.dtype == given
        assert found.logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert oracle.logits(images, ids).dtype == found.logits.dtype


def test_the_callers_autocast_does_not_lower_the_precision() -> None:
    model, (images, labels, ids) = small(), pool(6)
    expected = Oracle(model, batch_size=6).gradients(images, cross_entropy(labels), ids)
    with torch.autocast("cpu", torch.bfloat16):
        found = Oracle(model, batch_size=6).gradients(images, cross_entropy(labels), ids)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.gradient, expected.gradient)


def test_the_callers_default_type_does_not_matter() -> None:
    model, (images, labels, ids) = small(), pool(6)
    expected = Oracle(model, batch_size=6).gradients(images, cross_entropy(labels), ids)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        oracle = Oracle(model, batch_size=6)
        found = oracle.gradients(images, cross_entropy(labels), ids)
        assert oracle.passes().forwards.tolist() == [1] * 6
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found.gradient, expected.gradient)
    assert found.gradient.dtype == torch.float32


def test_a_precision_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Call model\.double\(\) first"):
        Oracle(small(), precision="float64")
    with pytest.raises(ArgumentError, match=r"Call model\.float\(\) first"):
        Oracle(small(dtype=torch.float64), precision="float32")
    with pytest.raises(ArgumentError, match="float64, float32, bfloat16, float16"):
        Oracle(small(), precision="int8")  # type: ignore[arg-type]


def test_products_are_float32_whatever_was_set_before() -> None:
    before = torch.get_float32_matmul_precision()
    seen: list[str] = []
    backend: Any = torch.backends.mkldnn

    def noting(images: Tensor) -> Tensor:
        seen.append(backend.matmul.fp32_precision)
        return of_sum(images)

    try:
        torch.set_float32_matmul_precision("medium")
        Oracle(Function(noting)).logits(pool(2)[0], torch.arange(2))
        assert seen == ["ieee"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


# --- passes ------------------------------------------------------------------------------------------------------


def test_passes_are_counted_an_image_at_a_time() -> None:
    images, labels, ids = pool(10)
    noted: list[tuple[int, int]] = []
    oracle = Oracle(small(), batch_size=3, on_passes=lambda f, b: noted.append((f, b)))
    assert len(oracle.passes().ids) == 0
    assert [p.tolist() for p in oracle.passes().of(torch.tensor([1, 2]))] == [[0, 0], [0, 0]]
    oracle.logits(images, ids)
    oracle.gradients(images[:4], cross_entropy(labels), ids[:4])
    oracle.logits(images[2:3], ids[2:3])
    passes = oracle.passes()
    assert passes.ids.tolist() == ids.tolist()
    assert passes.forwards.tolist() == [2, 2, 3, 2, 1, 1, 1, 1, 1, 1]
    assert passes.backwards.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert noted == [(10, 0), (4, 4), (1, 0)]
    asked = torch.tensor([ids[2], 0, 10**9, ids[9], ids[2]])
    assert [p.tolist() for p in passes.of(asked)] == [[3, 0, 0, 1, 3], [1, 0, 0, 0, 1]]


def test_expectation_over_transformation_averages_and_counts_every_pass() -> None:
    images, _, ids = pool(6)
    calls = iter(range(100))

    def random(images: Tensor) -> Tensor:
        return of_sum(images) * next(calls)

    noted: list[tuple[int, int]] = []
    oracle = Oracle(Function(random), batch_size=6, eot=4, on_passes=lambda f, b: noted.append((f, b)))
    torch.testing.assert_close(oracle.logits(images, ids), of_sum(images) * (0 + 1 + 2 + 3) / 4)
    found = oracle.gradients(images, lambda logits, _: logits[:, 1], ids)
    torch.testing.assert_close(found.gradient, torch.full_like(images, (4 + 5 + 6 + 7) / 4))
    torch.testing.assert_close(found.objective, of_sum(images)[:, 1] * 5.5)
    torch.testing.assert_close(found.logits, of_sum(images) * 5.5)
    assert oracle.passes().forwards.tolist() == [8] * 6
    assert oracle.passes().backwards.tolist() == [4] * 6
    assert noted == [(24, 0), (24, 24)]


@pytest.mark.parametrize("most", [1 << 20, 50, 1])
def test_counts_stay_exact_over_thousands_of_calls(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atodds.passes._WAITING", most)
    images, oracle = torch.rand(9, 2), Oracle(Function(lambda x: x), batch_size=9)
    draw = torch.Generator().manual_seed(0)
    forwards, backwards = torch.zeros(9, dtype=torch.int64), torch.zeros(9, dtype=torch.int64)
    for call in range(1500):
        rows = torch.randperm(9, generator=draw)[: 1 + call % 9]
        if call % 3:
            oracle.logits(images[rows], rows + 100)
        else:
            oracle.gradients(images[rows], lambda logits, _: logits[:, 0], rows + 100)
            backwards[rows] += 1
        forwards[rows] += 1
        if call == 700:
            oracle.passes()
    passes = oracle.passes()
    assert passes.ids.tolist() == list(range(100, 109))
    assert torch.equal(passes.forwards, forwards)
    assert torch.equal(passes.backwards, backwards)
    assert len(oracle._counter._waiting) <= 1500 if most > 1000 else len(oracle._counter._waiting) == 0


def test_a_call_that_fails_counts_nothing() -> None:
    images, _, ids = pool(4)
    oracle = Oracle(Function(lambda _: None))
    with pytest.raises(LogitsError):
        oracle.logits(images, ids)
    assert len(oracle.passes().ids) == 0


# --- memory, arguments -------------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """Runs out of memory above so many images; the gradient needs twice as much."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        if len(images) * (1 + images.requires_grad) > self.most:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {len(images)}")
        return of_sum(images)


@pytest.mark.parametrize("size", [64, None])
def test_memory_running_out_halves_the_batch_and_changes_no_answer(
    size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    images, _, ids = pool(65)
    model = Hungry(12)
    oracle = Oracle(model, batch_size=size)
    with caplog.at_level(logging.WARNING, "atodds"):
        found = oracle.gradients(images, lambda logits, _: logits[:, 1], ids)
        logits = oracle.logits(images, ids)
    assert torch.equal(logits, of_sum(images))
    assert torch.equal(found.logits, logits)
    assert torch.equal(found.gradient, torch.ones_like(images))
    assert 3 <= oracle.batching.sizes.gradient <= 6
    assert 6 <= oracle.batching.sizes.forward <= 12
    assert "Memory ran out" in caplog.text
    assert oracle.passes().forwards.tolist() == [2] * 65  # what failed is not counted


def test_one_image_that_does_not_fit_is_a_model_error() -> None:
    model = Hungry(0)
    with pytest.raises(ModelError, match="One image does not fit into the memory of cpu: CUDA out of memory with 1"):
        Oracle(model, batch_size=8).logits(pool(9)[0], torch.arange(9))
    assert model.batches == [5, 2, 1]


@pytest.mark.parametrize(
    ("named", "argument"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": BatchSizes(4, 0)}, "batch_size"),
        ({"eot": 0}, "eot"),
        ({"eot": -2}, "eot"),
    ],
)
def test_settings_that_cannot_work_are_refused(named: dict[str, int], argument: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        Oracle(small(), **named)  # type: ignore[arg-type]


def test_something_that_is_no_module_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"not a torch\.nn\.Module"):
        Oracle(of_sum)  # type: ignore[arg-type]


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no image"):
        Oracle(small()).logits(torch.zeros(0, 3, 8, 8), torch.arange(0))


def test_a_model_made_in_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = nn.Linear(4, 2)
    with pytest.raises(ModelError, match="make it outside"):
        Oracle(model)


def test_an_oracle_is_an_oracle_of_itself_and_may_share_its_batch_sizes() -> None:
    shared = Batching(5)
    oracle = Oracle(small(), batch_size=shared)
    assert Oracle.of(oracle) is oracle
    assert oracle.batching is shared
    assert isinstance(Oracle.of(small()), Oracle)


def test_a_model_without_parameters_runs_on_the_cpu_in_float32() -> None:
    oracle = Oracle(Function(of_sum))
    assert (oracle.device.type, oracle.precision) == ("cpu", "float32")
    assert oracle.logits(pool(3, torch.float64)[0], torch.arange(3)).dtype == torch.float32


def test_the_type_of_the_first_floating_value_counts_even_if_it_is_a_buffer() -> None:
    model = nn.Sequential(nn.Flatten())
    model.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    model.register_buffer("mean", torch.zeros(1, dtype=torch.float64))
    assert Oracle(model).precision == "float64"
