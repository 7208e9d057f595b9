"""The plan of the study of data sizes: which networks, which sizes, how each is trained and attacked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from atodds.data.images import ImageSet
from atodds.data.subsets import nested
from atodds.errors import ArgumentError, ModelError, UnknownNameError
from atodds.models.checkpoint import read_card
from atodds.models.networks import NETWORKS, skeleton
from atodds.threat import Budget, parse_eps
from atodds.training.recipe import Precision, Recipe
from atodds.training.suites import Entry

FEWEST_SIZES = 2
MARKS = {"D": "trained on augmented images", "A": "trained against PGD"}
"""What stands behind a network's name: resnet20+D."""


@dataclass(frozen=True)
class Variant:
    """A network and how it is trained: one curve of the study.

    Attributes:
        network: its name in the table of networks.
        augmented: on images that are shifted, and in colour mirrored; a DenseNet's are turned too. "+D" in the study.
        adversarial: against PGD within the study's ε.
    """

    network: str
    augmented: bool = False
    adversarial: bool = False

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """The variant that a text names: "cnn7", "resnet20+D", "cnn7+D+A".

        Raises:
            UnknownNameError: no such network or mark.
        """
        network, *marks = text.strip().split("+")
        if network not in NETWORKS:
            raise UnknownNameError.among("networks", network, NETWORKS)
        for mark in marks:
            if mark not in MARKS or marks.count(mark) > 1:
                raise UnknownNameError.among("networks", text.strip(), [f"{network}+{known}" for known in MARKS])
        return cls(network, "D" in marks, "A" in marks)

    @property
    def name(self) -> str:
        """As it is asked for."""
        return self.network + "+D" * self.augmented + "+A" * self.adversarial

    def __str__(self) -> str:
        return self.name


def parse_variants(texts: Sequence[str]) -> tuple[Variant, ...]:
    """The variants that texts name, each once.

    Raises:
        ArgumentError: none, or one twice.
        UnknownNameError: as for `Variant.parse`.
    """
    variants = tuple(Variant.parse(text) for text in texts)
    if not variants or len(set(variants)) < len(variants):
        raise ArgumentError(
            "networks", ",".join(texts), "not one network or more, each once", "Give mlp,cnn7,resnet20+D."
        )
    return variants


@dataclass(frozen=True)
class Effort:
    """What a preset spends.

    Attributes:
        epochs: over the data, by family, "" for the others.
        least: steps that a network is trained, at least: a small subset is gone through more often.
        inner: gradients of the attack that a +A network is trained against.
        l2, linf: the attacks whose distances are averaged.
        dark: in the place of `l2` for images with black grounds. C&W goes its way in a space where black is infinitely
            far off, so that few short steps move no pixel of the ground.
        fixed: the attack at the study's ε.
    """

    epochs: Mapping[str, int]
    least: int
    inner: int
    l2: str
    dark: str
    linf: str
    fixed: str


EFFORTS: Mapping[str, Effort] = {
    "laptop": Effort(
        {"perceptron": 6, "": 4}, 400, 3,
        l2="carlini_wagner(searches=5,steps=100)", dark="carlini_wagner(searches=4,steps=100,lr=0.1,initial=1)",
        linf="ifgsm_search(steps=20)", fixed="auto_pgd(steps=20)",
    ),
    "paper": Effort(
        {"": 30}, 2000, 10,
        l2="carlini_wagner(searches=9,steps=1000)", dark="carlini_wagner(searches=9,steps=1000)",
        linf="ifgsm_search(stop=False)", fixed="auto_pgd",
    ),
}  # fmt: skip
"""By preset. "paper" has the settings of the attacks that the study names; its epochs are not told there."""
_LR: Mapping[str, float] = {"perceptron": 0.05, "cnn": 0.02}
"""Highest learning rates by family, 0.1 for the others. Deep networks without normalisation, such as the Simple CNN,
may learn nothing at all at higher ones."""
DARK = ("digits", "mnist")
"""Data with black grounds."""

