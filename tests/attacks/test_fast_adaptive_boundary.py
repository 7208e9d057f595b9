"""FAB against closed forms: on linear models the closest fooling image is known, and so is each pass that finds it. Its
peer is in the slow tests."""

import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atodds.data
import atodds.models
from atodds import norms
from atodds.attacks import fast_adaptive_boundary
from atodds.attacks.fast_adaptive_boundary import fab, fab_targeted
from atodds.attacks.hyperplanes import toward
from atodds.attacks.pool import Balls
from atodds.errors import ArgumentError, ThreatError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat

Attack = Callable[..., Tensor]
every_norm = pytest.mark.parametrize("norm", NORMS)
either = pytest.mark.parametrize("attack", [fab, fab_targeted])

RADII: dict[Norm, float] = {"linf": 0.03, "l2": 0.3, "l1": 2.0}
SIZE = 48
SHAPE = (3, 4, 4)


def random(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draw, dtype=torch.float64) * (high - low) + low


def linear(classes: int, seed: int = 5) -> nn.Module:
    """No image of it is far from its boundaries: the biases stand for the mean image's logits."""
    layer = nn.Linear(SIZE, classes).double()
    with torch.no_grad():
        layer.weight.copy_(random(classes, SIZE, seed=seed, low=-1))
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer).requires_grad_(False)


def curved(classes: int = 5) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 12), nn.Tanh(), nn.Linear(12, classes)).double()
    with torch.no_grad():
        for number, value in enumerate(model.parameters()):
            value.copy_(random(*value.shape, seed=number + 3, low=-1))
    return model.requires_grad_(False)


def labelled(model: nn.Module, count: int, *, edge: bool) -> tuple[Tensor, Tensor]:
    """Images, a third of whose values are at the edge of the box or all of which are far from it, and predictions."""
    images = (
        random(count, *SHAPE, low=-0.25, high=1.25).clamp(0, 1) if edge else random(count, *SHAPE, low=0.4, high=0.6)
    )
    return images, model(images).argmax(1)


def distances(model: nn.Module, images: Tensor, labels: Tensor, norm: Norm) -> Tensor:
    """(N, K) from each image to the boundary between its label and each class of a linear model, within the box."""
    weight, bias = model[1].weight, model[1].bias  # type: ignore[index]
    logits, flat = images.flatten(1) @ weight.T + bias, images.flatten(1)
    away = torch.full_like(logits, torch.inf)
    for wrong in range(logits.shape[1]):
        normals = weight[wrong] - weight[labels]
        gap = logits.gather(1, labels[:, None])[:, 0] - logits[:, wrong]
        way = toward(flat, normals, gap, norm)
        reached = (way * normals).sum(1) >= gap - 1e-9
        away[:, wrong] = torch.where(reached, norms.length(way, norm), torch.inf)
    return away.scatter(1, labels[:, None], torch.inf)


# --- closed forms ------------------------------------------------------------------------------------------------


@every_norm
def test_far_from_the_box_a_linear_model_falls_at_the_closed_form(norm: Norm) -> None:
    """|z_y - z_i| / ‖w_y - w_i‖ in the dual norm, for the nearest of ten classes."""
    model = linear(10)
    images, labels = labelled(model, 40, edge=False)
    weight, logits = model[1].weight, model(images)  # type: ignore[index]
    slopes = weight[labels][:, None] - weight[None]
    dual = {"linf": slopes.abs().sum(2), "l2": slopes.norm(dim=2), "l1": slopes.abs().amax(2)}[norm]
    gaps = logits.gather(1, labels[:, None]) - logits
    exact = (gaps / dual).scatter(1, labels[:, None], torch.inf).amin(1)
    inside = exact < (0.35 if norm != "linf" else 0.39)  # no value leaves the box on the way
    assert int(inside.sum()) > 20
    for attack in (fab, fab_targeted):
        found = attack(model, images, labels, norm, steps=30)
        assert bool((model(found).argmax(1) != labels).all())
        ratio = norms.distance(found, images, norm)[inside] / exact[inside]
        assert float(ratio.min()) >= 1 - 1e-9
        assert float(ratio.max()) <= 1.006


