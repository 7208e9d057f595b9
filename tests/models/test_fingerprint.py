"""A fingerprint is the same for the same answers, and another where anything that decides them changes."""

import copy
import hashlib
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds.errors import ModelError
from atodds.models import Classifier, build, fingerprint, load


class Mode(Enum):
    SOFT, HARD = 1, 2


class Tempered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("mean", torch.full((4,), 0.5), persistent=False)
        self.register_buffer("steps", torch.tensor(3))
        self.temperature = 2.0
        self.shape: tuple[int, ...] = (4,)
        self.label: str | None = None
        self.scales = [1.0, 2.0]
        self.table = {"a": 1}
        self.plain = torch.ones(2)
        self.array = np.zeros(2)
        self.mode = Mode.SOFT
        self.activation: Callable[[Tensor], Tensor] = F.relu
        self.loose = [nn.Linear(2, 2)]
        self._note = "private"

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1) - self.get_buffer("mean")) / self.temperature
        return logits


def model() -> Tempered:
    made = Tempered()
    with torch.no_grad():
        for parameter in [*made.parameters(), *made.loose[0].parameters()]:
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape) / 10)
    return made


@pytest.fixture
def tempered() -> Tempered:
    return model()


def test_is_64_hex_digits_and_repeats(tempered: Tempered) -> None:
    assert len(fingerprint(tempered)) == 64
    assert int(fingerprint(tempered), 16) >= 0
    assert fingerprint(tempered) == fingerprint(model()) == fingerprint(copy.deepcopy(tempered))


def _set(name: str, value: object) -> Callable[[Tempered], None]:
    return lambda made: setattr(made, name, value)


def _weight(made: Tempered) -> None:
    made.linear.weight.data[0, 0] += 1e-7


def _loose_weight(made: Tempered) -> None:
    made.loose[0].weight.data[0, 0] += 1


def _buffer(made: Tempered) -> None:
    made.get_buffer("steps").add_(1)


def _hidden_buffer(made: Tempered) -> None:
    made.get_buffer("mean")[0] = 0.4


def _transposed(made: Tempered) -> None:
    made.linear.weight.data = made.linear.weight.data.flatten()[torch.randperm(12)].view(3, 4)


