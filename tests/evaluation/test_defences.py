"""Nine defences that only hide the gradient: each is told by the finding that names its cause, and falls to the
evaluation that the finding advises; honest networks raise nothing above a note."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import atodds
from atodds.attacks import pgd
from atodds.batching import Batching
from atodds.data import ImageSet
from atodds.evaluation import audit
from atodds.evaluation.conduct import described
from atodds.evaluation.manifest import Finding
from atodds.threat import Threat

EPS = "0.15"
LEVELS = 10
TEMPERATURE = 100.0


class Around(nn.Module):
    """A network, and what is done with it and its images."""

    def __init__(self, inner: nn.Module, idea: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.idea = inner, idea

    def forward(self, images: Tensor) -> Tensor:
        return self.idea(self.inner, images)


class Winners(nn.Module):
    """k-winners-take-all: the largest tenth of an image's activations, as they are, and 0 for the others (Xiao,
    Zhong, Zheng, "Enhancing adversarial defense by k-winners-take-all", ICLR 2020)."""

    def forward(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 10), 1).values[:, -1:]
        return (flat * (flat >= least)).view_as(values)


class SoftWinners(nn.Module):
    """The winners; backward, each value is weighed by how far it is above the least of them."""

    def forward(self, values: Tensor) -> Tensor:
        least = values.topk(max(1, values.shape[1] // 10), 1).values[:, -1:].detach()
        soft = values * torch.sigmoid(values - least)
        winners: Tensor = Winners()(values)
        return soft + (winners - soft).detach()


def rounded(inner: nn.Module, images: Tensor) -> Tensor:
    return inner((images * 255).round() / 255)  # type: ignore[no-any-return]


def rounded_straight(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images + ((images * 255).round() / 255 - images).detach())  # type: ignore[no-any-return]


def detached(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images.detach())  # type: ignore[no-any-return]


def loud(inner: nn.Module, images: Tensor) -> Tensor:
    return 1000 * inner(images)  # type: ignore[no-any-return]


def noisy(inner: nn.Module, images: Tensor) -> Tensor:
    return inner(images + 0.15 * torch.randn_like(images))  # type: ignore[no-any-return]


def sharp(inner: nn.Module, images: Tensor) -> Tensor:
    return 10 * inner(images)  # type: ignore[no-any-return]


def softmax(inner: nn.Module, images: Tensor) -> Tensor:
    return sharp(inner, images).softmax(1)


def resized(inner: nn.Module, images: Tensor) -> Tensor:
    """Of a random size, somewhere on black (Xie et al., "Mitigating adversarial effects through randomization", ICLR
    2018): up to a quarter larger."""
    widest = images.shape[-1] * 5 // 4
    side = int(torch.randint(images.shape[-1], widest + 1, ()))
    left, top = (int(torch.randint(0, widest - side + 1, ())) for _ in range(2))
    larger = functional.interpolate(images, size=(side, side), mode="bilinear")
    return inner(functional.pad(larger, (left, widest - side - left, top, widest - side - top)))  # type: ignore[no-any-return]


def levels(images: Tensor) -> Tensor:
    return ((torch.arange(LEVELS) + 0.5) / LEVELS)[:, None, None].to(images)


def thermometer(inner: nn.Module, images: Tensor) -> Tensor:
    """A channel for each level: 1 where the pixel is above it (Buckman et al., "Thermometer encoding", ICLR 2018)."""
    return inner((images > levels(images)).to(images))  # type: ignore[no-any-return]


def thermometer_ramps(inner: nn.Module, images: Tensor) -> Tensor:
    ramps = torch.sigmoid(LEVELS * (images - levels(images)))
    return inner(ramps + ((images > levels(images)).to(images) - ramps).detach())  # type: ignore[no-any-return]


def mlp(
    width: int = 64, activation: Callable[[], nn.Module] = nn.ReLU, inputs: int = 64, classes: int = 10
) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), activation(), nn.Linear(width, width), activation(),
        nn.Linear(width, classes),
    )  # fmt: skip


def fitted(
    network: nn.Module,
    *,
    steps: int = 100,
    temperature: float = 1.0,
    seed: int = 0,
    classes: int = 10,
    soft: Tensor | None = None,
    eps: float = 0.0,
) -> nn.Module:
    """The network trained on the digits, modulo `classes`, in float32: at a temperature, on soft labels, or against
    an adversary, where asked."""
    images = atodds.data.load("digits", split="train")
    pixels, labels = images.images(), torch.from_numpy(images.labels) % classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm):
                layer.reset_parameters()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        network.train()
        for step in range(steps):
            given = pixels
            if eps:
                given = pgd(network, pixels, labels, Threat("linf", eps), steps=3, seed=step, stop=False)
            optimizer.zero_grad()
            functional.cross_entropy(network(given) / temperature, labels if soft is None else soft).backward()
            optimizer.step()
    return network.eval()


@cache
def plain() -> nn.Module:
    return fitted(mlp())


@cache
def distilled() -> nn.Module:
    """Defensive distillation: a teacher at a temperature of 100, a student on what it says at that temperature, run at
    1 (Papernot et al., "Distillation as a defense to adversarial perturbations", S&P 2016)."""
    pixels = atodds.data.load("digits", split="train").images()
    soft = (fitted(mlp(), temperature=TEMPERATURE)(pixels) / TEMPERATURE).softmax(1).detach()
    return fitted(mlp(), temperature=TEMPERATURE, soft=soft, seed=1)


@cache
def winning(activation: type[nn.Module]) -> nn.Module:
    trained = fitted(mlp(128, Winners), steps=80)
    network = mlp(128, activation)
    network.load_state_dict(trained.state_dict())
    return network.eval()


@cache
def of_levels() -> nn.Module:
    return fitted(Around(mlp(inputs=64 * LEVELS), thermometer)).inner  # type: ignore[return-value]


@cache
def of_sizes() -> nn.Module:
    return fitted(Around(mlp(inputs=100), resized))


@dataclass(frozen=True)
class Defence:
    """How it is made; the finding, a word of its cause and one of its way out; and the evaluation that is right:
    what is attacked in its place, and how."""

    made: Callable[[], nn.Module]
    check: str
    cause: str
    way_out: str
    instead: Callable[[], nn.Module] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


MARGIN: dict[str, Any] = {"attacks": "pgd(steps=10,loss=margin)"}
DRAWS: dict[str, Any] = {"attacks": "pgd(steps=10,stop=False)", "eot": 20}
"""All steps are taken: an image that one draw misclassifies is not yet done."""

DEFENCES: dict[str, Defence] = {
    "8-bit rounding": Defence(
        lambda: Around(plain(), rounded),
        "rounded input",
        "rounds its input to about 256 levels",
        "straight through",
        lambda: Around(plain(), rounded_straight),
    ),
    "hidden detach": Defence(
        lambda: Around(plain(), detached), "cut gradient", "detach", "Take the cut out", lambda: plain()
    ),
    "logits × 1000": Defence(
        lambda: Around(plain(), loud), "saturated cross-entropy", "a scale on the logits", "loss=margin", None, MARGIN
    ),
    "defensive distillation": Defence(
        distilled, "saturated cross-entropy", "defensive distillation", "loss=dlr", None, MARGIN
    ),
    "k-winners-take-all": Defence(
        lambda: winning(Winners),
        "jumping outputs",
        "k-winners-take-all",
        "stand in backward",
        lambda: winning(SoftWinners),
    ),
    "added noise": Defence(lambda: Around(plain(), noisy), "random outputs", "added noise", "--eot 20", None, DRAWS),
    "random resizing": Defence(of_sizes, "random outputs", "random resizing", "--attacks rand", None, DRAWS),
    "thermometer code": Defence(
        lambda: Around(of_levels(), thermometer),
        "quantised input",
        "thermometer code",
        "ramps backward",
        lambda: Around(of_levels(), thermometer_ramps),
    ),
    "softmax outputs": Defence(
        lambda: Around(plain(), softmax),
        "softmax outputs",
        "probabilities",
        "Take the softmax off",
        lambda: plain(),
    ),
}
"""As in the table of docs/concepts/audit.md."""


@pytest.fixture(autouse=True)
def same_draws() -> Iterator[None]:
    """Random models draw from the global generator: the same in every run of the tests, and given back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def evaluated(
    model: nn.Module, images: ImageSet, eps: str = EPS, **settings: object
) -> tuple[float, Sequence[Finding]]:
    """Robust accuracy and findings."""
    usual: dict[str, Any] = {"attacks": "pgd(steps=10)", "batch_size": 100, "keep": False}
    run = atodds.evaluate({"model": model}, images, eps=eps, **(usual | settings))
    return run.robust_accuracy(eps.split(",")[-1]).value, run.audit


