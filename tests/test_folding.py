"""The folded form of a model against the model: in float64, logits and gradients must agree to the last digits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.made import filled
from torch import Tensor, fx, nn
from torch.nn import functional

from atodds.folding import fold

HEIGHT, WIDTH, CLASSES = 9, 8, 3


def drawn(channels: int, count: int = 5, seed: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, HEIGHT, WIDTH, generator=draw, dtype=torch.float64)


def slopes(model: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    leaf = images.clone().requires_grad_(True)
    logits = model(leaf)
    weights = torch.arange(1.0, logits.shape[1] + 1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((logits.sin() @ weights).sum(), leaf)
    return logits.detach(), gradient


def check(model: nn.Module, images: Tensor) -> fx.GraphModule:
    """The form, which says what the model says, in both layouts, with and without gradients."""
    form = fold(model, images)
    assert form is not None
    for layout in (torch.contiguous_format, torch.channels_last):
        given = images.contiguous(memory_format=layout)
        logits, gradient = slopes(form, given)
        expected, slope = slopes(model, given)
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            torch.testing.assert_close(form(given), expected, rtol=1e-9, atol=1e-9)
    return form


def called(form: fx.GraphModule) -> list[Any]:
    """What the nodes of a graph call: classes of modules, functions, names of methods."""
    nodes = [node for node in form.graph.nodes if node.op.startswith("call")]
    return [type(form.get_submodule(node.target)) if node.op == "call_module" else node.target for node in nodes]


NORMALISED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "as it comes": lambda x, mean, std: x,  # noqa: ARG005
    "mean and std": lambda x, mean, std: (x - mean) / std,
    "methods": lambda x, mean, std: x.sub(mean).div(std),
    "one number": lambda x, mean, std: 2 * x - 1,  # noqa: ARG005
    "negative": lambda x, mean, std: torch.sub(0.5, x) * 4 + mean,  # noqa: ARG005
}


class Stem(nn.Module):
    """A normalisation and a first convolution, with a batch norm or without, and what comes after them."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalised: str, convolution: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.normalised, self.convolution, self.norm = NORMALISED[normalised], convolution, norm
        self.register_buffer("mean", torch.rand(convolution.in_channels, 1, 1))
        self.register_buffer("std", torch.rand(1, convolution.in_channels, 1, 1))
        self.last = nn.Linear(convolution.out_channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.convolution(self.normalised(images, self.mean, self.std)))
        logits: Tensor = self.last(functional.relu(maps).mean((2, 3)))
        return logits


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_normalisations_and_norms_go_into_convolutions_of_every_kind(data: st.DataObject) -> None:
    groups, per_group = data.draw(st.sampled_from([1, 1, 2])), data.draw(st.integers(1, 3))
    channels, made = groups * per_group, groups * data.draw(st.integers(1, 20))
    kernel = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    padding = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    mode: Any = data.draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    convolution = nn.Conv2d(
        channels, made, kernel, data.draw(st.integers(1, 3)), padding, data.draw(st.integers(1, 2)), groups,
        bias=data.draw(st.booleans()), padding_mode=mode,
    )  # fmt: skip
    norm = data.draw(st.sampled_from([nn.Identity(), nn.BatchNorm2d(made), nn.BatchNorm2d(made, affine=False)]))
    normalised = data.draw(st.sampled_from(list(NORMALISED)))
    model = filled(Stem(normalised, convolution, norm), data.draw(st.integers(0, 99)))
    assume(normalised != "as it comes" or isinstance(norm, nn.BatchNorm2d))
    images = drawn(channels)
    assume(all(size > 0 for size in convolution(images).shape))
    found = called(check(model, images))
    assert nn.BatchNorm2d not in found
    assert not {torch.sub, "sub", "div"} & set(found)


def test_a_summand_for_each_place_is_used_where_it_is_small() -> None:
    """At borders, zeros stand for the mean: what is left of the normalisation is another number at each place."""

    def kinds(width: int, stride: int, padding: int) -> set[str]:
        model = filled(Stem("mean and std", nn.Conv2d(2, width, 3, stride, padding), nn.Identity()))
        return {str(getattr(each, "__name__", each)) for each in called(check(model, drawn(2)))}

    assert "_plus" in kinds(4, 1, 1)
    assert "_moved" in kinds(5, 1, 1)  # more than twice the values of an image
    assert "_plus" in kinds(14, 2, 1)
    assert not {"_plus", "_moved"} & kinds(16, 1, 0)  # without a border it is a bias


