"""Square Attack against closed forms: what each query may change, what it may spend, and where random search ends on a
linear model. Its peers are in the slow tests."""

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atodds.data
import atodds.models
from atodds import norms
from atodds.attacks.pool import Balls
from atodds.attacks.square import halvings, pyramids, sides, square
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat

RADII: dict[Norm, float] = {"linf": 0.05, "l2": 0.4, "l1": 2.0}
CENTRED: tuple[Norm, ...] = ("l1", "l2")


class Watched(nn.Module):
    """A linear model of two classes that remembers what it was shown. The second logit is 0."""

    def __init__(self, weights: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weights, self.bias, self.shown = nn.Parameter(weights), bias, list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.detach().clone())
        first = (images.flatten(1) * self.weights.flatten()).sum(1).detach() + self.bias
        return torch.stack([first, torch.zeros_like(first)], 1)


def random(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draw, dtype=torch.float64) * (high - low) + low


def robust(*shape: int) -> Watched:
    """A model that nothing within a radius of 3 fools, and whose loss every pixel moves."""
    return Watched(random(*shape, seed=9, low=-1), bias=1e4)


def whole(model: nn.Module) -> Oracle:
    """Shows it the whole pool at once."""
    return Oracle(model, batch_size=1000)


def zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


def curved(classes: int = 4, size: int = 75) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, 12), nn.Tanh(), nn.Linear(12, classes)).double()
    with torch.no_grad():
        for number, value in enumerate(model.parameters()):
            value.copy_(random(*value.shape, seed=number + 3, low=-1))
    return model.requires_grad_(False)


# --- the schedule ------------------------------------------------------------------------------------------------


def test_the_share_of_a_window_is_halved_as_in_the_reference() -> None:
    expected = {0: 0, 10: 0, 11: 1, 50: 1, 51: 2, 200: 2, 201: 3, 501: 4, 1001: 5, 2001: 6, 4001: 7, 6001: 8, 8001: 9}
    assert {query: halvings(query) for query in expected} == expected
    assert [halvings(query, 1000) for query in (1, 2, 5, 6, 999)] == [0, 1, 1, 2, 9]


def test_sides_of_windows() -> None:
    shares = [0.8 / 2**k for k in range(8)]
    assert [sides(share, 32, 32, centred=False)[0] for share in shares] == [29, 20, 14, 10, 7, 5, 4, 3]
    assert [sides(share, 32, 32, centred=True)[0] for share in shares] == [29, 21, 15, 11, 7, 5, 5, 3]
    for centred, height, width in itertools.product((False, True), (1, 2, 3, 5, 28), (1, 2, 3, 40)):
        for share in (*shares, 1.0, 1e-6):
            down, right = sides(share, height, width, centred=centred)
            assert 1 <= down <= height
            assert 1 <= right <= width
            assert (down, right) == tuple(reversed(sides(share, width, height, centred=centred)))
    assert sides(0.8, 1, 100, centred=False) == (1, 80)
    assert sides(0.8, 4, 50, centred=False) == (4, 40)
    assert sides(0.01, 1, 100, centred=True) == (1, 3)


def test_pyramids_stand_one_upon_the_other() -> None:
    """3x3 in l2: a row of 1 + 1/4 between two 1/4 above two rows, all brought to length 1, below with a minus."""
    above, beside = pyramids((3, 3), "l2", torch.zeros(1, dtype=torch.float64))
    upper = torch.tensor([[0.25, 1.25, 0.25]], dtype=torch.float64)
    lower = torch.tensor([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]], dtype=torch.float64)
    expected = torch.cat([upper / upper.norm(), -lower / lower.norm()]) / math.sqrt(2)
    torch.testing.assert_close(above, expected)
    torch.testing.assert_close(beside, expected.T)
    upper, lower = (torch.where(half < 1, 1 / 16, 17 / 16).double() for half in (upper, lower))
    expected = torch.cat([upper / upper.sum(), -lower / lower.sum()]) / 2
    torch.testing.assert_close(pyramids((3, 3), "l1", upper)[0], expected)
    for norm, size in itertools.product(CENTRED, ((1, 1), (1, 6), (7, 2), (29, 29))):
        shapes = pyramids(size, norm, upper)
        assert shapes.shape == (2, *size)
        torch.testing.assert_close(norms.length(shapes, norm), torch.ones(2, dtype=torch.float64))


