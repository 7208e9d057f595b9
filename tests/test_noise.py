"""Draws are SplitMix64, uniform, and a function of (seed, stream, step, id) and nothing else."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import Tensor

from atodds import noise
from atodds.errors import ArgumentError

Draw = Callable[..., Tensor]

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def integers(ids: Tensor, shape: tuple[int, ...], **named: int | str | torch.dtype) -> Tensor:
    named.pop("dtype", None)
    return noise.integers(ids, shape, high=1000, **named)  # type: ignore[arg-type]


every_draw = pytest.mark.parametrize("draw", [noise.uniform, noise.normal, noise.sign, integers])


# --- the generator -----------------------------------------------------------------------------------------------


def output(state: int) -> int:
    """SplitMix64's output function, on Python's whole numbers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def words(seed: int, stream: str, step: int, image: int, count: int) -> list[int]:
    """The words of one image, from the description in the module's documentation."""
    key = output((seed + GAMMA) & MASK)
    for letter in stream.encode():
        key = output(((key ^ letter) + GAMMA) & MASK)
    key = output((key + GAMMA * (step + 1) + GAMMA) & MASK)
    state = output((image * GAMMA + key) & MASK)
    return [output((state + GAMMA * k) & MASK) for k in range(1, count + 1)]


def test_the_mixing_is_that_of_the_published_generator() -> None:
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [(1234567 + GAMMA * k) & MASK for k in range(1, 6)]
    assert [output(state) for state in states] == published
    signed = torch.tensor([state - (1 << 64) if state >> 63 else state for state in states])
    assert [word & MASK for word in noise._mix(signed).tolist()] == published


@pytest.mark.parametrize(
    ("seed", "stream", "step"), [(0, "", 0), (7, "ball", 3), (-1, "ä", -5), (2**70, "x" * 40, 2**40)]
)
def test_draws_are_what_the_description_says(seed: int, stream: str, step: int) -> None:
    ids = torch.tensor([0, 1, -3, 2**62])
    named: dict[str, Any] = {"seed": seed, "stream": stream, "step": step}
    expected = [words(seed, stream, step, int(image), 6) for image in ids]
    units = [[(word >> 40) / 2**24 for word in row] for row in expected]
    for dtype in (torch.float32, torch.float64):
        assert noise.uniform(ids, (6,), dtype=dtype, **named).tolist() == units
        signs = [[1.0 if word >> 63 else -1.0 for word in row] for row in expected]
        assert noise.sign(ids, (6,), dtype=dtype, **named).tolist() == signs
    whole = [[(word >> 32) * 77 >> 32 for word in row] for row in expected]
    assert noise.integers(ids, (6,), high=77, **named).tolist() == whole
    radius = np.sqrt(-2 * np.log([[((w >> 40) + 0.5) / 2**24 for w in row[:3]] for row in expected]))
    angle = np.array([[(w & 0xFFFFFF) / 2**24 * 2 * np.pi for w in row[:3]] for row in expected])
    pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    np.testing.assert_allclose(noise.normal(ids, (6,), dtype=torch.float64, **named).numpy(), pairs, rtol=1e-12)
    np.testing.assert_allclose(noise.normal(ids, (5,), **named).numpy(), pairs[:, :5], rtol=1e-4, atol=1e-6)


def test_draws_never_change_between_versions() -> None:
    ids = torch.tensor([0, 1, 10**12])
    assert (noise.uniform(ids, (2,), seed=0, step=1, stream="ball") * 2**24).long().tolist() == [
        [1842644, 13471929],
        [1763330, 9361081],
        [9831428, 11356222],
    ]


# --- what a draw depends on --------------------------------------------------------------------------------------


@every_draw
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_do_not_depend_on_the_batch(draw: Draw, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.arange(40) * 3 - 20
    whole = draw(ids, (3, 5), seed=1, step=2, stream="s", dtype=dtype)
    assert whole.shape == (40, 3, 5)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(ids[order], (3, 5), seed=1, step=2, stream="s", dtype=dtype), whole[order])
    for row in (0, 17, 39):
        assert torch.equal(
            draw(ids[row : row + 1], (3, 5), seed=1, step=2, stream="s", dtype=dtype), whole[row : row + 1]
        )
    for block in (1, 16, 100):
        monkeypatch.setattr(noise, "_BLOCK", block)
        assert torch.equal(draw(ids, (3, 5), seed=1, step=2, stream="s", dtype=dtype), whole)
    again = draw(torch.tensor([4, 4]), (7,), seed=1, dtype=dtype)
    assert torch.equal(again[0], again[1])


@every_draw
def test_draws_change_with_seed_step_stream_and_id(draw: Draw) -> None:
    settings = itertools.product((0, 1, 2**63, -1), (0, 1, 2), ("", "a", "b", "ab", "ba"))
    found = {
        tuple(row)
        for seed, step, stream in settings
        for row in draw(torch.arange(-3, 3), (80,), seed=seed, step=step, stream=stream).tolist()
    }
    assert len(found) == 4 * 3 * 5 * 6