@every_norm
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_where_the_box_binds_too(norm: Norm, classes: int) -> None:
    """Towards one class after another, the closest image of all is found; to many digits, with a step that hardly goes
    beyond the plane."""
    model = linear(classes)
    images, labels = labelled(model, 40, edge=True)
    exact = distances(model, images, labels, norm).amin(1)
    assert bool(exact.isfinite().all())
    found = fab_targeted(model, images, labels, norm, steps=10)
    ratio = norms.distance(found, images, norm) / exact
    assert bool((model(found).argmax(1) != labels).all())
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.max()) <= 1.01
    close = fab_targeted(model, images, labels, norm, steps=10, eta=1 + 1e-6)
    assert float((norms.distance(close, images, norm) / exact).max()) <= 1 + 1e-5


@every_norm
def test_targets_are_reached_at_the_distance_of_two_classes(norm: Norm) -> None:
    """With two classes a target is the other one, with more it must exceed all others."""
    for attack in (fab, fab_targeted):
        model = linear(2)
        images, labels = labelled(model, 30, edge=True)
        found = attack(model, images, labels, norm, targets=1 - labels, steps=10)
        assert torch.equal(model(found).argmax(1), 1 - labels)
        ratio = norms.distance(found, images, norm) / distances(model, images, labels, norm).amin(1)
        assert float(ratio.max()) <= 1.01
        many = linear(6)
        images, labels = labelled(many, 30, edge=False)
        targets = (labels + 1 + torch.arange(30) % 5) % 6
        found = attack(many, images, labels, norm, targets=targets, steps=60)
        assert float((many(found).argmax(1) == targets).double().mean()) > 0.85
        missed = many(found).argmax(1) != targets
        assert torch.equal(found[missed], images[missed])


# --- passes and threats ------------------------------------------------------------------------------------------


@every_norm
@pytest.mark.parametrize("classes", [2, 3, 12])
def test_an_image_leaves_as_soon_as_one_within_eps_is_found(norm: Norm, classes: int) -> None:
    """On a linear model the first step goes eta beyond the nearest boundary: a radius of 1.06 times the distance needs
    one step towards the right class, and one of 0.999 times takes all of them for nothing."""
    model = linear(classes)
    images, labels = labelled(model, 40, edge=False)
    away = distances(model, images, labels, norm)
    looked = min(9, classes - 1)
    ranked = model(images).scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)[:, :looked]
    exact = away.gather(1, ranked).amin(1)
    ids = torch.arange(40) * 3 + 5
    for share in (0.999, 1.06):
        for attack in (fab, fab_targeted):
            oracle = Oracle(model)
            found = attack(oracle, images, labels, Balls(norm, exact * share), steps=4, ids=ids)
            forwards, backwards = oracle.passes().of(ids)
            fooled = model(found).argmax(1) != labels
            assert bool((norms.distance(found, images, norm) <= exact * share).all())
            assert bool((fooled == (share > 1)).all())
            if share < 1 and attack is fab:
                assert forwards.unique().tolist() == [1 + 4 * (looked + 1)]
                assert backwards.unique().tolist() == [4 * looked]
            elif share < 1:
                assert forwards.unique().tolist() == [1 + 8 * looked]
                assert backwards.unique().tolist() == [4 * looked]
            elif attack is fab and norm != "linf":
                assert forwards.unique().tolist() == [looked + 2]
                assert backwards.unique().tolist() == [looked]
            elif attack is fab_targeted:
                first = away.gather(1, ranked[:, :1])[:, 0] <= exact * (1 + 1e-9)
                assert int(first.sum()) > 5
                assert bool((forwards[first] == 3).all())
                assert bool((backwards[first] == 1).all())


