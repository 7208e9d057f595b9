"""Random noise lies on the edge of the ball, evenly in all directions, and is kept where it fools."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from atodds.attacks import random_noise
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat

ORDER = {"l1": 1, "l2": 2, "linf": np.inf}


class Never(nn.Module):
    """Always class 0; notes what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.clone())
        score = images.flatten(1).sum(1) * 0
        return torch.stack([score + 1, score], 1)


@pytest.mark.parametrize("norm", NORMS)
def test_each_query_is_another_point_on_the_edge_of_the_ball(norm: Norm) -> None:
    images = torch.full((400, 1, 2, 3), 0.5)
    model = Never()
    found = random_noise(
        Oracle(model, batch_size=400), images, torch.zeros(400, dtype=torch.int64), Threat(norm, 0.2), queries=5
    )
    assert torch.equal(found, images)  # nothing fooled
    assert len(model.seen) == 5
    deltas = (torch.stack(model.seen) - images).double().flatten(2).numpy()
    np.testing.assert_allclose(np.linalg.norm(deltas, ORDER[norm], axis=2), 0.2, rtol=1e-5)
    assert not np.array_equal(deltas[0], deltas[1])
    positive = int((deltas > 0).sum())
    assert stats.binomtest(positive, deltas.size).pvalue > 1e-3
    if norm == "l2":  # a coordinate of a uniform point of the sphere in 6 dimensions
        squares = deltas[..., 0].ravel() ** 2 / 0.04
        assert stats.kstest(squares, stats.beta(0.5, 2.5).cdf).pvalue > 1e-3
    if norm == "linf":
        assert set(np.round(abs(deltas).ravel(), 6)) == {0.2}


def test_an_image_that_noise_fools_leaves_with_the_point_that_fools() -> None:
    class Sign(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            score = images.flatten(1)[:, 0] - 0.5
            return torch.stack([torch.zeros_like(score), score], 1)

    images, labels = torch.full((300, 1, 2, 2), 0.5), torch.zeros(300, dtype=torch.int64)
    oracle = Oracle(Sign(), batch_size=64)
    found = random_noise(oracle, images, labels, Threat("linf", 0.1), queries=6)
    fooled = Sign()(found).argmax(1) == 1
    forwards = oracle.passes().forwards
    assert not oracle.passes().backwards.any()
    assert int(forwards.max()) == 6
    assert stats.binomtest(int((forwards == 1).sum()), 300).pvalue > 1e-3  # half of them at the first query
    assert bool(fooled[forwards < 6].all())
    assert torch.equal(found[~fooled], images[~fooled])


@pytest.mark.parametrize("queries", [0, -1])
def test_no_query_is_refused(queries: int) -> None:
    with pytest.raises(ArgumentError, match="queries"):
        random_noise(Never(), torch.rand(2, 4), torch.zeros(2, dtype=torch.int64), Threat("linf", 0.1), queries=queries)
