"""What the stand-ins promise holds for the libraries themselves, where they are installed; nothing is downloaded."""

import importlib
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from atodds.models import SUITES, load
from atodds.models.spec import parse

MEMBERS = [member for member in SUITES["imagenet-18"].members if member.spec]


def real(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, RuntimeError, OSError) as error:
            pytest.skip(f"{name} cannot be imported here ({error}); it comes with atodds[zoo]")


@pytest.mark.parametrize("member", [m for m in MEMBERS if m.library == "timm"], ids=lambda m: m.name)
def test_timm_has_the_suite_s_weights_at_the_suite_s_size(member: Any) -> None:
    timm = real("timm")
    name = parse(member.spec).member
    assert timm.is_model_pretrained(name)
    assert timm.get_pretrained_cfg(name).input_size == (3, member.size, member.size)
    assert timm.get_pretrained_cfg(name).num_classes == 1000


@pytest.mark.parametrize("member", [m for m in MEMBERS if m.library == "torchvision"], ids=lambda m: m.name)
def test_torchvision_has_the_suite_s_weights_at_the_suite_s_size(member: Any) -> None:
    models, parts = real("torchvision.models"), parse(member.spec)
    weights = models.get_model_weights(parts.member)[parts.variant]
    assert weights.transforms().crop_size == [member.size]
    assert weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] == member.todays


def test_imagenet_s_folders_sorted_by_name_are_the_outputs_in_order() -> None:
    info = real("timm.data").ImageNetInfo("imagenet-1k")
    names = info.label_names()
    assert names == sorted(names)
    assert len(names) == 1000
    told = real("torchvision.models").get_model_weights("alexnet").DEFAULT.meta["categories"]
    alike = sum(
        name.lower() in described.lower() for name, described in zip(told, info.label_descriptions(), strict=True)
    )
    assert alike >= 998  # two names are written in another way: crane bird, maillot tank suit


def test_timm_s_own_network_with_weights_from_a_file(tmp_path: Path) -> None:
    timm = real("timm")
    network = timm.create_model("resnet18", num_classes=5).eval()
    save_file({key: held.contiguous() for key, held in network.state_dict().items()}, tmp_path / "w.safetensors")
    model = load(f"timm:resnet18.tv_in1k@{tmp_path / 'w.safetensors'}")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    photo = Image.effect_noise((300, 300), 80).convert("RGB")
    prepared = transform(photo)
    last = transform.transforms[-1]
    mean, std = (torch.as_tensor(three).reshape(3, 1, 1) for three in (last.mean, last.std))
    assert torch.allclose(model((prepared * std + mean)[None]), network(prepared[None]), atol=1e-4)
    assert model.usage is not None
    assert (model.usage.outputs, model.usage.shape) == (5, (3, 224, 224))


@pytest.mark.parametrize("aux", [True, False])
def test_torchvision_s_own_network_with_weights_from_a_file(tmp_path: Path, aux: bool) -> None:
    models = real("torchvision.models")
    network = models.get_model(
        "googlenet", weights=None, init_weights=False, aux_logits=aux, transform_input=True
    ).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = load(f"torchvision:googlenet@{tmp_path / 'w.safetensors'}")
    images = torch.rand(2, 3, 224, 224)
    preset = models.get_model_weights("googlenet").DEFAULT.transforms()
    mean, std = (torch.tensor(three).reshape(3, 1, 1) for three in (preset.mean, preset.std))
    assert torch.allclose(model(images), network((images - mean) / std), atol=1e-4)


PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {"size": {"height": 32, "width": 32}},
    "MobileViTImageProcessor": {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    "EfficientNetImageProcessor": {
        "size": {"height": 32, "width": 32},
        "rescale_offset": True,
        "rescale_factor": 1 / 127.5,
    },
    "ConvNextImageProcessor": {"size": {"shortest_edge": 32}},
    "LevitImageProcessor": {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PROCESSORS)
def test_transformers_own_processors_and_outputs(tmp_path: Path, kind: str) -> None:
    transformers = real("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "emu"}, label2id={"cat": 0, "dog": 1, "emu": 2},
    )  # fmt: skip
    network = transformers.ViTForImageClassification(config).eval()
    processor = getattr(transformers, kind)(**PROCESSORS[kind])
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model = load(f"hf:{tmp_path}")
    assert model.usage is not None
    assert (model.usage.shape, model.usage.classes) == ((3, 32, 32), ("cat", "dog", "emu"))
    pixels = (torch.rand(32, 32, 3) * 255).to(torch.uint8)
    given = processor(
        images=Image.fromarray(pixels.numpy()), return_tensors="pt", do_resize=False, do_center_crop=False
    )["pixel_values"]
    assert torch.allclose(model(pixels.permute(2, 0, 1)[None] / 255), network(given).logits, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_transformers_own_mobilenet_loses_its_background(tmp_path: Path) -> None:
    transformers = real("transformers")
    names = {0: "background", **{k: f"class {k}" for k in range(1, 11)}}
    config = transformers.MobileNetV1Config(
        depth_multiplier=0.25, id2label=names, label2id={v: k for k, v in names.items()}
    )
    transformers.MobileNetV1ForImageClassification(config).save_pretrained(tmp_path)
    transformers.MobileNetV1ImageProcessor().save_pretrained(tmp_path)
    model = load(f"hf:{tmp_path}")
    assert model.usage is not None
    assert (model.usage.outputs, model.usage.classes[0], model.usage.crop) == (10, "class 1", 0.88)
    assert model(torch.rand(2, 3, 224, 224)).shape == (2, 10)
