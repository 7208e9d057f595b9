"""The plan of the study of accuracy against robustness: which networks, trained against what, on how many images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from atodds.data.images import ImageSet
from atodds.data.subsets import nested
from atodds.errors import ArgumentError, UnknownNameError
from atodds.models.networks import NETWORKS, skeleton
from atodds.threat import NORMS, Budget, Norm, parse_eps_list
from atodds.training.recipe import Recipe
from atodds.training.suites import Entry

FEWEST_SIZES = 2


@dataclass(frozen=True)
class Effort:
    """What a preset spends on training.

    Attributes:
        epochs: passes over the data.
        least: steps, at least: a small subset is gone through more often.
        inner: gradients of the attack that is trained against.
    """

    epochs: int
    least: int
    inner: int


EFFORTS: Mapping[str, Effort] = {
    "laptop": Effort(epochs=1, least=160, inner=3),
    "paper": Effort(epochs=30, least=2000, inner=10),
}


@dataclass(frozen=True)
class Usual:
    """What a data set is studied with unless something else is asked for.

    Attributes:
        sizes: of the training sets; the last may be all images, whether balanced or not.
        networks: with the settings that differ from their defaults.
        against: radii to train against, by norm.
        budgets: radii at which robust accuracy is measured, by norm.
    """

    sizes: tuple[int, ...]
    networks: Mapping[str, Mapping[str, int]]
    against: Mapping[Norm, str]
    budgets: Mapping[Norm, str]


_SMALL: Mapping[str, Mapping[str, int]] = {"linear": {}, "cnn4": {"width": 8}}
USUAL: Mapping[str, Usual] = {
    "digits": Usual(
        (50, 200, 1442), _SMALL, {"linf": "0.1,0.2", "l2": "1"}, {"linf": "0.1,0.2", "l2": "0.5,1"}
    ),
    "mnist": Usual(
        (100, 1000, 10_000, 60_000), _SMALL, {"linf": "0.1,0.2,0.3", "l2": "1.5"},
        {"linf": "0.1,0.2,0.3", "l2": "0.5,1.5"},
    ),
    "cifar10": Usual(
        (500, 5000, 50_000), {"resnet20": {}}, {"linf": "2/255,4/255,8/255", "l2": "0.314"},
        {"linf": "1/255,2/255,4/255,8/255", "l2": "0.157,0.314"},
    ),
}  # fmt: skip
"""By the name of the data set."""


@dataclass(frozen=True)
class Variant:
    """A network and what it is trained against: one curve over sizes.

    Attributes:
        network: its name in the table of networks.
        settings: what differs from its defaults.
        norm: of the ball; None for standard training.
        eps: its radius; None for standard training.
    """

    network: str
    settings: Mapping[str, int] = field(hash=False)
    norm: Norm | None = None
    eps: Budget | None = None

    @property
    def name(self) -> str:
        """As files are called: "cnn4-linf-0.1", "cnn4-standard"."""
        trained = f"{self.norm}-{self.eps.text.replace('/', '_')}" if self.eps else "standard"
        return f"{self.network}-{trained}"

    @property
    def value(self) -> float:
        """The radius, 0 for standard training."""
        return self.eps.value if self.eps else 0.0


@dataclass(frozen=True)
class Training:
    """A job: a network on one subset with one seed."""

    variant: Variant
    size: int
    seed: int
    entry: Entry
    images: ImageSet = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """The trainings of the study, checked.

    Attributes:
        data: name of the data set.
        variants: of each network: the standard one, then by norm and radius.
        sizes: ascending.
        seeds: of subsets, weights and attacks; each is a repetition of the whole experiment.
        preset: name of the effort.
        budgets: at which robust accuracy is measured, by norm.
        subsets: of the training images, by seed and size.
    """

    data: str
    variants: tuple[Variant, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    preset: str
    budgets: Mapping[Norm, tuple[Budget, ...]]
    subsets: Mapping[int, tuple[ImageSet, ...]] = field(repr=False)

    @property
    def effort(self) -> Effort:
        """What the preset spends."""
        return EFFORTS[self.preset]

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Those that are trained against."""
        return tuple(self.budgets)

    @property
    def networks(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys(variant.network for variant in self.variants))

    def trainings(self) -> tuple[Training, ...]:
        """All of them: the first seed first, and of each the largest sizes, which say most."""
        return tuple(
            Training(variant, size, seed, entry(variant, images, self.effort, seed), images)
            for seed in self.seeds
            for size, images in reversed(list(zip(self.sizes, self.subsets[seed], strict=True)))
            for variant in self.variants
        )