def before(model: nn.Module, images: ImageSet) -> tuple[Finding, ...]:
    return audit.before(described("model", model), model, images, Batching(64))


def loud_ones(findings: Sequence[Finding]) -> set[str]:
    return {finding.check for finding in findings if finding.severity != "note"}


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_is_told_by_its_cause_and_no_other(name: str, digits: ImageSet) -> None:
    defence = DEFENCES[name]
    found = before(defence.made(), digits)
    assert loud_ones(found) == {defence.check}
    (finding,) = found
    assert finding.severity == "warning"
    assert defence.cause in finding.meaning
    assert defence.way_out in finding.advice


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_falls_to_the_evaluation_that_is_advised(name: str, digits: ImageSet) -> None:
    defence = DEFENCES[name]
    naive, _ = evaluated(defence.made(), digits)
    right, _ = evaluated((defence.instead or defence.made)(), digits, **defence.settings)
    assert right <= naive - 0.1


def test_the_table_in_the_docs_is_this_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "audit.md").read_text()
    table = page.split("## Which finding catches which defence")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    told = {name: (finding, severity) for name, _, finding, severity, *_ in rows[1:] if name in DEFENCES}
    assert told == {name: (defence.check, "warning") for name, defence in DEFENCES.items()}


def normalised(inner: nn.Module, images: Tensor) -> Tensor:
    return inner((images - 0.3) / 0.35)  # type: ignore[no-any-return]


