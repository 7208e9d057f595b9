"""Beside the field's libraries, at the same settings, no image more is left standing: real networks, real images.

What a library returns is judged here, in the same way for all: another prediction than the label, in the box, and in
the ball up to rounding.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import atodds.data
import atodds.models
from atodds import norms
from atodds.attacks import fgsm, pgd
from atodds.threat import Norm, Threat

STEPS = 10
Peer = Callable[[nn.Module, Tensor, Tensor, float, float], Tensor]
"""(model, images, labels, eps, step size) -> images."""


def library(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they import names that are on their way out
        found: ModuleType = pytest.importorskip(name, reason=f"{name} is optional: pip install 'atodds[bench]'")
    return found


def of_foolbox(name: str, **settings: bool | int) -> Peer:
    def attack(model: nn.Module, images: Tensor, labels: Tensor, eps: float, size: float) -> Tensor:
        foolbox = library("foolbox")
        steps = {"steps": STEPS, "abs_stepsize": size} if name in ("LinfPGD", "L2PGD", "SparseL1DescentAttack") else {}
        kind = getattr(foolbox.attacks, name)(**steps, **settings)
        found: Tensor = kind(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=eps)[1]
        return found

    return attack


def of_torchattacks(name: str, **settings: bool) -> Peer:
    def attack(model: nn.Module, images: Tensor, labels: Tensor, eps: float, size: float) -> Tensor:
        steps = {"steps": STEPS, "alpha": size} if name != "FGSM" else {}
        found: Tensor = getattr(library("torchattacks"), name)(model, eps=eps, **steps, **settings)(images, labels)
        return found

    return attack


@pytest.fixture(
    scope="module", params=[pytest.param("cifar10_resnet20", marks=pytest.mark.slow), "cifar10_smallresnet_robust"]
)
def subject(request: pytest.FixtureRequest, shared: Path) -> tuple[str, nn.Module, Tensor, Tensor]:
    """Name, network, and 100 images that it classifies correctly, with their labels."""
    name = str(request.param)
    model = atodds.models.load(f"{shared / 'models' / 'zoo.py'}:{name}").eval()
    every = atodds.data.load(shared / "data" / "cifar10", limit=200)
    images, labels = every.images(), torch.from_numpy(every.labels)
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    assert int(right.sum()) >= 100
    return name, model, images[right][:100], labels[right][:100]


RADII: dict[tuple[str, Norm], float] = {
    ("cifar10_resnet20", "linf"): 0.5 / 255,
    ("cifar10_resnet20", "l2"): 0.1,
    ("cifar10_resnet20", "l1"): 2.0,
    ("cifar10_smallresnet_robust", "linf"): 3 / 255,
    ("cifar10_smallresnet_robust", "l2"): 0.4,
    ("cifar10_smallresnet_robust", "l1"): 5.0,
}
"""Radii at which some images fall and some do not."""


def fooled(model: nn.Module, found: Tensor, images: Tensor, labels: Tensor, threat: Threat) -> int:
    with torch.no_grad():
        other = model(found).argmax(1) != labels
    away = norms.distance(found.double(), images.double(), threat.norm)
    inside = (away <= threat.eps * (1 + 1e-4)) & ((found >= 0) & (found <= 1)).flatten(1).all(1)
    return int((other & inside).sum())


@pytest.mark.parametrize(
    ("norm", "random_start", "peer", "fewer"),
    [
        ("linf", False, of_foolbox("LinfPGD", random_start=False), 0.0),
        ("l2", False, of_foolbox("L2PGD", random_start=False), 0.0),
        ("linf", False, of_torchattacks("PGD", random_start=False), 0.0),
        ("l2", False, of_torchattacks("PGDL2", random_start=False), 0.0),
        # starts are drawn, and torchattacks draws its l2 starts nearer to the image: equal up to that
        ("linf", True, of_foolbox("LinfPGD", random_start=True), 0.02),
        ("l2", True, of_foolbox("L2PGD", random_start=True), 0.02),
        ("linf", True, of_torchattacks("PGD", random_start=True), 0.02),
        ("l2", True, of_torchattacks("PGDL2", random_start=True), 0.02),
        # another projection: behind on one network, ahead on the other
        ("l1", True, of_foolbox("SparseL1DescentAttack", random_start=True), 0.04),
    ],
    ids=["foolbox-Linf", "foolbox-L2", "torchattacks-Linf", "torchattacks-L2", "foolbox-Linf-random",
         "foolbox-L2-random", "torchattacks-Linf-random", "torchattacks-L2-random", "foolbox-L1-random"],
)  # fmt: skip
def test_pgd_fools_no_fewer_images(
    subject: tuple[str, nn.Module, Tensor, Tensor], norm: Norm, random_start: bool, peer: Peer, fewer: float
) -> None:
    name, model, images, labels = subject
    threat = Threat(norm, RADII[name, norm])
    size = 2.5 * threat.eps / STEPS
    ours = theirs = 0
    for seed in range(3 if random_start else 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            theirs += fooled(model, peer(model, images, labels, threat.eps, size), images, labels, threat)
        found = pgd(model, images, labels, threat, steps=STEPS, step_size=size, random_start=random_start, seed=seed)
        ours += fooled(model, found, images, labels, threat)
        assert 10 <= theirs / (seed + 1) <= 95  # the question is one
    assert ours >= theirs * (1 - fewer)


@pytest.mark.parametrize(
    ("norm", "peer"),
    [
        ("linf", of_foolbox("LinfFastGradientAttack", random_start=False)),
        ("l2", of_foolbox("L2FastGradientAttack", random_start=False)),
        ("linf", of_torchattacks("FGSM")),
    ],
    ids=["foolbox-Linf", "foolbox-L2", "torchattacks"],
)
def test_fgsm_proposes_the_same_images(subject: tuple[str, nn.Module, Tensor, Tensor], norm: Norm, peer: Peer) -> None:
    name, model, images, labels = subject
    threat = Threat(norm, RADII[name, norm])
    theirs = peer(model, images, labels, threat.eps, 0.0)
    ours = fgsm(model, images, labels, threat)
    away = norms.distance(ours, theirs, "linf")
    assert int((away > 1e-5).sum()) <= 2  # a gradient of exactly zero, summed in another order, has another sign
    assert fooled(model, ours, images, labels, threat) >= fooled(model, theirs, images, labels, threat)
