"""Suites: lists of models by one name, `suite:imagenet-18`.

`imagenet-18` are the models of Su, Zhang, Chen, Yi, Chen, Gao, "Is robustness the cost of accuracy? A comprehensive
study on the robustness of 18 deep image classification models" (ECCV 2018). Their checkpoints were made for TensorFlow
1; for each one this names the nearest weights that today's libraries have.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from atodds.errors import ArgumentError, UnknownNameError
from atodds.models.spec import LIBRARIES, parse

PREFIX = "suite:"

Kinship = Literal["same weights", "same network", "relative", "none"]
"""How near the weights are to the study's: converted from its checkpoint; the architecture trained by others; another
architecture of the family; nothing that comes near."""


@dataclass(frozen=True)
class Member:
    """One model of a suite.

    Attributes:
        name: what the study calls it.
        family: the models that it is compared with by depth and size.
        top1: published top-1 accuracy of the study's checkpoint, in percent.
        spec: the nearest weights of today, as `atodds.models.load` takes them; "" where there are none.
        kinship: how near they are.
        size: side in pixels of the images that they take; 0 where there are none.
        todays: published top-1 accuracy of these weights, in percent; None where nobody publishes it.
        why: what is the same, what differs.
    """

    name: str
    family: str
    top1: float
    spec: str
    kinship: Kinship
    size: int
    todays: float | None
    why: str

    @property
    def library(self) -> str:
        """The package that must be installed for it; "" where nothing can be loaded."""
        return LIBRARIES[parse(self.spec).library].package if self.spec else ""

    @property
    def is_here(self) -> bool:
        """Whether that package is installed."""
        return bool(self.library) and importlib.util.find_spec(self.library) is not None


@dataclass(frozen=True)
class Suite:
    """Models that a study compares."""

    name: str
    title: str
    members: tuple[Member, ...]

    @property
    def specs(self) -> tuple[str, ...]:
        """What can be loaded today."""
        return tuple(member.spec for member in self.members if member.spec)


_V2 = "trained with a recipe of 2021 at 224; the study's was run at 299"

IMAGENET_18 = Suite(
    "imagenet-18",
    "the 18 ImageNet models of Su et al. (2018)",
    (
        Member(
            "alexnet", "alexnet", 56.8, "torchvision:alexnet@IMAGENET1K_V1", "relative", 224, 56.522,
            "the one-tower version of 2014, without local response normalisation, at 224 in place of 227",
        ),
        Member(
            "vgg_16", "vgg", 71.5, "timm:vgg16.tv_in1k", "same network", 224, 71.592,
            "trained again by torchvision; the study's were converted from Caffe",
        ),
        Member(
            "vgg_19", "vgg", 71.1, "timm:vgg19.tv_in1k", "same network", 224, 72.378,
            "trained again by torchvision; the study's were converted from Caffe",
        ),
        Member(
            "inception_v1", "inception", 69.8, "torchvision:googlenet@IMAGENET1K_V1", "same weights", 224, 69.778,
            "the study's checkpoint, converted, as torchvision's GoogLeNet",
        ),
        Member(
            "inception_v2", "inception", 73.9, "", "none", 0, None,
            "no library here has weights of Inception v2",
        ),
        Member(
            "inception_v3", "inception", 78.0, "timm:inception_v3.tf_in1k", "same weights", 299, 77.862,
            "the study's checkpoint, converted",
        ),
        Member(
            "inception_v4", "inception", 80.2, "timm:inception_v4.tf_in1k", "same weights", 299, 80.156,
            "the study's checkpoint, converted",
        ),
        Member(
            "inception_resnet_v2", "inception", 80.4, "timm:inception_resnet_v2.tf_in1k", "same weights", 299, 80.462,
            "the study's checkpoint, converted",
        ),
        Member("resnet_v2_50", "resnet", 75.6, "timm:resnetv2_50.a1h_in1k", "same network", 224, None, _V2),
        Member("resnet_v2_101", "resnet", 77.0, "timm:resnetv2_101.a1h_in1k", "same network", 224, None, _V2),
        Member(
            "resnet_v2_152", "resnet", 77.8, "timm:resnet152.tv_in1k", "relative", 224, 78.322,
            "same depth and width, but version 1 (post-activation): there are no plain weights of version 2",
        ),
        Member(
            "densenet121_k32", "densenet", 74.9, "timm:densenet121.tv_in1k", "same weights", 224, 74.764,
            "the authors' weights, converted",
        ),
        Member(
            "densenet169_k32", "densenet", 76.1, "timm:densenet169.tv_in1k", "same weights", 224, 75.9,
            "the authors' weights, converted",
        ),
        Member(
            "densenet161_k48", "densenet", 77.6, "timm:densenet161.tv_in1k", "same weights", 224, 77.358,
            "the authors' weights, converted",
        ),
        Member(
            "mobilenet_v1_025", "mobilenet", 49.8, "", "none", 0, None,
            "no library here has weights of MobileNet v1 at width 0.25",
        ),
        Member(
            "mobilenet_v1_050", "mobilenet", 63.3, "timm:mobilenetv2_050.lamb_in1k", "relative", 224, 65.95,
            "version 2 at width 0.50: inverted residual blocks",
        ),
        Member(
            "mobilenet_v1_100", "mobilenet", 70.9, "hf:google/mobilenet_v1_1.0_224", "same weights", 224, None,
            "the study's checkpoint, converted; its background class is left out",
        ),
        Member(
            "nasnet_large", "nasnet", 82.7, "timm:nasnetalarge.tf_in1k", "same weights", 331, 82.626,
            "the study's checkpoint, converted",
        ),
    ),
)  # fmt: skip

SUITES: Mapping[str, Suite] = {IMAGENET_18.name: IMAGENET_18}


def suite(name: str) -> Suite:
    """The suite of a name, with or without `suite:` before it.

    Raises:
        UnknownNameError: none.
    """
    plain = name.removeprefix(PREFIX)
    if plain not in SUITES:
        raise UnknownNameError.among("suite", plain, SUITES)
    return SUITES[plain]


def expand(specs: Iterable[str]) -> Iterator[str]:
    """Specs, with the models of a suite in the place of `suite:NAME`.

    Raises:
        ArgumentError: a name for a whole suite.
        UnknownNameError: no such suite.
    """
    for spec in specs:
        name, equals, rest = spec.partition("=")
        if equals and rest.startswith(PREFIX):
            raise ArgumentError("model", spec, f"one name, {name}, for several models", f"Write {rest} alone.")
        yield from suite(spec).specs if spec.startswith(PREFIX) else (spec,)
