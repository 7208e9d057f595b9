"""Projections are the nearest points, steps the steepest, random points uniform, and settled images exactly inside.

Nothing here repeats the method of the code: nearest points are held against SciPy's general solver and against the
variational inequality that only the nearest point satisfies, with SciPy's linear programming where a set is a polytope.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import Tensor

from atodds import norms
from atodds.errors import ThreatError
from atodds.threat import NORMS, Norm

Array = npt.NDArray[np.float64]
DUAL = {"l1": np.inf, "l2": 2, "linf": 1}
ORDER = {"l1": 1, "l2": 2, "linf": np.inf}

every_norm = pytest.mark.parametrize("norm", NORMS)
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def size(delta: Tensor, norm: str) -> Array:
    """Lengths measured by NumPy in float64."""
    return np.asarray(np.linalg.norm(delta.double().flatten(1).numpy(), ORDER[norm], axis=1))


def best_linear(gradient: Array, origin: Array, eps: float, norm: str) -> Array:
    """argmax of gradient·y over ball and box: by linear programming, or by bisection on the multiplier in l2."""
    low, high = np.maximum(-origin, -eps), np.minimum(1 - origin, eps)
    if norm == "linf":
        return np.asarray(origin + np.where(gradient > 0, high, low))
    if norm == "l1":  # y = origin + up - down
        cost, d = np.concatenate([-gradient, gradient]), len(gradient)
        found = optimize.linprog(
            cost, A_ub=np.ones((1, 2 * d)), b_ub=[eps],
            bounds=list(zip([0] * 2 * d, [*(1 - origin), *origin], strict=True)),
        )  # fmt: skip
        ups, downs = np.split(np.asarray(found.x), 2)
        return np.asarray(origin + ups - downs)
    if np.linalg.norm(gradient) == 0:
        return origin

    def at(scale: float) -> Array:
        return np.clip(origin + scale * gradient / np.linalg.norm(gradient), 0, 1)

    if np.linalg.norm(at(1e9) - origin) <= eps:
        return at(1e9)
    scale = optimize.brentq(lambda s: np.linalg.norm(at(s) - origin) - eps, 0, 1e9, xtol=1e-15, rtol=1e-14)
    return at(scale)


def nearest(point: Array, origin: Array, eps: float, norm: str) -> Array:
    """The nearest point of ball and box, by sequential quadratic programming on a smooth form of the problem."""
    d = len(point)
    if norm == "l1":  # y = origin + up - down, with up, down >= 0

        def lift(v: Array) -> Array:
            return origin + v[:d] - v[d:]

        jacobian = np.concatenate([np.eye(d), -np.eye(d)], axis=1)
        inside: Any = {"type": "ineq", "fun": lambda v: eps - v.sum(), "jac": lambda v: -np.ones_like(v)}
        bounds, start = list(zip([0] * 2 * d, [*(1 - origin), *origin], strict=True)), np.zeros(2 * d)
    else:

        def lift(v: Array) -> Array:
            return v

        jacobian, start = np.eye(d), origin
        inside = {
            "type": "ineq",
            "fun": lambda v: eps**2 - ((v - origin) ** 2).sum(),
            "jac": lambda v: -2 * (v - origin),
        }
        reach = eps if norm == "linf" else 2.0
        bounds = [(max(0.0, o - reach), min(1.0, o + reach)) for o in origin]
    solve: Any = optimize.minimize
    found = solve(
        lambda v: 0.5 * ((lift(v) - point) ** 2).sum(), start, jac=lambda v: jacobian.T @ (lift(v) - point),
        bounds=bounds, constraints=[] if norm == "linf" else [inside], method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )  # fmt: skip
    return np.asarray(lift(found.x))


def problem(seed: int, norm: str, n: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Points far and near, origins of which many values lie on the edge of the box, radii from tiny to all-covering."""
    draw = torch.Generator().manual_seed(seed)
    origins = torch.rand(n, d, generator=draw, dtype=torch.float64).mul(1.6).sub(0.3).clamp(0, 1)
    spread = 10 ** torch.rand(n, 1, generator=draw, dtype=torch.float64).mul(4).sub(3)
    points = origins + torch.randn(n, d, generator=draw, dtype=torch.float64) * spread
    largest = {"l1": d, "l2": d**0.5, "linf": 1}[norm]
    eps = largest * 10 ** torch.rand(n, generator=draw, dtype=torch.float64).mul(3).sub(2.7)
    return points.to(dtype), origins.to(dtype), eps.to(dtype)