class Block(nn.Module):
    """A residual block with three kinds of shortcut; sums are written in three ways."""

    def __init__(self, shortcut: str, plus: str) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.second, self.norm2 = nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.across = {"identity": nn.Identity(), "layer": nn.Conv2d(4, 4, 1), "pool": nn.AvgPool2d(3, 1, 1)}[shortcut]
        self.plus, self.rectifier, self.last = plus, nn.ReLU(), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.rectifier(self.norm1(self.first(images)))
        y = self.norm2(self.second(x))
        match self.plus:
            case "left":
                y = y + self.across(x)
            case "right":
                y = torch.add(self.across(x), y)
            case "method":
                y = self.across(x).add(y)
            case "in place":
                y += self.across(x)
        logits: Tensor = self.last(self.rectifier(y).mean((2, 3)))
        return logits


@pytest.mark.parametrize("plus", ["left", "right", "method", "in place"])
@pytest.mark.parametrize("shortcut", ["identity", "layer", "pool"])
def test_residual_blocks_write_where_nobody_reads(shortcut: str, plus: str) -> None:
    found = [str(getattr(each, "__name__", each)) for each in called(check(filled(Block(shortcut, plus)), drawn(3)))]
    assert "BatchNorm2d" not in found
    assert found.count("relu_") == 2
    assert found.count("_sum") == 1


class Rereads(nn.Module):
    """Maps that are read twice, or written into by the model: nothing may be folded or overwritten there."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.second = way, nn.Conv2d(2, 3, 3, 1, 1), nn.Conv2d(3, 3, 3, 1, 1)
        self.norm, self.last = nn.BatchNorm2d(3), nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images * 2 - 1)
        match self.way:
            case "norm":
                x = self.norm(x) + x
            case "rectifier":
                x = functional.relu(x) * x
            case "sum":
                x = (x + self.second(x)) * x
            case "same":
                x = x + x
            case "written":
                y = self.second(x)
                z = x.mul(3)
                z.add_(y)
                x = functional.relu(z) + z * y
            case "image":
                x = x + (images * 2 - 1).mean(1, keepdim=True)
            case "normalised":
                z = images * 2 - 1
                x = self.first(z) + z.mean(1, keepdim=True)
        logits: Tensor = self.last(functional.relu(self.norm(self.second(x))).mean((2, 3)))
        return logits


@pytest.mark.parametrize("way", ["norm", "rectifier", "sum", "same", "written", "image", "normalised"])
def test_what_others_read_is_left_alone(way: str) -> None:
    check(filled(Rereads(way)), drawn(2))


class Linears(nn.Module):
    """Batch norms after linear layers, of features and of sequences of them."""

    def __init__(self, sequence: bool) -> None:
        super().__init__()
        self.sequence, self.first = sequence, nn.Linear(WIDTH, 5)
        self.norm, self.last = nn.BatchNorm1d(HEIGHT if sequence else 5), nn.Linear(5, CLASSES)
        self.middle = nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = images.mean(1) if self.sequence else images.mean((1, 2))
        x = torch.relu(self.middle(torch.relu(self.norm(self.first(x)))))
        logits: Tensor = self.last(x.mean(1) if self.sequence else x)
        return logits


def test_norms_of_features_are_folded_and_those_of_sequences_are_not() -> None:
    assert nn.BatchNorm1d not in called(check(filled(Linears(False)), drawn(2)))
    assert nn.BatchNorm1d in called(check(filled(Linears(True)), drawn(2)))


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), dilation=st.integers(1, 2), channels=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_gradients_by_products_are_those_of_convolutions(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: int, channels: int
) -> None:
    layer = nn.Conv2d(channels, 4, kernel, stride, padding, dilation)
    assume(all(size + 2 * pad >= dilation * (side - 1) + 1
               for size, pad, side in zip((HEIGHT, WIDTH), padding, kernel, strict=True)))  # fmt: skip
    model = filled(nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    found = [each.__name__ for each in called(check(model, drawn(channels))) if isinstance(each, type)]
    few = kernel[0] * kernel[1] <= 9 * stride[0] * stride[1]
    assert ("_Multiplied" in found) == few


def test_a_form_shares_weights_and_leaves_the_model_as_it_is() -> None:
    model = filled(Block("layer", "left"))
    before = {name: (tensor.clone(), tensor._version) for name, tensor in model.state_dict().items()}
    form = check(model, drawn(3))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor._version == before[name][1]
    held = {parameter.data_ptr() for parameter in form.parameters()}
    assert model.get_parameter("last.weight").data_ptr() in held
    assert model.get_parameter("across.weight").data_ptr() in held


def test_models_with_nothing_to_fold_or_that_cannot_be_traced_have_no_form() -> None:
    class Asks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :3] if images.sum() > 0 else images.flatten(1)[:, 1:4]

    assert fold(nn.Sequential(nn.Flatten(), nn.Linear(2 * HEIGHT * WIDTH, 3)).double().eval(), drawn(2)) is None
    assert fold(Asks(), drawn(2)) is None
    hooked = filled(Block("layer", "left"))
    hooked.register_forward_hook(lambda *_: None)
    assert fold(hooked, drawn(3)) is None
