"""The shortest way onto a plane within the box, against linear programs: a solver that shares nothing with ours."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from atodds import norms
from atodds.attacks.hyperplanes import toward
from atodds.threat import NORMS, Norm

every_norm = pytest.mark.parametrize("norm", NORMS)


def shortest(point: Tensor, normal: Tensor, change: float, norm: Norm) -> float:
    """The least length in l1 or linf of a perturbation in the box with ⟨normal, perturbation⟩ = change. In l1 it is the
    difference of two positive parts; in linf one more variable bounds all the others."""
    x, w = point.numpy(), normal.numpy()
    size = len(x)
    if norm == "l1":
        bounds = [(0, 1 - value) for value in x] + [(0, value) for value in x]
        found = linprog(np.ones(2 * size), A_eq=np.concatenate([w, -w])[None], b_eq=[change], bounds=bounds)
    else:
        both = np.concatenate([np.eye(size), -np.eye(size)])
        limits = np.concatenate([both, -np.ones((2 * size, 1))], 1)
        bounds = [(-value, 1 - value) for value in x] + [(0, 1)]
        cost, plane = np.append(np.zeros(size), 1.0), np.append(w, 0.0)
        found = linprog(
            cost, A_ub=limits, b_ub=np.zeros(2 * size), A_eq=plane[None], b_eq=[change], bounds=bounds
        )  # fmt: skip
    assert found.fun is not None
    return float(found.fun)


def lowest(direction: Tensor, point: Tensor, normal: Tensor, change: float) -> float:
    """The least ⟨direction, perturbation⟩ over all perturbations in the box with ⟨normal, perturbation⟩ = change."""
    bounds = [(-value, 1 - value) for value in point.tolist()]
    found = linprog(direction.numpy(), A_eq=normal.numpy()[None], b_eq=[change], bounds=bounds)
    assert found.fun is not None
    return float(found.fun)


def reach(points: Tensor, normals: Tensor, side: float) -> Tensor:
    """How far the corner of the box in this direction of the normals is along them."""
    corner = (normals * side > 0).to(points.dtype)
    return (normals * (corner - points)).sum(1)


values = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1, width=16))
weights = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-1, 1, width=16))


@every_norm
@given(
    pixels=st.lists(st.tuples(values, weights), min_size=1, max_size=7),
    share=st.floats(-0.98, 0.98).filter(lambda share: abs(share) > 1e-3),
)
@settings(max_examples=40, deadline=None)
def test_no_way_is_shorter(norm: Norm, pixels: list[tuple[float, float]], share: float) -> None:
    """In l2 the perturbation d is the shortest exactly where ⟨d, e⟩ >= ⟨d, d⟩ for every other one e."""
    point, normal = torch.tensor(pixels, dtype=torch.float64).T
    change = float(reach(point[None], normal[None], np.sign(share))[0]) * abs(share)
    found = toward(point[None], normal[None], torch.tensor([change], dtype=torch.float64), norm)[0]
    assert bool((found + point >= -1e-12).all())
    assert bool((found + point <= 1 + 1e-12).all())
    assert float(found @ normal) == pytest.approx(change, rel=1e-10, abs=1e-12)
    assert not found[normal == 0].any()
    if change == 0:
        assert not found.any()
    elif norm == "l2":
        assert lowest(found, point, normal, change) >= float(found @ found) - 1e-7
    else:
        length = float(norms.length(found[None], norm)[0])
        assert length == pytest.approx(shortest(point, normal, change, norm), abs=1e-7)


def random(*shape: int, seed: int, low: float = 0.0, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=draw, dtype=torch.float64) * (1 - low) + low).to(dtype)


@every_norm
def test_planes_beyond_the_box_are_approached_at_the_corner(norm: Norm) -> None:
    points, normals = random(30, 9, seed=0), random(30, 9, seed=1, low=-1)
    normals[:, 4] = 0
    for side in (1.0, -1.0):
        end = reach(points, normals, side)
        expected = torch.where(normals == 0, 0.0, (normals * side > 0).double() - points)
        for further in (1.0, 1.001, 1e6):
            torch.testing.assert_close(toward(points, normals, end * further, norm), expected)


@every_norm
@pytest.mark.parametrize("size", [1, 63, 64, 700])
def test_every_plane_that_the_box_reaches_is_reached(norm: Norm, size: int) -> None:
    """Also where nearly all of the box must be crossed, and in l1 many values move one after the other."""
    points, normals = random(60, size, seed=2, low=-0.3).clamp(0, 1), random(60, size, seed=3, low=-1) ** 3
    for dtype, exact in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        x, w = points.to(dtype), normals.to(dtype)
        share = torch.linspace(0, 0.999, 60, dtype=dtype)
        change = reach(x, w, 1.0) * share
        found = toward(x, w, change, norm)
        assert found.dtype == dtype
        torch.testing.assert_close((found * w).sum(1), change, rtol=exact, atol=exact)
        away = (found.abs() - torch.where(w > 0, 1 - x, x)).amax()
        assert float(away) <= torch.finfo(dtype).eps


@every_norm
def test_an_image_does_not_depend_on_its_company(norm: Norm) -> None:
    points, normals = random(40, 200, seed=4), random(40, 200, seed=5, low=-1)
    change = reach(points, normals, -1.0) * torch.linspace(0, 1.2, 40, dtype=torch.float64)
    together = toward(points, normals, change, norm)
    for row in range(0, 40, 3):
        alone = toward(points[row : row + 1], normals[row : row + 1], change[row : row + 1], norm)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-14)


@every_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scale_of_the_normal_says_nothing(norm: Norm, dtype: torch.dtype) -> None:
    """A gradient may be as small or as large as the number format holds: its square would not be."""
    points, normals = random(20, 30, seed=6, dtype=dtype), random(20, 30, seed=7, low=-1, dtype=dtype)
    change = reach(points, normals, 1.0) * 0.4
    expected = toward(points, normals, change, norm)
    for power in (-100, -30, 30, 100):
        scale = 2.0**power
        found = toward(points, normals * scale, change * scale, norm)
        torch.testing.assert_close(found, expected, rtol=1e-4 if dtype == torch.float32 else 1e-10, atol=1e-7)


@every_norm
def test_without_a_normal_or_a_way_to_go_nothing_moves(norm: Norm) -> None:
    points = random(6, 12, seed=8)
    for change in (0.0, 1.0, -1.0):
        assert not toward(points, torch.zeros_like(points), torch.full((6,), change).double(), norm).any()
    for nothing in (0.0, -0.0):
        found = toward(points, random(6, 12, seed=9, low=-1), torch.full((6,), nothing).double(), norm)
        assert not found.any()


@every_norm
def test_the_reference_finds_none_shorter(norm: Norm) -> None:
    """Its projections, with the plane given as ⟨w, z⟩ = b, on images of real size in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fab = pytest.importorskip("torchattacks.attacks.fab", reason="optional: pip install 'atodds[bench]'")
    points = random(50, 784, seed=10, low=-0.5, dtype=torch.float32).clamp(0, 1)
    normals = random(50, 784, seed=11, low=-1, dtype=torch.float32)
    change = reach(points, normals, 1.0) * torch.linspace(0.01, 0.9, 50)
    theirs = getattr(fab, f"projection_{norm}")(points, normals, (normals * points).sum(1) + change)
    ours = toward(points, normals, change, norm)
    torch.testing.assert_close((ours * normals).sum(1), change, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norms.length(ours, norm), norms.length(theirs, norm), rtol=2e-4, atol=1e-5)


@every_norm
def test_no_value_moves_further_than_its_reach(norm: Norm) -> None:
    """The way is then the shortest within a smaller box: that of the same length for a point with as much room."""
    draw = torch.Generator().manual_seed(3)
    points = torch.rand((40, 12), generator=draw, dtype=torch.float64)
    normals = torch.rand((40, 12), generator=draw, dtype=torch.float64) + 0.1
    limit = torch.full((40,), 0.2, dtype=torch.float64)
    room = (1 - points).clamp_max(0.2)
    change = (normals * room).sum(1) * torch.linspace(0.1, 1.5, 40, dtype=torch.float64)
    way = toward(points, normals, change, norm, limit)
    torch.testing.assert_close(way, toward(1 - room, normals, change, norm))
    assert bool((way <= 0.2).all())
    torch.testing.assert_close((way * normals).sum(1), change.minimum((normals * room).sum(1)))
