"""Models whose every verdict is known in closed form, and a small network that is worth attacking."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atodds import data
from atodds.data import ImageSet
from atodds.evaluation.conduct import described
from atodds.evaluation.manifest import DataInfo, Manifest, ModelInfo
from atodds.threat import Budget

Greys = Callable[..., ImageSet]
Manifests = Callable[..., Manifest]


class Brightness(nn.Module):
    """Class 0 where an image of 2x2 pixels is brighter than middle grey, class 1 where it is darker, in float64.

    The pixels count 4, 2, 2 and 1. So an image that is k/255 everywhere is d = |k - 127.5|/255 from the boundary in
    l-inf, 9/5 d in l2 (the length of the weights is 5), and 9/4 d in l1, where one pixel does it.
    """

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([4, 2, 2, 1], dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        light = (images.flatten(1) - 0.5) @ self.weights
        return torch.stack([light, -light], 1)


@pytest.fixture
def brightness() -> nn.Module:
    return Brightness()


@pytest.fixture
def greys() -> Greys:
    """A set of 2x2 images, each of one grey level out of 255."""

    def made(levels: Sequence[int], labels: Sequence[int], ids: Sequence[int] | None = None) -> ImageSet:
        pixels = np.asarray(levels, np.uint8)[:, None, None, None].repeat(2, 2).repeat(2, 3)
        return ImageSet.from_arrays(pixels, labels, classes=("light", "dark"), name="greys", ids=ids)

    return made


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return data.load("digits", limit=100)


@pytest.fixture(scope="session")
def trained() -> nn.Module:
    """A perceptron for the digits in float64 that is right on more than nine of ten."""
    return _fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))


@pytest.fixture(scope="session")
def fitted() -> Callable[[nn.Module], nn.Module]:
    return _fitted


def _fitted(network: nn.Module) -> nn.Module:
    """The network after 150 full-batch steps on the training digits, in float64 and evaluation mode."""
    images = data.load("digits", split="train")
    pixels, labels = images.images().double(), torch.from_numpy(images.labels)
    rng = np.random.default_rng(0)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1 / np.sqrt(parameter[0].numel() if parameter.ndim > 1 else 100)
            parameter.copy_(torch.from_numpy(rng.normal(0, scale, tuple(parameter.shape))))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pixels), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture
def info(brightness: nn.Module) -> ModelInfo:
    return described("brightness", brightness)


@pytest.fixture
def manifest(info: ModelInfo) -> Manifests:
    """A manifest like any other, with what a test wants different."""

    def made(**changes: object) -> Manifest:
        usual: dict[str, object] = {
            "models": (info,),
            "data": DataInfo("greys", "", "all", "ab" * 32, 3, ("light", "dark"), (1, 2, 2)),
            "norm": "linf",
            "budgets": (Budget(1 / 255, "1/255"), Budget(2 / 255, "2/255")),
            "attacks": ("fgsm", "pgd"),
            "alone": False,
            "seed": 0,
            "precision": "full",
            "eot": 1,
            "keep": True,
            "jobs": ("0" * 32, "1" * 32),
            "transfers": (),
            "looks": ("2" * 32,),
            "batch_sizes": {info.id: (64, 32)},
            "channels_last": {info.id: ("forward",)},
            "in_part": {info.id: True},
            "outputs": {info.id: 3},
            "random": (),
            "command": "atodds bench 'naïve model.py:make'",
            "commit": "",
            "versions": {"atodds": "0.1.0"},
            "machine": {"device": "cpu"},
            "created": "2026-01-01T00:00:00+00:00",
        }
        return Manifest(**(usual | changes))  # type: ignore[arg-type]

    return made


@pytest.fixture(autouse=True)
def temporary_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without a folder of their own leave nothing behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
