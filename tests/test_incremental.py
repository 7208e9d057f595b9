"""Layers computed in part against whole passes: in float64 the two must agree to the last digits, whatever the layers,
the windows, and what stayed or left before."""

import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.made import filled
from torch import Tensor, nn
from torch.nn import functional

from atodds.attacks.leaving import without
from atodds.errors import LogitsError
from atodds.incremental import Incremental, plan
from atodds.layers import Layers, Reach, take_apart
from atodds.models.classifier import Classifier
from atodds.oracle import Oracle

HEIGHT, WIDTH, CHANNELS, CLASSES = 17, 14, 2, 3


class Residual(nn.Module):
    """What CIFAR's residual networks are made of: normalised input, batch norms, shortcuts of three kinds."""

    def __init__(self, stride: int, shortcut: str) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.rand(1, CHANNELS, 1, 1))
        self.register_buffer("std", torch.rand(CHANNELS, 1, 1))
        self.stem, self.norm0 = nn.Conv2d(CHANNELS, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        width = 6 if shortcut != "identity" else 4
        self.conv1, self.norm1 = nn.Conv2d(4, width, 3, stride, 1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.across = nn.Conv2d(4, width, 1, stride) if shortcut == "convolution" else nn.Identity()
        self.stride, self.shortcut, self.head = stride, shortcut, nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.norm0(self.stem((images - self.mean) / self.std)))
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)), inplace=True)))
        if self.shortcut == "channels":
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 1, 1))
        pooled: Tensor = functional.relu(y + self.across(x)).mean((2, 3))
        out: Tensor = self.head(pooled)
        return out


class Viewed(nn.Module):
    """A model whose last layer takes no map with its channels last in memory, and that asks for shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(CHANNELS, 3, 3, 1, 1), nn.Linear(3 * HEIGHT * WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.conv(images))
        out: Tensor = self.last(x.view(x.size(0), -1))
        return out


class Functional(nn.Module):
    """Layers that are functions, a map that is read twice, and one that is multiplied with another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(CHANNELS, 4, 3, 1, 1), nn.Conv2d(4, 4, (3, 1), 1, (1, 0))
        self.last = nn.LazyLinear(CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.tanh(self.first(images * 2 - 1))
        gate = self.second(x).sigmoid()
        x = functional.avg_pool2d(gate * x + x, 2)
        out: Tensor = self.last(functional.max_pool2d(x, (2, 1), stride=1).flatten(1))
        return out


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolution": chain(nn.Conv2d(CHANNELS, 3, 3, 1, 1)),
    "no border": chain(nn.Conv2d(CHANNELS, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, (2, 4)), nn.GELU()),
    "wide border": chain(nn.Conv2d(CHANNELS, 3, 3, 1, 3), nn.Tanh(), nn.Conv2d(3, 2, 1, 1, 2)),
    "strides": chain(nn.Conv2d(CHANNELS, 3, 5, 2, 2), nn.ReLU(), nn.Conv2d(3, 4, 3, (1, 2), 1)),
    "stride beyond kernel": chain(nn.Conv2d(CHANNELS, 3, 1, 3), nn.ReLU()),
    "dilation": chain(nn.Conv2d(CHANNELS, 4, 3, 1, 2, dilation=2), nn.Conv2d(4, 4, 3, 1, 1, groups=2)),
    "pools": chain(
        nn.Conv2d(CHANNELS, 4, 3, 1, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, 1, 1),
        nn.ReLU(True),
        nn.AvgPool2d(3, 2),
    ),
    "dropout": chain(nn.Conv2d(CHANNELS, 3, 3), nn.BatchNorm2d(3), nn.Dropout2d(), nn.PReLU(3)),
    "padded pool": chain(nn.Conv2d(CHANNELS, 3, 3, 1, 1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 3, 3)),
    "identity shortcut": lambda: Residual(1, "identity"),
    "convolution shortcut": lambda: Residual(2, "convolution"),
    "channel shortcut": lambda: Residual(2, "channels"),
    "functions": Functional,
    "view": Viewed,
}