@every_norm
@either
def test_what_fools_beyond_eps_does_not_count(norm: Norm, attack: Attack) -> None:
    """It is kept, cut to the ball, where nothing is found within."""
    model = linear(2)
    images, labels = labelled(model, 20, edge=False)
    exact = distances(model, images, labels, norm).amin(1)
    found = attack(model, images, labels, Balls(norm, exact * 0.5), steps=5)
    assert torch.equal(model(found).argmax(1), labels)
    torch.testing.assert_close(norms.distance(found, images, norm), exact * 0.5, rtol=1e-9, atol=0)


@every_norm
@either
@pytest.mark.parametrize("restarts", [1, 2])
def test_every_image_has_a_radius_of_its_own(norm: Norm, attack: Attack, restarts: int) -> None:
    """Several radii at once give the images that one call for each radius gives, at most as many passes, and no limit
    gives what the norm alone gives."""
    model = curved()
    images, labels = labelled(model, 25, edge=True)
    radii = RADII[norm] * torch.tensor([0.0, 0.2, 1.0, 4.0, torch.inf], dtype=torch.float64)
    settings: dict[str, Any] = {"steps": 6, "restarts": restarts, "ids": torch.arange(25) + 3}
    oracle = Oracle(model)
    found = attack(oracle, images, labels, Balls(norm, radii.repeat(5)), **settings)
    for place, radius in enumerate(radii.tolist()):
        threat = Threat(norm, radius) if math.isfinite(radius) else norm
        one = Oracle(model)
        alone = attack(one, images, labels, threat, **settings)
        torch.testing.assert_close(found[place::5], alone[place::5], rtol=0, atol=1e-12)
        some = settings["ids"][place::5].contiguous()
        assert all(torch.equal(a, b) for a, b in zip(oracle.passes().of(some), one.passes().of(some), strict=True))


@every_norm
@either
def test_more_steps_come_closer(norm: Norm, attack: Attack) -> None:
    model = curved()
    images, labels = labelled(model, 30, edge=True)
    runs = [attack(model, images, labels, norm, steps=steps) for steps in (1, 3, 10)]
    away = [
        torch.where(model(found).argmax(1) != labels, norms.distance(found, images, norm), torch.inf) for found in runs
    ]
    for before, after in itertools.pairwise(away):
        assert bool((after <= before * (1 + 1e-12)).all())
    assert bool(away[2].isfinite().all())
    first = away[0].isfinite()
    assert int(first.sum()) > 5
    assert float(away[2][first].mean()) < 0.95 * float(away[0][first].mean())


@every_norm
def test_without_eps_an_image_leaves_once_one_that_is_near_enough_is_found(norm: Norm) -> None:
    model, oracle = curved(), Oracle(curved(), batch_size=64)
    images, labels = labelled(model, 30, edge=True)
    ids = torch.arange(30)
    usual = norms.distance(fab(model, images, labels, norm, steps=10), images, norm)
    enough = float(usual.median())
    found = fab(oracle, images, labels, norm, steps=10, enough=enough, classes=1, ids=ids)
    away, (_, backwards) = norms.distance(found, images, norm), oracle.passes().of(ids)
    assert bool(((backwards == 10) | ((away <= enough) & (away > 0))).all())
    assert int((backwards < 10).sum()) > 5
    again = fab(Oracle(model, batch_size=64), images, labels, norm, steps=10, enough=enough, classes=1, ids=ids)
    assert torch.equal(found, again)
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ArgumentError, match="enough"):
            fab(model, images, labels, norm, enough=wrong)


@every_norm
@either
def test_a_point_that_was_moved_back_and_still_fools_counts(norm: Norm, attack: Attack) -> None:
    """A step twice as far as the plane ends at 2 distances, a tenth of the way back at 1.8: the pass for the next
    gradient tells for nothing that this fools too, and the next step ends at 0.2 distances."""
    model = linear(2)
    images, labels = labelled(model, 20, edge=False)
    exact = distances(model, images, labels, norm).amin(1)
    for steps, times in ((1, 2.0), (2, 1.8)):
        found = attack(model, images, labels, norm, steps=steps, eta=2.0, alpha_max=0.0)
        near = exact < (0.2 if norm != "l1" else 0.15)
        assert int(near.sum()) > 5
        torch.testing.assert_close(norms.distance(found, images, norm)[near], exact[near] * times, rtol=1e-9, atol=0)


