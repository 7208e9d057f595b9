"""Minimum-norm attacks beside foolbox, adversarial-library, torchattacks and ART: distances, gradients, seconds.

    make benchmarks-setup
    python benchmarks/minimum_norm_side_by_side.py --model FILE.py:FACTORY --data cifar10 --root FOLDER --norm l2 \\
        --attacks 'carlini_wagner,foolbox_cw,advlib_cw(initial_const=0.001)'

Attacks of atodds are named as everywhere, with settings where they differ from the default. Attacks of the peers are
named PEER_ATTACK, with the settings of their own signature: `--list` shows them.

Every contender is given the same images, the correctly classified ones among the first --limit. What it returns is
judged here, by a copy of the model that none of them has seen: another prediction than the label, in the box up to
rounding, and the distance measured in float64. A mean distance is over the images that the contender fooled; where one
misses an image, `common` is the mean over the images that every contender fooled.

The contenders of a round take turns of a fraction of a second, each in a thread of which one runs at a time, so that
what else happens on the machine slows all of them alike. All seconds are the processor's for this process.
"""

import ast
import sys
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import atodds
from atodds import norms
from atodds.attacks.registry import ATTACKS, parse, pieces
from atodds.oracle import Oracle
from atodds.threat import Norm, parse_norm
from side_by_side import factory, machine, options, spread, table
from taking_turns import Meter, Record, Ring, together

BATCH = 256
ROUNDING = 1e-6

Call = Callable[[nn.Module, Tensor, Tensor, Norm, int], Tensor]
"""(model, images, labels, norm, seed) -> images."""


@dataclass(frozen=True)
class Peer:
    """An attack of another library.

    Attributes:
        norms: that it works in.
        settings: what it is given unless the command says otherwise.
        make: (settings, norm) -> (model, images, labels) -> images.
    """

    norms: tuple[Norm, ...]
    settings: Mapping[str, object]
    make: Callable[[Mapping[str, Any], Norm], Callable[[nn.Module, Tensor, Tensor], Tensor]]