@every_norm
@pytest.mark.parametrize("d", [1, 2, 5])
def test_projections_are_those_of_a_general_solver(norm: Norm, d: int) -> None:
    points, origins, eps = problem(d, norm, 25, d)
    found = norms.project(points, origins, eps, norm)
    for row in range(len(points)):
        wanted = nearest(points[row].numpy(), origins[row].numpy(), float(eps[row]), norm)
        np.testing.assert_allclose(found[row].numpy(), wanted, atol=2e-6)


@every_norm
@pytest.mark.parametrize("d", [1, 3, 40, 300])
def test_projections_satisfy_the_variational_inequality(norm: Norm, d: int) -> None:
    """x is the nearest point to z in a convex set exactly where no y of the set has (z - x)·(y - x) > 0. That largest
    value bounds |x - nearest|²/2, so 1e-12 here means 6 correct digits and more."""
    points, origins, eps = problem(d, norm, 20, d)
    found = norms.project(points, origins, eps, norm)
    assert bool((found >= 0).all() and (found <= 1).all())
    assert (size(found - origins, norm) <= eps.numpy() * (1 + 1e-12)).all()
    for row in range(len(points)):
        z, x, origin = (values[row].numpy() for values in (points, found, origins))
        best = best_linear(z - x, origin, float(eps[row]), norm)
        scale = max(1.0, float(np.linalg.norm(z - x)))
        assert (z - x) @ (best - x) <= 1e-11 * scale * math.sqrt(d)


@every_norm
def test_projections_onto_the_ball_alone_are_nearest(norm: Norm) -> None:
    points, origins, eps = problem(3, norm, 40, 60)
    delta = points - origins
    found = norms.project_ball(delta, eps, norm)
    assert (size(found, norm) <= eps.numpy() * (1 + 1e-12)).all()
    rest = (delta - found).numpy()
    # the support function of the ball is eps times the dual norm
    support = eps.numpy() * np.linalg.norm(rest, DUAL[norm], axis=1)
    assert (support - (rest * found.numpy()).sum(1) <= 1e-10 * np.linalg.norm(delta.numpy(), axis=1)).all()


@every_norm
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 17]))
@settings(max_examples=60, deadline=None)
def test_projecting_again_changes_nothing_and_points_never_part(norm: Norm, seed: int, d: int) -> None:
    points, origins, eps = problem(seed, norm, 8, d)
    others = problem(seed + 1, norm, 8, d)[0]
    found, also = norms.project(points, origins, eps, norm), norms.project(others, origins, eps, norm)
    torch.testing.assert_close(norms.project(found, origins, eps, norm), found, rtol=0, atol=1e-12)
    apart = torch.linalg.vector_norm(points - others, dim=1)
    assert bool((torch.linalg.vector_norm(found - also, dim=1) <= apart * (1 + 1e-12) + 1e-12).all())


@every_norm
@both_types
def test_points_inside_stay_as_they_are(norm: Norm, dtype: torch.dtype) -> None:
    origins = torch.rand(5, 3, 4, 4, dtype=dtype) * 0.5 + 0.25
    points = origins + 1e-3 * torch.randn(5, 3, 4, 4, dtype=dtype).clamp(-2, 2)
    eps = {"l1": 0.2, "l2": 0.1, "linf": 0.01}[norm]
    torch.testing.assert_close(norms.project(points, origins, eps, norm), points, rtol=0, atol=1e-6)
    if norm == "linf":
        assert torch.equal(norms.project(points, origins, eps, norm), points)


