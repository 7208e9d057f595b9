"""Which way queries go, and that Square ends where whole passes lead it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import window_queries
from atodds.attacks.square import square
from atodds.attacks.window_queries import WindowQueries, settle
from atodds.batching import BatchSizes
from atodds.incremental import Incremental
from atodds.oracle import Oracle
from atodds.threat import Threat

COUNT, CHANNELS, SIZE = 18, 2, 16
IDS = torch.arange(COUNT) + 40


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(CHANNELS, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, 1, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 64, 4),
    ).double().eval().requires_grad_(False)  # fmt: skip
    for number, value in enumerate(layers.parameters()):
        value.copy_(random(*value.shape, seed=number) - 0.5)
    assert isinstance(layers, nn.Sequential)
    return layers


class Jittery(nn.Module):
    """A model that adds noise to its logits: no pass repeats another."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.inner, self.size = network(), size

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits + self.size * torch.randn_like(logits)


class Clock:
    """Time that passes as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(window_queries, "clock", lambda _: clock)
    return clock


def costly(monkeypatch: pytest.MonkeyPatch, clock: Clock, *, whole: float, part: float) -> list[str]:
    """Lets each kind of pass take so many seconds, and tells which were made."""
    made: list[str] = []
    for name, seconds in (("logits", whole), ("window_logits", part), ("incremental", 0.0)):
        real = getattr(Oracle, name)

        def timed(*given: Any, name: str = name, seconds: float = seconds, real: Any = real, **settings: Any) -> Any:
            made.append(name)
            clock.now += seconds
            return real(*given, **settings)

        monkeypatch.setattr(Oracle, name, timed)
    return made


def ask(queries: WindowQueries, times: int, *, side: int = 2) -> list[bool]:
    """Windows of a size for the same images; whether each answer was the model's own."""
    images, exact = random(COUNT, CHANNELS, SIZE, SIZE), []
    queries.resize(images, IDS, (side, side), 1000)
    for turn in range(times):
        windows = random(COUNT, CHANNELS, side, side, seed=turn)
        changed = images.clone()
        changed[:, :, :side, :side] = windows
        logits, own = queries.logits(changed, IDS, torch.zeros(COUNT, 2, dtype=torch.int64), windows)
        torch.testing.assert_close(logits, network()(changed), rtol=1e-9, atol=1e-9)
        exact.append(own)
    return exact


