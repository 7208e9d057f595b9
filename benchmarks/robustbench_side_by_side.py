"""Our networks of RobustBench beside the package's own, with the same random weights: names, shapes, outputs.

Needs the package robustbench; `pip install --no-deps robustbench` will do. Packages that it imports and that are
missing are stood in for: no network that is compared here uses them, but for torchvision's squeeze and excitation.

    python benchmarks/robustbench_side_by_side.py --package FOLDER

With `--full` the networks have their published sizes, which takes about 6 GB of memory.
"""

import argparse
import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atodds.models.robustbench import BiT, MixedClassifier, PolicyNetwork, PreActResNet, RobustWideResNet
from atodds.models.robustbench.entries import MIXTURES, STATISTICS, renamed
from atodds.models.wide import WideResNet
from atodds.noise import normal

MEAN, STD = STATISTICS["cifar10"]
MOST = 1e-4
NEEDED = ("torchvision", "timm", "gdown", "autoattack", "geotorch", "torchdiffeq", "pandas", "yaml", "requests",
          "pkg_resources", "tqdm")  # fmt: skip


class Nothing(nn.Module):
    """What stands in for a class that no compared network uses."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


class SqueezeExcitation(nn.Module):
    """torchvision's, with its names."""

    def __init__(self, input_channels: int, squeeze_channels: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()

    def forward(self, maps: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(maps, 1)
        return maps * torch.sigmoid(self.fc2(self.activation(self.fc1(pooled))))


class StandIn(types.ModuleType):
    """A module with every name: classes that begin with a capital, modules that can be called otherwise."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "SqueezeExcitation":
            return SqueezeExcitation
        if name[0].isupper():
            return type(name, (Nothing,), {})
        return importlib.import_module(f"{self.__name__}.{name}")

    def __call__(self, *given: object, **_: object) -> object:
        return given[0] if len(given) == 1 and callable(given[0]) else Nothing()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for what is not installed."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in NEEDED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        del module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the package's prints, and without its wish for a GPU."""
    cuda = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        torch.Tensor.cuda = cuda  # type: ignore[method-assign]


def architecture(name: str) -> Any:
    """A file of the package's architectures."""
    return importlib.import_module(f"robustbench.model_zoo.architectures.{name}")


def pairs(full: bool) -> Iterator[tuple[str, nn.Module, nn.Module, Callable[[nn.Module], None], Sequence[float]]]:
    """Name, the package's network, ours on the meta device, how its state comes into ours, and normalisation."""
    wide, ra, bit = architecture("dm_wide_resnet"), architecture("robustarch_wide_resnet"), architecture("bit_rn")
    plain = architecture("wide_resnet")

    def given(ours: nn.Module, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> Any:
        return lambda theirs: ours.load_state_dict(change(theirs.state_dict()), assign=True)

    with torch.device("meta"):
        first = RobustWideResNet(10, stem=16, depths=(4, 4, 4), widths=(160, 320, 640))
        second = PreActResNet(10)
        depths, widths = ((30, 31, 10), (216, 432, 864)) if full else ((2, 3, 1), (40, 72, 104))
        third = RobustWideResNet(10, stem=96 if full else 24, depths=depths, widths=widths, squeeze=0.25)
        fourth = WideResNet((3, 32, 32), 10, depth=28, factor=10, width=16)
        units = (3, 8, 36, 3) if full else (1, 2, 1, 1)
        fifth = BiT(10, units, 2)
        robust = RobustWideResNet(10, stem=16, depths=(11 if full else 1,) * 3, widths=(256, 512, 1024))
        settings = MIXTURES["cifar10", "Bai2023Improving_edm"]
        sixth = MixedClassifier(BiT(10, units, 2), robust, PolicyNetwork(), settings, mean=MEAN, std=STD)
    yield "WRN-28-10", wide.DMWideResNet(10, 28, 10, nn.SiLU), first, given(first), (*MEAN, *STD)
    yield "PreActResNet-18", wide.DMPreActResNet(10, 18, 0, nn.SiLU), second, given(second), (*MEAN, *STD)
    theirs = ra.NormalizedWideResNet(
        MEAN, STD, stem_width=96 if full else 24, depth=depths, stage_width=widths, groups=(1, 1, 1),
        activation_fn=nn.SiLU, se_ratio=0.25, se_activation=nn.ReLU, se_order=2,
    )  # fmt: skip
    yield "RaWideResNet", theirs, third, given(third), (*MEAN, *STD)
    without = given(fourth, lambda state: renamed(state, 28))
    yield "WRN-28-10 of TRADES", plain.WideResNet(28, 10, 10, sub_block1=True), fourth, without, (0.0,) * 3 + (1.0,) * 3
    yield "BiT", bit.ResNetV2(units, 2, 10), fifth, given(fifth), (0.5,) * 6
    yield "mixture", _composite(units, 70 if full else 10), sixth, given(sixth, _parts), ()


def _composite(units: Sequence[int], depth: int) -> nn.Module:
    """The package's mixture, of its published parts or of smaller ones with the same channels."""
    mixed, bit, wide = architecture("comp_model"), architecture("bit_rn"), architecture("dm_rn")
    told = {"std_model_type": "rn152", "rob_model_type": "wrn7016_silu", "in_planes": (512, 256), "gamma": 3.0,
            "use_policy": True, "policy_graph": True, "pn_version": 4, "num_classes": 10}  # fmt: skip
    with torch.device("meta"):
        inner = mixed.CompositeModel(told)
    inner.models[0] = bit.ResNetV2(units, 2, 10).eval()
    inner.models[1] = wide.WideResNet(10, depth, 16, nn.SiLU, MEAN, STD).eval()
    inner.policy_net = architecture("mixing_net").MixingNetV4({"in_planes": (512, 256)})
    inner.bn = nn.BatchNorm1d(1, affine=False)
    for name, number in (("alpha_scale", 0.04), ("alpha_bias", 0.96), ("std_scale", 1.2), ("rob_scale", 0.3),
                         ("gamma_scale", 2.0), ("gamma_bias", 1.05)):  # fmt: skip
        setattr(inner, name, nn.Parameter(torch.tensor(number), requires_grad=False))
    for model in inner.models:
        model.mean, model.std = (torch.tensor(v).reshape(-1, 1, 1) for v in ((0.5,) * 3, (0.5,) * 3))
    inner.models[1].mean, inner.models[1].std = (torch.tensor(v).reshape(-1, 1, 1) for v in (MEAN, STD))
    return mixed.CompositeModelWrapper(inner, parallel=False).eval()  # type: ignore[no-any-return]


def _parts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the three files and of the batch norm, without the six numbers."""
    plain = {_inside(name): value for name, value in state.items()}
    return {name: value for name, value in plain.items() if "." in name}


def _inside(name: str) -> str:
    """A name without the wrapper's part."""
    return name.removeprefix("comp_model.").removeprefix("_comp_model.")


def randomise(model: nn.Module) -> None:
    """Weights and running statistics as a function of their names, of a size that keeps answers apart."""
    for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        last = name.rpartition(".")[2]
        if tensor.is_floating_point() and last not in ("mean", "std") and tensor.ndim:
            flat = normal(torch.arange(1), (tensor.numel(),), seed=1, stream=_inside(name)).reshape(tensor.shape)
            fan = max(1, tensor[0].numel())
            with torch.no_grad():
                if tensor.ndim > 1:
                    tensor.copy_(flat * (2 / fan) ** 0.5)
                else:
                    tensor.copy_((1 + 0.2 * flat).abs() if last in ("weight", "running_var") else 0.1 * flat)


def digest(model: nn.Module) -> str:
    """One hash over the names and shapes of a state dict."""
    told = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help="folder that holds the folder robustbench, where not installed")
    parser.add_argument("--full", action="store_true", help="published sizes")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--only", help="the network whose name begins so")
    asked = parser.parse_args()
    if asked.package:
        sys.path.insert(0, str(asked.package))
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    globals()["NEEDED"] = tuple(missing)
    sys.meta_path.append(Finder())
    images = (0.5 + 0.25 * normal(torch.arange(asked.images), (3, 32, 32), seed=1, stream="images")).clamp(0, 1)
    worst = 0.0
    with quiet():
        made = pairs(asked.full)
        while (pair := next(made, None)) is not None:
            name, theirs, ours, give, normalisation = pair
            if asked.only and not name.startswith(asked.only):
                continue
            randomise(theirs)
            give(theirs)
            theirs.eval(), ours.eval()
            mean, std = (torch.tensor(normalisation).reshape(2, -1, 1, 1)) if normalisation else (0.0, 1.0)
            with torch.no_grad():
                expected = theirs(images)
                found = ours((images - mean) / std)
            expected = expected[0] if isinstance(expected, tuple) else expected
            difference = float((expected - found).abs().max())
            worst = max(worst, difference)
            told = {"network": name, "parameters": sum(p.numel() for p in ours.parameters()), "difference": difference,
                    "spread": float(expected.std()), "logits": expected[0].tolist()[:3],
                    "names": digest(ours)}  # fmt: skip
            print(json.dumps(told), file=sys.stderr, flush=True)
    print(f"largest difference {worst:.2e}")
    sys.exit(worst >= MOST)


if __name__ == "__main__":
    main()