_ELEVEN = (500, 1000, 2000, 5000, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000)
_STL10 = (500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000)
_TINY = (2000, 5000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 100_000)


@dataclass(frozen=True)
class Usual:
    """What a data set is studied with unless something else is asked for: sizes and networks by preset, ε, splits."""

    sizes: Mapping[str, tuple[int, ...]]
    networks: Mapping[str, tuple[str, ...]]
    eps: str
    splits: tuple[str, str] = ("train", "test")


_RESNET = ("resnet20", "resnet20+D")
_DENSE = ("densenet40", "densenet40+D")
USUAL: Mapping[str, Usual] = {
    "digits": Usual(
        dict.fromkeys(EFFORTS, (50, 100, 200, 400, 800, 1400)), dict.fromkeys(EFFORTS, ("mlp", "cnn4")), "0.1"
    ),
    "mnist": Usual(
        dict.fromkeys(EFFORTS, _ELEVEN), {"laptop": ("mlp", "cnn7"), "paper": ("mlp", "cnn7", *_RESNET)}, "0.1"
    ),
    "cifar10": Usual(
        {"laptop": (500, 1000, 2000, 5000, 10_000, 20_000), "paper": _ELEVEN},
        {"laptop": ("mlp", "cnn7"), "paper": ("mlp", "cnn7", "resnet32", "resnet32+D", *_DENSE)},
        "1/255",
    ),
    "stl10": Usual(
        {"laptop": (500, 1000, 2000, 5000, 10_000), "paper": _STL10},
        {"laptop": ("mlp", "resnet20"), "paper": ("cnn20", *_RESNET, *_DENSE)},
        "1/255",
        ("train-10000", "test-3000"),
    ),
    "tiny-imagenet": Usual(
        {"laptop": (2000, 5000, 10_000, 20_000), "paper": _TINY},
        {"laptop": ("mlp", "resnet20"), "paper": ("cnn20", *_RESNET)},
        "1/255",
    ),
}
"""By the name of the data set. The networks are those of the study's Table 1; its sizes are not told, but for their
number and the largest."""


@dataclass(frozen=True)
class Training:
    """A job: a network of one size."""

    variant: Variant
    size: int
    entry: Entry
    images: ImageSet = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """The whole study, checked.

    Attributes:
        data: name of the data set.
        variants: the curves.
        sizes: ascending.
        preset: name of the effort.
        eps: of robust accuracy, and of the training of +A networks, in l-inf.
        subsets: of the training images, by size; the same for every network.
        limit: test images that are attacked, for each norm and network.
        seed: of everything.
    """

    data: str
    variants: tuple[Variant, ...]
    sizes: tuple[int, ...]
    preset: str
    eps: Budget
    subsets: tuple[ImageSet, ...]
    limit: int
    seed: int

    @property
    def effort(self) -> Effort:
        """What the preset spends."""
        effort = EFFORTS[self.preset]
        return replace(effort, l2=effort.dark) if self.data in DARK else effort

    def trainings(self, variant: Variant) -> tuple[Training, ...]:
        """The networks of a curve, by size."""
        return tuple(
            Training(variant, size, entry(variant, images, self.effort, self.eps, self.seed), images)
            for size, images in zip(self.sizes, self.subsets, strict=True)
        )