def made(name: str) -> tuple[nn.Module, Layers]:
    network = NETWORKS[name]()
    network(torch.zeros(1, CHANNELS, HEIGHT, WIDTH))  # lazy layers find their sizes
    network = filled(network)
    apart = take_apart(network, torch.zeros(1, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64))
    assert apart is not None
    return network, apart


MADE = {name: made(name) for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_answers_are_those_of_whole_passes(name: str, data: st.DataObject) -> None:
    network, apart = MADE[name]
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    chosen = plan(apart, (height, width))
    if chosen is None:
        return
    count, draw = data.draw(st.integers(1, 9)), torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    images = torch.rand(count, CHANNELS, HEIGHT, WIDTH, generator=draw, dtype=torch.float64)
    state = Incremental.of(apart, chosen, images)
    for _ in range(3):
        corners = torch.stack(
            [torch.randint(0, size - side + 1, (len(images),), generator=draw)
             for size, side in ((HEIGHT, height), (WIDTH, width))], 1,
        )  # fmt: skip
        windows = torch.rand(len(images), CHANNELS, height, width, generator=draw, dtype=torch.float64)
        changed = images.clone()
        for row, (top, left) in enumerate(corners.tolist()):
            changed[row, :, top : top + height, left : left + width] = windows[row]
        logits = torch.cat([answer for _, answer in state.answers(corners, windows)])
        torch.testing.assert_close(logits, network(changed), rtol=1e-9, atol=1e-9)
        stay = torch.rand(len(images), generator=draw) < 0.4
        state.take(stay.nonzero()[:, 0])
        images = torch.where(stay[:, None, None, None], changed, images)
        gone = torch.rand(len(images), generator=draw) < 0.3
        if not gone.all():
            (images,) = without(gone, images)
            state.maps = without(gone, *state.maps)
        for kept, fresh in zip(state.maps, Incremental.of(apart, chosen, images).maps, strict=True):
            torch.testing.assert_close(kept, fresh, rtol=1e-9, atol=1e-9)


def test_every_network_is_computed_in_part_for_small_windows() -> None:
    for name, (_, apart) in MADE.items():
        assert plan(apart, (2, 2)) is not None, name
    local = {name: len(chosen.local) for name, (_, apart) in MADE.items() if (chosen := plan(apart, (2, 2)))}
    assert local["pools"] == 4  # of the last map, 3 x 3, nearly all is reached
    assert local["padded pool"] == 2  # what the border of a pool holds is no zero
    assert local["functions"] == 7
    assert local["channel shortcut"] == 6


def test_larger_windows_leave_fewer_layers() -> None:
    apart = MADE["pools"][1]
    chosen = [plan(apart, (side, side)) for side in range(1, 15)]
    sizes = [len(each.local) if each else 0 for each in chosen]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 4
    assert sizes[-1] == 0  # all of every map is reached


def test_batches_of_any_size_give_the_same() -> None:
    apart = MADE["pools"][1]
    chosen = plan(apart, (2, 3))
    assert chosen is not None
    draw = torch.Generator().manual_seed(4)
    images = torch.rand(11, CHANNELS, HEIGHT, WIDTH, generator=draw, dtype=torch.float64)
    corners = torch.randint(0, 10, (11, 2), generator=draw)
    windows = torch.rand(11, CHANNELS, 2, 3, generator=draw, dtype=torch.float64)
    maps = []
    for most in (1, 4, 256):
        state = Incremental.of(apart, chosen, images, most)
        parts = state.answers(corners, windows, most)
        assert [part.stop - part.start for part, _ in parts] == {1: [1] * 11, 4: [4, 4, 3], 256: [11]}[most]
        state.take(torch.tensor([0, 4, 10]))
        maps.append(state.maps)
    changed = images.clone()
    for row in (0, 4, 10):
        top, left = corners[row].tolist()
        changed[row, :, top : top + 2, left : left + 3] = windows[row]
    expected = Incremental.of(apart, chosen, changed).maps
    for each in maps:
        for kept, fresh in zip(each, expected, strict=True):
            torch.testing.assert_close(kept, fresh, rtol=1e-9, atol=1e-9)


@given(
    kernel=st.integers(1, 5), stride=st.integers(1, 4), padding=st.integers(0, 4), dilation=st.integers(1, 3),
    size=st.integers(13, 20), start=st.integers(0, 12), changed=st.integers(1, 5),
)  # fmt: skip
def test_reach_counts_what_a_change_reaches(
    kernel: int, stride: int, padding: int, dilation: int, size: int, start: int, changed: int
) -> None:
    reach = Reach((kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
    made = reach.output(size, 0)
    touched = [
        place
        for place in range(made)
        if any(start <= place * stride - padding + dilation * k < start + changed for k in range(kernel))
    ]
    assert len(touched) <= reach.reached(changed, 0)
    if touched:
        span = touched[-1] - touched[0] + 1
        assert span <= reach.reached(changed, 0)
    assert made == functional.conv1d(
        torch.zeros(1, 1, size), torch.zeros(1, 1, kernel), None, stride, padding, dilation
    ).shape[2]  # fmt: skip


# --- which models are taken apart, and how they are left --------------------------------------------------------------


class Branching(nn.Module):
    """A model whose code asks what its input holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(CHANNELS, 3, 3), nn.Flatten(), nn.LazyLinear(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.inner(images if images.sum() > 0 else -images)
        return out


def test_models_that_cannot_be_taken_apart() -> None:
    images = torch.rand(1, CHANNELS, HEIGHT, WIDTH)
    hooked = nn.Sequential(nn.Conv2d(CHANNELS, 3, 3), nn.Flatten(), nn.LazyLinear(CLASSES))
    hooked(images)
    assert take_apart(hooked.eval(), images) is not None
    for module in (hooked, hooked[0]):
        handle = module.register_forward_hook(lambda *_: None)
        assert take_apart(hooked, images) is None
        handle.remove()
    hooked[0].forward = lambda given: given[:, :, 2:, 2:].repeat(1, 2, 1, 1)[:, :3]
    assert take_apart(hooked, images) is None
    for other in (Branching(), nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES))):
        other(images)
        assert take_apart(other.eval(), images) is None


class Clamped(nn.Module):
    """Writes into a map that it reads again, in one of three ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.second = way, nn.Conv2d(CHANNELS, 3, 3, 1, 1), nn.Conv2d(3, 3, 3, 1, 1)
        self.same, self.last = nn.Identity(), nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        match self.way:
            case "method":
                x.clamp_(max=0.1)
            case "argument":
                functional.hardtanh(x, 0, 0.1, True)
            case "another name":
                functional.relu(self.same(x), inplace=True)
        out: Tensor = self.last((self.second(x) + x).mean((2, 3), True).flatten(1))
        return out


def test_a_model_with_its_normalisation_is_taken_apart() -> None:
    brought = Classifier(NETWORKS["functions"](), mean=(0.4, 0.5), std=(0.2, 0.3), name="brought")
    brought(torch.zeros(1, CHANNELS, HEIGHT, WIDTH))
    apart = take_apart(filled(brought), IMAGES[:1])
    assert apart is not None
    assert len(apart.layers) == 7  # the normalisation is part of the first


@pytest.mark.parametrize("way", ["method", "argument", "another name"])
def test_maps_that_are_written_into_are_not_taken_apart(way: str) -> None:
    assert take_apart(Clamped("not at all").eval(), IMAGES[:1].float()) is not None
    assert take_apart(Clamped(way).eval(), IMAGES[:1].float()) is None


class Adapting(nn.Module):
    """A model that learns from what it sees, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor
        self.register_buffer("seen", torch.full((CHANNELS,), 0.8))
        self.conv, self.last = nn.Conv2d(CHANNELS, 3, 3), nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        self.seen.mul_(0.5).add_(0.5 * images.mean((0, 2, 3)))
        out: Tensor = self.last(self.conv(images - self.seen[:, None, None]).mean((2, 3)))
        return out


def test_a_model_that_adapts_is_left_alone() -> None:
    model = Adapting().eval()
    assert take_apart(model, IMAGES[:1].float()) is None
    assert torch.equal(model.seen, torch.full((CHANNELS,), 0.8))


def test_threads_do_not_disturb_each_other() -> None:
    """Tracing with `fx.symbolic_trace` replaces `nn.Module.__call__` for every thread."""
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for _ in range(10):
                model = filled(Residual(2, "convolution"), seed)
                assert take_apart(model, IMAGES[:1]) is not None
                model(IMAGES)
        except BaseException as error:  # noqa: BLE001 - whatever happens in a thread is told
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    before = nn.Module.__call__, nn.Module.__getattr__
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (nn.Module.__call__, nn.Module.__getattr__) == before


class Remembering(nn.Module):
    """A model that keeps what passes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.features, self.calls = nn.Conv2d(CHANNELS, 3, 3), torch.zeros(0), 0
        self.last = nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.features = self.conv(images)
        out: Tensor = self.last(self.features.amax((2, 3)))
        return out


def test_the_model_is_left_as_it_was_and_its_weights_are_shared() -> None:
    model = Remembering().eval()
    images = torch.rand(2, CHANNELS, HEIGHT, WIDTH)
    before, features = model(images), model.features
    apart = take_apart(model, images)
    assert apart is not None
    assert (model.calls, model.features) == (1, features)
    model.conv.weight.data.mul_(2)
    taken, rest = apart.rest((0,))
    assert taken == (0,)
    torch.testing.assert_close(rest(images), model(images))
    assert not torch.allclose(model(images), before)


# --- the oracle -------------------------------------------------------------------------------------------------------

IDS = torch.tensor([7, 3, 9])
IMAGES = torch.rand(3, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_oracle_counts_each_answer_as_a_pass() -> None:
    oracle = Oracle(MADE["pools"][0])
    state = oracle.incremental(IMAGES, IDS, (2, 2))
    assert state is not None
    logits = oracle.window_logits(state, torch.zeros(3, 2, dtype=torch.int64), IMAGES[:, :, :2, :2], IDS)
    torch.testing.assert_close(logits, oracle.logits(IMAGES, IDS), rtol=1e-9, atol=1e-9)
    forwards, backwards = oracle.passes().of(IDS)
    assert forwards.tolist() == [3, 3, 3]
    assert backwards.tolist() == [0, 0, 0]


class Wrapped(nn.Module):
    """Logits in a dictionary, as transformers give them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.inner(images)}


def test_outputs_of_other_kinds_are_read_as_always() -> None:
    oracle = Oracle(Wrapped(MADE["pools"][0]))
    state = oracle.incremental(IMAGES, IDS, (2, 2))
    assert state is not None
    logits = oracle.window_logits(state, torch.zeros(3, 2, dtype=torch.int64), IMAGES[:, :, :2, :2], IDS)
    torch.testing.assert_close(logits, oracle.logits(IMAGES, IDS), rtol=1e-9, atol=1e-9)


def test_memory_that_runs_out_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> list[Tensor]:
        raise MemoryError

    monkeypatch.setattr(Layers, "maps", full)
    assert take_apart(MADE["pools"][0], IMAGES[:1]) is None
    monkeypatch.undo()
    oracle = Oracle(MADE["pools"][0])
    assert oracle.incremental(IMAGES, IDS, (2, 2)) is not None
    monkeypatch.setattr(Layers, "maps", full)
    assert oracle.incremental(IMAGES, IDS, (2, 2)) is None


def test_the_oracle_makes_whole_passes_where_parts_are_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MADE["pools"][0]
    assert Oracle(network).incremental(IMAGES, IDS, (HEIGHT, WIDTH)) is None
    assert Oracle(network, eot=2).incremental(IMAGES, IDS, (2, 2)) is None
    assert Oracle(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))).incremental(torch.rand(3, 1, 2, 2), IDS, (1, 1)) is None
    assert Oracle(nn.Linear(4, 2)).incremental(torch.rand(3, 4), IDS, (1, 1)) is None
    oracle = Oracle(network)
    assert oracle.incremental(IMAGES, IDS, (2, 2)) is not None
    oracle.only_whole()
    assert oracle.incremental(IMAGES, IDS, (2, 2)) is None
    monkeypatch.setattr("atodds.oracle._MAPS", 1000)
    assert Oracle(network).incremental(IMAGES, IDS, (2, 2)) is None
    assert oracle.passes().forwards.tolist() == [1, 1, 1]  # that of the maps


def test_parts_are_in_the_models_own_precision() -> None:
    network = MADE["pools"][0]
    oracle = Oracle(network, precision="bfloat16")
    state = oracle.incremental(IMAGES, IDS, (2, 2))
    assert state is not None
    logits = oracle.window_logits(state, torch.zeros(3, 2, dtype=torch.int64), IMAGES[:, :, :2, :2], IDS)
    torch.testing.assert_close(logits, oracle.logits(IMAGES, IDS, exact=True), rtol=1e-9, atol=1e-9)


def test_batches_are_no_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    oracle = Oracle(MADE["no border"][0], batch_size=2)
    state = oracle.incremental(IMAGES, IDS, (2, 2))
    assert state is not None
    taken, rest = state.apart.rest(state.plan.local)

    def counted(*maps: Tensor) -> object:
        sizes.append(len(maps[0]))
        return rest(*maps)

    monkeypatch.setattr(state.apart, "rest", lambda _: (taken, counted))
    oracle.window_logits(state, torch.zeros(3, 2, dtype=torch.int64), IMAGES[:, :, :2, :2], IDS)
    assert sizes == [2, 1]


def test_images_of_another_size_are_another_question() -> None:
    model = nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    oracle = Oracle(filled(model))
    for size in (12, 17, 12):
        images = torch.rand(3, CHANNELS, size, size, dtype=torch.float64)
        state = oracle.incremental(images, IDS, (2, 2))
        assert state is not None
        logits = oracle.window_logits(state, torch.zeros(3, 2, dtype=torch.int64), images[:, :, :2, :2], IDS)
        torch.testing.assert_close(logits, oracle.logits(images, IDS), rtol=1e-9, atol=1e-9)


def test_answers_that_are_no_numbers_are_refused() -> None:
    network = filled(nn.Sequential(nn.Conv2d(CHANNELS, 2, 3), nn.Flatten(), nn.Linear(2 * 15 * 12, CLASSES)))
    oracle = Oracle(network)
    state = oracle.incremental(IMAGES, IDS, (2, 2))
    assert state is not None
    windows = torch.full((3, CHANNELS, 2, 2), torch.nan, dtype=torch.float64)
    with pytest.raises(LogitsError, match="no finite logits"):
        oracle.window_logits(state, torch.zeros(3, 2, dtype=torch.int64), windows, IDS)


def test_weights_that_change_are_taken_apart_again() -> None:
    model = filled(Residual(1, "identity"))
    oracle, corners = Oracle(model), torch.zeros(len(IMAGES), 2, dtype=torch.int64)
    for _ in range(2):
        state = oracle.incremental(IMAGES, torch.arange(len(IMAGES)), (2, 2))
        assert state is not None
        changed = IMAGES.clone()
        changed[:, :, :2, :2] = 0.3
        logits = oracle.window_logits(state, corners, changed[:, :, :2, :2], torch.arange(len(IMAGES)))
        torch.testing.assert_close(logits, model(changed), rtol=1e-9, atol=1e-9)
        model.get_parameter("conv1.weight").mul_(1.5)
        model.get_buffer("norm1.running_mean").add_(0.2)
