"""How many images go through a model at once, and how they lie in memory: measured on the work itself. The number is
halved when memory runs out.
"""

import gc
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from atodds.errors import ArgumentError, ModelError

log = logging.getLogger("atodds")

Kind = Literal["forward", "gradient"]

SMALLEST, LARGEST = 16, {"cpu": 256}
LARGEST_ELSEWHERE = 4096
ROUNDS, MOST, TIMED = 3, 100, 0.25
"""A size is tried so many times at least and at most, and in between until it has been timed for so many seconds."""
LONG = 1.0
"""A batch that takes longer than this many seconds is large enough."""
NEARLY = 0.97
"""A smaller batch is taken when it does this share of the fastest one's images a second."""
ENOUGH = 0.625
"""A batch that is filled to this share is timed for a full one: half of SLACK, so that a pool that is too large for one
batch of a size tries the next."""
SLACK = 1.25
"""A pool that is no larger than this many batches of the size that was found goes through at once."""
WORTHWHILE = 0.5
"""Batches above one that does less than this share are not tried again."""


@dataclass(frozen=True)
class BatchSizes:
    """Images at once, in forward passes and in forward and backward passes; the kinds of pass for which images have
    their channels last in memory; and whether layers are computed in part where a window of an image changes, None
    where that is not known yet."""

    forward: int
    gradient: int
    channels_last: tuple[Kind, ...] = ()
    in_part: bool | None = None


@dataclass
class _Rates:
    """Images a second in each try, and in the middle of them, and the seconds of all: now and then a batch is much
    slower or faster than usual."""

    each: list[float] = field(default_factory=list)
    seconds: float = 0.0
    usual: float = 0.0

    def add(self, images: int, seconds: float) -> None:
        self.each.append(images / max(seconds, 1e-9))
        self.seconds += seconds
        self.usual = statistics.median(self.each)

    @property
    def enough(self) -> bool:
        """Whether there are enough tries to tell."""
        return len(self.each) >= (ROUNDS if self.seconds >= TIMED else MOST)


@dataclass
class _Search:
    """Tries batches of 16, 32, ... in rounds, so that a machine that others use too slows all of them alike, and the
    more often the shorter they are; then takes the smallest that is nearly as fast as the fastest. The first batch of
    all only warms the model up. A batch above the best that is much slower in two tries is the largest, and so is one
    that takes long. A size that no pool has filled is not tried."""

    limit: int = LARGEST_ELSEWHERE
    size: int = SMALLEST
    settled: bool = False
    rates: dict[int, _Rates] = field(default_factory=dict)
    warm: bool = False

    def trial(self, images: int, left: int) -> int | None:
        """The size whose turn it is, of those that batches of so many images, of which so many are left, fill."""
        if self.settled:
            return None
        open_ = [size for size in self._sizes() if not self._of(size).enough]
        filled = [size for size in open_ if min(left, _largest(images, size, SLACK)) >= ENOUGH * size]
        return min(filled, key=lambda size: (len(self._of(size).each), size), default=None)

    def record(self, size: int, images: int, seconds: float) -> None:
        """The time of a batch of nearly that size."""
        if not self.warm:
            self.warm = True
            self.limit = size if seconds > LONG else self.limit
            return
        rates = self.rates.setdefault(size, _Rates())
        rates.add(images, seconds)
        poor = size > self.best and len(rates.each) > 1 and rates.usual < WORTHWHILE * self.rates[self.best].usual
        if seconds > LONG or poor:  # once is an accident
            self.limit = min(self.limit, size)
        if all(self._of(size).enough for size in self._sizes()):
            self.settle(self.best)

    def _of(self, size: int) -> _Rates:
        return self.rates.get(size, _Rates())

    def _sizes(self) -> list[int]:
        sizes = [SMALLEST]
        while 2 * sizes[-1] <= self.limit:
            sizes.append(2 * sizes[-1])
        return sizes

    @property
    def best(self) -> int:
        """The smallest size that is nearly as fast as the fastest so far."""
        if self.settled or not self.rates:
            return self.size
        fastest = max(rates.usual for rates in self.rates.values())
        return min(size for size, rates in self.rates.items() if rates.usual >= NEARLY * fastest)

    def settle(self, size: int) -> None:
        self.size, self.settled = size, True


