"""The networks of RobustBench have its parameter counts, its names and shapes, and its answers.

Names, shapes and logits were recorded from RobustBench 1.1.1 by benchmarks/robustbench_side_by_side.py, which compares
the two directly.
"""

import hashlib

import pytest
import torch
from torch import Tensor, nn

from atodds import models, noise
from atodds.models.networks import parameter_count
from atodds.models.robustbench import ENTRIES, BiT, MixedClassifier, PolicyNetwork, find, make
from atodds.models.robustbench.entries import CLASSES, MIXTURES, PLAIN, STATISTICS, renamed
from atodds.models.robustbench.wide import RobustWideResNet, wide
from atodds.models.wide import WideResNet


def digest(model: nn.Module) -> str:
    told = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("Peng2023Robust", 267_240_802),
        ("Wang2023Better_WRN-70-16", 266_796_506),
        ("Wang2023Better_WRN-28-10", 36_479_194),
        ("Bai2023Improving_edm", 566_924_388),
        ("Cui2023Decoupled_WRN-28-10", 36_479_194),
        ("cifar10/L2/Wang2023Better_WRN-28-10", 36_479_194),
        ("cifar100/Linf/Wang2023Better_WRN-28-10", 36_536_884),
        ("Rade2021Helper_R18_ddpm", 12_548_426),
        ("Bartoldson2024Adversarial_WRN-94-16", 365_915_610),
        ("Gowal2020Uncovering_34_20", 184_531_674),
        ("Cui2023Decoupled_WRN-34-10", 46_160_474),
        ("Standard", 36_479_194),
    ],
)
def test_parameter_counts_are_the_published_ones_and_cost_no_memory(spec: str, count: int) -> None:
    entry = find(spec)
    assert entry is not None
    network = make(entry)
    assert parameter_count(network) == count
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_the_parts_of_the_mixture_have_their_published_counts() -> None:
    entry = find("Bai2023Improving_edm")
    assert entry is not None
    network = make(entry)
    assert isinstance(network, MixedClassifier)
    counts = [parameter_count(part) for part in (*network.models, network.policy_net)]
    assert counts == [232_279_178, 266_796_506, 67_848_704]


@pytest.mark.parametrize(
    ("spec", "recorded"),
    [
        ("Wang2023Better_WRN-28-10", "cb9a7ceb183b54b48f8c6a09e39837cc61c4923e034d6f2e0c0c0fe536d0247a"),
        ("Wang2023Better_WRN-70-16", "61d36a8e32133fb793991731b3c4aea2a6849cb9c18e1e6fb894110cea0e21ba"),
        ("Peng2023Robust", "f22ded9b121fd01b5116c0d65648f28139803e3bcb763cf55637349a71ccaa23"),
        ("Rade2021Helper_R18_ddpm", "fd8db506d1ce0236c6b8265f080c338819b4f4b069345caac3ee7488d4546bf2"),
        ("Bai2023Improving_edm", "c4e860cb3bb9bcc5b87a648e4ae3a16c8c8b539feb8c5e6e2549f3fc8aff9901"),
    ],
)
def test_names_and_shapes_are_those_of_the_published_files(spec: str, recorded: str) -> None:
    entry = find(spec)
    assert entry is not None
    assert digest(make(entry)) == recorded


def drawn(model: nn.Module) -> nn.Module:
    """Weights and running statistics as a function of their names, as the recorded ones."""
    model = model.to_empty(device="cpu")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            flat = noise.normal(torch.arange(1), (tensor.numel(),), seed=1, stream=name).reshape(tensor.shape)
            kind = name.rpartition(".")[2]
            if tensor.ndim > 1:
                tensor.copy_(flat * (2 / tensor[0].numel()) ** 0.5)
            else:
                tensor.copy_((1 + 0.2 * flat).abs() if kind in ("weight", "running_var") else 0.1 * flat)
        else:
            tensor.zero_()
    return model.eval()


def small(name: str) -> nn.Module:
    with torch.device("meta"):
        if name == "wide":
            return wide(10, 10, 1)
        if name != "bit":
            return RobustWideResNet(10, stem=24, depths=(2, 3, 1), widths=(40, 72, 104), squeeze=0.25)
        return BiT(10, (1, 2, 1, 1), 1)


