"""An oracle of reduced precision answers in the model's own when it is asked to."""

import pytest
import torch
from torch import Tensor, nn

from atodds.attacks.pool import opened
from atodds.oracle import Oracle
from atodds.precision import Precision
from atodds.threat import Threat


class Telling(nn.Module):
    """Its second logit tells in which precision it ran: 1 in bfloat16, 0 else."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(12, 1, dtype=dtype))

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1) @ self.weight
        lower = float(score.dtype in (torch.bfloat16, torch.float16))
        return torch.cat([0 * score.float() + 0.5, 0 * score.float() + lower], 1)


def pool(count: int = 5) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(count) * 2 + 1


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_exact_logits_are_those_of_the_model_itself(precision: Precision) -> None:
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 4)).requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=draw))
    images, ids = pool(40)
    oracle = Oracle(model, precision=precision, batch_size=40)
    assert torch.equal(oracle.logits(images, ids, exact=True), model(images))
    assert not torch.equal(oracle.logits(images, ids), model(images))
    assert oracle.logits(images, ids, exact=True).dtype == torch.float32


def test_exact_passes_are_counted_and_averaged_like_others() -> None:
    images, ids = pool()
    oracle = Oracle(Telling(), precision="bfloat16", eot=3)
    assert oracle.logits(images, ids)[:, 1].tolist() == [1.0] * 5
    assert oracle.logits(images, ids, exact=True)[:, 1].tolist() == [0.0] * 5
    passes = oracle.passes()
    assert passes.forwards.tolist() == [6] * 5
    assert not passes.backwards.any()


@pytest.mark.parametrize(
    ("own", "precision", "reduced"),
    [
        (torch.float32, None, False),
        (torch.float32, "float32", False),
        (torch.float32, "bfloat16", True),
        (torch.float32, "float16", True),
        (torch.float64, "bfloat16", True),
        (torch.float64, None, False),
        (torch.bfloat16, None, False),
        (torch.bfloat16, "bfloat16", False),
    ],
)
def test_an_oracle_is_reduced_where_it_runs_in_less_than_the_models_own(
    own: torch.dtype, precision: Precision | None, reduced: bool
) -> None:
    assert Oracle(Telling(own), precision=precision).reduced == reduced


def test_what_fools_in_reduced_precision_must_fool_in_the_models_own() -> None:
    images, ids = pool()
    labels = torch.zeros(5, dtype=torch.int64)
    oracle = Oracle(Telling(), precision="bfloat16")
    with opened(oracle, images, labels, Threat("l2", 0.1), None, ids) as opening:
        rows = torch.tensor([3, 0, 4])
        logits = oracle.logits(images[rows], ids[rows])
        assert bool((logits.argmax(1) == 1).all())
        assert opening.fooled(logits, rows, opening.images[rows]).tolist() == [False] * 3
        assert len(opening.wrong_classes()) == 5
        assert not opening.found.any()
    own = Oracle(Telling())
    with opened(own, images, torch.ones_like(labels), Threat("l2", 0.1), None, ids) as opening:
        opening.wrong_classes()
        assert bool(opening.found.all())
    assert own.passes().forwards.tolist() == [1] * 5  # nothing is confirmed that was seen in full precision


def test_only_what_seems_to_fool_is_shown_again() -> None:
    images, ids = pool()
    labels = torch.tensor([1, 1, 0, 1, 0])  # in bfloat16 the answer is 1: two seem to fool
    oracle = Oracle(Telling(), precision="bfloat16")
    with opened(oracle, images, labels, Threat("l2", 0.1), None, ids) as opening:
        opening.wrong_classes()
    assert oracle.passes().forwards.tolist() == [1, 1, 2, 1, 2]
