"""timm:NAME gives timm's model as timm means it to be used, and says what to do where it cannot."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from atodds.errors import (
    ArgumentError,
    MissingExtraError,
    ModelError,
    UnknownNameError,
    UntrustedFileError,
    WeightsDownloadError,
)  # fmt: skip
from atodds.models import load

IMAGES = torch.linspace(0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def state(classes: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "fc.weight": torch.rand(classes, 192, generator=generator),
        "fc.bias": torch.rand(classes, generator=generator),
    }


def test_the_normalisation_of_the_weights_is_folded_in(timm: Any) -> None:
    model = load("timm:tiny.b_in1k")
    assert torch.allclose(model(IMAGES), model.network((IMAGES - 0.5) / 0.5))
    other = load("timm:tiny")
    mean, std = (torch.tensor(three).reshape(3, 1, 1) for three in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert torch.allclose(other(IMAGES), other.network((IMAGES - mean) / std), atol=1e-6)
    assert [asked["pretrained"] for asked in timm.asked] == [True, True]


def test_what_timm_tells_comes_along(timm: Any) -> None:
    model = load("timm:tiny.b_in1k")
    assert (model.name, model.source) == ("tiny.b_in1k", "timm:tiny.b_in1k")
    usage = model.usage
    assert usage is not None
    assert (usage.library, usage.weights) == ("timm 1.0.0", "tiny.b_in1k of timm")
    assert (usage.shape, usage.outputs, usage.crop, usage.interpolation) == ((3, 8, 8), 4, 0.875, "bilinear")
    assert usage.classes == ("tench", "goldfish", "shark", "ray")
    assert not any(part.training for part in model.modules())
    timm.configs["tiny"].label_names = ("one", "two", "three", "four")
    named = load("timm:tiny").usage
    assert named is not None
    assert named.classes == ("one", "two", "three", "four")


def test_weights_kept_in_half_precision_are_run_in_full(timm: Any) -> None:
    assert {parameter.dtype for parameter in load("timm:old").parameters()} == {torch.float32}
    assert timm.asked == [{"name": "old", "pretrained": True}]


@pytest.mark.usefixtures("timm")
def test_no_global_generator_moves() -> None:
    before = torch.random.get_rng_state()
    load("timm:tiny")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_from_a_file_need_no_download(timm: Any, tmp_path: Path) -> None:
    save_file(state(), tmp_path / "mine.safetensors")
    model = load(f"timm:tiny.b_in1k@{tmp_path / 'mine.safetensors'}")
    assert all(not asked["pretrained"] for asked in timm.asked)
    assert torch.equal(model.network.get_parameter("fc.weight"), state()["fc.weight"])
    assert model.name == "tiny.b_in1k-mine"
    assert model.mean is not None
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert model.usage is not None
    assert (model.usage.outputs, model.usage.classes) == (4, ())


@pytest.mark.usefixtures("timm")
def test_weights_that_were_fine_tuned_bring_their_number_of_classes(tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{key}": value for key, value in state(7).items()}}, tmp_path / "w.pt")
    model = load(f"timm:tiny@{tmp_path / 'w.pt'}")
    assert model(IMAGES).shape == (2, 7)
    assert model.usage is not None
    assert model.usage.outputs == 7


@pytest.mark.usefixtures("timm")
def test_normalisation_may_be_given_with_own_weights_only(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors")
    model = load(f"timm:tiny@{tmp_path / 'w.safetensors'}", mean=0.25, std=0.5)
    assert model.mean is not None
    assert model.mean.item() == 0.25
    with pytest.raises(ArgumentError, match=r"mean=0\.25: timm says how its weights normalise\. Leave"):
        load("timm:tiny", mean=0.25, std=0.5)


@pytest.mark.usefixtures("timm")
def test_a_file_that_does_not_fit_or_could_run_code_is_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"does not fit Linear.*2 missing: fc\.weight, fc\.bias"):
        load(f"timm:tiny@{tmp_path / 'w.safetensors'}")
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(UntrustedFileError, match="--trust-pickle"):
        load(f"timm:tiny@{tmp_path / 'w.pt'}")
    with pytest.raises(UnknownNameError, match="no such file"):
        load(f"timm:tiny@{tmp_path / 'none.pt'}")


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("timm:tinny", UnknownNameError, r"no such model in timm\. Did you mean timm:tiny\?.*list_models"),
        ("timm:tiny.a_in2k", UnknownNameError, r"Did you mean tiny\.a_in1k.*Known: tiny\.a_in1k, tiny\.b_in1k"),
        ("timm:bare", ModelError, r"no pretrained weights of bare\. Take another model, or timm:bare@FILE"),
        ("timm:blind", ModelError, "gives features, no classes"),
    ],
)
@pytest.mark.usefixtures("timm")
def test_what_timm_does_not_have_is_told(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load(spec)


@pytest.mark.parametrize("failure", [OSError("no route to host"), ConnectionError("reset"), TimeoutError("slow")])
def test_a_failed_download_says_what_to_do_by_hand(timm: Any, failure: Exception) -> None:
    timm.failure = failure
    with pytest.raises(WeightsDownloadError) as caught:
        load("timm:tiny.a_in1k")
    said = str(caught.value)
    assert said.startswith(f"timm:tiny.a_in1k: the weights could not be fetched: {failure}. ")
    assert "repository timm/tiny.a_in1k on the Hugging Face hub elsewhere, and write timm:tiny.a_in1k@FILE" in said


def test_an_error_of_the_hub_s_client_is_a_failed_download(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    class HTTPError(Exception):
        pass

    client = types.ModuleType("httpx")
    client.__dict__["HTTPError"] = HTTPError
    monkeypatch.setitem(sys.modules, "httpx", client)
    timm.failure = HTTPError("503")
    with pytest.raises(WeightsDownloadError, match="503"):
        load("timm:tiny")


def test_a_library_that_stumbles_is_a_model_error(timm: Any) -> None:
    timm.failure = RuntimeError("unexpected key\nand many more lines")
    with pytest.raises(ModelError, match=r"timm:tiny could not be made: unexpected key\. Check"):
        load("timm:tiny")


def test_a_library_that_is_not_there_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "torchvision", "torchvision.models", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for spec, package in (("timm:a", "timm"), ("torchvision:a", "torchvision"), ("hf:a/b", "transformers")):
        with pytest.raises(MissingExtraError, match=rf"{package} is not installed.*pip install 'atodds\[zoo\]'"):
            load(spec)


def test_a_library_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    for content, error, said in (
        ("raise RuntimeError('operator torchvision::nms does not exist')", ModelError, "nms does not exist.*upgrade"),
        ("import torchvision_that_is_not_there", ModelError, "torchvision_that_is_not_there"),
        ("raise ModuleNotFoundError('No module', name='torchvision')", MissingExtraError, "torchvision is not"),
    ):
        (tmp_path / "timm.py").write_text(content)
        (tmp_path / "__pycache__").mkdir(exist_ok=True)
        for cached in (tmp_path / "__pycache__").iterdir():
            cached.unlink()
        with pytest.raises(error, match=said):
            load("timm:tiny")
        monkeypatch.delitem(sys.modules, "timm", raising=False)