def _largest(images: int, size: int, slack: float) -> int:
    """The largest of the batches of nearly one size that so many images are cut into: all of them, where they are
    hardly more than one batch."""
    return images if images <= slack * size else -(-images // -(-images // size))


@dataclass
class _Layout:
    """Tries both ways in which images can lie in memory, in turn, and takes channels last where that is clearly faster:
    with some networks it is three times as fast, with others slower. The first batch of each only warms up."""

    settled: bool = False
    last: bool = False
    warm: set[bool] = field(default_factory=set)
    rates: dict[bool, _Rates] = field(default_factory=lambda: {False: _Rates(), True: _Rates()})

    @property
    def turn(self) -> bool:
        """Whether channels come last in the next batch."""
        if self.settled or False not in self.warm:
            return self.last
        return True not in self.warm or len(self.rates[True].each) < len(self.rates[False].each)

    def record(self, images: int, seconds: float) -> None:
        if (turn := self.turn) not in self.warm:
            self.warm.add(turn)
            return
        self.rates[turn].add(images, seconds)
        if all(rates.enough for rates in self.rates.values()):
            self.settle(last=self.rates[False].usual < NEARLY * self.rates[True].usual)

    def settle(self, *, last: bool) -> None:
        self.last, self.settled = last, True


class Batching:
    """Cuts positions 0..n-1 into batches and runs them.

    Args:
        size: images at once: a number for both kinds of pass, at most so many, with images as they come; or None to
            find both numbers, and how images had better lie in memory, by measuring the passes that are asked for.

    Raises:
        ArgumentError: a number below 1.
    """

    def __init__(self, size: int | BatchSizes | None = None) -> None:
        self._searches: dict[Kind, _Search] = {"forward": _Search(), "gradient": _Search()}
        self._layouts: dict[Kind, _Layout] = {"forward": _Layout(), "gradient": _Layout()}
        self._strict = isinstance(size, int)
        self._roomy = False
        self.in_part = size.in_part if isinstance(size, BatchSizes) else None
        """Whether layers are computed in part for windows; None where it is not known yet."""
        if size is not None:
            sizes = size if isinstance(size, BatchSizes) else BatchSizes(size, size)
            for images in (sizes.forward, sizes.gradient):
                if not isinstance(images, int) or images < 1:
                    raise ArgumentError(
                        "batch_size", images, "no number of images", "Give 1 or more, or None to measure."
                    )
            self._searches["forward"].settle(sizes.forward)
            self._searches["gradient"].settle(sizes.gradient)
            for kind, layout in self._layouts.items():
                layout.settle(last=kind in sizes.channels_last)

    @property
    def sizes(self) -> BatchSizes:
        """What has been found so far."""
        last = tuple(kind for kind, layout in self._layouts.items() if layout.last)
        return BatchSizes(self._searches["forward"].best, self._searches["gradient"].best, last, self.in_part)

    @property
    def most(self) -> int | None:
        """Images at once in a forward pass, at most, where that was asked for or memory ran out; else None."""
        return self._searches["forward"].best if self._strict else None

    @property
    def unsettled(self) -> tuple[Kind, ...]:
        """The kinds of pass whose batch size or layout has not been found yet."""
        return tuple(
            kind for kind, search in self._searches.items() if not (search.settled and self._layouts[kind].settled)
        )

    def run(
        self,
        kind: Kind,
        count: int,
        device: torch.device,
        work: Callable[[slice, bool], None],
        *,
        spatial: bool = False,
    ) -> None:
        """Call `work` on consecutive slices that cover 0..count-1; on memory running out, again with half the size.

        Args:
            kind: of pass.
            count: images.
            device: of the model.
            work: (slice, whether channels come last in memory).
            spatial: images are (C, H, W), so that there is a choice.

        Raises:
            ModelError: a single image does not fit.
        """
        if device.type == "cpu" and not self._roomy:
            self._roomy = True
            _make_room()
        search, start = self._searches[kind], 0
        layout = self._layouts[kind] if spatial else _Layout(settled=True)
        while start < count:
            left = count - start
            trial = search.trial(count, left)
            cut = _largest(left if trial is None else count, trial or search.best, 1 if self._strict else SLACK)
            stop = start + min(left, cut)
            if self._fits(search, trial, layout, slice(start, stop), device, work):
                start = stop

    def _fits(
        self,
        search: _Search,
        trial: int | None,
        layout: _Layout,
        batch: slice,
        device: torch.device,
        work: Callable[[slice, bool], None],
    ) -> bool:
        images = batch.stop - batch.start
        tried = not layout.settled and trial is None and 2 * images >= search.best
        timed = trial is not None or tried
        last = layout.turn if tried or layout.settled else False
        if timed:
            if not search.warm:
                search.limit = LARGEST.get(device.type, LARGEST_ELSEWHERE)
            _wait(device)
        now = clock(device)
        began = now()
        try:
            work(batch, last)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                if not (tried and last):
                    raise
                layout.settle(last=False)  # the model takes images only as they come
                return False
            reason = str(error).splitlines()[0] if str(error) else "out of memory"
        else:
            if timed:
                _wait(device)
                seconds = now() - began
                if trial is None:
                    layout.record(images, seconds)
                else:
                    search.record(trial, images, seconds)
            return True
        _release(device)
        size = images // 2
        if size == 0:
            raise ModelError(f"One image does not fit into the memory of {device}: {reason}")
        log.warning("Memory ran out with %d images at once on %s; going on with %d.", 2 * size, device, size)
        search.settle(size)
        self._strict = True
        return False


_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "_status_alloc_failed")
"""What allocators say that raise a bare RuntimeError: the CPU's on Linux and Windows, MPS, cuDNN, cuBLAS."""


def _out_of_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in _SIGNS)


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds of this thread where it does all the work: where others use the machine too, the wall's clock is kinder
    to small batches, which end before their time slice does."""
    return time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def _make_room() -> None:
    """Free a block of nearly 32 MB that was never written to: the GNU C library takes its size for that of the blocks
    that will be asked for again, and from then on keeps as much of what is freed instead of handing it back. Fresh
    memory for each layer of each pass costs a small network a quarter of its time."""
    torch.empty(_ROOM, dtype=torch.uint8)


_ROOM = 2**25 - 2**13


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
