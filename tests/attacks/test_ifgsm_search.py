"""I-FGSM's search for the smallest eps: the rule of the study, and what ending a run early gains."""

import math

import pytest
import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import ifgsm, ifgsm_search
from atodds.attacks.pool import Balls
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import Threat

SHAPE = (1, 4, 4)


def curved() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64))
    return model.requires_grad_(False).eval()


def labelled(model: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    images = torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return images, model(images).argmax(1)


def by_the_study(model: nn.Module, image: Tensor, label: Tensor, runs: int, start: float, steps: int) -> Tensor:
    """The rule, written for one image: eps itself is what a success leaves as the upper end."""
    eps, low, high, best = start, 0.0, math.inf, image
    for _ in range(runs):
        found = ifgsm(
            model, image, label, Balls("linf", torch.tensor([eps], dtype=torch.float64)), steps=steps, stop=False
        )
        if int(model(found).argmax(1)) != int(label):
            high, best = eps, found
            eps = eps / 2 if low == 0 else (low + high) / 2
        else:
            low = eps
            eps = min(1.0, eps * 2) if math.isinf(high) else (low + high) / 2
    return best


@pytest.mark.parametrize("start", [0.001, 0.3])
def test_without_early_ends_it_is_the_search_of_the_study(start: float) -> None:
    """Doubled from below, halved from above, then halfway between; the last success is proposed."""
    model = curved()
    images, labels = labelled(model, 8)
    ours = ifgsm_search(model, images, labels, steps=10, runs=9, start=start, stop=False, refine=0)
    for row in range(8):
        one = slice(row, row + 1)
        theirs = by_the_study(model, images[one], labels[one], 9, start, 10)
        torch.testing.assert_close(ours[one], theirs, rtol=0, atol=1e-9)


def test_ending_runs_early_is_closer_for_fewer_gradients() -> None:
    model = curved()
    images, labels = labelled(model, 20)
    found, passes = {}, {}
    for stop in (False, True):
        oracle = Oracle(model)
        found[stop] = norms.distance(ifgsm_search(oracle, images, labels, stop=stop, refine=0), images, "linf")
        passes[stop] = float(oracle.passes().backwards.double().mean())
    both = (found[True] > 0) & (found[False] > 0)
    assert int(both.sum()) >= 18
    assert int((found[True] > 0).sum()) >= int((found[False] > 0).sum())
    assert float(found[True][both].mean()) <= float(found[False][both].mean())
    assert passes[True] < passes[False]


def test_images_leave_when_no_larger_eps_is_left_and_with_a_threat_at_the_first_success() -> None:
    model = curved()
    images, labels = labelled(model, 12)
    away = norms.distance(ifgsm_search(model, images, labels, steps=10), images, "linf")
    oracle = Oracle(model)
    balls = Balls("linf", away.double() * torch.tensor([3.0, 0.5]).double().repeat(6))
    found = ifgsm_search(oracle, images, labels, balls, steps=10, start=1.0)
    assert bool((norms.distance(found, images, "linf") <= balls.eps).all())
    fooled = model(found).argmax(1) != labels
    assert bool(fooled[::2].all())
    assert not fooled[1::2].any()
    assert int(oracle.passes().backwards.max()) <= 10  # one run at eps itself says all
    wrong = (labels + 1) % 4
    oracle = Oracle(model)
    assert torch.equal(ifgsm_search(oracle, images, model(images).argmin(1), steps=10), images)
    assert set(oracle.passes().forwards.tolist()) == {1}
    reached = ifgsm_search(model, images, labels, targets=wrong, steps=50)
    hit = model(reached).argmax(1) == wrong
    assert float(hit.double().mean()) > 0.5
    assert torch.equal(reached[~hit], images[~hit])


@pytest.mark.parametrize(
    ("changed", "argument"),
    [({"threat": "l2"}, "threat"), ({"threat": Threat("l1", 1.0)}, "threat"), ({"start": 0.0}, "start"),
     ({"steps": 0}, "steps"), ({"runs": 0}, "runs")],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changed: dict[str, object], argument: str) -> None:
    model = curved()
    images, labels = labelled(model, 2)
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        ifgsm_search(model, images, labels, **changed)  # type: ignore[arg-type]
