"""Contenders that take turns of a fraction of a second, so that what else happens on a machine slows all alike.

Times of runs that last minutes cannot be compared where others use the machine too: it drifts by a factor of two in
between. Here every contender runs in a thread of its own, one at a time, and its bare passes are timed in its turns.
"""

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from side_by_side import Counting

Record = dict[str, Any]
"""What is known of a contender, by name."""


class Recording(Counting):
    """Keeps the order of the calls too: of each, how many images it took and how many backward passes followed. Forward
    passes that a contender makes in part, from a traced copy of the model, it reports here.

    Args:
        model: copied.
        rest: called before each call.
    """

    def __init__(self, model: nn.Module, rest: Callable[[], None]) -> None:
        super().__init__(model)
        self._rest = rest
        self._calls: list[list[int]] = []
        self.in_part = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W) in [0, 1].

        Raises:
            SystemExit: the model is not in eval mode, so that what comes of it would not count.
        """
        given: object = images
        if isinstance(given, fx.Proxy):  # a contender looks at the model's layers, and asks for no answer
            traced: Tensor = self.model(given)
            return traced
        if self.training or self.model.training:
            raise SystemExit("A contender asked a model in train mode.")
        return self.recorded(super().forward, images)

    def recorded(self, form: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """What the model, or a form of it, says of images: a call, which is recorded."""
        self._rest()
        call = [len(images), 0]
        self._calls.append(call)
        logits = form(images)
        if logits.requires_grad:
            logits.register_hook(lambda _: _add_one(call))
        return logits

    def report(self, images: int) -> None:
        """A forward pass of so many images is made in part: it counts as a whole one."""
        self._rest()
        self._calls.append([images, 0])
        self.in_part += images

    @property
    def calls(self) -> list[list[int]]:
        """Images and backward passes of each call."""
        return self._calls


class Reporting(nn.Module):
    """A form of a recorded model, whose calls are recorded there."""

    def __init__(self, recording: Recording, form: nn.Module) -> None:
        super().__init__()
        self.form = form
        self._recording = [recording]  # not a part of this one

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W) in [0, 1]."""
        return self._recording[0].recorded(self.form, images)


def _add_one(call: list[int]) -> None:
    call[1] += 1


class Ring:
    """Hands the processor round: of several threads, one runs at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._current, self._changed = list(names), names[0], threading.Condition()

    def wait(self, name: str) -> None:
        """Until it is this one's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._current == name)

    def next(self, name: str, *, leave: bool = False) -> None:
        """It is the next one's turn."""
        with self._changed:
            self._current = self._names[(self._names.index(name) + 1) % len(self._names)]
            if leave:
                self._names.remove(name)
            self._changed.notify_all()


class Meter:
    """A contender's model, passes and seconds. When its slice of time is over, it makes the calls of the slice again,
    bare, and lets the next contender run. torch's random state is its own.

    Args:
        model: copied.
        images: what bare calls are made with.
        name: of the contender.
        ring: those that take turns.
        slice_: seconds of a turn.
        bare: make the calls again.
    """

    def __init__(
        self, model: nn.Module, images: Tensor, name: str, ring: Ring, slice_: float, *, bare: bool = True
    ) -> None:
        self.images, self.name, self.ring, self.slice = images, name, ring, slice_
        self.model, self._threads = Recording(model, lambda: self._rest()), torch.get_num_threads()
        self._bare_model = copy.deepcopy(model) if bare else None
        self._seconds = self._wall = self._bare = 0.0
        self._replayed = 0
        self._random = torch.get_rng_state()

    def measure(self, work: Callable[[nn.Module], Record]) -> Record:
        """What the work gives, with its passes, its seconds and those of the bare passes."""
        torch.set_num_threads(self._threads)  # a new thread has its own number
        self._begin()
        try:
            found = work(self.model)
            self._end()
        finally:
            self.ring.next(self.name, leave=True)
        if any(module.training for module in self.model.modules()):
            raise SystemExit("A contender left its model in train mode.")
        calls = self.model.calls
        passes = {"forwards": sum(n for n, _ in calls), "backwards": sum(n * back for n, back in calls)}
        times = {"seconds": self._seconds, "wall": self._wall, "bare": self._bare}
        return times | {"calls": len(calls), "in part": self.model.in_part} | passes | found

    def _rest(self) -> None:
        if time.perf_counter() - self._began[1] >= self.slice:
            self._end()
            self.ring.next(self.name)
            self._begin()

    def _begin(self) -> None:
        self.ring.wait(self.name)
        torch.set_rng_state(self._random)
        self._began = time.process_time(), time.perf_counter()

    def _end(self) -> None:
        self._seconds += time.process_time() - self._began[0]
        self._wall += time.perf_counter() - self._began[1]
        self._random = torch.get_rng_state()
        if self._bare_model is None:
            return
        calls = self.model.calls[self._replayed :]
        self._replayed += len(calls)
        most = max((count for count, _ in calls), default=0)
        pool = self.images.repeat(-(-most // len(self.images)), 1, 1, 1)
        start = time.process_time()
        for count, backwards in calls:
            _pass(self._bare_model, pool[:count], backwards)
        self._bare += time.process_time() - start


def _pass(model: nn.Module, images: Tensor, backwards: int) -> None:
    if backwards == 0:
        with torch.no_grad():
            model(images)
        return
    with torch.inference_mode(False), torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        value = model(leaf).sum()
        for left in range(backwards - 1, -1, -1):
            torch.autograd.grad(value, leaf, retain_graph=left > 0)


def together(work: Mapping[str, Callable[[], Record]]) -> dict[str, Record]:
    """What each piece of work gives, each in a thread of its own.

    Raises:
        SystemExit: one of them failed.
    """
    found: dict[str, Record] = {}

    def run(name: str) -> None:
        found[name] = work[name]()

    threads = [threading.Thread(target=partial(run, name)) for name in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) < len(work):
        raise SystemExit("A contender failed: see above.")
    return found