CHANGES: dict[str, Callable[[Tempered], object]] = {
    "a weight": _weight,
    "the places of weights": _transposed,
    "a buffer": _buffer,
    "a buffer that no state dict holds": _hidden_buffer,
    "the type of the weights": lambda made: made.double(),
    "a float": _set("temperature", 2.5),
    "a float to an int": _set("temperature", 2),
    "a tuple": _set("shape", (2, 2)),
    "a text": _set("label", "x"),
    "None to False": _set("label", False),
    "a list": _set("scales", [1.0, 3.0]),
    "a dict": _set("table", {"a": 2}),
    "a tensor that is no buffer": _set("plain", torch.zeros(2)),
    "an array": _set("array", np.ones(2)),
    "an enum": _set("mode", Mode.HARD),
    "a function": _set("activation", F.tanh),
    "a partial function": _set("activation", partial(F.leaky_relu, negative_slope=0.3)),
    "a weight of a module in a plain list": _loose_weight,
    "another layer": lambda made: made.add_module("more", nn.ReLU()),
    "the class of a layer": lambda made: made.add_module("linear", nn.Identity()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_with(change: str, tempered: Tempered) -> None:
    before = fingerprint(tempered)
    CHANGES[change](tempered)
    assert fingerprint(tempered) != before


def _ran(made: Tempered) -> None:
    made.plain_cache = made(torch.rand(2, 4))


SAME: dict[str, Callable[[Tempered], object]] = {
    "the mode": lambda made: made.eval(),
    "frozen parameters": lambda made: made.requires_grad_(False),
    "a private attribute": lambda made: setattr(made, "_note", "other"),
    "the name of a device": lambda made: setattr(made, "device", "cuda:1"),
    "an attribute that is not simple": lambda made: setattr(made, "thing", object()),
    "what a forward pass left behind": _ran,
    "gradients": lambda made: made(torch.rand(2, 4)).sum().backward(),
    "the memory layout": lambda made: setattr(made.linear.weight, "data", made.linear.weight.data.t().contiguous().t()),
}


@pytest.mark.parametrize("change", SAME)
def test_does_not_change_with(change: str, tempered: Tempered) -> None:
    before = fingerprint(tempered)
    SAME[change](tempered)
    assert fingerprint(tempered) == before


def test_two_architectures_with_equal_weights_differ() -> None:
    relu, tanh = (nn.Sequential(nn.Linear(4, 4), kind(), nn.Linear(4, 2)) for kind in (nn.ReLU, nn.Tanh))
    tanh.load_state_dict(relu.state_dict())
    assert fingerprint(relu) != fingerprint(tanh)
    once, twice = nn.Sequential(nn.Flatten(), relu), nn.Sequential(nn.Flatten(), nn.Flatten(), relu)
    assert fingerprint(once) != fingerprint(twice)


def test_a_layer_that_is_used_twice_counts_twice() -> None:
    relu, linear = nn.ReLU(), nn.Linear(2, 2)
    assert fingerprint(nn.Sequential(relu, linear, relu)) != fingerprint(nn.Sequential(relu, linear))
    assert fingerprint(nn.Sequential(relu, linear, relu)) == fingerprint(nn.Sequential(nn.ReLU(), linear, nn.ReLU()))


def test_strides_and_paddings_count() -> None:
    one, two = nn.Conv2d(1, 1, 3, stride=1), nn.Conv2d(1, 1, 3, stride=2)
    two.load_state_dict(one.state_dict())
    assert fingerprint(one) != fingerprint(two)


# ---- wrappers ------------------------------------------------------------------------------------------------------


def test_a_classifier_without_normalisation_is_its_network(tempered: Tempered) -> None:
    plain = fingerprint(tempered)
    assert fingerprint(Classifier(tempered, name="a", source="b")) == plain
    assert fingerprint(Classifier(Classifier(tempered))) == plain
    assert fingerprint(nn.DataParallel(tempered)) == plain


@pytest.mark.slow
def test_the_compiled_form_is_the_same_model(tempered: Tempered) -> None:
    compiled = torch.compile(tempered, backend="eager")
    assert isinstance(compiled, nn.Module)
    assert compiled is not tempered
    assert fingerprint(compiled) == fingerprint(tempered)


def test_normalisation_counts_but_how_it_is_written_does_not(tempered: Tempered) -> None:
    folded = fingerprint(Classifier(tempered, mean=[0.1], std=[0.5]))
    assert folded != fingerprint(tempered)
    assert folded == fingerprint(Classifier(tempered, mean=torch.tensor(0.1, dtype=torch.float64), std=np.array([0.5])))
    assert folded == fingerprint(Classifier(tempered, mean="0.1", std=0.5, name="other", source="elsewhere"))
    assert folded != fingerprint(Classifier(tempered, mean=[0.1], std=[0.6]))


def test_a_name_counts_in_no_depth(tempered: Tempered) -> None:
    one, two = (nn.Sequential(Classifier(tempered, mean=0.1, std=0.5, name=name)) for name in ("a", "b"))
    assert fingerprint(one) == fingerprint(two)


# ---- code ----------------------------------------------------------------------------------------------------------

SOURCE = """
from torch import nn
class Net(nn.Module):
    scale = 1.0
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        nn.init.ones_(self.linear.weight)
    def forward(self, x):
        return self.linear(x) * self.scale
"""


def _from_file(file: Path, source: str) -> str:
    file.write_text(source)
    return fingerprint(load(f"{file}:Net"))


def test_an_edited_forward_is_another_model_wherever_its_file_lies(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first = _from_file(tmp_path / "nets.py", SOURCE)
    assert _from_file(tmp_path / "elsewhere" / "moved.py", "# moved\n\n" + SOURCE) == first
    assert _from_file(tmp_path / "edited.py", SOURCE.replace("(x) *", "(x) /")) != first
    assert _from_file(tmp_path / "scaled.py", SOURCE.replace("scale = 1.0", "scale = 2.0")) != first


def test_the_fingerprint_of_a_network_of_ours_is_pinned() -> None:
    """What runs are resumed by: a change of this value makes every earlier result another model's."""
    made = build("cnn4", (1, 8, 8), 2, settings={"width": 1, "features": 2})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(0.25)
    assert fingerprint(made) == "cc0a8b83d0622db39ea378161f83a697db352708ba8a4186655a1bf260ceebd4"


# ---- odd models ----------------------------------------------------------------------------------------------------


def test_weights_without_values_are_refused() -> None:
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    for without in (empty, nn.LazyLinear(3)):
        with pytest.raises(ModelError, match="no values yet"):
            fingerprint(without)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.complex64, torch.int8, torch.bool])
def test_any_number_format_has_one(kind: torch.dtype) -> None:
    holder = nn.Module()
    holder.register_buffer("values", torch.tensor([[0, 1], [1, 0]]).to(kind))
    holder.register_buffer("scalar", torch.tensor(1).to(kind))
    holder.register_buffer("nothing", torch.zeros(0, 3).to(kind))
    before = fingerprint(holder)
    holder.get_buffer("values")[0, 0] = 1
    assert fingerprint(holder) != before


def test_sparse_and_conjugated_tensors_have_one() -> None:
    holder = nn.Module()
    holder.register_buffer("sparse", torch.eye(3).to_sparse())
    holder.register_buffer("conjugated", torch.tensor([1 + 2j]).conj())
    assert len(fingerprint(holder)) == 64


def test_a_module_without_anything_has_one_and_it_is_not_empty() -> None:
    assert fingerprint(nn.Identity()) != fingerprint(nn.Flatten()) != hashlib.sha256().hexdigest()


def test_a_module_that_meets_itself_ends() -> None:
    holder = nn.Sequential(nn.ReLU())
    object.__setattr__(holder, "around", [holder])
    assert len(fingerprint(holder)) == 64


def test_the_traced_form_has_one_and_its_code_counts() -> None:
    relu, tanh = (nn.Sequential(nn.Linear(2, 2), kind()) for kind in (nn.ReLU, nn.Tanh))
    tanh.load_state_dict(relu.state_dict())
    with pytest.warns(DeprecationWarning, match="trace"):
        traced = [torch.jit.trace(each, torch.rand(1, 2)) for each in (relu, tanh)]
    assert fingerprint(traced[0]) != fingerprint(traced[1])