def test_parts_are_used_where_they_are_faster(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    made, queries = costly(monkeypatch, clock, whole=1.0, part=0.5), WindowQueries(Oracle(network()))
    assert ask(queries, 8) == [True] + [False] * 7  # the first is held against a whole pass
    assert made == ["incremental", "logits"] + ["window_logits"] * 8
    assert ask(queries, 3, side=1) == [True] + [False] * 2  # and so is the first of another size
    assert made[10:] == ["logits"] + ["window_logits"] * 3  # which needs the same maps


def test_what_was_found_is_kept_with_the_batch_sizes(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    made = costly(monkeypatch, clock, whole=1.0, part=0.5)
    first = Oracle(network())
    assert first.batching.sizes.in_part is None
    ask(WindowQueries(first), 8)
    assert first.batching.sizes == BatchSizes(16, 16, (), True)
    known = Oracle(network(), batch_size=BatchSizes(32, 32, (), True))
    made.clear()
    assert ask(WindowQueries(known), 12) == [True] + [False] * 11
    made.clear()
    assert all(ask(WindowQueries(Oracle(network(), batch_size=BatchSizes(32, 32, (), False))), 12))
    assert made == ["logits"] * 12


@pytest.mark.parametrize(("part", "better"), [(0.5, True), (0.85, False)])
def test_a_run_finds_it_out_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, part: float, better: bool
) -> None:
    images = random(20, CHANNELS, SIZE, SIZE)
    for model, expected in ((network(), better), (Jittery(1.0), False)):
        made, oracle = costly(monkeypatch, clock, whole=1.0, part=part), Oracle(model)
        settle(oracle, images, torch.arange(20))
        assert oracle.batching.sizes.in_part is expected
        asked = len(made)
        settle(oracle, images, torch.arange(20))
        assert len(made) == asked  # it is known now
        monkeypatch.undo()
        monkeypatch.setattr(window_queries, "clock", lambda _: clock)
    flat = Oracle(nn.Linear(4, 2))
    settle(flat, torch.rand(20, 4), torch.arange(20))
    assert flat.batching.sizes.in_part is None  # rows have no windows of two dimensions


def test_whole_passes_are_used_where_parts_are_no_faster(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    made, queries = costly(monkeypatch, clock, whole=1.0, part=0.85), WindowQueries(Oracle(network()))
    assert ask(queries, 9) == [True] + [False] * 5 + [True] * 3
    assert made == ["incremental", "logits"] + ["window_logits"] * 6 + ["logits"] * 3
    assert ask(queries, 7, side=1) == [True] + [False] * 5 + [True]  # smaller windows are a new question


def test_parts_that_are_much_slower_are_not_tried_again(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    made, oracle = costly(monkeypatch, clock, whole=1.0, part=1.3), Oracle(network())
    queries = WindowQueries(oracle)
    assert ask(queries, 7) == [True] + [False] * 5 + [True]
    assert oracle.batching.sizes.in_part is False
    made.clear()
    assert all(ask(queries, 7, side=1))
    assert made == ["logits"] * 7


def test_answers_are_compared_now_and_then(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    costly(monkeypatch, clock, whole=1.0, part=0.5)
    monkeypatch.setattr(window_queries, "_COMPARED", 4)
    assert ask(WindowQueries(Oracle(network())), 9) == [True, False, False, False] * 2 + [True]


def test_a_class_that_is_never_meant_is_no_difference(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    costly(monkeypatch, clock, whole=1.0, part=0.5)
    masked = network()
    list(masked.parameters())[-1][3] = -torch.inf
    monkeypatch.setitem(globals(), "network", lambda: masked)
    assert ask(WindowQueries(Oracle(masked)), 3) == [True, False, False]


def test_few_images_are_not_worth_the_bookkeeping(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    made, queries = costly(monkeypatch, clock, whole=1.0, part=0.5), WindowQueries(Oracle(network()))
    queries.resize(random(15, CHANNELS, SIZE, SIZE), torch.arange(15), (2, 2), 1000)
    assert made == []


def test_few_queries_are_not_worth_the_maps(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    made, queries = costly(monkeypatch, clock, whole=1.0, part=0.5), WindowQueries(Oracle(network()))
    queries.resize(random(COUNT, CHANNELS, SIZE, SIZE), IDS, (2, 2), 49)
    assert made == []


@pytest.mark.parametrize("size", [1e-3, 10.0])
def test_a_model_that_says_something_else_is_asked_whole_from_then_on(size: float) -> None:
    oracle, images = Oracle(Jittery(size)), random(COUNT, CHANNELS, SIZE, SIZE)
    for turn in range(2):
        queries = WindowQueries(oracle)
        queries.resize(images, IDS, (2, 2), 1000)
        for _ in range(4):
            corners, windows = torch.zeros(COUNT, 2, dtype=torch.int64), images[:, :, :2, :2]
            assert queries.logits(images, IDS, corners, windows)[1], turn


class Picky(nn.Module):
    """A model that reads memory as it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(CHANNELS, 4, 3, 1, 1).double(), nn.Linear(4 * 16 * 16, 4).double()

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        x = x.as_strided((x.shape[0], 4 * 16 * 16), (4 * 16 * 16, 1))
        out: Tensor = self.last(x)
        return out


def test_a_model_whose_pieces_say_something_else_is_asked_whole() -> None:
    model, images = Picky().requires_grad_(False), random(COUNT, CHANNELS, SIZE, SIZE)
    queries = WindowQueries(Oracle(model))
    queries.resize(images, IDS, (2, 2), 1000)
    for _ in range(4):
        corners, windows = torch.zeros(COUNT, 2, dtype=torch.int64), images[:, :, :2, :2]
        logits, own = queries.logits(images, IDS, corners, windows)
        assert own
        torch.testing.assert_close(logits, model(images))


def test_a_model_that_fails_in_pieces_is_asked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ValueError("not in pieces")

    monkeypatch.setattr(Incremental, "answers", failing)
    images, queries = random(COUNT, CHANNELS, SIZE, SIZE), WindowQueries(Oracle(network()))
    queries.resize(images, IDS, (2, 2), 1000)
    assert queries.logits(images, IDS, torch.zeros(COUNT, 2, dtype=torch.int64), images[:, :, :2, :2])[1]
    assert queries.logits(images, IDS, torch.zeros(COUNT, 2, dtype=torch.int64), images[:, :, :2, :2])[1]


def test_a_failure_later_on_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, oracle = random(COUNT, CHANNELS, SIZE, SIZE), Oracle(network())
    queries, corners = WindowQueries(oracle), torch.zeros(COUNT, 2, dtype=torch.int64)
    queries.resize(images, IDS, (2, 2), 1000)
    assert [queries.logits(images, IDS, corners, images[:, :, :2, :2])[1] for _ in range(2)] == [True, False]

    def failing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Incremental, "answers", failing)
    logits, own = queries.logits(images, IDS, corners, images[:, :, :2, :2])
    assert own
    torch.testing.assert_close(logits, network()(images))
    assert not queries.in_part


def test_who_stops_an_attack_while_it_counts_passes_is_heard() -> None:
    told: list[int] = []

    def stop(forwards: int, _: int) -> None:
        told.append(forwards)
        if len(told) == 3:  # maps, a whole pass, and the one that is compared
            raise ValueError("enough")

    images, queries = random(COUNT, CHANNELS, SIZE, SIZE), WindowQueries(Oracle(network(), on_passes=stop))
    queries.resize(images, IDS, (2, 2), 1000)
    with pytest.raises(ValueError, match="enough"):
        queries.logits(images, IDS, torch.zeros(COUNT, 2, dtype=torch.int64), images[:, :, :2, :2])


@pytest.mark.parametrize("eps", [0.01, 0.03, 0.1])
def test_square_ends_where_whole_passes_lead_it(monkeypatch: pytest.MonkeyPatch, eps: float) -> None:
    """In float64, rounding is too small to change which window is better."""
    model, images, threat = network(), random(COUNT, CHANNELS, SIZE, SIZE, seed=5), Threat("linf", eps)
    labels = model(images).argmax(1)
    asked: list[int] = []
    real = Oracle.window_logits

    def counted(oracle: Oracle, state: Incremental, corners: Tensor, windows: Tensor, ids: Tensor) -> Tensor:
        asked.append(len(ids))
        return real(oracle, state, corners, windows, ids)

    monkeypatch.setattr(Oracle, "window_logits", counted)
    monkeypatch.setattr(window_queries, "_FASTER", math.inf)
    monkeypatch.setattr(window_queries, "_FEWEST", 1)
    whole = Oracle(model)
    whole.only_whole()
    expected = square(whole, images, labels, threat, ids=IDS, queries=400)
    assert asked == []
    parts = Oracle(model)
    found = square(parts, images, labels, threat, ids=IDS, queries=400)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert len(asked) > 100
    assert bool((norms.distance(found, images, "linf") <= eps).all())
    assert torch.equal(model(found).argmax(1) != labels, model(expected).argmax(1) != labels)
    extra = parts.passes().forwards - whole.passes().forwards
    assert int(extra.min()) >= 0
    assert int(extra.max()) <= 8  # maps and comparisons, and a look at what seems to fool


def test_what_fools_by_rounding_alone_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that claim success for every window: only what the model itself confirms leaves."""
    model, images = network(), random(COUNT, CHANNELS, SIZE, SIZE, seed=5)
    labels = model(images).argmax(1)
    real = Oracle.window_logits

    def lying(oracle: Oracle, state: Incremental, corners: Tensor, windows: Tensor, ids: Tensor) -> Tensor:
        told.append(len(ids))
        logits = real(oracle, state, corners, windows, ids)
        return torch.roll(logits, 1, 1) if len(told) > 1 else logits  # the first is compared

    told: list[int] = []
    monkeypatch.setattr(Oracle, "window_logits", lying)
    monkeypatch.setattr(window_queries, "_FASTER", math.inf)
    oracle = Oracle(model)
    found = square(oracle, images, labels, Threat("linf", 1e-6), ids=IDS, queries=150)
    assert len(told) > 30  # until the next comparison
    assert torch.equal(model(found).argmax(1), labels)
    assert int(oracle.passes().forwards.min()) > 180  # nobody left, and each claim cost a look
