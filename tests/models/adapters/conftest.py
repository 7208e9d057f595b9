"""Stand-ins for timm, torchvision and transformers: the few names that the adapters use, with the libraries' manners.

Their networks are one linear layer on 3x8x8 images, drawn from torch's global generator, as the libraries' are.
"""

import enum
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

SIDE = 8


class Linear(nn.Module):
    """A classifier in the way of the libraries."""

    def __init__(self, classes: int, side: int = SIDE) -> None:
        super().__init__()
        self.num_classes = classes
        self.fc = nn.Linear(3 * side * side, classes)
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(images.flatten(1))
        return logits


def module(monkeypatch: pytest.MonkeyPatch, name: str, **held: object) -> types.ModuleType:
    """A module that `import name` finds."""
    made = types.ModuleType(name)
    vars(made).update(held)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@dataclass
class Config:
    """The fields of timm's PretrainedCfg that decide how a model is used."""

    hf_hub_id: str | None = "timm/tiny.a_in1k"
    url: str | None = None
    file: str | None = None
    num_classes: int = 4
    input_size: tuple[int, int, int] = (3, SIDE, SIDE)
    mean: tuple[float, ...] = (0.1, 0.2, 0.3)
    std: tuple[float, ...] = (0.4, 0.5, 0.6)
    crop_pct: float = 0.95
    interpolation: str = "bicubic"
    label_names: tuple[str, ...] | None = None


@dataclass
class Library:
    """What a test may set and look at: the error of the next download, and how models were asked for."""

    failure: Exception | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    configs: dict[str, Config] = field(default_factory=dict)

    def ask(self, **how: Any) -> None:
        self.asked.append(how)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Library:
    """`tiny` with weights `a_in1k` and `b_in1k`, `bare` without weights, `blind` without a classifier."""
    told = Library()
    first = Config(mean=(0.1, 0.2, 0.3))
    told.configs = {
        "tiny": first,
        "tiny.a_in1k": first,
        "tiny.b_in1k": Config(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.875, interpolation="bilinear"),
        "bare": Config(hf_hub_id=None),
        "blind": Config(num_classes=0),
    }

    def is_model(name: str) -> bool:
        return name in ("tiny", "bare", "blind", "old")

    def get_pretrained_cfg(name: str) -> Config | None:
        if name in told.configs:
            return told.configs[name]
        if name == "old":
            return None
        raise RuntimeError(f"Invalid pretrained tag ({name}).")

    def list_pretrained(pattern: str) -> list[str]:
        return [name for name in told.configs if name.startswith(pattern.removesuffix("*"))]

    def create_model(name: str, pretrained: bool = False, num_classes: int | None = None) -> nn.Module:
        told.ask(name=name, pretrained=pretrained)
        config = told.configs.get(name, first)
        made = Linear(num_classes or config.num_classes)
        if name == "old":
            made = made.half()
        made.pretrained_cfg = vars(config)
        return made

    def resolve_model_data_config(model: Linear) -> dict[str, Any]:
        return {key: model.pretrained_cfg[key] for key in ("input_size", "mean", "std", "crop_pct", "interpolation")}

    class ImageNetInfo:
        def __init__(self, subset: str) -> None:
            self.subset = subset

        def label_descriptions(self) -> list[str]:
            return ["tench", "goldfish", "shark", "ray"]

    def infer_imagenet_subset(model: Linear) -> str | None:
        return "imagenet-1k" if model.num_classes == 4 else None

    made = module(
        monkeypatch, "timm", __version__="1.0.0", is_model=is_model, list_models=lambda: ["tiny", "bare", "blind"],
        get_pretrained_cfg=get_pretrained_cfg, list_pretrained=list_pretrained, create_model=create_model,
    )  # fmt: skip
    made.__path__ = []
    module(
        monkeypatch, "timm.data", resolve_model_data_config=resolve_model_data_config, ImageNetInfo=ImageNetInfo,
        infer_imagenet_subset=infer_imagenet_subset,
    )  # fmt: skip
    return told


class Interpolation(enum.Enum):
    BILINEAR = "bilinear"


@dataclass
class Preset:
    """torchvision's ImageClassification preset."""

    crop_size: list[int]
    resize_size: list[int]
    mean: list[float]
    std: list[float]
    interpolation: Interpolation = Interpolation.BILINEAR


@dataclass
class Weights:
    """torchvision's Weights."""

    url: str
    transforms: Callable[[], Preset]
    meta: dict[str, Any]


class WeightsEnum(enum.Enum):
    """torchvision's WeightsEnum."""

    @property
    def url(self) -> str:
        return self.value.url  # type: ignore[no-any-return]

    @property
    def transforms(self) -> Callable[[], Preset]:
        return self.value.transforms  # type: ignore[no-any-return]

    @property
    def meta(self) -> dict[str, Any]:
        return self.value.meta  # type: ignore[no-any-return]


