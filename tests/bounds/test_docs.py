"""The examples of the documentation run, in the order in which they stand on their page."""

import inspect
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from atodds import data
from atodds.bounds import certify, clever

PAGES = Path(__file__).resolve().parents[2] / "docs" / "bounds"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A linear classifier of the digits: what the pages call `model`."""
    images = data.load("digits", split="train")
    pixels, labels = images.images().flatten(1).double(), torch.from_numpy(images.labels)
    inputs = torch.cat([pixels, torch.ones(len(pixels), 1)], 1)
    wanted = nn.functional.one_hot(labels, 10).double() - 0.1
    weights = torch.linalg.lstsq(inputs.T @ inputs + 10 * torch.eye(65), inputs.T @ wanted).solution
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(10 * weights[:64].T)
        layer.bias.copy_(10 * weights[64])
    return nn.Sequential(nn.Flatten(), layer).requires_grad_(False)


@pytest.mark.parametrize("page", ["index", "clever", "smoothing"])
def test_the_examples_of_a_page_run(
    page: str, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a run without a folder of its own leaves nothing behind
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"model": model}
    run: Callable[..., object] = exec
    for block in blocks:
        run(compile(block, page, "exec"), names)
    if page == "index":
        assert names["seen"].n > 7
        assert names["seen"].holds
    if page == "clever":
        assert names["found"].score.isfinite().all()
    if page == "smoothing":
        assert (names["found"].prediction >= 0).any()


@pytest.mark.parametrize("page", ["clever", "smoothing"])
def test_the_settings_of_a_page_are_those_of_the_function(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    table = text.partition("| argument | default |")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]*)\|", table, re.MULTILINE))
    function: Callable[..., object] = clever if page == "clever" else certify
    parameters = inspect.signature(function).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("ids", "seed")}
    assert told.keys() == known.keys()
    for name, default in known.items():
        if isinstance(default, (int, float)):
            assert float(told[name].replace(",", "").strip()) == default