def planned(
    train: ImageSet,
    *,
    data: str,
    networks: Sequence[str] = (),
    sizes: Sequence[int] = (),
    against: Mapping[str, str] | None = None,
    seeds: int = 3,
    seed: int = 0,
    preset: str = "laptop",
) -> Plan:
    """The trainings, with everything checked that can be wrong before the first begins.

    Args:
        train: the training images to choose from.
        data: name of the data set, for what is usual with it.
        networks: by name; the usual ones where none are given.
        sizes: ascending; the usual ones where none are given.
        against: radii to train against as text, by norm, beside standard training, which is always there.
        seeds: repetitions.
        seed: of the first; the others follow.
        preset: "laptop" or "paper".

    Raises:
        UnknownNameError: a preset, network or norm that does not exist.
        ArgumentError: sizes that do not ascend or that the data do not have, no seed, a network that does not fit the
            images, or a data set that nothing is usual for.
        ThreatError: a radius in the wrong unit.
    """
    if preset not in EFFORTS:
        raise UnknownNameError.among("preset", preset, EFFORTS)
    usual = USUAL.get(data)
    if usual is None and not (networks and sizes and against):
        way_out = f"Give --networks, --sizes and --train-eps, or take one of {', '.join(USUAL)}."
        raise ArgumentError("data", data, "nothing is usual for it", way_out)
    if seeds < 1:
        raise ArgumentError("seeds", seeds, "no repetition", "Give 1 or more; 3 say how far seeds matter.")
    known = usual.networks if usual else {}
    chosen = {name: known.get(name, {}) for name in networks} or dict(known)
    for name, settings in chosen.items():
        if name not in NETWORKS:
            raise UnknownNameError.among("networks", name, NETWORKS)
        skeleton(name, train.shape, len(train.classes), settings=settings)
    wanted = tuple(sizes) or (usual.sizes if usual else ())
    if len(wanted) < FEWEST_SIZES:
        raise ArgumentError("sizes", list(wanted), "no curve", f"Give {FEWEST_SIZES} sizes or more, ascending.")
    radii = _radii(against or (usual.against if usual else {}))
    variants = tuple(
        variant
        for network, settings in chosen.items()
        for variant in (
            Variant(network, settings),
            *(Variant(network, settings, norm, eps) for norm, found in radii.items() for eps in found),
        )
    )
    budgets = {
        norm: parse_eps_list(usual.budgets[norm], norm) if usual and norm in usual.budgets else found
        for norm, found in radii.items()
    }
    every = tuple(range(seed, seed + seeds))
    return Plan(data, variants, wanted, every, preset, budgets, {one: subsets(train, wanted, one) for one in every})


def subsets(train: ImageSet, sizes: Sequence[int], seed: int) -> tuple[ImageSet, ...]:
    """Nested, balanced subsets; one as large as the data is the data, which need not be balanced."""
    whole = bool(sizes) and sizes[-1] == len(train)
    found = nested(train, sizes[:-1] if whole else sizes, seed=seed)
    return (*found, train) if whole else found


def entry(variant: Variant, images: ImageSet, effort: Effort, seed: int) -> Entry:
    """A network and its recipe for a subset, against PGD where there is a radius.

    Small subsets are gone through in smaller batches, so that the least number of steps are in different directions.
    """
    family, count = NETWORKS[variant.network].family, len(images)
    batch = min(128, max(16, count // 10))
    plain = Recipe(
        epochs=max(effort.epochs, math.ceil(effort.least / math.ceil(count / batch))),
        batch_size=batch,
        lr=0.05 if family in ("perceptron", "cnn") else 0.1,
        precision="float32" if family == "perceptron" or images.shape[1] < 16 else "bfloat16",
        seed=seed,
    )
    recipe = plain
    if variant.eps is not None and variant.norm is not None:
        recipe = replace(
            plain, objective="adversarial", norm=variant.norm, eps=variant.eps.value, attack_steps=effort.inner,
            eps_ramp=0.5,
        )  # fmt: skip
    return Entry(f"{variant.name}-{count}-seed{seed}", variant.network, variant.settings, recipe)


def _radii(against: Mapping[str, str] | Mapping[Norm, str]) -> dict[Norm, tuple[Budget, ...]]:
    found: dict[Norm, tuple[Budget, ...]] = {}
    for name, text in against.items():
        norm = next((norm for norm in NORMS if norm == name), None)
        if norm is None:
            raise UnknownNameError.among("against", name, NORMS)
        found[norm] = tuple(eps for eps in parse_eps_list(text, norm) if eps.value)
    if not any(found.values()):
        raise ArgumentError("against", dict(against), "nothing to train against", "Give linf=0.1,0.2.")
    return found
