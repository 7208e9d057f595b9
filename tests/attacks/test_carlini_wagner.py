"""C&W: what only it promises. Its distances are held to closed forms in `test_closed_forms.py`."""

import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import atodds.data
import atodds.models
from atodds import norms
from atodds.attacks import carlini_wagner, elastic_net
from atodds.attacks.pool import Balls
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import Threat

SHAPE = (1, 4, 4)


def curved(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=draw))
    return model.to(dtype).requires_grad_(False).eval()


def labelled(model: nn.Module, count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    images = torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    return images, model(images).argmax(1)


def lead(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(N,) by how much another class than the label leads."""
    logits = model(images)
    others: Tensor = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    ahead: Tensor = others - logits.gather(1, labels[:, None])[:, 0]
    return ahead


def test_without_early_ends_it_is_the_cw_of_foolbox_image_by_image() -> None:
    """The same steps of Adam at the same constants; foolbox compares with an image that tanh has rounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox", reason="foolbox is optional: pip install 'atodds[bench]'")
    model = curved()
    images, labels = labelled(model, 12)
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=6, steps=60, initial_const=0.01, abort_early=False
    )
    theirs = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=None)[0]
    ours = carlini_wagner(model, images, labels, searches=6, steps=60, stop=False, refine=0)
    hit = lead(model, ours, labels) > 0
    assert torch.equal(hit, (theirs != 0).flatten(1).any(1))  # foolbox gives black where it has found nothing
    assert int(hit.sum()) >= 10
    ratio = (norms.distance(ours, images, "l2") / norms.distance(theirs, images, "l2"))[hit]
    assert float((ratio - 1).abs().median()) < 1e-4
    assert float(ratio.max()) < 1.002  # where a point lies on the boundary, rounding decides which side it is on


def test_it_ends_early_and_refines_for_less_and_gets_closer() -> None:
    model = curved()
    images, labels = labelled(model, 24)
    plain, ours = Oracle(model), Oracle(model)
    long = carlini_wagner(plain, images, labels, searches=6, steps=200, stop=False, refine=0)
    short = carlini_wagner(ours, images, labels, searches=6, steps=200)
    assert float(norms.distance(short, images, "l2").mean()) <= float(norms.distance(long, images, "l2").mean())
    assert set(plain.passes().backwards.tolist()) == {1200}
    passes = ours.passes().backwards
    assert float(passes.double().mean()) < 800
    assert len(set(passes.tolist())) > 3  # each image takes its own time


@pytest.mark.parametrize("confidence", [0.0, 3.0])
def test_images_that_fool_already_take_one_pass(confidence: float) -> None:
    """With confidence only where they do by so much; the others are moved until they do."""
    model = curved()
    images, right = labelled(model, 30)
    wrong = (right + 1) % 4
    before = lead(model, images, wrong)
    oracle = Oracle(model)
    found = carlini_wagner(oracle, images, wrong, steps=50, searches=5, confidence=confidence)
    enough = before >= confidence
    assert 0 < int(enough.sum()) <= 30
    assert torch.equal(found[enough], images[enough])
    assert set(oracle.passes().forwards[enough].tolist()) == {1}
    assert not oracle.passes().backwards[enough].any()
    if confidence:
        assert int((~enough).sum()) > 0
        assert bool((lead(model, found, wrong) >= confidence).all())
        assert bool((norms.distance(found, images, "l2")[~enough] > 0).all())


