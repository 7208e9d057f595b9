"""EAD: what only it promises. Its distances are held to closed forms in `test_closed_forms.py`."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import elastic_net
from atodds.errors import ArgumentError, UnknownNameError

SHAPE = (1, 4, 4)


def curved() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=draw))
    return model.requires_grad_(False).eval()


def labelled(model: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    images = torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1))
    return images, model(images).argmax(1)


def test_it_is_the_ead_of_foolbox() -> None:
    """The same steps at the same constants. Foolbox looks at the shrunk points, and goes on outside the box by the
    momentum; here the points at which gradients are taken are looked at, and stay inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox", reason="foolbox is optional: pip install 'atodds[bench]'")
    model = curved()
    images, labels = labelled(model, 12)
    attack = foolbox.attacks.EADAttack(
        binary_search_steps=6, steps=100, initial_const=0.01, regularization=1e-3, decision_rule="L1", abort_early=False
    )
    theirs = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=None)[0]
    ours = elastic_net(model, images, labels, searches=6, steps=100, stop=False, refine=0)
    fooled = model(ours).argmax(1) != labels
    assert torch.equal(fooled, (theirs != 0).flatten(1).any(1))  # foolbox gives black where it has found nothing
    assert int(fooled.sum()) >= 10
    ratio = (norms.distance(ours, images, "l1") / norms.distance(theirs, images, "l1"))[fooled]
    assert float((ratio - 1).abs().median()) < 0.02
    assert float((ratio - 1).abs().max()) < 0.1


def test_each_rule_is_best_at_its_own() -> None:
    model = curved()
    images, labels = labelled(model, 24)
    found = {
        rule: elastic_net(model, images, labels, rule=rule, beta=0.05, searches=5, steps=60, stop=False, refine=0)
        for rule in ("l1", "elastic-net")
    }
    size = {rule: norms.distance(points, images, "l1") for rule, points in found.items()}
    net = {rule: 0.05 * size[rule] + norms.distance(points, images, "l2") ** 2 for rule, points in found.items()}
    assert bool((size["l1"] <= size["elastic-net"] * (1 + 1e-6)).all())
    assert bool((net["elastic-net"] <= net["l1"] * (1 + 1e-6)).all())
    assert float((size["l1"] < size["elastic-net"]).double().mean()) > 0.2


def test_more_weight_on_l1_changes_fewer_values() -> None:
    model = curved()
    images, labels = labelled(model, 24)
    changed = []
    for beta in (1e-4, 1e-1):
        found = elastic_net(model, images, labels, beta=beta, searches=5, steps=100, refine=0)
        changed.append(float(norms.distance(found, images, "l0").mean()))
    assert changed[1] < changed[0] / 1.5


def test_bad_settings_are_refused() -> None:
    model = curved()
    images, labels = labelled(model, 2)
    with pytest.raises(UnknownNameError, match="elastic-net"):
        elastic_net(model, images, labels, rule="en")  # type: ignore[arg-type]
    for settings, argument in (({"beta": 0.0}, "beta"), ({"lr": -1.0}, "lr"), ({"threat": "l2"}, "threat")):
        with pytest.raises(ArgumentError, match=f"^{argument}="):
            elastic_net(model, images, labels, **settings)