# --- what a query does -------------------------------------------------------------------------------------------


def test_it_starts_with_stripes_and_every_image_with_its_own() -> None:
    images = random(40, 3, 6, 5, low=-0.2, high=1.2).clamp(0, 1)
    model = robust(3, 6, 5)
    square(whole(model), images, zeros(40), Threat("linf", 0.05), queries=1)
    (start, *_), low, high = model.shown, (images - 0.05).clamp(0, 1), (images + 0.05).clamp(0, 1)
    up = (start - high).abs() < 1e-9
    assert bool((up | ((start - low).abs() < 1e-9)).all())
    signs = (start - images).sign()
    inside = (images > 0.05) & (images < 0.95)
    assert bool(((signs == signs.amax(2, keepdim=True)) | ~inside | (signs.amin(2, keepdim=True) < 0)).all())
    assert 0.4 < float(up[inside].double().mean()) < 0.6
    columns = torch.where(inside, signs, 0).sum(2).sign()
    assert len({tuple(row) for row in columns.flatten(1).tolist()}) == 40


@pytest.mark.parametrize("norm", NORMS)
def test_a_query_changes_windows_of_the_right_size_and_undoes_what_does_not_help(norm: Norm) -> None:
    """In linf the window's pixels go to a corner of the ball; in l2 and l1 a second window goes back to the image."""
    images = random(12, 2, 9, 11, low=0.3, high=0.7)
    model, eps = robust(2, 9, 11), RADII[norm]
    square(whole(model), images, zeros(12), Threat(norm, eps), queries=70, p_init=0.3)
    start, *candidates = model.shown
    best, lowest, positions = start, model(start)[:, 0], set[tuple[int, int, int]]()
    for query, candidate in enumerate(candidates):
        height, width = sides(0.3 / 2 ** halvings(query), 9, 11, centred=norm != "linf")
        changed = (candidate != best).any(1)
        if norm == "linf":
            for image in range(12):
                down, right = (changed[image].any(1 - axis).nonzero()[:, 0] for axis in (0, 1))
                assert len(down) > 0  # a query that changes nothing would be wasted
                assert int(down[-1] - down[0]) < height
                assert int(right[-1] - right[0]) < width
                positions.add((image, int(down[0]), int(right[0])))
                moved = candidate[image][:, changed[image]] - images[image][:, changed[image]]
                torch.testing.assert_close(moved.abs(), torch.full_like(moved, eps))
                assert bool((moved.sign() == moved.sign()[:, :1]).all())
        else:
            assert int(changed.flatten(1).sum(1).max()) <= 2 * height * width
            emptied = changed & (candidate == images).all(1)
            if norm == "l2":  # in l1 the projection empties pixels of the first window too
                assert int(emptied.flatten(1).sum(1).max()) <= height * width
        value = model(candidate)[:, 0]
        better = value < lowest
        lowest = torch.where(better, value, lowest)
        best = torch.where(better[:, None, None, None], candidate, best)
    if norm == "linf":
        assert len(positions) > 200  # windows of their own


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("edge", [False, True])
def test_the_budget_is_spent_and_never_exceeded(norm: Norm, edge: bool) -> None:
    """Also where a third of the pixels are at the edge of the box, and the start loses what it cuts off."""
    images = random(30, 3, 12, 10, low=-0.25, high=1.25) if edge else random(30, 3, 12, 10, low=0.3, high=0.7)
    images = images.clamp(0, 1)
    model = robust(3, 12, 10)
    eps = RADII[norm]
    square(whole(model), images, zeros(30), Threat(norm, eps), queries=120)
    for shown in model.shown:
        assert float(norms.distance(shown, images, norm).max()) <= eps
        assert bool(((shown >= 0) & (shown <= 1)).all())
    spent = norms.distance(model.shown[0], images, norm)
    assert bool((spent > eps * (0.4 if edge else 0.999)).all())
    assert bool((spent < eps * 0.99).all()) == edge
    best = square(whole(model), images, zeros(30), Threat(norm, eps), queries=120)
    assert bool((norms.distance(best, images, norm) > eps * 0.999).all())