def unit(inner: nn.Module, images: Tensor) -> Tensor:
    spread, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
    return inner((images - mean) / (spread + 0.1))  # type: ignore[no-any-return]


def convolutional(width: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * width, 10),
    )  # fmt: skip


HONEST: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
    "one hidden layer": lambda: fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))),
    "tanh": lambda: fitted(mlp(activation=nn.Tanh), seed=1),
    "gelu, layer norm": lambda: fitted(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10)), seed=2
    ),
    "convolutional": lambda: fitted(convolutional(), steps=60, seed=3),
    "normalised": lambda: fitted(Around(mlp(), normalised), seed=4),
    "normalised by the image": lambda: fitted(Around(mlp(), unit), seed=5),
    "robustly trained": lambda: fitted(mlp(), eps=0.15, steps=60, seed=6),
    "overfit": lambda: fitted(mlp(128), steps=400, seed=7),
    "two classes": lambda: fitted(mlp(classes=2), classes=2, seed=8),
    "three classes": lambda: fitted(mlp(classes=3), classes=3, seed=9),
    "no bias": lambda: fitted(
        nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10, bias=False)), seed=10
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_networks_of_our_own_raise_nothing_above_a_note(name: str, digits: ImageSet) -> None:
    classes = {"two classes": 2, "three classes": 3}.get(name, 10)
    images = digits
    if classes < 10:
        images = ImageSet.from_arrays(digits.pixels(), digits.labels % classes, classes=("a", "b", "c")[:classes])
    _, found = evaluated(HONEST[name](), images, f"0.02,{EPS},0.3", attacks="basic,pgd(loss=margin)")
    assert loud_ones(found) == set()


SHARED = ("mnist_lenet5", "mnist_lenet5_robust", "cifar10_resnet20", "cifar10_smallresnet_robust")


def brought(shared: Path, factory: str, count: int) -> tuple[nn.Module, ImageSet]:
    images = atodds.data.load(factory.partition("_")[0], root=shared / "data", limit=count)
    return atodds.models.load(f"{shared / 'models' / 'zoo.py'}:{factory}").eval(), images


@pytest.mark.parametrize("factory", SHARED)
def test_real_networks_as_they_are_raise_nothing_above_a_note(shared: Path, factory: str) -> None:
    """More of them, with attacks after it, in test_audit.py."""
    assert loud_ones(before(*brought(shared, factory, 32))) == set()


def decoded(inner: nn.Module, images: Tensor) -> Tensor:
    """A thermometer code, and the mean of its channels in place of the pixel."""
    codes = (images[:, :, None] > levels(images)).to(images)
    return inner(codes.mean(2))  # type: ignore[no-any-return]


def shrunk(inner: nn.Module, images: Tensor) -> Tensor:
    """Random resizing for a network that takes one size: up to a fifth smaller, somewhere on black."""
    widest = images.shape[-1]
    side = int(torch.randint(widest * 4 // 5, widest + 1, ()))
    left, top = (int(torch.randint(0, widest - side + 1, ())) for _ in range(2))
    smaller = functional.interpolate(images, size=(side, side), mode="bilinear")
    return inner(functional.pad(smaller, (left, widest - side - left, top, widest - side - top)))  # type: ignore[no-any-return]


def winning_inside(inner: nn.Module, images: Tensor) -> Tensor:
    """k-winners-take-all in front of the first rectifier, behind the first convolution."""

    first = next(module for module in inner.modules() if isinstance(module, nn.Conv2d))
    hook = first.register_forward_hook(lambda _module, _given, output: Winners()(output))
    try:
        return inner(images)  # type: ignore[no-any-return]
    finally:
        hook.remove()


@pytest.mark.parametrize("factory", ["mnist_lenet5", "cifar10_smallresnet_robust"])
@pytest.mark.parametrize(
    ("idea", "check"),
    [
        (rounded, "rounded input"),
        (detached, "cut gradient"),
        (loud, "saturated cross-entropy"),
        (winning_inside, "jumping outputs"),
        (noisy, "random outputs"),
        (shrunk, "random outputs"),
        (decoded, "quantised input"),
        (softmax, "softmax outputs"),
    ],
)
def test_a_defence_around_a_real_network_is_told(
    shared: Path, factory: str, idea: Callable[[nn.Module, Tensor], Tensor], check: str
) -> None:
    model, images = brought(shared, factory, 32)
    assert loud_ones(before(Around(model, idea).eval(), images)) == {check}


def test_a_real_network_distilled_at_a_high_temperature_is_told(shared: Path) -> None:
    """Its last layer learns, at a temperature of 100, what the whole network says."""
    model, images = brought(shared, "mnist_lenet5", 100)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    features: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _module, given: features.append(given[0]))
    with torch.no_grad():
        soft = model(images.images()).softmax(1)
    hook.remove()
    optimizer = torch.optim.Adam(last.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(last(features[0]) / TEMPERATURE, soft).backward()
        optimizer.step()
    assert loud_ones(before(model, images)) == {"saturated cross-entropy"}