def planned(
    train: ImageSet,
    *,
    data: str,
    networks: Sequence[str] = (),
    sizes: Sequence[int] = (),
    preset: str = "laptop",
    eps: str | None = None,
    limit: int = 200,
    seed: int = 0,
    folder: Path | None = None,
) -> Plan:
    """The study, with everything checked that can be wrong before the first network is trained.

    Args:
        train: the training images to choose from.
        data: name of the data set, for what is usual with it.
        networks: such as "cnn7" or "resnet20+D"; the usual ones where none are given.
        sizes: ascending; the usual ones where none are given.
        preset: "laptop" or "paper".
        eps: in l-inf; the usual one where left out.
        limit: test images to attack, for each norm and network.
        seed: of subsets, weights and attacks.
        folder: where networks are kept: one that is there must be the one that is wanted.

    Raises:
        UnknownNameError: a preset, network or mark that does not exist.
        ArgumentError: sizes that do not ascend or that the data do not have, a class with too few images, a network
            that does not fit the images, too few images to attack, or a data set that nothing is usual for.
        ThreatError: an ε in the wrong unit.
        ModelError: a checkpoint of another network under the name of one of the study.
    """
    if preset not in EFFORTS:
        raise UnknownNameError.among("preset", preset, EFFORTS)
    usual = USUAL.get(data)
    if usual is None and not (networks and sizes and eps):
        way_out = f"Give --networks, --sizes and --eps, or take one of {', '.join(USUAL)}."
        raise ArgumentError("data", data, "nothing is usual for it", way_out)
    if limit < 5:
        raise ArgumentError("limit", limit, "too few images for a curve", "Give 100 or more; 5 at least.")
    budget = parse_eps(eps or (usual.eps if usual else ""), "linf")
    if budget.value == 0:
        raise ArgumentError("eps", budget.text, "nothing changes within it", "Give a positive one, such as 1/255.")
    variants = parse_variants(tuple(networks) or (usual.networks[preset] if usual else ()))
    wanted = tuple(sizes) or (usual.sizes[preset] if usual else ())
    if len(wanted) < FEWEST_SIZES:
        raise ArgumentError("sizes", list(wanted), "no curve", f"Give {FEWEST_SIZES} sizes or more, ascending.")
    for variant in variants:
        skeleton(variant.network, train.shape, len(train.classes))
    plan = Plan(data, variants, wanted, preset, budget, nested(train, wanted, seed=seed), limit, seed)
    for training in (training for variant in variants for training in plan.trainings(variant)):
        check_kept(training.entry.name, training.entry.network, folder)
    return plan


def entry(variant: Variant, images: ImageSet, effort: Effort, eps: Budget, seed: int) -> Entry:
    """A network and its recipe for a subset.

    Small subsets are gone through more often, so that every network is trained a least number of steps, and in smaller
    batches, so that these are steps in different directions.
    """
    network = NETWORKS[variant.network]
    count = len(images)
    batch = min(128, max(16, count // 10))
    usual = effort.epochs.get(network.family, effort.epochs[""])
    colour = images.shape[0] > 1
    precision: Precision = "float32" if network.family == "perceptron" or images.shape[1] < 16 else "bfloat16"
    recipe = Recipe(
        objective="adversarial" if variant.adversarial else "standard",
        epochs=max(usual, math.ceil(effort.least / math.ceil(count / batch))),
        batch_size=batch,
        lr=_LR.get(network.family, 0.1),
        eps=eps.value if variant.adversarial else None,
        attack_steps=effort.inner if variant.adversarial else None,
        eps_ramp=0.5 if variant.adversarial else 0.0,
        shift=0.1 if variant.augmented else 0.0,
        flip=variant.augmented and colour,
        rotation=15.0 if variant.augmented and network.family == "densenet" else 0.0,
        precision=precision,
        seed=seed,
    )
    return Entry(f"{variant.name}-{count}", variant.network, {}, recipe)


def check_kept(name: str, network: str, folder: Path | None) -> None:
    """Refuse a checkpoint of another network under a name in a folder.

    Raises:
        ModelError: there is one.
    """
    file = folder / f"{name}.safetensors" if folder else None
    if file is None or not file.is_file():
        return
    card = read_card(file)
    if card is None or card.network != network:
        held = "no network of ours" if card is None else card.network
        raise ModelError(
            f"{file} holds {held}, not the {network} that this study calls so. Give another folder (--out), or "
            "move the file away."
        )