@every_norm
@both_types
def test_a_radius_of_0_gives_the_origin_back(norm: Norm, dtype: torch.dtype) -> None:
    points, origins, _ = problem(0, norm, 6, 30, dtype)
    for eps in (0.0, torch.zeros(6, dtype=dtype)):
        assert torch.equal(norms.project(points, origins, eps, norm), origins)
        assert torch.equal(norms.project_ball(points - origins, eps, norm), torch.zeros_like(origins))
        assert torch.equal(norms.settle(points, origins, eps, norm), origins)
    ids = torch.arange(6)
    assert torch.equal(norms.random_point(origins, 0.0, norm, ids, seed=0), origins)
    assert torch.equal(norms.ascend(origins, points, origins, 0.0, norm, 0.5, spread=0.1), origins)


@every_norm
def test_a_radius_that_covers_the_box_only_cuts_to_the_box(norm: Norm) -> None:
    points, origins, _ = problem(1, norm, 6, 30)
    for eps in (1e9, torch.inf):
        torch.testing.assert_close(norms.project(points, origins, eps, norm), points.clamp(0, 1), rtol=0, atol=1e-12)
        torch.testing.assert_close(norms.project_ball(points, eps, norm), points, rtol=0, atol=1e-12)


@every_norm
@both_types
def test_each_image_has_its_own_radius_whatever_stands_beside_it(norm: Norm, dtype: torch.dtype) -> None:
    points, origins, eps = problem(2, norm, 30, 50, dtype)
    slopes = points.flip(0)
    together = norms.project(points, origins, eps, norm)
    climbed = norms.ascend(together, slopes, origins, eps, norm, eps / 3, spread=0.1)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for row in range(30):
        one = slice(row, row + 1)
        alone = norms.project(points[one], origins[one], float(eps[row]), norm)
        torch.testing.assert_close(alone, together[one], rtol=0, atol=tolerance)
        alone = norms.ascend(together[one], slopes[one], origins[one], eps[one], norm, float(eps[row]) / 3, spread=0.1)
        torch.testing.assert_close(alone, climbed[one], rtol=0, atol=tolerance)


