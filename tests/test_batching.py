"""Batches cover the pool, the search takes the fastest size, and memory running out halves it."""

import logging
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atodds import batching
from atodds.batching import Batching, BatchSizes, Kind
from atodds.errors import ArgumentError, ModelError

CPU = torch.device("cpu")
TRIES = {"TIMED": batching.TIMED, "MOST": batching.MOST}
"""As they are used, before tests are made hasty."""


@pytest.fixture(autouse=True)
def thorough(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TRIES.items():
        monkeypatch.setattr(batching, name, value)


def cut(sizes: Batching, count: int, kind: Kind = "forward") -> list[int]:
    """The lengths of the batches that a pool is cut into; fails where they do not cover it in order."""
    seen: list[slice] = []
    sizes.run(kind, count, CPU, lambda part, _: seen.append(part))
    assert [k for part in seen for k in range(part.start, part.stop)] == list(range(count))
    return [part.stop - part.start for part in seen]


@given(st.integers(1, 600), st.integers(1, 100))
def test_batches_cover_the_pool_in_order_and_are_of_nearly_one_size(count: int, size: int) -> None:
    lengths = cut(Batching(size), count)
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(lengths) == -(-count // size)


def test_each_kind_of_pass_has_its_size() -> None:
    sizes = Batching(BatchSizes(forward=10, gradient=4))
    assert cut(sizes, 20, "forward") == [10, 10]
    assert cut(sizes, 20, "gradient") == [4] * 5
    assert not sizes.unsettled
    assert sizes.sizes == BatchSizes(10, 4)


@pytest.mark.parametrize("size", [0, -1, 2.5, BatchSizes(0, 1), BatchSizes(1, -3)])
def test_sizes_below_one_are_refused(size: int) -> None:
    with pytest.raises(ArgumentError, match="batch_size"):
        Batching(size)


# --- the search --------------------------------------------------------------------------------------------------


class Clock:
    """A clock that work moves on, by what each batch costs."""

    def __init__(self, seconds: Callable[[int], float], factor: float = 1) -> None:
        self.now, self.seconds, self.factor = 0.0, seconds, factor
        self.batches: list[int] = []
        self.lasts: list[bool] = []

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now

    def work(self, batch: slice, last: bool) -> None:
        count = batch.stop - batch.start
        self.batches.append(count)
        self.lasts.append(last)
        self.now += self.seconds(count) * (self.factor if last else 1)


def found(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float], pools: list[int]) -> tuple[int, Clock]:
    """The size that is found when batches cost so many seconds, and the clock."""
    clock, sizes = Clock(seconds), Batching()
    monkeypatch.setattr(batching, "time", clock)
    for count in pools:
        sizes.run("forward", count, CPU, clock.work)
    assert "gradient" in sizes.unsettled  # nobody asked for them
    return sizes.sizes.forward, clock


def test_the_smallest_size_that_is_nearly_the_fastest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    size, clock = found(monkeypatch, lambda n: 3e-3 + 1e-4 * n, [1000] * 20)
    assert size == 256  # of a batch's time, 65 % is overhead at 16, 19 % at 128, 11 % at 256
    assert clock.batches[-1] == 250  # and is used from then on
    assert found(monkeypatch, lambda n: 1e-6 + 1e-4 * n, [1000] * 20)[0] == 16
    assert found(monkeypatch, lambda n: 8e-5 + 1e-4 * n, [1000] * 20)[0] == 32


def test_a_size_that_leaves_the_cache_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    size, clock = found(monkeypatch, lambda n: 1e-3 + 1e-4 * n * (5 if n > 40 else 1), [1000] * 20)
    assert size == 32
    assert len([n for n in clock.batches if n > 70]) == 2  # tried once each


def test_long_batches_are_not_made_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, clock = found(monkeypatch, lambda n: 5.0 * n, [1000])
    assert max(clock.batches) <= 16


def test_the_first_pass_of_all_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter([10.0])
    size, _ = found(monkeypatch, lambda n: next(slow, 0.0) * 0.01 + 1e-6 + 1e-4 * n, [1000] * 20)
    assert size == 16


def test_pools_that_are_hardly_larger_than_a_batch_go_through_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    size, clock = found(monkeypatch, lambda n: 3e-3 + 1e-4 * n, [71] * 200)
    assert size == 64  # which two batches of 36 would have said nothing about
    assert clock.batches[-1] == 71
    assert cut(Batching(BatchSizes(64, 64)), 80) == [80]
    assert cut(Batching(BatchSizes(64, 64)), 81) == [41, 40]
    assert cut(Batching(64), 71) == [36, 35]  # what was asked for is never exceeded


def test_sizes_are_timed_as_they_will_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 119 images, 71 that a smaller batch has left would go through at once, and 119 are cut into 60 and 59."""
    size, clock = found(monkeypatch, lambda n: 1e-4 * n * (1 if n > 61 else 1.05), [119] * 200)
    assert 71 not in clock.batches
    assert size == 128
    assert clock.batches[-1] == 119


@pytest.mark.parametrize("pool", [80, 81, 87, 95, 96, 128, 160])
def test_a_pool_goes_through_at_once_where_that_is_faster(monkeypatch: pytest.MonkeyPatch, pool: int) -> None:
    _, clock = found(monkeypatch, lambda n: 1e-2 + 1e-4 * n, [pool] * 200)
    assert clock.batches[-1] == pool


def test_the_work_of_others_on_the_machine_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of more than a millisecond loses the processor for as long again, on the wall's clock alone."""

    class Shared(Clock):
        def perf_counter(self) -> float:
            return self.now + sum(self.seconds(count) for count in self.batches if self.seconds(count) > 1e-3)

    clock, sizes = Shared(lambda n: 3e-4 + 1e-5 * n), Batching()
    monkeypatch.setattr(batching, "time", clock)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for _ in range(20):
        sizes.run("forward", 1000, CPU, clock.work)
    assert sizes.sizes.forward == 256


def test_a_slow_moment_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter(range(10**6))
    bad = {3, 9}  # the first measurement of one size and the second of another are five times too slow
    size, _ = found(monkeypatch, lambda n: (3e-3 + 1e-4 * n) * (5 if next(count) in bad else 1), [1000] * 20)
    assert size == 256


def test_small_batches_that_are_slow_do_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter([3.0, 3.0])
    size, _ = found(monkeypatch, lambda n: (1e-2 + 1e-4 * n) * (next(slow, 1.0) if n > 64 else 1), [119] * 40)
    assert size == 128  # 16 does a quarter of its images a second


def test_sizes_that_no_pool_fills_do_not_keep_the_others_from_being_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accident = iter([9])
    size, clock = found(monkeypatch, lambda n: (3e-3 + 1e-4 * n) * (next(accident, 1) if n == 100 else 1), [100] * 60)
    assert size == 128  # nothing says more of 256
    assert clock.batches[-1] == 100


def test_pools_that_are_too_small_to_measure_are_still_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    size, clock = found(monkeypatch, lambda n: 1e-3 + 1e-4 * n, [5] * 50)
    assert set(clock.batches) == {5}
    assert size == batching.SMALLEST


# --- memory ------------------------------------------------------------------------------------------------------


class Memory:
    """Work that fits up to so many images."""

    def __init__(self, images: int, error: Callable[[], BaseException]) -> None:
        self.images, self.error = images, error
        self.done: list[int] = []

    def __call__(self, batch: slice, _last: bool) -> None:
        if batch.stop - batch.start > self.images:
            raise self.error()
        self.done += range(batch.start, batch.stop)


ERRORS: list[Callable[[], BaseException]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    lambda: MemoryError(),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    lambda: RuntimeError("MPS backend out of memory"),
    lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("size", [8, None])
def test_memory_running_out_halves_the_batch_and_says_so(
    error: Callable[[], BaseException], size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    work, sizes = Memory(5, error), Batching(size)
    with caplog.at_level(logging.WARNING, "atodds"):
        sizes.run("gradient", 200, CPU, work)
    assert work.done == list(range(200))
    assert sizes.sizes.gradient == 4
    assert len(caplog.records) == (1 if size else 2)  # 8 -> 4, or what the search begins with: 16 -> 8 -> 4
    assert all("Memory ran out" in record.getMessage() for record in caplog.records)
    again = len(caplog.records)
    sizes.run("gradient", 200, CPU, work)
    assert len(caplog.records) == again  # once found, it is kept
    assert sizes.sizes.forward == (size or batching.SMALLEST)  # the other kind has its own


def test_one_image_that_does_not_fit_is_an_error_that_says_why() -> None:
    work = Memory(0, lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"))
    with pytest.raises(ModelError, match=r"One image does not fit into the memory of cpu: .*Tried to allocate 2 GiB$"):
        Batching(8).run("forward", 20, CPU, work)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no")])
def test_other_errors_pass_through_at_once(error: Exception) -> None:
    calls: list[slice] = []

    def work(batch: slice, _last: bool) -> None:
        calls.append(batch)
        raise error

    with pytest.raises(type(error), match=str(error)):
        Batching(8).run("forward", 20, CPU, work)
    assert len(calls) == 1


@pytest.mark.parametrize(("factor", "last"), [(0.4, True), (0.98, False), (2.0, False)])
def test_channels_come_last_where_that_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, factor: float, last: bool
) -> None:
    clock, sizes = Clock(lambda n: 1e-3 + 1e-4 * n, factor), Batching()
    monkeypatch.setattr(batching, "time", clock)
    while kinds := sizes.unsettled:
        for kind in kinds:
            assert len(clock.batches) < 1000
            sizes.run(kind, 512, CPU, clock.work, spatial=True)
    assert sizes.sizes.channels_last == (("forward", "gradient") if last else ())
    clock.lasts.clear()
    sizes.run("forward", 512, CPU, clock.work, spatial=True)
    assert set(clock.lasts) == {last}
    sizes.run("forward", 512, CPU, clock.work)  # nothing to choose from
    assert clock.lasts[-1] is False


@pytest.mark.parametrize("pool", [64, 81, 88, 100, 175])
def test_pools_that_are_cut_into_parts_of_batches_tell_the_layout_too(
    monkeypatch: pytest.MonkeyPatch, pool: int
) -> None:
    clock, sizes = Clock(lambda n: 1e-3 + 1e-4 * n, 0.4), Batching()
    monkeypatch.setattr(batching, "time", clock)
    for _ in range(300):
        sizes.run("forward", pool, CPU, clock.work, spatial=True)
    assert sizes.sizes.channels_last == ("forward",)


def test_a_size_that_was_asked_for_leaves_images_as_they_come() -> None:
    seen: list[bool] = []
    for sizes in (Batching(8), Batching(BatchSizes(8, 8, ("gradient",)))):
        for _ in range(20):
            sizes.run("forward", 20, CPU, lambda _, last: seen.append(last), spatial=True)
        assert not sizes.unsettled
    assert not any(seen)
    sizes.run("gradient", 20, CPU, lambda _, last: seen.append(last), spatial=True)
    assert seen[-3:] == [True] * 3


def test_a_model_that_cannot_take_channels_last_is_run_as_images_come(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sizes, done = Clock(lambda n: 1e-3 * n, 0.1), Batching(), 0
    monkeypatch.setattr(batching, "time", clock)

    def work(batch: slice, last: bool) -> None:
        nonlocal done
        if last:
            raise RuntimeError("view size is not compatible with input tensor's size and stride")
        clock.work(batch, last)
        done += batch.stop - batch.start

    for _ in range(40):
        sizes.run("forward", 300, CPU, work, spatial=True)
    assert done == 40 * 300
    assert sizes.sizes.channels_last == ()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library learns from what is freed")
def test_memory_of_one_pass_is_there_for_the_next() -> None:
    """Page faults of the same passes, bare in a fresh process, and after the first that is asked for here."""
    work = """
import resource, torch
from atodds.batching import Batching
model, images = torch.nn.Conv2d(1, 32, 3, padding=1), torch.rand(64, 1, 28, 28)
def passes(*_):
    with torch.no_grad():
        model(images).relu()
def faults(run):
    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
sizes = Batching(64)
print(faults(passes), faults(lambda: sizes.run("forward", 64, torch.device("cpu"), passes)))
"""
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    bare, here = map(int, done.stdout.split())
    if bare == 0:
        pytest.skip("this kernel counts no page faults")
    assert here < bare / 10
