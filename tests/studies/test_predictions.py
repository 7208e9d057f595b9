"""What a model says is asked once, and made again where the file is not whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atodds import data
from atodds.studies.predictions import predictions

IMAGES = data.load("digits", limit=50)


ASKED: list[int] = []


class Counting(nn.Module):
    """A linear model that counts what it is asked, outside of what identifies it."""

    def __init__(self, seed: float) -> None:
        super().__init__()
        self.weight = nn.Parameter((torch.arange(640.0) * seed).sin().reshape(10, 64))

    def forward(self, images: Tensor) -> Tensor:
        ASKED.append(len(images))
        return images.flatten(1) @ self.weight.T


@pytest.fixture(autouse=True)
def _forget() -> None:
    ASKED.clear()


def test_predictions_are_those_of_the_model(tmp_path: Path) -> None:
    model = Counting(1.1)
    expected = (IMAGES.images().flatten(1) @ model.weight.detach().T).argmax(1)
    assert predictions(model, IMAGES, tmp_path).tolist() == expected.tolist()


def test_a_model_is_asked_once_and_another_anew(tmp_path: Path) -> None:
    first = predictions(Counting(1.1), IMAGES, tmp_path)
    count = len(ASKED)
    assert (predictions(Counting(1.1), IMAGES, tmp_path) == first).all()
    assert len(ASKED) == count
    predictions(Counting(1.2), IMAGES, tmp_path)
    predictions(Counting(1.1), IMAGES.limit(20), tmp_path)
    assert len(list((tmp_path / "predictions").iterdir())) == 3


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_is_not_whole_is_made_again(tmp_path: Path, share: float) -> None:
    first = predictions(Counting(1.1), IMAGES, tmp_path)
    (file,) = (tmp_path / "predictions").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    assert (predictions(Counting(1.1), IMAGES, tmp_path) == first).all()
    assert file.read_bytes() == content


def test_a_file_of_something_else_is_made_again(tmp_path: Path) -> None:
    first = predictions(Counting(1.1), IMAGES, tmp_path)
    (file,) = (tmp_path / "predictions").iterdir()
    for wrong in (np.zeros(3, np.int64), np.zeros(50, np.float64), np.array([{}], object)):
        with file.open("wb") as opened:
            np.save(opened, wrong, allow_pickle=True)
        assert (predictions(Counting(1.1), IMAGES, tmp_path) == first).all()


def test_outputs_that_are_no_numbers_are_no_class(tmp_path: Path) -> None:
    model = Counting(1.1)
    with torch.no_grad():
        model.weight.fill_(torch.nan)
    assert set(predictions(model, IMAGES, tmp_path).tolist()) == {-1}