@every_norm
def test_pools_larger_than_a_block_are_worked_off_whole(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    points, origins, eps = problem(4, norm, 23, 12)
    whole = norms.project(points, origins, eps, norm)
    climbed = norms.ascend(whole, points, origins, eps, norm, 0.1)
    settled = norms.settle(whole, origins, eps, norm)
    for block in (1, 12, 60):
        monkeypatch.setattr(norms, "_BLOCK", block)
        torch.testing.assert_close(norms.project(points, origins, eps, norm), whole, rtol=0, atol=1e-13)
        torch.testing.assert_close(norms.ascend(whole, points, origins, eps, norm, 0.1), climbed, rtol=0, atol=1e-12)
        torch.testing.assert_close(norms.settle(whole, origins, eps, norm), settled, rtol=0, atol=1e-14)


@every_norm
def test_shapes_and_memory_layouts_do_not_matter(norm: Norm) -> None:
    points, origins, eps = problem(5, norm, 6, 48, torch.float32)
    flat = norms.project(points, origins, eps, norm)
    shaped = [t.view(6, 3, 4, 4).to(memory_format=torch.channels_last) for t in (points, origins)]
    torch.testing.assert_close(norms.project(shaped[0], shaped[1], eps, norm), flat.view(6, 3, 4, 4))
    torch.testing.assert_close(
        norms.project_ball(shaped[0], eps, norm).flatten(1), norms.project_ball(points, eps, norm)
    )
    torch.testing.assert_close(norms.steepest(shaped[0], norm).flatten(1), norms.steepest(points, norm))
    stepped = norms.ascend(shaped[1], shaped[0], shaped[1], eps, norm, eps, spread=0.1)
    torch.testing.assert_close(stepped.flatten(1), norms.ascend(origins, points, origins, eps, norm, eps, spread=0.1))
    assert norms.settle(shaped[0], shaped[1], eps, norm).shape == (6, 3, 4, 4)


@every_norm
def test_arguments_are_read_and_never_written(norm: Norm) -> None:
    points, origins, eps = problem(6, norm, 6, 48)
    before = [t.clone() for t in (points, origins, eps)]
    norms.project(points, origins, eps, norm)
    norms.project_ball(points, eps, norm)
    norms.steepest(points, norm)
    norms.ascend(origins, points, origins, eps, norm, eps, spread=0.1)
    norms.settle(points, origins, eps, norm)
    assert all(torch.equal(a, b) for a, b in zip((points, origins, eps), before, strict=True))


# --- settle ------------------------------------------------------------------------------------------------------

EDGES = [0.0, 1.0, 0.7, 0.1, 1e-38, 1e-45, 1e-7, 0.99999994, 0.5, 1 / 3, 254 / 255, 1 / 255]


@every_norm
@both_types
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.sampled_from(EDGES), st.floats(0, 1, width=32)),
            st.one_of(
                st.sampled_from([*EDGES, math.nan, math.inf, -math.inf, -1e-8, 1 + 1e-6]),
                st.floats(-3, 3, width=32),
            ),
        ),
        min_size=1,
        max_size=20,
    ),
    eps=st.one_of(st.sampled_from([0.0, 1 / 255, 8 / 255, 0.3, 1.0, 1e-10, 1e-38]), st.floats(0, 2)),
)
@example(rows=[(0.0, 1.0), (0.0, 0.7)], eps=5e-324)
@example(rows=[(0.0, 1.0)] * 20, eps=3e-308)
@settings(max_examples=150, deadline=None)
def test_settled_images_are_exactly_in_ball_and_box(
    norm: Norm, dtype: torch.dtype, rows: list[tuple[float, float]], eps: float
) -> None:
    origins = torch.tensor([[origin for origin, _ in rows]], dtype=dtype)
    points = torch.tensor([[point for _, point in rows]], dtype=dtype)
    settled = norms.settle(points, origins, eps, norm)
    assert settled.dtype == dtype
    assert bool((settled >= 0).all() and (settled <= 1).all())
    delta = (settled.double() - origins.double()).numpy()[0]
    assert np.linalg.norm(delta, ORDER[norm]) <= eps
    measured = {
        "l1": math.fsum(abs(delta)),
        "l2": math.sqrt(math.fsum(delta**2)),
        "linf": max(abs(delta)),
    }[norm]
    assert measured <= eps
    box = norms.settle(points, origins, None, norm)
    wanted = torch.where(points.isnan(), origins, points.clamp(0, 1))
    torch.testing.assert_close(box, wanted, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-15)


@every_norm
@both_types
def test_settling_moves_by_rounding_only(norm: Norm, dtype: torch.dtype) -> None:
    points, origins, eps = problem(7, norm, 200, 300, dtype)
    inside = norms.project(points, origins, eps, norm)
    settled = norms.settle(inside, origins, eps, norm)
    assert (size(settled - origins, norm) <= eps.double().numpy()).all()
    torch.testing.assert_close(settled, inside, rtol=0, atol=3e-6 if dtype == torch.float32 else 1e-13)
    again = norms.settle(settled, origins, eps, norm)
    assert torch.equal(again, settled)


def test_a_float32_sum_that_rounds_outwards_is_brought_back() -> None:
    origins = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)) * 0.9
    points = origins + 0.1
    outside = size(points.double() - origins.double(), "linf") > 0.1
    assert 300 < outside.sum() < 900  # what the naive sum gives
    settled = norms.settle(points, origins, 0.1, "linf")
    assert (size(settled.double() - origins.double(), "linf") <= 0.1).all()
    back = torch.where(torch.from_numpy(outside)[:, None], torch.nextafter(points, origins), points)
    assert torch.equal(settled, back)  # one float32 back where needed, and not a bit more


