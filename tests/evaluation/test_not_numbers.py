"""Models whose outputs are no numbers: refused on the images themselves, a wrong answer on what an attack makes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import atodds
from atodds.errors import LogitsError


class Breaking(nn.Module):
    """Two classes by the first value; NaN for images whose last value is above the limit."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        logits = torch.stack([torch.full_like(flat[:, 0], 0.5), flat[:, 0]], 1) + 1e-3 * flat[:, -1:]
        return logits.where(flat[:, -1:] <= self.limit, torch.nan)


def test_an_image_late_in_the_set_is_found_before_anything_is_attacked(tmp_path: Path) -> None:
    pixels = torch.full((400, 1, 2, 2), 0.2)
    pixels[-1] = 0.9
    with pytest.raises(LogitsError, match=r"Breaking.*finite"):
        atodds.evaluate(Breaking(0.8), (pixels, torch.zeros(400, dtype=torch.int64)), eps=0.1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_that_breaks_down_under_attack_is_wrong_there(tmp_path: Path) -> None:
    pixels, labels = torch.full((20, 1, 2, 2), 0.2), torch.zeros(20, dtype=torch.int64)
    run = atodds.evaluate(Breaking(0.25), (pixels, labels), eps=[0.1], attacks="random_noise", out=tmp_path / "run")
    broken = run.table.filter(run.table["attack"] == "random_noise")
    assert broken["prediction"].to_list() == [-1] * 20
    assert broken["fooled"].all()
    assert run.robust_accuracy(0.1).value == 0
    assert run.accuracy.value == 1


def test_a_class_that_is_never_meant_may_be_minus_infinity(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            score = images.flatten(1)[:, 0]
            return torch.stack([torch.full_like(score, 0.5), score, torch.full_like(score, -torch.inf)], 1)

    pixels, labels = torch.full((20, 1, 2, 2), 0.2), torch.zeros(20, dtype=torch.int64)
    run = atodds.evaluate(Masked(), (pixels, labels), eps=[0.1, 0.4], attacks="fgsm(loss=margin)", out=tmp_path / "run")
    assert run.accuracy.value == 1
    assert [rate.value for rate in run.curve().rates] == [1, 0]
