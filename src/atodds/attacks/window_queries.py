"""Queries of images in which a window has changed: in whole passes, or in the part of each layer that it reaches."""

import logging
import math
import statistics
from collections import deque

import torch
from torch import Tensor

from atodds.attacks.leaving import without
from atodds.batching import clock
from atodds.errors import ModelError
from atodds.incremental import Incremental
from atodds.oracle import Oracle
from atodds.outputs import same

log = logging.getLogger("atodds")

_LEAST = 50
"""Queries that the maps of a model's layers must serve, to be worth the pass that makes them."""
_FEWEST = 16
"""Images for which the bookkeeping of parts can pay."""
_TIMED = 5
"""Queries of each kind that are timed."""
_COMPARED = 500
"""One query in so many is asked in both ways."""
_FASTER = 0.8
"""Layers are computed in part where that takes at most this share of the time."""
_HOPELESS = 1.2
"""Where parts take so many times as long as whole passes, they are not tried again with smaller windows."""
_USUAL = 1 / 40
"""The share of an image that a window covers which stands for all of them."""


class WindowQueries:
    """Asks a model about images in which windows change: in whole passes, or where that is faster in the part of each
    layer that they reach. What is faster is measured on the queries themselves, until it is known for the model. Where
    layers are computed in part, the first answer for windows of each size, and one in 500, is held against a whole
    pass; an oracle for whose model they differ by more than rounding goes back to whole passes for good.

    Args:
        oracle: the model; its `batching` keeps what was found.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._state: Incremental | None = None
        self._whole: deque[float] = deque(maxlen=_TIMED)  # seconds an image
        self._part: list[float] = []
        self._asked = 0  # since windows have the size that they have

    @property
    def in_part(self) -> bool:
        """Whether layers are computed in part now."""
        return self._state is not None

    def resize(self, points: Tensor, ids: Tensor, sides: tuple[int, int], queries: int) -> None:
        """From now on windows have this height and width, and come to so many queries.

        Args:
            points: (n, C, H, W) the images before the next window.
            ids: (n,) int64.
        """
        self._asked = 0
        if self._state is not None and self._state.serves(sides):
            return
        few = queries < _LEAST or len(points) < _FEWEST or self._oracle.batching.in_part is False
        self._state = None if few else self._oracle.incremental(points, ids, sides)
        self._part = []

    def logits(self, points: Tensor, ids: Tensor, corners: Tensor, windows: Tensor) -> tuple[Tensor, bool]:
        """(n, K) logits, and whether they come from a whole pass, in the oracle's precision or the model's own.

        Args:
            points: (n, C, H, W) the images with the windows in them.
            ids: (n,) int64.
            corners: (n, 2) the windows' first rows and columns.
            windows: (n, C, h, w) their values.
        """
        now, state, batching = clock(points.device), self._state, self._oracle.batching
        compared = self._asked % _COMPARED == 0
        self._asked += 1
        if state is not None and not compared:
            began = now()
            logits = self._answered(state, corners, windows, ids)
            if logits is not None:
                if batching.in_part is None:
                    self._part.append((now() - began) / len(points))
                    if len(self._part) == _TIMED:
                        self._decide()
                return logits, False
            state = None
        if state is None or not (self._oracle.reduced and self._whole):
            own = self.whole(points, ids, exact=state is not None and self._oracle.reduced)
        else:
            own = self._oracle.logits(points, ids, exact=True)
        if state is not None:
            again = self._answered(state, corners, windows, ids)
            if again is not None and not same(own, again):
                self._give_up()
        return own, True

    def whole(self, points: Tensor, ids: Tensor, *, exact: bool = False) -> Tensor:
        """(n, K) logits from a whole pass, whose time is remembered."""
        now = clock(points.device)
        began = now()
        logits = self._oracle.logits(points, ids, exact=exact)
        self._whole.append((now() - began) / len(points))
        return logits

    def _answered(self, state: Incremental, corners: Tensor, windows: Tensor, ids: Tensor) -> Tensor | None:
        """(n, K) logits from layers computed in part, and the rest of the model after them; None if it fails so."""
        try:
            return self._oracle.window_logits(state, corners, windows, ids)
        except ModelError as error:
            log.debug("Whole passes from now on: %s", error)
            self._give_up()
            return None

    def _give_up(self) -> None:
        self._oracle.only_whole()
        self._state = None

    def _decide(self) -> None:
        part, whole = statistics.median(self._part), statistics.median(self._whole)
        if part <= _FASTER * whole:
            self._oracle.batching.in_part = True
            return
        self._state = None  # this query's windows may stay, and no map will know
        if part >= _HOPELESS * whole:
            self._oracle.batching.in_part = False

    def take(self, rows: Tensor) -> None:
        """The last windows stay in the images at these rows."""
        if self._state is not None:
            self._state.take(rows)

    def drop(self, gone: Tensor) -> None:
        """Forget the images where `gone`, as `leaving.without` does."""
        if self._state is not None:
            self._state.maps = without(gone, *self._state.maps)


def settle(oracle: Oracle, images: Tensor, ids: Tensor) -> None:
    """Find out whether layers are computed in part where a window of an image changes, and keep that in the oracle's
    batching: so that a run that is interrupted goes on as it began.

    Args:
        oracle: the model.
        images: (N, C, H, W) in [0, 1]; ids: (N,) int64.
    """
    if images.ndim != 4 or oracle.batching.in_part is not None:
        return
    side = max(1, round(math.sqrt(_USUAL * math.prod(images.shape[2:]))))
    down, across = min(side, images.shape[2]), min(side, images.shape[3])
    queries, corners = WindowQueries(oracle), torch.zeros(len(images), 2, dtype=torch.int64, device=images.device)
    queries.resize(images, ids, (down, across), _LEAST)
    for _ in range(_TIMED if queries.in_part else 0):
        queries.whole(images, ids)
    while queries.in_part and oracle.batching.in_part is None:
        queries.logits(images, ids, corners, images[:, :, :down, :across])
    oracle.batching.in_part = queries.in_part
