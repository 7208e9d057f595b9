"""The entries of RobustBench whose networks are built here: their architecture, and where their files lie.

`entries.csv` has one row each: data set, threat model, id, network, depth, widening factor, and the file's id on Google
Drive (three for a mixture), as RobustBench 1.1.1 names them.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch
from torch import Tensor, nn

from atodds.models.robustbench.bit import BiT
from atodds.models.robustbench.mixed import MixedClassifier, PolicyNetwork, Settings
from atodds.models.robustbench.preact import PreActResNet
from atodds.models.robustbench.wide import robust_architecture, wide
from atodds.models.wide import WideResNet

Numbers = tuple[float, ...]
STATISTICS: Mapping[str, tuple[Numbers, Numbers]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""Mean and standard deviation that the networks normalise with."""
CLASSES = {"cifar10": 10, "cifar100": 100}
MIXTURES: Mapping[tuple[str, str], Settings] = {
    ("cifar10", "Bai2023Improving_edm"): Settings(1.2, 0.3, 2.0, 1.05, 0.96, 0.04),
    ("cifar100", "Bai2023Improving_edm"): Settings(2.0, 1.0, 2.0, 1.3, 0.84, 0.15),
    ("cifar100", "Bai2023Improving_trades"): Settings(2.0, 1.0, 2.0, 1.0, 0.815, 0.1),
}
PLAIN = "trades"
"""The networks that take images as they are: wide residual networks of `atodds.models.wide`."""


@dataclass(frozen=True)
class Entry:
    """A row of `entries.csv`. `drive` are the ids of its files."""

    data: str
    threat: str
    id: str
    network: str
    depth: int
    factor: int
    drive: tuple[str, ...]

    @property
    def spec(self) -> str:
        """How it is written."""
        first = (self.data, self.threat) == ("cifar10", "Linf")
        return f"robustbench:{self.id}" if first else f"robustbench:{self.data}/{self.threat}/{self.id}"

    @property
    def normalisation(self) -> tuple[Numbers, Numbers]:
        """Mean and standard deviation that pixels need before the network: nothing where the network needs none, or
        normalises by itself."""
        itself = self.network in (PLAIN, "mixed")
        return ((0.0,), (1.0,)) if itself else STATISTICS[self.data]

    @property
    def by_hand(self) -> str:
        """Where its files can be fetched with a browser."""
        files = " and ".join(f"https://drive.google.com/file/d/{each}" for each in self.drive)
        names = f"{self.id}_m0.pt, _m1.pt, _m2.pt in this order" if len(self.drive) > 1 else f"{self.id}.pt"
        return f"Open {files} in a browser, save as {names}, and give the {'first' if len(self.drive) > 1 else 'file'}"


@cache
def _entries() -> tuple[Entry, ...]:
    text = (resources.files("atodds.models.robustbench") / "entries.csv").read_text(encoding="utf-8")
    return tuple(
        Entry(
            row["data"], row["threat"], row["id"], row["network"], int(row["depth"]), int(row["factor"]),
            tuple(row["drive"].split()),
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip


ENTRIES = _entries()


def find(member: str) -> Entry | None:
    """The entry that `[DATA/[THREAT/]]ID` names, of CIFAR-10 and Linf where it does not say; None where it is not built
    here."""
    *where, name = member.split("/")
    data, threat = (*where, *("cifar10", "Linf")[len(where) :])[:2]
    return next((one for one in ENTRIES if (one.data, one.threat, one.id) == (data, threat, name)), None)


def make(entry: Entry) -> nn.Module:
    """The network of an entry on the meta device: all its shapes, no memory."""
    classes = CLASSES[entry.data]
    with torch.device("meta"):
        if entry.network == "mixed":
            mean, std = STATISTICS[entry.data]
            settings = MIXTURES[entry.data, entry.id]
            pair = BiT(classes), wide(classes, 70, 16)
            return MixedClassifier(*pair, PolicyNetwork(), settings, mean=mean, std=std)
        if entry.network == "robust-architecture":
            return robust_architecture(classes)
        if entry.network == "preact":
            return PreActResNet(classes)
        if entry.network == PLAIN:
            return WideResNet((3, 32, 32), classes, depth=entry.depth, factor=entry.factor, width=16)
        return wide(classes, entry.depth, entry.factor)


def renamed(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """A state dict of the TRADES network with the names of `atodds.models.wide.WideResNet`.

    Some files hold one more stage, sub_block1, that no answer depends on: it is left out.
    """
    return dict(_renamed(state, (depth - 4) // 6))


def _renamed(state: Mapping[str, Tensor], blocks: int) -> Iterator[tuple[str, Tensor]]:
    outside = {"conv1": "conv", "bn1": "bn", "fc": "head"}
    for name, tensor in state.items():
        first, *rest = name.split(".")
        if first == "sub_block1":
            continue
        if first.startswith("block") and len(rest) > 2 and first[5:].isdecimal() and rest[1].isdecimal():
            place = (int(first[5:]) - 1) * blocks + int(rest[1])
            layer = "shortcut" if rest[2] == "convShortcut" else rest[2]
            yield ".".join(["stages", str(place), layer, *rest[3:]]), tensor
        else:
            yield ".".join([outside.get(first, first), *rest]), tensor