class Accurate(nn.Module):
    """As BiT does, a quarter and an eighth of the resolution after its first stages, and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 12, 2, 2)
        self.head = nn.Linear(12, 10)

    def staged(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.conv1(images)
        second = self.conv2(first.relu())
        return first, second, self.head(second.mean((2, 3)))


@pytest.fixture(scope="module")
def mixed() -> MixedClassifier:
    """A small mixture, its mixing network's number far from 0 and 1 before and after its normalisation."""
    mean, std = STATISTICS["cifar10"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = PolicyNetwork(8 + 16, 12 + 32, (16, 16, 16))
        settings = MIXTURES["cifar10", "Bai2023Improving_edm"]
        made = MixedClassifier(Accurate(), wide(10, 10, 1), policy, settings, mean=mean, std=std)  # type: ignore[arg-type]
    made.bn.running_var.fill_(0.01)  # type: ignore[union-attr]
    return made.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return (0.5 + 0.25 * noise.normal(torch.arange(2), (3, 32, 32), seed=1, stream="images")).clamp(0, 1)


def test_every_entry_can_be_built_and_is_written_in_one_way() -> None:
    assert len(ENTRIES) == len({entry.spec for entry in ENTRIES}) > 85
    for entry in ENTRIES:
        assert find(entry.spec.removeprefix("robustbench:")) is entry
        assert find(f"{entry.data}/{entry.threat}/{entry.id}") is entry
        assert entry.drive
        assert entry.by_hand.startswith("Open https://drive.google.com/file/d/")
    kinds = {(entry.network, entry.depth, entry.factor): entry for entry in ENTRIES}
    assert all(next(make(entry).parameters()).is_meta for entry in kinds.values())
    assert find("Nobody2030") is None
    assert find("imagenet/Linf/Standard") is None


RECORDED = {
    "wide": [[-1.540821, 0.879243, 1.599895], [-1.517110, 0.802838, 1.785709]],
    "robust architecture": [[2.364082, 1.940282, 0.182783], [2.428727, 1.842775, 0.141295]],
    "bit": [[0.237376, 0.555571, -0.047064], [0.219206, -0.290679, 0.983920]],
}
"""The first three logits that RobustBench's own classes give with the same weights, for two images."""


@pytest.mark.parametrize("name", RECORDED)
def test_logits_are_those_that_the_package_gives_with_the_same_weights(images: Tensor, name: str) -> None:
    mean, std = STATISTICS["cifar10"] if name != "bit" else ((0.5,) * 3, (0.5,) * 3)
    model = models.Classifier(drawn(small(name)), mean=mean, std=std)
    assert torch.allclose(model(images)[:, :3], torch.tensor(RECORDED[name]), atol=1e-4)


def test_files_of_the_trades_network_are_renamed_and_their_unused_stage_left_out(images: Tensor) -> None:
    ours = drawn(WideResNet((3, 32, 32), 10, depth=10, factor=1, width=16))
    theirs = {"conv1.weight": ours.state_dict()["conv.weight"], "fc.weight": ours.state_dict()["head.weight"]}
    theirs |= {"fc.bias": ours.state_dict()["head.bias"], "sub_block1.layer.0.bn1.weight": torch.zeros(3)}
    for name, tensor in ours.state_dict().items():
        part, *rest = name.split(".")
        if part == "bn":
            theirs[f"bn1.{rest[0]}"] = tensor
        elif part == "stages":
            layer = "convShortcut" if rest[1] == "shortcut" else rest[1]
            theirs[f"block{int(rest[0]) + 1}.layer.0.{layer}.{rest[2]}"] = tensor
    again = WideResNet((3, 32, 32), 10, depth=10, factor=1, width=16).eval()
    again.load_state_dict(renamed(theirs, 10))
    assert torch.equal(again(images), ours(images))
    assert {entry.network for entry in ENTRIES if entry.normalisation == ((0.0,), (1.0,))} == {PLAIN, "mixed"}


def test_the_mixture_is_equation_3_4_with_alpha_in_its_span(mixed: MixedClassifier, images: Tensor) -> None:
    images = images[:1]
    standard, robust = mixed.models
    mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in STATISTICS["cifar10"])
    larger = nn.functional.interpolate(images, (128, 128), mode="bilinear")
    first, second, accurate = standard.staged((larger - 0.5) / 0.5)  # type: ignore[operator]
    other, another, safe = robust.staged((images - mean) / std)  # type: ignore[operator]
    number = mixed.policy_net(torch.cat([first, other], 1), torch.cat([second, another], 1))
    alpha = 0.96 + 0.04 * torch.sigmoid(2 * mixed.bn(number) + 1.05)
    expected = (1 - alpha) * (1.2 * accurate).softmax(1) + alpha * (0.3 * safe).softmax(1)
    assert torch.allclose(mixed(images), expected.log(), atol=1e-4)
    inputs = images.clone().requires_grad_()
    mixed.models.requires_grad_(False)
    mixed(inputs)[:, 0].sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in mixed.policy_net.parameters())
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()


def test_the_mixture_answers_for_an_image_whatever_stands_beside_it_also_in_training_mode(
    mixed: MixedClassifier, images: Tensor
) -> None:
    both = mixed(images)
    mixed.bn.train()
    assert torch.allclose(both[:1], mixed(images[:1]), atol=1e-5)
    mixed.bn.eval()


def test_an_id_is_of_cifar10_and_linf_where_it_does_not_say() -> None:
    assert {entry.data: CLASSES[entry.data] for entry in ENTRIES} == {"cifar10": 10, "cifar100": 100}
    assert find("cifar100/Wang2023Better_WRN-28-10") is find("cifar100/Linf/Wang2023Better_WRN-28-10")