@every_norm
@either
def test_nothing_is_asked_for_images_that_need_nothing(norm: Norm, attack: Attack) -> None:
    """Wrong already, or without a radius: the image itself, after the pass that ranks the classes."""
    model = curved()
    images, labels = labelled(model, 9, edge=True)
    cases: list[tuple[Tensor, Threat | str]] = [
        ((labels + 1) % 5, Threat(norm, 0.1)),
        ((labels + 1) % 5, norm),
        (labels, Threat(norm, 0.0)),
    ]
    for given, threat in cases:
        oracle = Oracle(model)
        assert torch.equal(attack(oracle, images, given, threat), images)
        assert oracle.passes().forwards.tolist() == [1] * 9
        assert oracle.passes().backwards.tolist() == [0] * 9


@either
def test_restarts_begin_at_random_and_find_what_the_image_does_not_show(attack: Attack) -> None:
    """Where the gradient at the image is 0, only a start elsewhere leads on."""

    class Plateau(nn.Module):
        """The second class wins where the mean is above 0.52, but shows no slope within 0.001 of a mean of 0.5."""

        def forward(self, images: Tensor) -> Tensor:
            mean = images.flatten(1).mean(1)
            second = torch.where((mean - 0.5).abs() < 1e-3, 0 * mean - 0.02, mean - 0.52)
            return torch.stack([torch.zeros_like(mean), second], 1)

    images = torch.full((6, *SHAPE), 0.5, dtype=torch.float64)
    labels, model = torch.zeros(6, dtype=torch.int64), Plateau()
    threat = Threat("linf", 0.05)
    assert torch.equal(attack(model, images, labels, threat), images)
    runs = [attack(model, images, labels, threat, steps=20, restarts=12, seed=seed) for seed in (0, 0, 1)]
    assert bool((model(runs[0]).argmax(1) == 1).all())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert len({tuple(row) for row in runs[0].flatten(1).tolist()}) == 6


@either
@every_norm
def test_a_model_that_says_the_same_of_everything_gives_images_back(attack: Attack, norm: Norm) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([2.0, 1.0, -torch.inf]).repeat(len(images), 1) + 0 * images.flatten(1).sum(1)[:, None]

    images = random(4, *SHAPE)
    for threat in (Threat(norm, 0.1), norm):
        found = attack(Constant(), images, torch.zeros(4, dtype=torch.int64), threat, steps=3, restarts=2)
        assert torch.equal(found, images)