def _foolbox(name: str | Mapping[Norm, str]) -> Callable[..., Callable[[nn.Module, Tensor, Tensor], Tensor]]:
    def make(settings: Mapping[str, Any], norm: Norm) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
        import foolbox

        kind = getattr(foolbox.attacks, name if isinstance(name, str) else name[norm])

        def call(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
            raw: Tensor = kind(**settings)(bounded, images, labels, epsilons=None)[0]
            return raw

        return call

    return make


def _adv_lib(name: str) -> Callable[..., Callable[[nn.Module, Tensor, Tensor], Tensor]]:
    def make(settings: Mapping[str, Any], norm: Norm) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
        for missing in ("torchvision", "torchvision.models", "visdom"):  # imported by modules that no attack here needs
            sys.modules.setdefault(missing, types.ModuleType(missing))
        sys.modules["torchvision"].models = sys.modules["torchvision.models"]  # type: ignore[attr-defined]
        import adv_lib.attacks

        named: dict[str, dict[str, Any]]
        named = {"fmn": {"norm": {"l1": 1, "l2": 2, "linf": float("inf")}[norm]}, "alma": {"distance": norm}}
        named |= {"pdpgd": {"norm": float(norm.removeprefix("l"))}, "fab": {"norm": norm.capitalize()}}
        return partial(getattr(adv_lib.attacks, name), **(named.get(name, {}) | dict(settings)))

    return make


def _torchattacks(settings: Mapping[str, Any], _: Norm) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    import torchattacks

    def call(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = torchattacks.CW(model, **settings)(images, labels)
        return found

    return call


def _art(name: str) -> Callable[..., Callable[[nn.Module, Tensor, Tensor], Tensor]]:
    def make(settings: Mapping[str, Any], _: Norm) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        def call(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            classifier = PyTorchClassifier(
                model, nn.CrossEntropyLoss(), tuple(images.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu"
            )
            attack = getattr(evasion, name)(classifier, batch_size=len(images), verbose=False, **settings)
            return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))

        return call

    return make


_FMN: Mapping[Norm, str] = {"l1": "L1FMNAttack", "l2": "L2FMNAttack", "linf": "LInfFMNAttack"}
_SEARCH = {"binary_search_steps": 9, "initial_const": 0.01}

PEERS: dict[str, Peer] = {
    "foolbox_cw": Peer(("l2",), _SEARCH | {"steps": 1000}, _foolbox("L2CarliniWagnerAttack")),
    "foolbox_ead": Peer(
        ("l1",),
        _SEARCH | {"steps": 1000, "regularization": 1e-3, "decision_rule": "L1"},
        _foolbox("EADAttack"),
    ),
    "foolbox_ddn": Peer(("l2",), {"steps": 1000}, _foolbox("DDNAttack")),
    "foolbox_fmn": Peer(("l1", "l2", "linf"), {"steps": 1000}, _foolbox(_FMN)),
    "advlib_cw": Peer(("l2",), _SEARCH | {"max_iterations": 1000}, _adv_lib("carlini_wagner_l2")),
    "advlib_ddn": Peer(("l2",), {"steps": 1000, "levels": None}, _adv_lib("ddn")),
    "advlib_fmn": Peer(("l1", "l2", "linf"), {"steps": 1000}, _adv_lib("fmn")),
    "advlib_alma": Peer(("l1", "l2"), {"num_steps": 1000}, _adv_lib("alma")),
    "advlib_pdgd": Peer(("l2",), {"num_steps": 1000}, _adv_lib("pdgd")),
    "advlib_pdpgd": Peer(("l1", "l2", "linf"), {"num_steps": 1000}, _adv_lib("pdpgd")),
    "torchattacks_cw": Peer(("l2",), {"c": 1, "steps": 1000}, _torchattacks),
    "art_cw": Peer(("l2",), _SEARCH | {"max_iter": 100}, _art("CarliniL2Method")),
    "art_ead": Peer(
        ("l1",),
        _SEARCH | {"max_iter": 1000, "decision_rule": "L1"},
        _art("ElasticNet"),
    ),
}
"""At the budget of 9 constants with 1,000 steps each, or 1,000 steps, where the library does not keep to less."""


def contender(text: str, norm: Norm) -> Call:
    """The attack that a text names, of atodds or of a peer."""
    name = text.partition("(")[0]
    if name in ATTACKS:
        (spec,) = parse(text, norm)

        def ours(model: nn.Module, images: Tensor, labels: Tensor, norm: Norm, seed: int) -> Tensor:
            settings = dict(spec.settings)
            return spec.attack.function(Oracle(model), images, labels, norm, seed=seed, **settings)

        return ours
    peer = PEERS.get(name)
    if peer is None or norm not in peer.norms:
        raise SystemExit(f"--attacks {text}: no such attack in {norm}. See --list.")
    tree = ast.parse(text if "(" in text else f"{text}()", mode="eval").body
    if not isinstance(tree, ast.Call):
        raise SystemExit(f"--attacks {text}: write a name, or a name with settings: advlib_ddn(steps=200).")
    given = {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords}
    call = peer.make(dict(peer.settings) | given, norm)

    def theirs(model: nn.Module, images: Tensor, labels: Tensor, _: Norm, seed: int) -> Tensor:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - theirs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(model, images.clone(), labels.clone()).detach()

    return theirs


@dataclass(frozen=True)
class Bench:
    """What every contender is given: images that the model classifies correctly."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    norm: Norm

    def distances(self, proposals: Tensor) -> Tensor:
        """(N,) float64, infinite where a proposal does not fool or is outside the box."""
        with torch.no_grad():
            other = torch.cat([self.model(part).argmax(1) for part in proposals.split(BATCH)]) != self.labels
        inside = ((proposals >= -ROUNDING) & (proposals <= 1 + ROUNDING)).flatten(1).all(1)
        away = norms.distance(proposals.double(), self.images.double(), self.norm)
        return away.where(other & inside, torch.inf)


def contest(calls: Mapping[str, Call], bench: Bench, seed: int, slice_: float) -> dict[str, Record]:
    """A round: of each contender the distances, passes and seconds."""
    ring = Ring(list(calls))

    def attack(name: str, model: nn.Module) -> Record:
        return {"proposals": calls[name](model, bench.images, bench.labels, bench.norm, seed).detach()}

    meters = {name: Meter(bench.model, bench.images, name, ring, slice_, bare=False) for name in calls}
    found = together({name: partial(meter.measure, partial(attack, name)) for name, meter in meters.items()})
    for record in found.values():
        record["distances"] = bench.distances(record.pop("proposals"))
    return {name: found[name] for name in calls}


def show(rounds: Sequence[Mapping[str, Record]], to: str) -> None:
    """Prints the table of all contenders; seconds are over those of the contender `to`."""
    head = [
        "",
        "fooled",
        "mean",
        "median",
        "common",
        "gradients",
        "forwards",
        "seconds",
        f"{to.partition('(')[0]} / this",
    ]
    rows = [head]
    for name in rounds[0]:
        away = torch.stack([found[name]["distances"] for found in rounds])
        common = torch.stack([torch.stack([r["distances"] for r in found.values()]).amax(0) for found in rounds])
        hit, everyone = away.isfinite(), common.isfinite()
        count, mine = away.numel(), [found[name] for found in rounds]
        ratios = np.array([found[to]["seconds"] / found[name]["seconds"] for found in rounds])
        rows.append([
            name,
            f"{100 * float(hit.double().mean()):.4g} %",
            f"{float(away[hit].mean()):.5f}",
            f"{float(away[hit].median()):.5f}",
            "" if bool(everyone.all()) else f"{float(away[everyone].mean()):.5f}",
            f"{sum(record['backwards'] for record in mine) / count:.1f}",
            f"{sum(record['forwards'] for record in mine) / count:.1f}",
            f"{float(np.median([record['seconds'] for record in mine])):.2f}",
            f"{spread(ratios)}" if len(ratios) > 1 else f"{ratios[0]:.3f}",
        ])  # fmt: skip
    print(table(rows), flush=True)


def main() -> None:
    """Makes the rounds, and prints the table after each."""
    parser = options(__doc__.splitlines()[0], limit=100, rounds=1)
    parser.add_argument("--data", default="cifar10", help="a name or path that atodds.data.load reads")
    parser.add_argument("--root", default=None, help="where a named data set lies")
    parser.add_argument("--norm", default="l2", help="l1, l2 or linf")
    parser.add_argument("--attacks", required="--list" not in sys.argv, help="contenders, comma-separated")
    parser.add_argument("--slice", type=float, default=0.25, help="seconds of a turn")
    parser.add_argument("--list", action="store_true", help="show the peers' attacks and end")
    if "--list" in sys.argv:
        print(table([["", "norms", "settings"], *([n, ",".join(p.norms), str(p.settings)] for n, p in PEERS.items())]))
        return
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    norm, model = parse_norm(given.norm), factory(given.model)
    every = atodds.data.load(given.data, root=given.root, limit=given.limit, how="first")
    images, labels = every.images(), torch.from_numpy(every.labels)
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in images.split(BATCH)]) == labels
    bench = Bench(model, images[right], labels[right], norm)
    texts = pieces(given.attacks)
    calls = {text: contender(text, norm) for text in texts}
    print(machine())
    subject = f"{given.model.rpartition(':')[2]}, {norm}, seed {given.seed}"
    chosen = f"{len(bench.images)} correctly classified among the first {given.limit} of {every.name} {every.split}"
    print(f"{subject}: {chosen}", flush=True)
    rounds: list[dict[str, Record]] = []
    for turn in range(given.rounds):
        rounds.append(contest(calls, bench, given.seed + turn, given.slice))
        print(f"\nafter round {turn + 1}")
        show(rounds, texts[0])


if __name__ == "__main__":
    main()