@every_draw
def test_the_global_generator_is_left_alone(draw: Draw) -> None:
    before = torch.get_rng_state()
    draw(torch.arange(3), (4,), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@every_draw
def test_no_image_and_no_draw_are_fine(draw: Draw) -> None:
    assert draw(torch.arange(0), (2, 3), seed=0).shape == (0, 2, 3)
    assert draw(torch.arange(2), (0,), seed=0).shape == (2, 0)
    assert draw(torch.arange(2), (), seed=0).shape == (2,)


def test_float32_and_float64_see_the_same_uniforms() -> None:
    ids = torch.arange(100)
    for low, high in ((0, 1), (-1, 1), (0, 8)):
        single = noise.uniform(ids, (50,), seed=3, low=low, high=high)
        double = noise.uniform(ids, (50,), seed=3, low=low, high=high, dtype=torch.float64)
        assert torch.equal(single.double(), double)
    single, double = (noise.normal(ids, (50,), seed=3, dtype=dtype) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5)


# --- distributions -----------------------------------------------------------------------------------------------


def numbers(values: Tensor) -> npt.NDArray[np.float64]:
    return values.double().numpy()


def test_uniforms_are_uniform_over_values_and_over_images() -> None:
    values = numbers(noise.uniform(torch.arange(2000), (50,), seed=0))
    assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(values[:, 0], "uniform").pvalue > 1e-3  # one draw of each image
    assert stats.kstest(values[7], "uniform", method="asymp").pvalue > 1e-3  # all draws of one image
    bits = (numbers(noise.uniform(torch.arange(2000), (50,), seed=0)) * 2**24).astype(np.int64)
    for bit in range(24):
        assert stats.binomtest(int((bits >> bit & 1).sum()), bits.size).pvalue > 1e-4


def test_normals_are_normal() -> None:
    values = numbers(noise.normal(torch.arange(2000), (51,), seed=0))
    assert stats.kstest(values.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(values[:, 0], "norm").pvalue > 1e-3
    assert stats.kstest(values[:, -1], "norm").pvalue > 1e-3
    length = (values**2).sum(1)
    assert stats.kstest(length, stats.chi2(51).cdf).pvalue > 1e-3  # no dependence within an image


def test_signs_are_fair_coins() -> None:
    values = numbers(noise.sign(torch.arange(1000), (64,), seed=0))
    assert set(values.ravel()) == {-1.0, 1.0}
    assert stats.binomtest(int((values > 0).sum()), values.size).pvalue > 1e-3
    assert stats.kstest((values.sum(1) / 8), "norm").pvalue > 1e-6  # sums of 64 coins


@pytest.mark.parametrize("high", [1, 2, 3, 7, 100])
def test_whole_numbers_are_even_over_their_range(high: int) -> None:
    values = noise.integers(torch.arange(400), (50,), seed=0, high=high)
    assert values.dtype == torch.int64
    counts = torch.bincount(values.flatten(), minlength=high)
    assert len(counts) == high
    if high > 1:
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_each_draw_may_have_its_own_range() -> None:
    ids, highs = torch.arange(300), torch.tensor([1, 2, 10, 1 << 24])
    values = noise.integers(ids, (4,), seed=0, high=highs)
    for column, high in enumerate(highs.tolist()):
        alone = noise.integers(ids, (4,), seed=0, high=high)[:, column]
        assert torch.equal(values[:, column], alone)
        assert 0 <= int(alone.min()) <= int(alone.max()) < high
    each = torch.arange(1, 301)[:, None]
    assert bool((noise.integers(ids, (4,), seed=0, high=each) < each).all())
    assert stats.kstest(numbers(values[:, 3]) / 2**24, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("high", [0, -1, (1 << 24) + 1])
def test_a_range_without_values_or_too_many_is_refused(high: int) -> None:
    with pytest.raises(ArgumentError, match="Give 1 to 16777216"):
        noise.integers(torch.arange(2), (2,), seed=0, high=high)


@pytest.mark.parametrize("other", ["seed", "step", "stream", "id"])
def test_neighbouring_draws_are_independent(other: str) -> None:
    """Draws at seeds, steps, streams or ids that differ by one have no correlation, nor do their squares."""
    ids = torch.arange(20_000)
    base: dict[str, Any] = {"seed": 5, "step": 5, "stream": "a"}
    apart: dict[str, dict[str, Any]] = {"seed": {"seed": 6}, "step": {"step": 6}, "stream": {"stream": "b"}, "id": {}}
    changed = base | apart[other]
    first = numbers(noise.uniform(ids, (2,), **base))
    second = numbers(noise.uniform(ids + (other == "id"), (2,), **changed))
    limit = 4.5 / math.sqrt(len(ids))
    for one, two in itertools.product(range(2), range(2)):
        for power in (1, 2):
            x, y = (first[:, one] - 0.5) ** power, (second[:, two] - 0.5) ** power
            assert abs(np.corrcoef(x, y)[0, 1]) < limit
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < limit


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, 0.6), (-0.1, 0.0), (-1.0, 1.0)])
def test_the_upper_end_is_never_reached_whatever_rounding_does(dtype: torch.dtype, low: float, high: float) -> None:
    values = noise.uniform(torch.arange(3000), (500,), seed=0, low=low, high=high, dtype=dtype)
    assert values.dtype == dtype
    low, high = torch.tensor([low, high], dtype=dtype).tolist()
    assert low <= float(values.min())
    assert float(values.max()) < high
