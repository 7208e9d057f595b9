"""How many forward and backward passes each image took."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

_CPU = torch.device("cpu")
_WAITING = 1 << 20
"""Passes are counted an image at a time once this many are waiting: 8 MB of ids, and a sort each million passes."""


@dataclass(frozen=True)
class Passes:
    """Forward and backward passes that each image took: ids ascending, int64, on the CPU."""

    ids: Tensor
    forwards: Tensor
    backwards: Tensor

    @classmethod
    def none(cls) -> "Passes":
        """Of no image."""
        nobody = torch.zeros(0, dtype=torch.int64, device=_CPU)
        return cls(nobody, nobody, nobody)

    def of(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Forward and backward passes of these images, on the CPU; 0 where an image never went through."""
        ids = ids.cpu()
        if len(self.ids) == 0:
            return torch.zeros_like(ids), torch.zeros_like(ids)
        place = torch.searchsorted(self.ids, ids).clamp_max(len(self.ids) - 1)
        known = self.ids[place] == ids
        return self.forwards[place] * known, self.backwards[place] * known


@dataclass
class Counter:
    """Counts passes, an image at a time only when asked for, or when many are waiting."""

    _counted: Passes = field(default_factory=Passes.none)
    _waiting: list[tuple[Tensor, int, int]] = field(default_factory=list)
    _size: int = 0

    def add(self, ids: Tensor, forwards: int, backwards: int) -> None:
        """So many passes for each of these images, (N,) int64."""
        self._waiting.append((ids, forwards, backwards))
        self._size += len(ids)
        if self._size > _WAITING + 2 * len(self._counted.ids):
            self.passes()

    def passes(self) -> Passes:
        """All of them."""
        if self._waiting:
            every = torch.cat([self._counted.ids, *(ids.cpu() for ids, _, _ in self._waiting)])
            ids, place = torch.unique(every, return_inverse=True)
            sums = [
                torch.zeros_like(ids).index_add(0, place, torch.cat([before, *new]))
                for before, new in (
                    (self._counted.forwards, [torch.full((len(i),), f, device=_CPU) for i, f, _ in self._waiting]),
                    (self._counted.backwards, [torch.full((len(i),), b, device=_CPU) for i, _, b in self._waiting]),
                )
            ]
            self._counted, self._waiting, self._size = Passes(ids, *sums), [], 0
        return self._counted
