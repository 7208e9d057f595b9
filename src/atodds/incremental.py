"""What a model says of images in which a window has changed, from the part of each layer that the window reaches.

Incremental inference (Nakandala, Kumar, Papakonstantinou, "Incremental and approximate inference for faster
occlusion-based deep CNN explanations", SIGMOD 2019): the maps of the first layers are kept, of each only the patch that
a window of the image reaches is computed anew, and the layers after them, where most of the map is reached, as always.
A value is computed from the same inputs by the same operations as in a whole pass, so that the two differ by rounding,
and nothing adds up from change to change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from atodds.layers import Layer, Layers, Pair

MOST_OF_A_MAP = 0.6
"""A layer is computed whole where a window reaches more than this share of its map."""
WORTHWHILE = 0.8
"""Windows that leave more than this share of the multiplications are not worth the bookkeeping."""
AT_ONCE = 256
"""Images whose patches are computed together."""


@dataclass(frozen=True)
class _Patch:
    """Values (N, h, w, C) of a part of each image's map, and where its first row and column are, (N,) each."""

    top: Tensor
    left: Tensor
    values: Tensor


@dataclass(frozen=True)
class Plan:
    """Which layers are computed in part for windows of one size.

    Attributes:
        local: their places, in order.
        kept: those of them whose maps are kept, each with the border that its readers pad it with.
        floats: values kept for an image.
    """

    local: tuple[int, ...]
    kept: tuple[tuple[int, Pair], ...]
    floats: int


def plan(apart: Layers, sides: Pair) -> Plan | None:
    """What is computed in part for windows of this height and width; None where too little is saved."""
    layers = apart.layers
    reached: dict[int, Pair] = {}
    done = every = 0.0
    for place, layer in enumerate(layers):
        _, height, width = layer.shape
        whole = layer.work * height * width
        every += whole
        if not all(source in reached for source in layer.sources):
            done += whole
            continue
        before = [reached[source] for source in layer.sources] or [sides]
        down, across = (
            min(layer.shape[1 + axis], max(layer.reach.reached(part[axis], axis) for part in before)) for axis in (0, 1)
        )
        if place == 0 or down * across <= MOST_OF_A_MAP * height * width:
            reached[place] = down, across
            done += layer.work * down * across
        else:
            done += whole
    if len(reached) < 2 or done > WORTHWHILE * every:
        return None
    local = tuple(reached)
    readers = {place: [layers[other] for other in local if place in layers[other].sources] for place in local}
    taken, _ = apart.rest(local)
    kept = tuple((place, _border(readers[place])) for place in local if readers[place] or place in taken)
    floats = sum(_padded(layers[place], border)[0] * layers[place].shape[0] for place, border in kept)
    return Plan(local, kept, floats)


def _border(readers: Sequence[Layer]) -> Pair:
    down, across = (max((reader.reach.padding[axis] for reader in readers), default=0) for axis in (0, 1))
    return down, across


def _padded(layer: Layer, border: Pair) -> tuple[int, int, int]:
    """Places of a map with its border, its height and its width."""
    _, height, width = layer.shape
    height, width = height + 2 * border[0], width + 2 * border[1]
    return height * width, height, width


