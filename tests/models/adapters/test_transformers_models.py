"""hf:REPO gives a repository's classifier as a function of images in [0, 1], whatever its image processor does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from atodds import Threat
from atodds.attacks import fgsm
from atodds.errors import ArgumentError, ModelError, UnknownNameError, UntrustedFileError, WeightsDownloadError
from atodds.models import Classifier, fingerprint, load
from atodds.oracle import Oracle

IMAGES = (torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 255).round() / 255
MEAN, STD = (torch.tensor(three).reshape(3, 1, 1) for three in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network_of(model: Classifier) -> Any:
    """The model of the repository inside a classifier."""
    return model.network.get_submodule("network")


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled and normalised": lambda pixels: (pixels / 255 - MEAN) / STD,
    "only scaled": lambda pixels: pixels / 255,
    "left from 0 to 255": lambda pixels: pixels,
    "shifted": lambda pixels: pixels / 127.5 - 1,
    "normalised twice": lambda pixels: (pixels / 255 - MEAN) / STD / STD,
    "red and blue swapped": lambda pixels: pixels.flip(0) / 255,
    "swapped, then normalised": lambda pixels: (pixels.flip(0) / 255 - MEAN) / STD,
    "channels turned": lambda pixels: (pixels[[1, 2, 0]] / 255 - MEAN) / STD,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_image_processor_does_to_pixels_is_folded_in(transformers: Any, kind: str) -> None:
    transformers.through(KINDS[kind])
    model = load("hf:owner/repo")
    expected = network_of(model)(torch.stack([KINDS[kind](image * 255) for image in IMAGES])).logits
    assert torch.allclose(model(IMAGES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("pipe", "said"),
    [
        (lambda pixels: pixels.mean(0, keepdim=True).expand(3, -1, -1), "mixes or turns round"),
        (lambda pixels: 1 - pixels / 255, "mixes or turns round"),
        (lambda pixels: (pixels / 255).sqrt(), "no shift and scale"),
        (lambda pixels: pixels / 255 + torch.eye(8), "pads images, or treats"),
        (lambda pixels: pixels[:1], "not one image of three channels"),
        (lambda pixels: pixels / 2550, "far out of their range"),
    ],
)
def test_an_image_processor_that_does_more_is_refused(
    transformers: Any, pipe: Callable[[Tensor], Tensor], said: str
) -> None:
    transformers.through(pipe)
    with pytest.raises(ModelError, match=f"{said}.*FILE.py:FACTORY"):
        load("hf:owner/repo")


def test_an_image_processor_without_a_size_is_refused(transformers: Any) -> None:
    transformers.through(lambda pixels: pixels / 255, side=None)
    with pytest.raises(ModelError, match="fixes no image size"):
        load("hf:owner/repo")


@pytest.mark.parametrize("crop", [1.0, 0.8, 0.5])
def test_what_the_repository_tells_comes_along(transformers: Any, crop: float) -> None:
    transformers.through(KINDS["only scaled"], crop=crop)
    model = load("hf:owner/Repo-2.1")
    assert model.name == "Repo-2.1"
    usage = model.usage
    assert usage is not None
    assert (usage.shape, usage.outputs, usage.classes) == ((3, 8, 8), 3, ("cat", "dog", "emu"))
    assert (usage.library, usage.weights) == ("transformers 4.48.0", "owner/Repo-2.1")
    assert usage.interpolation == "bicubic"
    assert usage.crop == pytest.approx(crop, abs=0.05)  # of 8 pixels


def test_labels_that_only_number_the_classes_are_no_names(transformers: Any) -> None:
    transformers.labels = {0: "LABEL_0", 1: "LABEL_1"}
    usage = load("hf:owner/repo").usage
    assert usage is not None
    assert (usage.outputs, usage.classes) == (2, ())


def test_a_background_before_the_first_class_is_left_out(transformers: Any) -> None:
    transformers.labels = {0: "background", 1: "cat", 2: "dog", 3: "emu"}
    model = load("hf:owner/repo")
    assert model.usage is not None
    assert (model.usage.outputs, model.usage.classes) == (3, ("cat", "dog", "emu"))
    whole = network_of(model)((IMAGES - 0.5) / 0.25).logits
    assert torch.allclose(model(IMAGES), whole[:, 1:], atol=1e-5)


@pytest.mark.usefixtures("transformers")
def test_a_model_with_logits_inside_its_output_can_be_attacked() -> None:
    model = load("hf:owner/repo")
    labels = model(IMAGES).argmax(1)
    fooled = fgsm(model, IMAGES, labels, Threat("linf", 0.9))
    assert (model(fooled).argmax(1) != labels).any()
    bare = network_of(model)  # whoever brings the network itself, without the adapter
    assert Oracle(bare).logits(IMAGES, torch.arange(4)).shape == (4, 3)


@pytest.mark.usefixtures("transformers")
def test_the_same_repository_has_the_same_fingerprint() -> None:
    one, other = load("hf:owner/repo"), load("hf:owner/repo")
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)


def test_code_of_a_repository_is_never_run(transformers: Any) -> None:
    load("hf:owner/repo@v1.0")
    assert len(transformers.asked) == 2
    for asked in transformers.asked:
        assert asked == {"place": "owner/repo", "revision": "v1.0", "trust_remote_code": False}
    transformers.code = True
    for trusted in (False, True):
        with pytest.raises(UntrustedFileError, match=r"code of its own.*FILE\.py:FACTORY"):
            load("hf:owner/repo", trust_pickle=trusted)


def test_a_network_without_a_trained_classifier_is_refused(transformers: Any) -> None:
    transformers.missing = ("classifier.weight", "classifier.bias")
    with pytest.raises(ModelError, match=r"no weights for classifier\.bias, classifier\.weight.*fine-tuned"):
        load("hf:owner/repo")


def test_a_failed_download_says_what_to_do_by_hand(transformers: Any) -> None:
    transformers.failure = OSError("We couldn't connect.\nMore lines.")
    with pytest.raises(WeightsDownloadError) as caught:
        load("hf:owner/repo")
    said = str(caught.value)
    assert "could not be fetched: We couldn't connect. " in said
    assert "hf download owner/repo --local-dir FOLDER" in said
    assert "hf:./FOLDER" in said


def test_a_repository_in_a_folder_is_loaded_without_the_network(transformers: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for spec in ("hf:./mine", f"hf:{tmp_path / 'mine'}"):
        with pytest.raises(UnknownNameError, match=r"no folder with a config\.json.*hf download"):
            load(spec)
    (tmp_path / "mine" / "config.json").write_text("{}")
    model = load("hf:./mine")
    assert model.name == "mine"
    assert transformers.asked[0] == {"place": "mine", "local_files_only": True, "trust_remote_code": False}
    transformers.failure = OSError("no file named model.safetensors")
    with pytest.raises(WeightsDownloadError, match="Fetch the whole repository into the folder again"):
        load("hf:./mine")


def test_a_folder_does_not_take_a_repository_s_place(transformers: Any, tmp_path: Path) -> None:
    (tmp_path / "owner" / "repo").mkdir(parents=True)
    with pytest.raises(UnknownNameError, match=r"a folder of this name lies here.*hf:\./owner/repo"):
        load("hf:owner/repo")
    assert not transformers.asked


@pytest.mark.usefixtures("transformers")
def test_a_second_normalisation_is_refused() -> None:
    with pytest.raises(ArgumentError, match="hf says how its weights normalise"):
        load("hf:owner/repo", std=0.5)