def test_images_of_half_a_million_values_settle_in_every_order_of_summation() -> None:
    draw = torch.Generator().manual_seed(0)
    origins = torch.rand(1, 500_000, generator=draw)
    points = (origins + torch.randn(1, 500_000, generator=draw)).clamp(0, 1)
    sizes: list[tuple[Norm, float]] = [("l1", 3.7), ("l2", 1.3)]
    for norm, eps in sizes:
        delta = norms.settle(points, origins, eps, norm)[0].double() - origins[0].double()
        for order in (delta, delta.flip(0), delta.sort().values):
            values = order.abs() if norm == "l1" else order.square()
            assert float(values.cumsum(0)[-1]) ** (1 if norm == "l1" else 0.5) <= eps


# --- steps -------------------------------------------------------------------------------------------------------


@every_norm
@both_types
@pytest.mark.parametrize("magnitude", [1.0, 1e-25, 1e-37, 1e25])
def test_the_steepest_step_gains_the_dual_norm(norm: Norm, dtype: torch.dtype, magnitude: float) -> None:
    gradient = torch.randn(10, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=dtype) * magnitude
    step = norms.steepest(gradient, norm)
    np.testing.assert_allclose(size(step, norm), 1, rtol=1e-6)
    gain = (step.double() * gradient.double()).flatten(1).sum(1).numpy()
    dual = np.linalg.norm(gradient.double().flatten(1).numpy(), DUAL[norm], axis=1)
    np.testing.assert_allclose(gain, dual, rtol=1e-5)


@every_norm
@both_types
def test_no_gradient_means_no_step(norm: Norm, dtype: torch.dtype) -> None:
    gradient = torch.zeros(2, 6, dtype=dtype)
    gradient[1, 2] = -1e-30
    step = norms.steepest(gradient, norm)
    assert not step[0].any()
    torch.testing.assert_close(step[1], torch.tensor([0, 0, -1, 0, 0, 0], dtype=dtype))
    origins = torch.full((2, 6), 0.5, dtype=dtype)
    moved = norms.ascend(origins, gradient, origins, 0.25, norm, 0.25, spread=0.3)
    assert torch.equal(moved[0], origins[0])
    assert float(moved[1, 2]) < 0.5
    assert torch.equal(moved[1].ne(0.5).nonzero().flatten(), torch.tensor([2]))