@every_norm
def test_classes_are_looked_at_in_parts_where_memory_is_short(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    model = curved(6)
    images, labels = labelled(model, 20, edge=True)
    expected = fab(model, images, labels, norm, steps=5)
    for pairs in (1, SIZE, 3 * SIZE, 40 * SIZE):
        monkeypatch.setattr(fast_adaptive_boundary, "_PAIRS", pairs)
        torch.testing.assert_close(fab(model, images, labels, norm, steps=5), expected, rtol=0, atol=1e-12)


@either
def test_only_the_most_likely_classes_are_looked_at_when_asked(attack: Attack) -> None:
    """With one class, the boundary to the second most likely."""
    model = linear(8)
    images, labels = labelled(model, 40, edge=False)
    second = model(images).scatter(1, labels[:, None], -torch.inf).argmax(1)
    away = distances(model, images, labels, "l2")
    found = attack(model, images, labels, "l2", steps=1, classes=1)
    distance = norms.distance(found, images, "l2")
    expected = 1.05 * away.gather(1, second[:, None])[:, 0]
    torch.testing.assert_close(distance, expected, rtol=1e-6, atol=0)


@either
@every_norm
def test_in_reduced_precision_finds_are_confirmed_and_steps_are_not(
    attack: Attack, norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = curved().float()
    images, labels = labelled(curved(), 12, edge=False)
    exact: list[int] = []
    real = Oracle.logits

    def counted(oracle: Oracle, points: Tensor, ids: Tensor, *, exact: bool = False, seen: list[int] = exact) -> Tensor:
        seen += [len(points)] * exact
        return real(oracle, points, ids, exact=exact)

    monkeypatch.setattr(Oracle, "logits", counted)
    oracle = Oracle(model, precision="bfloat16")
    found = attack(oracle, images.float(), labels, norm, steps=40)
    fooled = model(found).argmax(1) != labels
    assert int(fooled.sum()) > 6
    assert torch.equal(found[~fooled], images.float()[~fooled])  # nothing that only seemed to fool was kept
    assert 0 < sum(exact) < int(oracle.passes().forwards.sum()) / 8
    closest = attack(Oracle(model), images.float(), labels, norm, steps=40)
    away, least = (norms.distance(points, images.float(), norm)[fooled] for points in (found, closest))
    assert float((away / least).median()) < 1.1  # bfloat16 cannot tell how near the nearest are


@either
@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0}, {"restarts": 0}, {"classes": 0}, {"alpha_max": -0.1}, {"alpha_max": 1.5}, {"beta": 2.0},
        {"beta": math.nan}, {"eta": 0.0}, {"eta": math.inf},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(attack: Attack, settings: dict[str, Any]) -> None:
    model = linear(3)
    with pytest.raises(ArgumentError, match=next(iter(settings))):
        attack(model, random(2, *SHAPE), torch.zeros(2, dtype=torch.int64), Threat("linf", 0.1), **settings)
    with pytest.raises(ThreatError):
        attack(model, random(2, *SHAPE), torch.zeros(2, dtype=torch.int64), "l3")


# --- beside the reference ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "norm", "eps"),
    [
        ("cifar10_smallresnet_robust", "linf", 2 / 255),
        ("cifar10_smallresnet_robust", "l2", 0.25),
        ("mnist_lenet5_robust", "linf", 0.3),
        ("mnist_lenet5_robust", "l2", 2.0),
    ],
)
@pytest.mark.parametrize("targeted", [False, True])
def test_torchattacks_comes_no_closer(shared: Path, network: str, norm: Norm, eps: float, targeted: bool) -> None:
    """As many images within eps after as many steps, and without a limit, no further away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchattacks = pytest.importorskip("torchattacks", reason="optional: pip install 'atodds[bench]'")
    model = atodds.models.load(f"{shared / 'models' / 'zoo.py'}:{network}").eval()
    every = atodds.data.load(shared / "data" / network.split("_")[0], limit=60)
    images, labels = every.images(), torch.from_numpy(every.labels)
    right = (model(images).argmax(1) == labels).nonzero()[:30, 0]
    images, labels, steps = images[right].contiguous(), labels[right], 10
    attack = fab_targeted if targeted else fab

    def theirs(limit: float) -> Tensor:
        peer = torchattacks.FAB(model, norm=norm.capitalize(), eps=limit, steps=steps, multi_targeted=targeted)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            found: Tensor = peer(images, labels)
        return found

    def away(found: Tensor) -> Tensor:
        distance = norms.distance(found.double(), images.double(), norm)
        return torch.where(model(found).argmax(1) != labels, distance, torch.inf)

    ours = away(attack(model, images, labels, Threat(norm, eps), steps=steps)) <= eps
    fooled = away(theirs(eps)) <= eps * (1 + 1e-6)
    assert 0 < int(fooled.sum()) < 30  # the question is one
    assert int(ours.sum()) >= int(fooled.sum())
    if not targeted:
        mine, others = away(attack(model, images, labels, norm, steps=steps)), away(theirs(1e9))
        both = mine.isfinite() & others.isfinite()
        assert int(mine.isfinite().sum()) >= int(others.isfinite().sum())
        assert float(mine[both].mean()) <= 1.01 * float(others[both].mean())