def test_with_a_threat_images_leave_as_soon_as_one_fools_within_it() -> None:
    model = curved()
    images, labels = labelled(model, 24)
    closest = carlini_wagner(model, images, labels, searches=5, steps=100)
    away = norms.distance(closest, images, "l2")
    oracle, free = Oracle(model), Oracle(model)
    balls = Balls("l2", away.double() * torch.tensor([2.0, 0.5]).double().repeat(12))
    found = carlini_wagner(oracle, images, labels, balls, searches=5, steps=100)
    carlini_wagner(free, images, labels, searches=5, steps=100)
    assert bool((norms.distance(found.double(), images.double(), "l2") <= balls.eps).all())
    fooled = lead(model, found, labels) > 0
    assert bool(fooled[::2].all())
    assert not fooled[1::2].any()
    spent, whole = oracle.passes().backwards[::2], free.passes().backwards[::2]
    assert bool((spent < whole).all())
    assert spent.sum() < whole.sum() / 3
    nothing = carlini_wagner(model, images, labels, Threat("l2", 0.0), searches=2, steps=5)
    assert torch.equal(nothing, images)


def test_what_fools_in_reduced_precision_fools_in_full() -> None:
    model = curved()
    images, labels = labelled(model, 24)
    for attack in (carlini_wagner, elastic_net):
        found = attack(Oracle(model, precision="bfloat16"), images, labels, searches=4, steps=60)
        moved = (found != images).flatten(1).any(1)
        assert float(moved.double().mean()) > 0.8
        assert bool((lead(model, found, labels)[moved] > 0).all())


@given(seed=st.integers(0, 10), confidence=st.sampled_from([0.0, 0.1, 2.0]), targeted=st.booleans())
@settings(max_examples=8, deadline=None)
def test_what_is_proposed_fools_by_the_confidence_or_is_the_image(seed: int, confidence: float, targeted: bool) -> None:
    model = curved(torch.float64)
    images, labels = labelled(model, 6, torch.float64)
    images = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = model(images).argmax(1)
    targets = (labels + 1 + torch.arange(6) % 3) % 4 if targeted else None
    for attack in (carlini_wagner, elastic_net):
        found = attack(model, images, labels, targets=targets, steps=30, searches=4, confidence=confidence)
        margin = lead(model, found, labels) if targets is None else -lead(model, found, targets)
        same = (found == images).flatten(1).all(1)
        assert bool((same | ((margin >= confidence) & (margin > 0))).all())


@pytest.mark.parametrize("attack", [carlini_wagner, elastic_net])
def test_a_model_that_nothing_fools_gives_the_images_back(attack: object) -> None:
    last = nn.Linear(16, 3)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    flat = nn.Sequential(nn.Flatten(), last)
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    found = attack(flat, images, torch.zeros(5, dtype=torch.int64), steps=40, searches=3)  # type: ignore[operator]
    assert torch.equal(found, images)


@pytest.mark.parametrize(
    ("changed", "argument"),
    [({"threat": "linf"}, "threat"), ({"threat": Threat("l1", 1.0)}, "threat"), ({"lr": 0.0}, "lr"),
     ({"steps": 0}, "steps"), ({"searches": 0}, "searches"), ({"refine": -1}, "refine"),
     ({"confidence": -1.0}, "confidence"), ({"initial": 0.0}, "initial")],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changed: dict[str, object], argument: str) -> None:
    model = curved()
    images, labels = labelled(model, 2)
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        carlini_wagner(model, images, labels, **changed)  # type: ignore[arg-type]


@pytest.mark.slow
def test_on_a_real_network_it_is_no_further_than_foolbox_for_fewer_gradients(shared: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox", reason="foolbox is optional: pip install 'atodds[bench]'")
    model = atodds.models.load(f"{shared / 'models' / 'zoo.py'}:cifar10_smallresnet_robust").eval()
    every = atodds.data.load(shared / "data" / "cifar10", limit=40, how="first")
    images, labels = every.images(), torch.from_numpy(every.labels)
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    images, labels, oracle = images[right], labels[right], Oracle(model)
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=6, steps=200, initial_const=0.01)
    theirs = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=None)[0]
    ours = carlini_wagner(oracle, images, labels, searches=6, steps=200)
    with torch.no_grad():
        assert bool((model(ours).argmax(1) != labels).all())
    assert float(norms.distance(ours, images, "l2").mean()) <= float(norms.distance(theirs, images, "l2").mean())