def test_windows_reach_every_pixel_and_their_signs_say_nothing_of_their_place() -> None:
    """Place and sign come from draws of their own: were they one, half of the image would only ever be lowered."""
    count = 600
    images = torch.full((count, 1, 4, 4), 0.5, dtype=torch.float64)
    model = robust(1, 4, 4)
    square(whole(model), images, zeros(count), Threat("linf", 0.1), queries=1, p_init=1 / 16)
    start, candidate = model.shown
    changed = (candidate != start).flatten(1)
    assert bool((changed.sum(1) == 1).all())
    place = changed.double().argmax(1)
    hits = torch.bincount(place, minlength=16)
    assert int(hits.min()) > 15  # 37.5 expected, standard deviation 6
    raised = (candidate > start).flatten(1).any(1)
    for name in (place // 4, place % 4):
        for value in range(4):
            share = float(raised[name == value].double().mean())
            assert abs(share - 0.5) < 0.17  # 150 draws, standard deviation 0.04


def test_a_window_that_is_there_already_goes_to_the_opposite_corner() -> None:
    images = random(50, 1, 1, 1, low=0.2, high=0.8)
    model = robust(1, 1, 1)
    square(whole(model), images, zeros(50), Threat("linf", 0.1), queries=1)
    torch.testing.assert_close((model.shown[0] - model.shown[1]).abs(), torch.full_like(images, 0.2))


# --- where it ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 2, 3), (3, 1, 1), (7,), (1, 1, 8)])
def test_in_linf_a_linear_model_falls_exactly_when_the_best_corner_fools(shape: tuple[int, ...]) -> None:
    """The corner x - eps·sign(w), cut to the box, has the lowest first logit: x falls if that is below 0. Each image
    has its own radius, a millionth below and above the one at which that logit is 0."""
    images = random(40, *shape, low=-0.3, high=1.3).clamp(0, 1)
    weights = random(*shape, seed=5, low=-1)

    def corner(eps: Tensor) -> Tensor:
        moved = images - weights.sign() * eps.view(-1, *[1] * len(shape))
        return (moved.clamp(0, 1) * weights).flatten(1).sum(1)

    nothing, everything = corner(torch.zeros(40)), corner(torch.ones(40))
    bias = -float(nothing.min() + everything.max()) / 2
    low, high = torch.zeros(40, dtype=torch.float64), torch.ones(40, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        falls = corner(middle) + bias < 0
        low, high = torch.where(falls, low, middle), torch.where(falls, middle, high)
    model = Watched(weights, bias)
    assert bool((model(images)[:, 0] > 0).all())
    for share in (1 - 1e-6, 1 + 1e-6):
        found = square(model, images, zeros(40), Balls("linf", high * share), queries=400, p_init=0.01)
        assert bool(((model(found).argmax(1) == 1) == (share > 1)).all())


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_in_l2_and_l1_a_linear_model_falls_well_before_the_whole_budget_is_too_little(norm: Norm) -> None:
    """At twice the distance at which the boundary is reached, and never below it."""
    weights = torch.ones(1, 5, 5, dtype=torch.float64)
    weights[:, 2:] = -0.2
    images = random(20, 1, 5, 5, low=0.4, high=0.6)
    model = Watched(weights, bias=1.0)
    distance = model(images)[:, 0] / (weights.norm() if norm == "l2" else weights.abs().max())
    for times, queries in ((0.999, 300), (2.0, 1500)):
        found = square(model, images, zeros(20), Balls(norm, distance * times), queries=queries)
        assert bool((model(found).argmax(1) == (times > 1)).all())


@pytest.mark.parametrize("norm", NORMS)
def test_every_image_has_a_radius_of_its_own(norm: Norm) -> None:
    """Several radii at once give the images that one call for each radius gives."""
    model, images = curved(), random(24, 3, 5, 5)
    labels, radii = model(images).argmax(1), RADII[norm] * torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    found = square(model, images, labels, Balls(norm, radii.repeat(6)), queries=40)
    for place, radius in enumerate(radii.tolist()):
        alone = square(model, images, labels, Threat(norm, radius), queries=40)
        torch.testing.assert_close(found[place::4], alone[place::4], rtol=0, atol=1e-12)
        assert float(norms.distance(found[place::4], images[place::4], norm).max()) <= radius


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_only_go_on(norm: Norm) -> None:
    """A longer search begins with the shorter one: what has fooled stays, and no loss is worse."""
    model, images = curved(), random(40, 3, 5, 5)
    labels = model(images).argmax(1)
    runs = [square(model, images, labels, Threat(norm, RADII[norm]), queries=q, seed=1) for q in (1, 20, 120)]
    logits = [model(found) for found in runs]
    margins = [z.gather(1, labels[:, None])[:, 0] - z.scatter(1, labels[:, None], -1e9).amax(1) for z in logits]
    for (first, before), (second, after) in itertools.pairwise(zip(runs, margins, strict=True)):
        assert torch.equal(first[before < 0], second[before < 0])
        assert bool((after <= before + 1e-12).all())
    assert float(margins[2].mean()) < float(margins[0].mean())
    assert int((margins[0] < 0).sum()) < int((margins[2] < 0).sum())


@pytest.mark.parametrize("norm", NORMS)
def test_targets_are_reached(norm: Norm) -> None:
    model, images = curved(3), random(30, 3, 5, 5)
    labels = model(images).argmax(1)
    targets = (labels + 1 + torch.arange(30) % 2) % 3
    oracle = Oracle(model)
    found = square(oracle, images, labels, Threat(norm, RADII[norm] * 4), targets=targets, queries=400)
    hit = model(found).argmax(1) == targets
    assert float(hit.double().mean()) > 0.6
    forwards, _ = oracle.passes().of(torch.arange(30))
    assert bool((forwards[~hit] == 401).all())


def test_cross_entropy_is_lowered_when_it_is_asked_for() -> None:
    model, images = curved(), random(30, 3, 5, 5)
    labels = model(images).argmax(1)
    threat = Threat("linf", 0.001)
    found = {
        loss: model(square(model, images, labels, threat, queries=150, loss=loss))
        for loss in ("margin", "cross-entropy", "logit")
    }
    entropy = {loss: float(nn.functional.cross_entropy(logits, labels)) for loss, logits in found.items()}
    assert entropy["cross-entropy"] == max(entropy.values()) > float(nn.functional.cross_entropy(model(images), labels))


# --- passes and company ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_passes(norm: Norm) -> None:
    """One for the start and one for each window, of the image itself and of no other; none backwards."""
    model, images = curved(), random(40, 3, 5, 5)
    labels, ids = model(images).argmax(1), torch.arange(40) * 7 + 3

    def counted(rows: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
        oracle = Oracle(model)
        found = square(oracle, images[rows], labels[rows], Threat(norm, RADII[norm]), ids=ids[rows], **settings)
        forwards, backwards = oracle.passes().of(ids[rows])
        assert not backwards.any()
        return found, forwards

    everyone = torch.arange(40)
    found, forwards = counted(everyone, queries=60)
    fooled = model(found).argmax(1) != labels
    assert 5 < int(fooled.sum()) < 40
    assert bool((forwards[~fooled] == 61).all())
    assert bool((forwards[fooled] <= 61).all())
    assert len(set(forwards[fooled].tolist())) > 3
    for rows in (torch.tensor([17]), everyone[::3], everyone.flip(0)):
        alone, same = counted(rows, queries=60)
        assert torch.equal(same, forwards[rows])
        torch.testing.assert_close(alone, found[rows], rtol=0, atol=1e-12)
    again, twice = counted(everyone, queries=60, restarts=2)
    assert torch.equal(again[fooled], found[fooled])
    assert torch.equal(twice[fooled], forwards[fooled])
    assert bool((twice[~fooled] > 61).all())
    assert bool((twice <= 122).all())
    assert not torch.equal(again[~fooled], found[~fooled])


def test_images_that_the_start_fools_take_one_pass_and_with_eps_0_all_do() -> None:
    images = random(9, 1, 4, 4)
    for eps, label in ((0.1, 1), (0.0, 0), (0.0, 1)):
        oracle = Oracle(robust(1, 4, 4))
        found = square(oracle, images, zeros(9) + label, Threat("linf", eps), queries=50)
        assert oracle.passes().forwards.tolist() == [1] * 9
        assert torch.equal(found, images) == (eps == 0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(12,), (2, 9), (1, 4, 7), (3, 1, 1), (2, 3, 2, 4)])
def test_images_of_any_shape(norm: Norm, shape: tuple[int, ...]) -> None:
    images = random(10, *shape, low=-0.2, high=1.2).clamp(0, 1)
    model = Watched(random(*shape, seed=2, low=-1), bias=50.0)
    for size in (1, 7, None):
        found = square(Oracle(model, batch_size=size), images, zeros(10), Threat(norm, 0.3), queries=90, seed=4)
        assert found.shape == images.shape
        assert model.shown[-1].shape[1:] == shape
        assert bool(((found >= 0) & (found <= 1)).all())
        assert float(norms.distance(found, images, norm).max()) <= 0.3
        assert bool((model(found)[:, 0] < model(images)[:, 0]).all())


def test_a_start_whose_output_is_no_number_is_left_behind() -> None:
    class Breaking(nn.Module):
        """No number for the first batch it sees."""

        calls = 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            lead = images.flatten(1).mean(1) - 0.5
            return torch.stack([lead, -lead], 1) * (torch.nan if self.calls == 1 else 1.0)

    images, labels = random(5, 1, 4, 4, low=0.5, high=0.6), torch.zeros(5, dtype=torch.int64)
    oracle = Oracle(Breaking(), batch_size=10, strict=False)
    found = square(oracle, images, labels, Threat("linf", 0.08), targets=1 - labels, queries=400, p_init=0.1)
    assert bool((found.flatten(1).mean(1) < 0.5).all())


@pytest.mark.parametrize(
    "settings", [{"queries": 0}, {"restarts": 0}, {"p_init": 0.0}, {"p_init": 1.1}, {"loss": "marginal"}]
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(settings))):
        square(robust(4), random(2, 4), zeros(2), Threat("linf", 0.1), **settings)


# --- beside the reference ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "norm", "eps"),
    [
        ("cifar10_smallresnet_robust", "linf", 4 / 255),
        ("cifar10_smallresnet_robust", "l2", 0.5),
        ("mnist_lenet5_robust", "linf", 0.3),
        ("mnist_lenet5_robust", "l2", 2.0),
    ],
)
def test_torchattacks_lowers_no_loss_further(shared: Path, network: str, norm: Norm, eps: float) -> None:
    """The mean margin that is left after as many queries, over two seeds each: an average, where the number of fooled
    images would say little of 50."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchattacks = pytest.importorskip("torchattacks", reason="optional: pip install 'atodds[bench]'")
    model = atodds.models.load(f"{shared / 'models' / 'zoo.py'}:{network}").eval()
    every = atodds.data.load(shared / "data" / network.split("_")[0], limit=100)
    images, labels = every.images(), torch.from_numpy(every.labels)
    right = (model(images).argmax(1) == labels).nonzero()[:50, 0]
    images, labels, queries = images[right].contiguous(), labels[right], 300

    def left(found: Tensor) -> float:
        with torch.no_grad():
            logits = model(found)
        away = norms.distance(found.double(), images.double(), norm)
        assert bool((away <= eps * (1 + 1e-5)).all())
        others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        return float((logits.gather(1, labels[:, None])[:, 0] - others).clamp_min(0).mean())

    ours = theirs = 0.0
    for seed in (0, 1):
        ours += left(square(model, images, labels, Threat(norm, eps), queries=queries, seed=seed))
        peer = torchattacks.Square(
            model, norm=norm.capitalize(), eps=eps, n_queries=queries, resc_schedule=False, seed=seed
        )
        peer.init_hyperparam(images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            theirs += left(peer.attack_single_run(images, labels)[1])
    assert theirs > 0.1  # the question is one
    assert ours <= theirs * 1.03