def preset(crop: int, resize: int) -> Callable[[], Preset]:
    return partial(Preset, [crop], [resize], [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


class TinyWeights(WeightsEnum):
    IMAGENET1K_V1 = Weights("https://example.org/tiny-1.pth", preset(8, 16), {"categories": ["a", "b", "c", "d"]})
    IMAGENET1K_V2 = Weights("https://example.org/tiny-2.pth", preset(8, 10), {"categories": ["a", "b", "c", "d"]})
    IMAGENET1K_FEATURES = Weights("https://example.org/tiny-f.pth", preset(8, 16), {"categories": None})
    DEFAULT = IMAGENET1K_V2


class NoWeights(WeightsEnum):
    pass


class Second(Linear):
    """A network with a second classifier for training, as GoogLeNet is one."""

    def __init__(self, classes: int, transform_input: bool = False, aux_logits: bool = True) -> None:
        super().__init__(classes)
        self.transform_input = transform_input
        if aux_logits:
            self.aux1 = nn.Module()
            self.aux1.fc = nn.Linear(2, classes)


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> Library:
    """`tiny` with three weights, `bare` with none, `googlenet`; and a detector that no classifier list has."""
    told = Library()

    def list_models(*, module: types.ModuleType) -> list[str]:
        assert module is sys.modules["torchvision.models"]
        return ["bare", "googlenet", "tiny"]

    def get_model_weights(name: str) -> type[WeightsEnum]:
        return NoWeights if name == "bare" else TinyWeights

    def get_model(name: str, weights: TinyWeights | None = None, num_classes: int = 4, **options: Any) -> nn.Module:
        told.ask(name=name, weights=weights, **options)
        if name == "googlenet":
            return Second(num_classes, options["transform_input"], options["aux_logits"])
        return Linear(num_classes)

    made = module(monkeypatch, "torchvision", __version__="0.21.0")
    made.__path__ = []
    module(
        monkeypatch, "torchvision.models", list_models=list_models, get_model_weights=get_model_weights,
        get_model=get_model,
    )  # fmt: skip
    return told


@dataclass
class Output:
    logits: Tensor


class Hub(nn.Module):
    """A classifier in the way of transformers: its output is an object with logits."""

    def __init__(self, labels: Mapping[int, str], side: int = SIDE) -> None:
        super().__init__()
        self.config = types.SimpleNamespace(id2label=dict(labels), num_labels=len(labels))
        self.classifier = nn.Linear(3 * side * side, len(labels))

    def forward(self, pixel_values: Tensor) -> Output:
        return Output(self.classifier(pixel_values.flatten(1)))


Pipe = Callable[[Tensor], Tensor]
"""(3, H, W) with values from 0 to 255 -> what the model takes."""


class Processor:
    """An image processor: resize, crop, and a function of the pixels."""

    resample = Image.Resampling.BICUBIC

    def __init__(self, pipe: Pipe, *, side: int | None = SIDE, crop: float = 1.0) -> None:
        self.pipe, self.side, self.crop = pipe, side, crop

    def __call__(self, *, images: Image.Image, return_tensors: str) -> dict[str, Tensor]:
        assert return_tensors == "pt"
        if self.side is not None:
            whole = round(self.side / self.crop)
            edge = (whole - self.side) // 2
            images = images.resize((whole, whole), self.resample)
            images = images.crop((edge, edge, edge + self.side, edge + self.side))
        pixels = torch.from_numpy(np.array(images)).permute(2, 0, 1).float()
        return {"pixel_values": self.pipe(pixels)[None]}


@dataclass
class Repository(Library):
    """What the one repository of the stand-in holds."""

    labels: Mapping[int, str] = field(default_factory=lambda: {0: "cat", 1: "dog", 2: "emu"})
    processor: Processor = field(default_factory=lambda: Processor(lambda pixels: (pixels / 255 - 0.5) / 0.25))
    missing: tuple[str, ...] = ()
    code: bool = False

    def through(self, pipe: Pipe, *, side: int | None = SIDE, crop: float = 1.0) -> None:
        """Let the repository's image processor do this to pixels."""
        self.processor = Processor(pipe, side=side, crop=crop)

    def model(self, place: str, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        assert options.pop("output_loading_info")
        self._held(place, **options)
        return Hub(self.labels), {"missing_keys": set(self.missing)}

    def process(self, place: str, **options: Any) -> Processor:
        self._held(place, **options)
        return self.processor

    def _held(self, place: str, **options: Any) -> None:
        self.ask(place=place, **options)
        if self.code and not options["trust_remote_code"]:
            raise ValueError("Please pass the argument `trust_remote_code=True` to allow custom code to be run.")


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Repository:
    held = Repository()
    module(
        monkeypatch, "transformers", __version__="4.48.0",
        AutoModelForImageClassification=types.SimpleNamespace(from_pretrained=held.model),
        AutoImageProcessor=types.SimpleNamespace(from_pretrained=held.process),
    )  # fmt: skip
    return held