@dataclass
class Incremental:
    """Images, and the maps of a model's first layers for them.

    Attributes:
        apart: the model.
        plan: what is computed in part.
        maps: (N, H, W, C) of each layer that is kept, its border included; an image's rows may be moved and dropped.
    """

    apart: Layers
    plan: Plan
    maps: tuple[Tensor, ...]
    _patches: list[tuple[slice, dict[int, _Patch]]] = field(default_factory=list)
    _as_they_come: bool = False  # whether the rest of the model takes maps with their channels first in memory only

    @classmethod
    def of(cls, apart: Layers, plan: Plan, images: Tensor, at_once: int = AT_ONCE) -> "Incremental":
        """The maps for some images (N, C, H, W), of which so many go through the layers at once."""
        kept: list[Tensor] = []
        for place, border in plan.kept:
            channels = apart.layers[place].shape[0]
            _, height, width = _padded(apart.layers[place], border)
            kept.append(images.new_zeros(len(images), height, width, channels))
        places = tuple(place for place, _ in plan.kept)
        for start in range(0, len(images), at_once):
            batch = slice(start, start + at_once)
            for made, map_, (_, border) in zip(apart.maps(images[batch], places), kept, plan.kept, strict=True):
                _inner(map_, border)[batch] = made.permute(0, 2, 3, 1)
        return cls(apart, plan, tuple(kept))

    def serves(self, sides: Pair) -> bool:
        """Whether windows of this height and width need the same maps."""
        return plan(self.apart, sides) == self.plan

    def answers(self, corners: Tensor, windows: Tensor, at_once: int = AT_ONCE) -> list[tuple[slice, Any]]:
        """What the model returns for the images with these windows in them, a batch at a time.

        Args:
            corners: (N, 2) the windows' first rows and columns.
            windows: (N, C, h, w) their values.
            at_once: images in a batch, at most.
        """
        count = len(corners)
        parts = -(-count // at_once)
        size = -(-count // parts)
        self._patches = []
        answers = []
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            patches = self._propagated(part, corners[part], windows[part])
            self._patches.append((part, patches))
            answers.append((part, self._answer(part, patches)))
        return answers

    def take(self, rows: Tensor) -> None:
        """Let the windows of the last answers stay in the images at these rows."""
        for part, patches in self._patches:
            chosen = rows[(rows >= part.start) & (rows < part.stop)] - part.start
            for map_, (place, border) in zip(self.maps, self.plan.kept, strict=True) if len(chosen) else ():
                patch = patches[place]
                height, width = patch.values.shape[1:3]
                at = _places(
                    map_, patch.top[chosen] + border[0], patch.left[chosen] + border[1], (height, width), chosen
                )
                values = patch.values.index_select(0, chosen).flatten(0, 2)
                map_[part].view(-1, map_.shape[3]).index_copy_(0, at, values)

    def _propagated(self, part: slice, corners: Tensor, windows: Tensor) -> dict[int, _Patch]:
        """The patch of each layer's map that the windows reach."""
        layers, patches = self.apart.layers, dict[int, _Patch]()
        maps = {place: (map_[part], border) for map_, (place, border) in zip(self.maps, self.plan.kept, strict=True)}
        for place in self.plan.local:
            layer = layers[place]
            if place == 0:
                top, left, made = corners[:, 0], corners[:, 1], layer.patch([windows.clone()])
            else:
                (top, down), (left, across) = (
                    _reached([patches[source] for source in layer.sources], layer, axis) for axis in (0, 1)
                )
                reach = layer.reach
                first = top * reach.stride[0] - reach.padding[0], left * reach.stride[1] - reach.padding[1]
                needed = reach.needed(down, 0), reach.needed(across, 1)
                taken = [
                    _read(*maps[source], patches[source], first, needed).permute(0, 3, 1, 2) for source in layer.sources
                ]
                made = layer.patch(taken)
            patches[place] = _Patch(top, left, made.permute(0, 2, 3, 1).contiguous())
        return patches

    def _answer(self, part: slice, patches: dict[int, _Patch]) -> Any:
        taken, rest = self.apart.rest(self.plan.local)
        maps = {place: (map_[part], border) for map_, (place, border) in zip(self.maps, self.plan.kept, strict=True)}
        whole = []
        for place in taken:
            map_, border = maps[place]
            filled = _inner(map_, border).clone(memory_format=torch.contiguous_format)
            patch = patches[place]
            at = _places(filled, patch.top, patch.left, patch.values.shape[1:3])
            filled.view(-1, filled.shape[3]).index_copy_(0, at, patch.values.view(-1, filled.shape[3]))
            whole.append(filled.permute(0, 3, 1, 2))
        if not self._as_they_come:
            try:
                return rest(*whole)
            except RuntimeError:  # as of `view`, which wants the channels first in memory
                self._as_they_come = True
        return rest(*(map_.contiguous() for map_ in whole))


def _inner(map_: Tensor, border: Pair) -> Tensor:
    down, across = border
    return map_[:, down : map_.shape[1] - down, across : map_.shape[2] - across]


def _reached(before: Sequence[_Patch], layer: Layer, axis: int) -> tuple[Tensor, int]:
    """The first place (N,) of a layer's map that changes in its inputs reach along an axis, and how many they reach at
    most; all inside the map."""
    starts = [patch.top if axis == 0 else patch.left for patch in before]
    sizes = [patch.values.shape[1 + axis] for patch in before]
    start, changed = starts[0], sizes[0]
    for other, size in zip(starts[1:], sizes[1:], strict=True):
        both = torch.minimum(start, other)
        changed = int(torch.maximum(start + changed, other + size).sub(both).max())
        start = both
    reach, size = layer.reach, layer.shape[1 + axis]
    count = min(size, reach.reached(changed, axis))
    first = start + (reach.padding[axis] - reach.extent(axis) + reach.stride[axis])  # rounded up by the division
    if reach.stride[axis] > 1:
        first = first.div(reach.stride[axis], rounding_mode="floor")
    return first.clamp(0, size - count), count


def _places(map_: Tensor, top: Tensor, left: Tensor, size: Sequence[int], rows: Tensor | None = None) -> Tensor:
    """(N·h·w,) where patches lie in flattened maps (N, H, W, C)."""
    _, height, width, _ = map_.shape
    rows = torch.arange(len(top), device=top.device) if rows is None else rows
    down, across = (torch.arange(length, device=top.device) for length in size)
    first = (rows * height + top) * width + left
    return (first[:, None] + (down[:, None] * width + across).flatten()).flatten()


def _read(map_: Tensor, border: Pair, patch: _Patch, first: tuple[Tensor, Tensor], size: Pair) -> Tensor:
    """(N, h, w, C) a part of the maps, from these first rows and columns on, with what has changed in it."""
    top, left = first
    channels = map_.shape[3]
    at = _places(map_, top + border[0], left + border[1], size)
    read = map_.flatten(0, 2).index_select(0, at)
    height, width = patch.values.shape[1:3]
    down = (patch.top - top)[:, None] + torch.arange(height, device=top.device)
    across = (patch.left - left)[:, None] + torch.arange(width, device=top.device)
    inside = ((down >= 0) & (down < size[0]))[:, :, None] & ((across >= 0) & (across < size[1]))[:, None]
    rows = torch.arange(len(top), device=top.device)[:, None] * size[0]
    at, values = (((rows + down) * size[1])[:, :, None] + across[:, None]).flatten(), patch.values.view(-1, channels)
    if not inside.all():
        chosen = inside.flatten().nonzero()[:, 0]
        at, values = at[chosen], values[chosen]
    return read.index_copy_(0, at, values).view(-1, *size, channels)
