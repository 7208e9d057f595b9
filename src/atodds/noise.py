"""Random draws as a function of (seed, image id, step), not of what was drawn before.

A draw is a hash of its coordinates, so it is the same for any batch size, order, shard, worker or resume point. The
hash is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014): each image's
key is one mixed word of (seed, stream, step, id), and its values are the outputs of a SplitMix64 generator whose
state starts at that key. All arithmetic is on int64 tensors, which wrap modulo 2^64 on every device. A uniform has 24
bits, so it is the same number in float32 and float64.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atodds.errors import ArgumentError

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = 1 << 64
_MOST = 1 << 24
_BLOCK = 2**17
"""Words that are mixed at once on a CPU, so that they stay in the cache."""


def uniform(
    ids: Tensor,
    shape: Sequence[int],
    *,
    seed: int,
    step: int = 0,
    stream: str = "",
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform draws in [low, high).

    Args:
        ids: (N,) int64, one stable id an image; the draws are made on its device.
        shape: shape of one image's draws.
        seed: the run's seed, any integer.
        step: which draw of this image: restart, iteration, query.
        stream: a name that keeps two uses of the same step apart.
        low: smallest value.
        high: upper end, not reached, also after rounding.
        dtype: of the result. The draws are made in at least float32.

    Returns:
        (N, *shape)
    """
    ends = torch.tensor([high, low], dtype=dtype)
    last = float(torch.nextafter(ends[0], ends[1]))

    def drawn(words: Tensor) -> Tensor:
        unit = _top(words).to(_wide(dtype)).mul_((high - low) * 2.0**-24)
        return unit.add_(low).to(dtype).clamp_max_(last)

    return _filled(drawn, ids, shape, seed, step, stream, dtype)


def normal(
    ids: Tensor,
    shape: Sequence[int],
    *,
    seed: int,
    step: int = 0,
    stream: str = "",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal draws (Box-Muller); arguments and result as in `uniform`."""
    count = math.prod(shape)
    wide = _wide(dtype)

    def drawn(words: Tensor) -> Tensor:
        angle = (words & 0xFFFFFF).to(wide).mul_(2.0**-24 * 2 * math.pi)
        radius = _top(words).to(wide).add_(0.5).mul_(2.0**-24).log_().mul_(-2).sqrt_()
        pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return pairs[:, :count].to(dtype)

    return _filled(drawn, ids, shape, seed, step, stream, dtype, words=(count + 1) // 2)


def sign(
    ids: Tensor,
    shape: Sequence[int],
    *,
    seed: int,
    step: int = 0,
    stream: str = "",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draws that are -1 or 1 with equal chance; arguments and result as in `uniform`."""

    def drawn(words: Tensor) -> Tensor:
        return (words >> 63).to(dtype).mul_(-2).sub_(1)

    return _filled(drawn, ids, shape, seed, step, stream, dtype)


def integers(
    ids: Tensor, shape: Sequence[int], *, seed: int, high: int | Tensor, step: int = 0, stream: str = ""
) -> Tensor:
    """Whole numbers from 0 to `high` - 1, as int64; other arguments and result as in `uniform`.

    Args:
        high: the number of values, at most 2^24; a tensor that broadcasts to (N, *shape) gives each draw its own.

    Raises:
        ArgumentError: a number of values below 1 or above 2^24.
    """
    if isinstance(high, int) and not 1 <= high <= _MOST:
        raise ArgumentError("high", high, "not a number of values", f"Give 1 to {_MOST}.")
    words = _words(ids, math.prod(shape), seed, step, stream).reshape(len(ids), *shape)
    return _shift(_shift(words, 32) * high, 32)


def _filled(
    drawn: Callable[[Tensor], Tensor],
    ids: Tensor,
    shape: Sequence[int],
    seed: int,
    step: int,
    stream: str,
    dtype: torch.dtype,
    words: int | None = None,
) -> Tensor:
    """(N, *shape) draws that `drawn` makes of words, as many an image as there are draws unless said otherwise."""
    count = math.prod(shape)
    needed = count if words is None else words
    rows = max(1, _BLOCK // max(1, needed)) if ids.device.type == "cpu" else len(ids)
    if len(ids) <= rows:
        return drawn(_words(ids, needed, seed, step, stream)).reshape(len(ids), *shape)
    result = torch.empty(len(ids), count, dtype=dtype, device=ids.device)
    for start in range(0, len(ids), rows):
        result[start : start + rows] = drawn(_words(ids[start : start + rows], needed, seed, step, stream))
    return result.reshape(len(ids), *shape)


def _words(ids: Tensor, count: int, seed: int, step: int, stream: str) -> Tensor:
    """(N, count) words of 64 random bits as int64."""
    key = _mix_int(seed)
    for letter in stream.encode():
        key = _mix_int(key ^ letter)
    key = _mix_int(key + _GAMMA * (step + 1))
    keys = _mix(ids.to(torch.int64) * _signed(_GAMMA) + _signed(key))
    counter = torch.arange(1, count + 1, device=ids.device, dtype=torch.int64) * _signed(_GAMMA)
    return _mix(keys[:, None] + counter)


def _mix(words: Tensor) -> Tensor:
    """The output function of SplitMix64, in place."""
    spare = torch.empty_like(words)
    for by, factor in ((30, _MIX_1), (27, _MIX_2), (31, 1)):
        torch.bitwise_right_shift(words, by, out=spare)
        words.bitwise_xor_(spare.bitwise_and_((1 << (64 - by)) - 1))
        if factor != 1:
            words.mul_(_signed(factor))
    return words


def _mix_int(word: int) -> int:
    word = (word + _GAMMA) % _WORD
    word = (word ^ (word >> 30)) * _MIX_1 % _WORD
    word = (word ^ (word >> 27)) * _MIX_2 % _WORD
    return word ^ (word >> 31)


def _shift(words: Tensor, by: int) -> Tensor:
    """Logical right shift; torch's own copies the sign."""
    return (words >> by) & ((1 << (64 - by)) - 1)


def _top(words: Tensor) -> Tensor:
    """The upper 24 bits, in place."""
    return words.bitwise_right_shift_(40).bitwise_and_((1 << 24) - 1)


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
