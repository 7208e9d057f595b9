"""torchvision:NAME gives torchvision's classifier with the weights that were meant, and their preprocessing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from atodds.errors import ModelError, UnknownNameError, WeightsDownloadError
from atodds.models import load

IMAGES = torch.linspace(0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def test_default_and_named_weights_are_asked_for_by_their_entry(torchvision: Any) -> None:
    model, named = load("torchvision:tiny"), load("torchvision:tiny@IMAGENET1K_V1")
    assert [asked["weights"].name for asked in torchvision.asked] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert (model.name, named.name) == ("tiny", "tiny-IMAGENET1K_V1")
    assert model.usage is not None
    assert named.usage is not None
    assert (model.usage.weights, model.usage.crop) == ("IMAGENET1K_V2 of torchvision", 0.8)
    assert (named.usage.weights, named.usage.crop) == ("IMAGENET1K_V1 of torchvision", 0.5)
    assert (model.usage.library, model.usage.shape, model.usage.outputs) == ("torchvision 0.21.0", (3, 8, 8), 4)
    assert (model.usage.classes, model.usage.interpolation) == (("a", "b", "c", "d"), "bilinear")


@pytest.mark.usefixtures("torchvision")
def test_the_normalisation_of_the_weights_is_folded_in() -> None:
    model = load("torchvision:tiny")
    mean, std = (torch.tensor(three).reshape(3, 1, 1) for three in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert torch.allclose(model(IMAGES), model.network((IMAGES - mean) / std), atol=1e-6)


def test_weights_from_a_file_need_no_download(torchvision: Any, tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(9, 192), "fc.bias": torch.arange(9.0)}, tmp_path / "w.safetensors")
    model = load(f"torchvision:tiny@{tmp_path / 'w.safetensors'}")
    assert all(asked["weights"] is None for asked in torchvision.asked)
    assert model(IMAGES).argmax(1).tolist() == [8, 8]
    assert model.usage is not None
    assert (model.usage.outputs, model.usage.classes) == (9, ())


@pytest.mark.parametrize("second", [True, False])
def test_own_weights_of_an_inception_get_the_network_of_the_pretrained_ones(
    torchvision: Any, tmp_path: Path, second: bool
) -> None:
    weights = {"fc.weight": torch.zeros(4, 192), "fc.bias": torch.zeros(4)}
    if second:
        weights |= {"aux1.fc.weight": torch.zeros(4, 2), "aux1.fc.bias": torch.zeros(4)}
    save_file(weights, tmp_path / "w.safetensors")
    load(f"torchvision:googlenet@{tmp_path / 'w.safetensors'}")
    assert torchvision.asked == [
        {
            "name": "googlenet",
            "weights": None,
            "transform_input": True,
            "init_weights": False,
            "aux_logits": second,
        }
    ]


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("torchvision:tinny", UnknownNameError, r"Did you mean torchvision:tiny\?"),
        ("torchvision:fasterrcnn", UnknownNameError, "no such model in torchvision"),
        ("torchvision:tiny@IMAGENET1K_V3", UnknownNameError, "weights='IMAGENET1K_V3'.*IMAGENET1K_V1"),
        ("torchvision:tiny@IMAGENET1K_FEATURES", ModelError, "features, no classes. Take others of tiny"),
        ("torchvision:bare", ModelError, r"no weights of bare, and so no normalisation.*FILE\.py:FACTORY@WEIGHTS"),
    ],
)
@pytest.mark.usefixtures("torchvision")
def test_what_torchvision_does_not_have_is_told(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load(spec)


def test_a_failed_download_says_what_to_fetch_and_where_to_put_it(torchvision: Any) -> None:
    torchvision.failure = OSError("<urlopen error>")
    with pytest.raises(WeightsDownloadError) as caught:
        load("torchvision:tiny")
    said = str(caught.value)
    assert "Fetch https://example.org/tiny-2.pth elsewhere" in said
    assert f"{torch.hub.get_dir()}/checkpoints, or write torchvision:tiny@FILE" in said


def test_a_preset_of_another_kind_is_a_model_error(torchvision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    class Weights:
        DEFAULT = type("Detector", (), {"meta": {"categories": ["a"]}, "transforms": staticmethod(object), "url": ""})

        def __len__(self) -> int:
            return 1

    monkeypatch.setattr(sys.modules["torchvision.models"], "get_model_weights", lambda _: Weights())
    with pytest.raises(ModelError, match="could not be made"):
        load("torchvision:tiny")
    assert not torchvision.asked
