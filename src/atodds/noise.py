"""Random draws as a function of (seed, image id, step), not of what was drawn before.

A draw is a hash of its coordinates, so it is the same for any batch size, order, shard, worker or resume point. The
hash is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014): each image's
key is one mixed word of (seed, stream, step, id), and its values are the outputs of a SplitMix64 generator whose
state starts at that key. All arithmetic is on int64 tensors, which wrap modulo 2^64 on every device. A uniform has 24
bits, so it is the same number in float32 and float64.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = 1 << 64


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
        high: upper end, not reached.
        dtype: of the result. The draws are made in at least float32.

    Returns:
        (N, *shape)
    """
    unit = (_bits(ids, math.prod(shape), seed, step, stream, 24)).to(_wide(dtype)) * 2.0**-24
    return (unit * (high - low) + low).to(dtype).reshape(len(ids), *shape)


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
    half = (count + 1) // 2
    words = _words(ids, half, seed, step, stream)
    wide = _wide(dtype)
    radius = (((_shift(words, 40)).to(wide) + 0.5) * 2.0**-24).log().mul(-2).sqrt()
    angle = (words & 0xFFFFFF).to(wide) * (2.0**-24 * 2 * math.pi)
    pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
    return pairs[:, :count].to(dtype).reshape(len(ids), *shape)


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
    bits = _bits(ids, math.prod(shape), seed, step, stream, 1)
    return (bits * 2 - 1).to(dtype).reshape(len(ids), *shape)


def integers(
    ids: Tensor, shape: Sequence[int], *, seed: int, high: int | Tensor, step: int = 0, stream: str = ""
) -> Tensor:
    """Whole numbers from 0 to `high` - 1, as int64; other arguments and result as in `uniform`.

    Args:
        high: the number of values, at most 2^24; a tensor that broadcasts to (N, *shape) gives each draw its own.
    """
    bits = _bits(ids, math.prod(shape), seed, step, stream, 32).reshape(len(ids), *shape)
    return _shift(bits * high, 32)


def _bits(ids: Tensor, count: int, seed: int, step: int, stream: str, width: int) -> Tensor:
    """(N, count) draws of `width` bits, from the upper end of each word."""
    return _shift(_words(ids, count, seed, step, stream), 64 - width)


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
    words = (words ^ _shift(words, 30)) * _signed(_MIX_1)
    words = (words ^ _shift(words, 27)) * _signed(_MIX_2)
    return words ^ _shift(words, 31)


def _mix_int(word: int) -> int:
    word = (word + _GAMMA) % _WORD
    word = (word ^ (word >> 30)) * _MIX_1 % _WORD
    word = (word ^ (word >> 27)) * _MIX_2 % _WORD
    return word ^ (word >> 31)


def _shift(words: Tensor, by: int) -> Tensor:
    """Logical right shift; torch's own copies the sign."""
    return (words >> by) & ((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
