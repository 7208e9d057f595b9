"""A classifier folds normalisation in, and refuses what cannot be one."""

import pytest
import torch
from torch import nn

from atodds.errors import ArgumentError, ModelError
from atodds.models import Card, Classifier, name_of
from atodds.models.classifier import Channels


def network(channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 4, 2))


def test_normalisation_is_what_the_network_would_have_got_by_hand() -> None:
    inner = network()
    images = torch.rand(5, 3, 2, 2)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    by_hand = inner((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    forms: list[tuple[Channels, Channels]] = [
        (mean, std),
        (mean.tolist(), std.tolist()),
        (mean.numpy(), std.numpy()),
        ("0.4,0.5,0.6", "0.2, 0.3,0.4"),
    ]
    for given_mean, given_std in forms:
        assert torch.equal(Classifier(inner, mean=given_mean, std=given_std)(images), by_hand)


def test_without_mean_and_std_images_pass_unchanged() -> None:
    inner, images = network(), torch.rand(5, 3, 2, 2)
    assert torch.equal(Classifier(inner)(images), inner(images))
    assert Classifier(inner, mean=0.0, std=1.0).mean is None


def test_one_number_serves_all_channels() -> None:
    inner, images = network(), torch.rand(5, 3, 2, 2)
    assert torch.equal(Classifier(inner, mean=0.5, std=0.25)(images), inner((images - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ([0.5], None, "go together"),
        (None, 0.5, "go together"),
        ([0.5, 0.5], [0.5, 0.5, 0.5], "3 numbers beside 2"),
        ([0.5] * 3, [0.5, 0.0, 0.5], "not positive"),
        ([0.5] * 3, [0.5, -0.1, 0.5], "not positive"),
        ([float("nan")], [1.0], "not finite"),
        ([0.5], [float("inf")], "not finite"),
        ([], [], "not finite"),
        ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], "Divide it by 255"),
        ("0.5;0.5", "0.5", "not numbers"),
        ("", "0.5", "not numbers"),
        (object(), 0.5, "not numbers"),
    ],
)
def test_a_mean_or_std_that_cannot_be_is_refused(mean: Channels, std: Channels, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Classifier(network(), mean=mean, std=std)


def test_images_with_other_channels_than_the_mean_are_refused_rather_than_broadcast() -> None:
    coloured = Classifier(network(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.2, 0.2])
    with pytest.raises(ModelError, match="3 numbers, but the images are 1x2x2"):
        coloured(torch.rand(5, 1, 2, 2))


def test_images_of_another_shape_than_the_card_are_refused() -> None:
    made = Classifier(network(), name="small", card=Card("mlp", {"width": 1}, (3, 2, 2), ("a", "b")))
    assert made(torch.rand(1, 3, 2, 2)).shape == (1, 2)
    with pytest.raises(ModelError, match=r"small takes images of 3x2x2, not 1x8x8"):
        made(torch.rand(1, 1, 8, 8))


def test_it_keeps_the_mode_of_its_network() -> None:
    assert not Classifier(network().eval()).training
    assert Classifier(network()).training
    partly = nn.Sequential(network(), nn.Dropout().eval())
    Classifier(partly)
    assert partly.training
    assert not partly[1].training


def test_mean_and_std_follow_the_model_to_another_type() -> None:
    double = Classifier(network(), mean=0.5, std=0.25).double()
    assert double(torch.rand(1, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64


def test_the_caller_s_tensor_may_change_afterwards() -> None:
    mean = torch.tensor([0.5, 0.5, 0.5])
    made = Classifier(network(), mean=mean, std=0.5 * torch.ones(3))
    mean += 1
    assert made.mean is not None
    assert made.mean.max() == 0.5


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", " blank ", 7])
def test_a_name_that_would_spoil_a_table_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="name"):
        Classifier(network(), name=name)


def test_something_else_than_a_module_is_refused() -> None:
    with pytest.raises(ArgumentError, match="Wrap the function"):
        Classifier(lambda images: images)  # type: ignore[arg-type]


def test_a_name_is_its_own_then_the_fallback_then_the_class() -> None:
    assert name_of(Classifier(network(), name="mine"), "other") == "mine"
    assert name_of(Classifier(network()), "other") == "other"
    assert name_of(network(), "other") == "other"
    assert name_of(network()) == "Sequential"
