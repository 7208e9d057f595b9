"""Networks that others trained are what their authors say they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atodds import data
from atodds.models import fingerprint, load, parameter_count

REAL = {
    "cifar10_resnet20": (269_722, 0.810, "cifar10"),
    "cifar10_smallresnet_robust": (112_006, 0.687, "cifar10"),
    "mnist_lenet5": (648_226, 0.989, "mnist"),
    "mnist_lenet5_robust": (648_226, 0.986, "mnist"),
}
EVERY = pytest.mark.parametrize("factory", REAL)
N = 300


@EVERY
def test_has_the_parameters_that_are_told(shared: Path, factory: str) -> None:
    assert parameter_count(load(f"{shared / 'models' / 'zoo.py'}:{factory}")) == REAL[factory][0]


def test_each_has_a_fingerprint_of_its_own_that_repeats(shared: Path) -> None:
    first, again = (
        [fingerprint(load(f"{shared / 'models' / 'zoo.py'}:{factory}")) for factory in REAL] for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == len(REAL)


def test_normalisation_by_hand_is_normalisation_folded_in(shared: Path, tmp_path: Path) -> None:
    source = (shared / "models" / "zoo.py").read_text()
    bare = tmp_path / "bare.py"
    bare.write_text(source + "\n\ndef bare():\n    return ResNetCifar(20)\n")
    weights = shared / "models" / "cifar10_resnet20.safetensors"
    folded = load(f"{bare}:bare@{weights}", mean="0.485,0.456,0.406", std="0.229,0.224,0.225")
    whole = load(f"{shared / 'models' / 'zoo.py'}:cifar10_resnet20")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(folded(images), whole(images))


@EVERY
def test_is_as_accurate_as_its_authors_say(shared: Path, factory: str) -> None:
    _, accuracy, name = REAL[factory]
    images = data.load(name, root=shared / "data", split="test", limit=N)
    model = load(f"{shared / 'models' / 'zoo.py'}:{factory}")
    with torch.no_grad():
        hits = model(images.images()).argmax(1).numpy() == images.labels
    deviation = np.sqrt(accuracy * (1 - accuracy) / N)
    assert hits.mean() == pytest.approx(accuracy, abs=4 * deviation)
