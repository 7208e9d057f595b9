"""Suites: networks of seven families with a recipe each, small enough to train them all on one machine.

A suite belongs to a data set and is what a comparison of networks trains where the user brings none. Within a family
the networks differ in one thing: depth or width.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from atodds.models.networks import NETWORKS
from atodds.training.recipe import Recipe


@dataclass(frozen=True)
class Entry:
    """A network of a suite and how it is trained.

    Attributes:
        name: what the classifier is called.
        network: its name in the table of networks.
        settings: what differs from the network's defaults.
        recipe: how it is trained.
    """

    name: str
    network: str
    settings: Mapping[str, int] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def family(self) -> str:
        """The networks that it is grouped with."""
        return NETWORKS[self.network].family


Row = tuple[str, str, Mapping[str, int]]
"""(name, network, settings)"""

_SMALL: tuple[Row, ...] = (
    ("mlp", "mlp", {"width": 512}),
    ("mlp2", "mlp2", {"width": 512}),
    ("mlp3", "mlp3", {"width": 512}),
    ("vgg8", "vgg8", {"width": 16}),
    ("vgg11", "vgg11", {"width": 16}),
    ("vgg13", "vgg13", {"width": 16}),
    ("resnet8", "resnet8", {"width": 8}),
    ("resnet14", "resnet14", {"width": 8}),
    ("resnet20", "resnet20", {"width": 8}),
    ("wrn10-2", "wrn10-2", {"width": 8}),
    ("wrn10-4", "wrn10-4", {"width": 8}),
    ("wrn16-2", "wrn16-2", {"width": 8}),
    ("densenet10", "densenet10", {"growth": 8, "width": 16}),
    ("densenet16", "densenet16", {"growth": 8, "width": 16}),
    ("densenet22", "densenet22", {"growth": 8, "width": 16}),
)
"""Those that suit grey images of 8x8 and 28x28 pixels alike."""


def _mobile(**settings: int) -> tuple[Row, ...]:
    """MobileNet at the paper's width multipliers."""
    widths = (("0.25", 8), ("0.5", 16), ("1", 32))
    return tuple((f"mobilenet-{share}", "mobilenet", {"width": width, **settings}) for share, width in widths)


def _digits() -> Iterator[Entry]:
    recipe = Recipe(epochs=20, batch_size=64, lr=0.05)
    convolutional: tuple[Row, ...] = (
        ("cnn4-narrow", "cnn4", {"width": 8}),
        ("cnn4", "cnn4", {"width": 16}),
        ("cnn4-wide", "cnn4", {"width": 32}),
    )
    mobile = _mobile(repeats=1)
    for name, network, settings in (*_SMALL, *convolutional, *mobile):
        yield Entry(name, network, settings, recipe)


def _mnist() -> Iterator[Entry]:
    convolutional: tuple[Row, ...] = (
        ("cnn4", "cnn4", {"width": 8}),
        ("cnn4-wide", "cnn4", {"width": 32}),
        ("cnn7", "cnn7", {}),
    )
    mobile = _mobile(stride=2)
    for name, network, settings in (*_SMALL, *convolutional, *mobile):
        family = NETWORKS[network].family
        yield Entry(
            name,
            network,
            settings,
            Recipe(
                epochs={"perceptron": 8, "cnn": 3, "densenet": 1}.get(family, 2),
                lr=0.05 if family in ("perceptron", "cnn") else 0.1,
                precision="float32" if family == "mobilenet" else "bfloat16",
            ),
        )


SUITES: Mapping[str, tuple[Entry, ...]] = {"digits": tuple(_digits()), "mnist": tuple(_mnist())}
"""By the name of the data set."""
