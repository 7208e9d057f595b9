"""A mixture answers with the log of mixed probabilities, whatever the logits; interpolation mixes weights and nothing
else."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from atodds import models, noise
from atodds.errors import ArgumentError, ModelError
from atodds.models import Classifier, MixingNetwork, Mixture, fingerprint, interpolate, mixture
from atodds.models.log_mixture import log_mixed, log_shares
from atodds.models.mixing import parse_alphas, sweep

SHAPE = (3, 8, 8)


def network(seed: int, name: str = "") -> Classifier:
    return Classifier(models.build("resnet8", SHAPE, 5, seed=seed), mean=0.4 + seed / 10, std=0.5, name=name).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return noise.uniform(torch.arange(6), SHAPE, seed=3, stream="images")


@pytest.fixture(scope="module")
def pair() -> tuple[Classifier, Classifier]:
    return network(0, "plain"), network(1, "robust")


def probabilities(logits: Tensor) -> Tensor:
    return logits.double().softmax(1)


Pair = tuple[Classifier, Classifier]


@pytest.mark.parametrize("alpha", [0.001, 0.3, 0.5, 0.96])
def test_a_mixture_is_the_log_of_the_mixed_probabilities_of_the_scaled_logits(
    pair: Pair, images: Tensor, alpha: float
) -> None:
    mixed = mixture(*pair, alpha, first_scale=1.2, second_scale=0.3)
    expected = (1 - alpha) * probabilities(1.2 * pair[0](images)) + alpha * probabilities(0.3 * pair[1](images))
    assert torch.allclose(mixed(images).double(), expected.log(), atol=1e-5)


def test_the_ends_are_the_classifiers_themselves_to_the_bit(pair: Pair, images: Tensor) -> None:
    assert torch.equal(mixture(*pair, 0)(images), pair[0](images))
    assert torch.equal(mixture(*pair, 1)(images), pair[1](images))
    assert torch.equal(mixture(*pair, 1.0, second_scale=0.5)(images), pair[1](images) * 0.5)


def test_at_an_end_the_other_classifier_is_not_asked(pair: Pair, images: Tensor) -> None:
    class Never(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError(f"asked for {len(images)} images")

    assert mixture(pair[0], Never(), 0)(images).shape == (6, 5)
    assert mixture(Never(), pair[1], 1)(images).shape == (6, 5)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6),
    st.floats(1e-6, 1 - 1e-6),
)
def test_answers_and_gradients_are_finite_however_sure_the_classifiers_are(values: list[float], alpha: float) -> None:
    first = torch.tensor([values[:3]], requires_grad=True)
    second = torch.tensor([values[3:]], requires_grad=True)
    mixed = log_mixed(first, second, math.log1p(-alpha), math.log(alpha))
    mixed.sum().backward()
    assert mixed.isfinite().all()
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad.isfinite().all()
    assert second.grad.isfinite().all()


@settings(deadline=None, max_examples=60)
@given(st.floats(-200, 200, width=32), st.sampled_from([(0.0, 1.0), (0.96, 1.0), (0.0, 0.1), (0.2, 0.7)]))
def test_the_shares_of_a_network_lie_in_its_span_and_have_finite_gradients(
    value: float, span: tuple[float, float]
) -> None:
    chosen = torch.tensor([[value]], dtype=torch.float64, requires_grad=True)
    log_rest, log_alpha = log_shares(chosen, span)
    exact = span[0] + (span[1] - span[0]) / (1 + math.exp(-max(min(value, 700), -700)))
    assert log_alpha.exp().item() == pytest.approx(exact, abs=1e-12)
    assert (log_rest.exp() + log_alpha.exp()).item() == pytest.approx(1, abs=1e-12)
    (log_rest + log_alpha).sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.isfinite().all()
    narrow = torch.tensor([[value]], requires_grad=True)
    parts = log_shares(narrow, span)
    log_mixed(torch.tensor([[90.0, 0.0]]), torch.tensor([[0.0, 90.0]]), *parts).sum().backward()
    assert narrow.grad is not None
    assert narrow.grad.isfinite().all()


def test_a_mixing_network_chooses_by_the_image_and_begins_in_the_middle_of_its_span(pair: Pair, images: Tensor) -> None:
    chooser = MixingNetwork(3, width=4)
    mixed = mixture(*pair, chooser, span=(0.2, 0.6))
    assert torch.allclose(mixed(images), mixture(*pair, 0.4)(images), atol=1e-6)
    with torch.no_grad():
        chooser.head.weight.fill_(1.0)
    shares = 0.2 + 0.4 * torch.sigmoid(chooser(images))
    expected = (1 - shares) * probabilities(pair[0](images)) + shares * probabilities(pair[1](images))
    assert shares.std() > 0
    assert torch.allclose(mixed(images).double(), expected.log(), atol=1e-5)


def test_gradients_flow_through_both_classifiers_and_the_mixing_network(images: Tensor) -> None:
    pair, chooser = (network(0), network(1)), MixingNetwork(3, width=4)
    with torch.no_grad():
        chooser.head.weight.fill_(1.0)
    mixed = Mixture(*pair, chooser)
    inputs = images.clone().requires_grad_()
    mixed(inputs)[:, 0].sum().backward()
    for part in (pair[0], pair[1], chooser):
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in part.parameters())
    assert inputs.grad is not None
    step = torch.zeros_like(images[:1])
    step[0, 1, 3, 4] = 1e-4
    double = copy.deepcopy(mixed).double()
    rise = double((images[:1] + step).double())[0, 0] - double((images[:1] - step).double())[0, 0]
    assert inputs.grad[0, 1, 3, 4].item() == pytest.approx(rise.item() / 2e-4, rel=0.02, abs=1e-5)


def test_each_branch_keeps_its_own_normalisation(pair: Pair, images: Tensor) -> None:
    bare = [each.network((images - mean) / 0.5) for each, mean in zip(pair, (0.4, 0.5), strict=True)]
    expected = 0.5 * probabilities(bare[0]) + 0.5 * probabilities(bare[1])
    assert torch.allclose(mixture(*pair, 0.5)(images).double(), expected.log(), atol=1e-5)


def test_the_fingerprint_covers_both_classifiers_the_share_and_the_scales(pair: Pair) -> None:
    third = network(2)
    kinds = [
        mixture(*pair, 0.3),
        mixture(*pair, 0.4),
        mixture(pair[1], pair[0], 0.3),
        mixture(pair[0], third, 0.3),
        mixture(third, pair[1], 0.3),
        mixture(*pair, 0.3, first_scale=1.2),
        mixture(*pair, 0.3, second_scale=1.2),
        mixture(*pair, MixingNetwork()),
        mixture(*pair, MixingNetwork(), span=(0.96, 1.0)),
    ]
    assert len({fingerprint(kind) for kind in kinds}) == len(kinds)
    assert fingerprint(mixture(*pair, 0.3)) == fingerprint(mixture(*pair, 0.3))


def test_a_mixture_is_named_after_what_it_is_made_of(pair: Pair) -> None:
    made = mixture(*pair, 0.30000000000000004)
    assert made.name == "mix(plain,robust,0.3)"
    assert made.source == f"mix(plain@{fingerprint(pair[0])[:8]},robust@{fingerprint(pair[1])[:8]},0.3)"
    assert mixture(*pair, 0.5, name="half").name == "half"
    assert mixture(*pair, MixingNetwork()).name == "mix(plain,robust,network)"
    assert interpolate(pair[0], pair[0], 0.5).name == "mix-weights(plain,plain,0.5)"


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, True, "0.5", None])
def test_a_share_outside_of_0_to_1_is_refused(pair: Pair, alpha: float) -> None:
    with pytest.raises(ArgumentError, match="share from 0 to 1"):
        mixture(*pair, alpha)
    with pytest.raises(ArgumentError, match="share from 0 to 1"):
        interpolate(pair[0], pair[0], alpha)


@pytest.mark.parametrize(
    "wrong", [{"first_scale": 0.0}, {"second_scale": math.inf}, {"span": (0.5, 0.5)}, {"span": (-0.1, 1.0)}]
)
def test_scales_and_spans_that_mean_nothing_are_refused(pair: Pair, wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match="Give"):
        mixture(*pair, 0.5, **wrong)  # type: ignore[arg-type]


def test_classifiers_of_other_classes_and_choosers_of_other_shapes_are_told(pair: Pair, images: Tensor) -> None:
    other = models.build("linear", SHAPE, 7)
    with pytest.raises(ModelError, match=r"\(6, 5\) logits, the other \(6, 7\)"):
        mixture(pair[0], other, 0.5)(images)
    with pytest.raises(ModelError, match="one number an image"):
        mixture(*pair, nn.Flatten())(images)
    with pytest.raises(ArgumentError, match="not a classifier"):
        mixture(pair[0], 3, 0.5)  # type: ignore[arg-type]


def twins() -> Pair:
    """Two networks of one architecture, with batch norm statistics that differ."""
    made = []
    for seed in (0, 1):
        inner = models.build("resnet8", SHAPE, 5, seed=seed)
        inner.train()(noise.uniform(torch.arange(8), SHAPE, seed=seed, stream="batch") * (1 + seed))
        made.append(Classifier(inner, mean=0.5, std=0.5, name=f"twin{seed}").eval())
    return made[0], made[1]


def test_interpolation_mixes_every_float_of_the_state_dict_and_no_whole_number(images: Tensor) -> None:
    first, second = twins()
    with torch.no_grad():
        second.network.get_buffer("bn.num_batches_tracked").fill_(7)
    between = interpolate(first, second, 0.25)
    for key, held in between.network.state_dict().items():
        one, other = first.network.state_dict()[key], second.network.state_dict()[key]
        expected = 0.75 * one + 0.25 * other if held.is_floating_point() else one
        assert torch.allclose(held, expected, atol=1e-6), key
    assert between.mean is not None
    assert first.mean is not None
    assert torch.equal(between.mean, first.mean)
    assert torch.equal(interpolate(first, second, 0)(images), first(images))
    assert torch.equal(interpolate(first, second, 1)(images), second(images))
    assert not torch.equal(first(images), between(images))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Classifier(models.build("resnet14", SHAPE, 5), mean=0.5, std=0.5), "differ in name or shape"),
        (Classifier(models.build("resnet8", SHAPE, 6), mean=0.5, std=0.5), "head.weight"),
        (Classifier(models.build("resnet8", SHAPE, 5), mean=0.4, std=0.5), "settings or layers differ"),
        (models.build("resnet8", SHAPE, 5), "differ in name or shape"),
    ],
)
def test_networks_that_differ_in_more_than_weights_are_not_interpolated(other: nn.Module, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        interpolate(twins()[0], other, 0.5)


def test_a_sweep_has_the_classifiers_themselves_at_its_ends() -> None:
    first, second = twins()
    for by in ("outputs", "weights"):
        made = sweep(first, second, [0.5, 0, 1, 0.25, 0.5], by=by)
        assert made[0] is first
        assert made[-1] is second
        assert [models.name_of(model).rpartition(",")[2] for model in made[1:-1]] == ["0.25)", "0.5)"]
    with pytest.raises(ArgumentError, match="outputs or weights"):
        sweep(first, second, [0.5], by="magic")


def test_shares_are_written_like_budgets() -> None:
    assert parse_alphas("0:1:0.1") == pytest.approx([k / 10 for k in range(11)])
    assert parse_alphas("0.2,0.9") == (0.2, 0.9)
    for wrong in ("2", "-1", "a", "1:0:0.1", ""):
        with pytest.raises(ArgumentError, match="start:stop:step") as raised:
            parse_alphas(wrong)
        assert raised.value.argument == "alphas"