@every_norm
@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_climbing_a_linear_loss_reaches_the_best_point_of_ball_and_box(norm: Norm, spread: float) -> None:
    _, origins, eps = problem(8, norm, 15, 40)
    gradient = torch.randn(15, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points = norms.random_point(origins, eps, norm, torch.arange(15), seed=0)
    for size_ in (0.5, 0.1):
        for _ in range(120):
            points = norms.ascend(points, gradient, origins, eps, norm, eps * size_, spread=spread)
    points = norms.settle(points, origins, eps, norm)
    for row in range(15):
        g, origin = gradient[row].numpy(), origins[row].numpy()
        best = best_linear(g, origin, float(eps[row]), norm)
        gained, possible = g @ (points[row].numpy() - origin), g @ (best - origin)
        assert gained == pytest.approx(possible, rel=1e-6)


@every_norm
def test_the_best_point_of_a_linear_loss_stays_where_it_is(norm: Norm) -> None:
    _, origins, eps = problem(9, norm, 15, 40)
    gradient = torch.randn(15, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    best = torch.stack(
        [
            torch.from_numpy(best_linear(g.numpy(), o.numpy(), float(e), norm))
            for g, o, e in zip(gradient, origins, eps, strict=True)
        ]
    )
    moved = norms.ascend(best, gradient, origins, eps, norm, eps / 3)
    torch.testing.assert_close(moved, best, rtol=0, atol=1e-7)


@every_norm
@both_types
def test_steps_have_the_length_asked_for_where_nothing_is_in_the_way(norm: Norm, dtype: torch.dtype) -> None:
    origins = torch.full((5, 200), 0.5, dtype=dtype)
    gradient = torch.randn(5, 200, generator=torch.Generator().manual_seed(3), dtype=dtype)
    eps, lengths = 0.4, torch.tensor([0.01, 0.02, 0.1, 0.2, 0.0], dtype=dtype)
    moved = norms.ascend(origins, gradient, origins, eps, norm, lengths, spread=0.1) - origins
    np.testing.assert_allclose(size(moved, norm), lengths.double().numpy(), rtol=2e-4, atol=1e-8)
    assert bool(((moved * gradient) >= 0).all())
    used = (moved != 0).sum(1).tolist()
    assert used == ([20, 20, 20, 20, 0] if norm == "l1" else [200, 200, 200, 200, 0])


def test_a_sparse_step_takes_the_largest_slopes_and_fills_the_box() -> None:
    origins = torch.tensor([[0.5, 0.9, 0.5, 0.0, 0.5]], dtype=torch.float64)
    gradient = torch.tensor([[1.0, 5.0, -3.0, -9.0, 2.0]], dtype=torch.float64)
    moved = norms.ascend(origins, gradient, origins, 0.45, "l1", 0.45)
    torch.testing.assert_close(moved, torch.tensor([[0.5, 1.0, 0.15, 0.0, 0.5]], dtype=torch.float64))


def test_in_l1_what_exceeds_the_ball_is_taken_back_where_it_is_worth_least() -> None:
    origins = torch.full((1, 4), 0.5, dtype=torch.float64)
    points = origins + torch.tensor([[0.1, -0.1, 0.1, 0.0]], dtype=torch.float64)
    gradient = torch.tensor([[0.5, 3.0, 1.0, 4.0]], dtype=torch.float64)  # the second stands against its slope
    moved = norms.ascend(points, gradient, origins, 0.3, "l1", 0.15)
    torch.testing.assert_close(moved - origins, torch.tensor([[0.05, 0.0, 0.1, 0.15]], dtype=torch.float64))


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_equal_slopes_share_a_sparse_step(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    origins = torch.rand(3, 30, generator=draw, dtype=torch.float64)
    gradient = torch.randint(-2, 3, (3, 30), generator=draw).double()
    eps = 4.0
    moved = norms.ascend(origins, gradient, origins, eps, "l1", eps)
    for row in range(3):
        best = best_linear(gradient[row].numpy(), origins[row].numpy(), eps, "l1")
        gained = float(gradient[row] @ (moved[row] - origins[row]))
        assert gained == pytest.approx(float(gradient[row].numpy() @ (best - origins[row].numpy())), rel=1e-9)


# --- random points -----------------------------------------------------------------------------------------------


@every_norm
@pytest.mark.parametrize("d", [2, 12])
def test_random_points_are_uniform_in_the_ball(norm: Norm, d: int) -> None:
    n, eps = 4000, 0.25
    origins = torch.full((n, d), 0.5, dtype=torch.float64)
    delta = norms.random_point(origins, eps, norm, torch.arange(n), seed=0) - origins
    radii = size(delta, norm) / eps
    assert radii.max() <= 1 + 1e-12
    assert stats.kstest(radii**d, "uniform").pvalue > 1e-3
    # directions: no side is preferred, no coordinate is larger, and every pair of coordinates is uncorrelated
    values = delta.numpy()
    assert all(stats.binomtest(int((values[:, k] > 0).sum()), n).pvalue > 1e-4 for k in range(d))
    assert stats.ks_2samp(abs(values[:, 0]), abs(values[:, -1])).pvalue > 1e-3
    spread = np.corrcoef(values.T) - np.eye(d)
    assert abs(spread).max() < 5 / math.sqrt(n)
    assert abs(np.corrcoef(radii, abs(values[:, 0]) / (radii * eps))[0, 1]) < 5 / math.sqrt(n)  # direction, radius


def test_a_disc_is_filled_evenly_in_l2_and_a_diamond_in_l1() -> None:
    n = 20_000
    origins = torch.full((n, 2), 0.5, dtype=torch.float64)
    disc = (norms.random_point(origins, 0.5, "l2", torch.arange(n), seed=1) - origins).numpy()
    angle = np.arctan2(disc[:, 1], disc[:, 0])
    assert stats.kstest((angle + np.pi) / (2 * np.pi), "uniform").pvalue > 1e-3
    diamond = (norms.random_point(origins, 0.5, "l1", torch.arange(n), seed=1) - origins).numpy()
    for turned in (diamond.sum(1), diamond[:, 0] - diamond[:, 1]):  # a diamond is a square, turned
        assert stats.kstest(turned + 0.5, "uniform").pvalue > 1e-3


@every_norm
def test_random_points_are_inside_ball_and_box_and_depend_on_seed_id_and_step_alone(norm: Norm) -> None:
    _, origins, _ = problem(10, norm, 40, 30)
    eps = {"l1": 3.0, "l2": 0.6, "linf": 0.3}[norm]
    ids = torch.arange(40) * 7
    points = norms.random_point(origins, eps, norm, ids, seed=5, step=2)
    assert bool((points >= 0).all() and (points <= 1).all())
    assert (size(points - origins, norm) <= eps * (1 + 1e-12)).all()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(norms.random_point(origins[order], eps, norm, ids[order], seed=5, step=2), points[order])
    assert torch.equal(norms.random_point(origins[3:4], eps, norm, ids[3:4], seed=5, step=2), points[3:4])
    for other in ({"seed": 6, "step": 2}, {"seed": 5, "step": 3}):
        assert not torch.equal(norms.random_point(origins, eps, norm, ids, **other), points)
    assert not torch.equal(norms.random_point(origins, eps, norm, ids + 1, seed=5, step=2), points)
    single = norms.random_point(origins.float(), eps, norm, ids, seed=5, step=2)
    torch.testing.assert_close(single.double(), points, rtol=0, atol=1e-6)


@every_norm
def test_random_directions_have_length_1(norm: Norm) -> None:
    directions = norms.random_direction(torch.arange(50), (3, 4, 4), norm, seed=0, dtype=torch.float64)
    assert directions.shape == (50, 3, 4, 4)
    np.testing.assert_allclose(size(directions, norm), 1, rtol=1e-12)
    assert len({tuple(row) for row in directions.flatten(1).tolist()}) == 50


# --- lengths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "lengths"), [("l0", [2, 0]), ("l1", [7, 0]), ("l2", [5, 0]), ("linf", [4, 0])])
def test_lengths_are_those_of_the_textbook(norm: str, lengths: list[float]) -> None:
    delta = torch.tensor([[[3.0, 0.0], [0.0, -4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert norms.length(delta, norm).tolist() == lengths
    assert norms.distance(delta + 0.5, torch.full_like(delta, 0.5), norm).tolist() == lengths


@pytest.mark.parametrize("norm", ["l3", "L2", "", "inf"])
def test_an_unknown_length_is_refused(norm: str) -> None:
    with pytest.raises(ThreatError, match="l0, l1, l2, linf"):
        norms.length(torch.zeros(1, 2), norm)


def test_a_step_in_l1_along_a_uniform_gradient_moves_by_its_length() -> None:
    images = torch.full((2, 1, 4, 4), 0.5)
    moved = norms.ascend(images, torch.full_like(images, 3.0), images, 1.0, "l1", 0.5) - images
    torch.testing.assert_close(norms.length(moved, "l1"), torch.full((2,), 0.5))
