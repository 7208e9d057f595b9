"""AutoAttack beside torchattacks: verdicts, passes, and seconds, alone and over the bare passes that were made.

    make benchmarks-setup
    python benchmarks/auto_attack_side_by_side.py --model FILE.py:FACTORY --data cifar10 --root FOLDER --log aa.jsonl
    python benchmarks/auto_attack_side_by_side.py --model FILE.py:FACTORY --data cifar10 --root FOLDER --log aa.jsonl \\
        --curve 1/255,2/255,3/255,4/255,5/255,6/255,7/255,8/255

Every contender attacks all images in one call, misclassified ones too, and takes another seed in each round. What it
returns is judged here, by a copy of the model that none of them has seen: an image stands if the model is right about
it and the proposal does not fool it, or is not in the ball (with a tolerance of 1e-4 of eps) and box.

torchattacks' AutoAttack gives its attacks 10 steps, where AutoAttack means 100, and stretches Square's schedule over
the queries, where AutoAttack does not. So it takes part twice: with 100 steps and the plain schedule, which is the
budget of `standard`, and as shipped. With --bfloat16, atodds takes part once more with attacks in bfloat16, whose
fooling images are confirmed in float32; what it returns is judged in float32 like everything else.

The contenders of a round take turns of a fraction of a second, each in a thread of which one runs at a time, so that
what else happens on the machine slows all of them alike. At the end of its turn, and not on its time, the calls that it
has made to its model are made again with nothing around them: the same batch sizes, logits alone or with a backward
pass to the images. Seconds over bare passes are the contender's over those. Where atodds computes a part of each layer
for a window of Square, that counts as a whole pass, and a whole one is made again for it; where it lets the model's
folded form answer, the passes that are made again are the model's own. All seconds are the
processor's for this process: with one thread, what the wall's clock says where nobody else is at work.

Every round is added to the --log file when it is done. The same command again, with the same code, continues there.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torchattacks
from torch import Tensor, nn

import atodds
from atodds import norms
from atodds.attacks import ensemble
from atodds.data.images import ImageSet
from atodds.evaluation import runner
from atodds.incremental import Incremental
from atodds.oracle import Oracle
from atodds.precision import Precision
from atodds.threat import SLACK, Threat, parse_eps_list
from side_by_side import factory, machine, options, table
from taking_turns import Meter, Record, Recording, Reporting, Ring, together

TOLERANCE = 1e-4
BATCH, STEPS = 256, 100
OURS, PEER, SHIPPED, CURVE = "atodds", f"torchattacks, {STEPS} steps", "torchattacks as shipped", "atodds, all eps"
REDUCED = "atodds, bfloat16"

SLICES = {OURS: 0.25, REDUCED: 0.25, PEER: 0.5, SHIPPED: 0.25, CURVE: 0.5}
"""Seconds of a turn: about what each takes of the whole, so that all are at work until the end."""


@dataclass(frozen=True)
class Bench:
    """What every contender is given."""

    model: nn.Module
    every: ImageSet
    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Bench":
        """The network, and the images."""
        every = atodds.data.load(given.data, root=given.root, limit=given.limit)
        return cls(factory(given.model), every, every.images(), torch.from_numpy(every.labels))

    def right(self, images: Tensor) -> Tensor:
        """(N,) bool, whether the model says the label."""
        with torch.no_grad():
            return torch.cat([self.model(part).argmax(1) for part in images.split(BATCH)]) == self.labels

    def standing(self, proposals: Tensor, threat: Threat) -> Tensor:
        """(N,) bool, which images are classified correctly, and still are after an attack."""
        away = norms.distance(proposals.double(), self.images.double(), threat.norm)
        inside = (away <= threat.eps * (1 + TOLERANCE)) & ((proposals >= 0) & (proposals <= 1)).flatten(1).all(1)
        return self.right(self.images) & ~(inside & ~self.right(proposals))

    def ids(self, chosen: Tensor) -> list[int]:
        """The ids of images."""
        return [int(image) for image in self.every.ids[chosen.numpy()]]


class _Told(Oracle):
    """Tells a `Recording` of the passes that are made in part, or by its folded form, and so never come to it."""

    _form: Reporting | None = None

    def answering(self, images: Tensor) -> nn.Module:
        form = super().answering(images)
        if form is self.model or not isinstance(self.model, Recording):
            return form
        if self._form is None or self._form.form is not form:
            self._form = Reporting(self.model, form)
        return self._form

    def incremental(self, images: Tensor, ids: Tensor, sides: tuple[int, int]) -> Incremental | None:
        state = super().incremental(images, ids, sides)
        if state is not None and isinstance(self.model, Recording):
            self.model.report(len(ids))
        return state

    def window_logits(self, state: Incremental, corners: Tensor, windows: Tensor, ids: Tensor) -> Tensor:
        if isinstance(self.model, Recording):
            self.model.report(len(ids))
        return super().window_logits(state, corners, windows, ids)


Call = Callable[[nn.Module, Bench, Threat, int], Tensor]
"""(model, bench, threat, seed) -> proposals."""


def _ours(model: nn.Module, bench: Bench, threat: Threat, seed: int, *, precision: Precision | None) -> Tensor:
    ids, oracle = torch.from_numpy(bench.every.ids), _Told(model, precision=precision, folded=True)
    return ensemble(oracle, bench.images, bench.labels, threat, attacks="standard", ids=ids, seed=seed)


def _peer(model: nn.Module, bench: Bench, threat: Threat, seed: int, *, steps: int | None) -> Tensor:
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    attack = torchattacks.AutoAttack(model, norm=norm, eps=threat.eps, version="standard", n_classes=10, seed=seed)
    for part in attack._autoattack.attacks if steps else ():
        if hasattr(part, "steps"):
            part.steps = steps
        if hasattr(part, "rescale_schedule"):
            part.rescale_schedule = False
    proposals: Tensor = attack(bench.images, bench.labels)
    return proposals


CONTENDERS: Mapping[str, Call] = {
    OURS: partial(_ours, precision=None),
    REDUCED: partial(_ours, precision="bfloat16"),
    PEER: partial(_peer, steps=STEPS),
    SHIPPED: partial(_peer, steps=None),
}


def contest(names: Sequence[str], bench: Bench, threat: Threat, seed: int, *, bare: bool) -> Record:
    """A round: what each contender left standing, its passes, its seconds and those of its bare passes."""
    ring = Ring(names)

    def attack(name: str, model: nn.Module) -> Record:
        return {"proposals": CONTENDERS[name](model, bench, threat, seed).detach()}

    meters = {name: Meter(bench.model, bench.images, name, ring, SLICES[name], bare=bare) for name in names}
    found = together({name: partial(meter.measure, partial(attack, name)) for name, meter in meters.items()})
    for record in found.values():
        record["standing"] = bench.ids(bench.standing(record.pop("proposals"), threat))
    return found


def curve(bench: Bench, norm: str, levels: Sequence[str], seed: int, *, bare: bool) -> Record:
    """`atodds.evaluate` at all budgets at once, audit and all: as `contest`, with what stands at each budget."""

    def work(model: nn.Module) -> Record:
        with tempfile.TemporaryDirectory() as folder, patch.object(runner, "Oracle", _Told):
            run = atodds.evaluate(
                model, bench.every, norm=norm, eps=list(levels), attacks="standard", out=folder, seed=seed, keep=False,
                progress=False,
            )  # fmt: skip
            nearest = run.table.filter(run.table["fooled"]).group_by("image").min()
            rates = {budget.text: run.robust_accuracy(budget).value for budget in parse_eps_list(list(levels), norm)}
        return {"rates": rates, "nearest": dict(zip(nearest["image"].to_list(), nearest[norm].to_list(), strict=True))}

    record = Meter(bench.model, bench.images, CURVE, Ring([CURVE]), SLICES[CURVE], bare=bare).measure(work)
    rates, nearest, standing = record.pop("rates"), record.pop("nearest"), {}
    for budget in parse_eps_list(list(levels), norm):
        within = budget.value * (1 + SLACK)
        ids = [image for image in bench.ids(bench.right(bench.images)) if nearest.get(image, 2.0) > within]
        if round(rates[budget.text] * len(bench.images)) != len(ids):
            raise SystemExit(f"At {budget.text} the run says {rates[budget.text]}, and its table {len(ids)} images.")
        standing[budget.text] = ids
    return {CURVE: record | {"standing": standing}}


class Log:
    """Rounds that are done, one JSON line each."""

    def __init__(self, path: Path | None, shared: Record) -> None:
        self.path, self.shared = path, shared
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self.done = {self._key(record): record for record in map(json.loads, lines)}

    def get(self, what: Record, make: Callable[[], Record]) -> Record:
        """The result of something, made now if it is not there."""
        record: Record = self.shared | what
        key = self._key(record)
        done: Record | None = self.done.get(key)
        if done is not None:
            return dict(done["result"])
        about = [record["network"], what["eps"], f"round {what['round']}", *what["what"]]
        print(time.strftime("%H:%M:%S"), *about, sep="; ", file=sys.stderr)
        record["result"] = make()
        self.done[key] = record
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        return dict(record["result"])

    @staticmethod
    def _key(record: Record) -> str:
        return json.dumps({name: value for name, value in record.items() if name != "result"}, sort_keys=True)


def points(bench: Bench, log: Log, threats: Mapping[str, Threat], given: argparse.Namespace) -> None:
    """Prints the table of each ball."""
    names = [OURS, PEER] + [SHIPPED] * given.shipped + [REDUCED] * given.bfloat16
    for text, threat in threats.items():
        records = []
        for turn in range(given.rounds):
            what = {"what": names, "eps": text, "round": turn}
            what |= {"bare": False} if given.no_bare else {}
            make = partial(contest, names, bench, threat, given.seed + turn, bare=not given.no_bare)
            records.append(log.get(what, make))
        rounds = {name: [record[name] for record in records] for name in names}
        print(f"\n{text}, {len(bench.images)} images, {int(bench.right(bench.images).sum())} classified correctly")
        head = ["", "standing, by round", "passes an image", "seconds", "atodds / this", "over bare passes"]
        print(table([head, *(_row(name, rounds[name], rounds[OURS], len(bench.images)) for name in names)]))
        for name in names[1:]:
            _print_differences(name, rounds[name], rounds[OURS])
        sys.stdout.flush()


def _row(name: str, rounds: Sequence[Record], ours: Sequence[Record], images: int) -> list[str]:
    ratios = [mine["seconds"] / its["seconds"] for mine, its in zip(ours, rounds, strict=True)]
    return [
        name,
        " ".join(str(len(done["standing"])) for done in rounds),
        _passes(rounds, images),
        _told([done["seconds"] for done in rounds]),
        "" if name == OURS else _told(ratios),
        _told([done["seconds"] / done["bare"] for done in rounds]) if all(done["bare"] for done in rounds) else "",
    ]


def _passes(rounds: Sequence[Record], images: int) -> str:
    kinds = ("forwards", "backwards", "in part")
    forwards, backwards, in_part = (np.mean([done[kind] for done in rounds]) / images for kind in kinds)
    return f"{forwards:.1f} + {backwards:.1f}" + (f", {in_part:.1f} in part" if in_part else "")


def _told(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the extremes where there are several."""
    spread = f" ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{float(np.median(values)):.{digits}f}{spread}"


def _print_differences(name: str, rounds: Sequence[Record], ours: Sequence[Record]) -> None:
    for turn, (its, mine) in enumerate(zip(rounds, ours, strict=True)):
        missed, won = set(mine["standing"]) - set(its["standing"]), set(its["standing"]) - set(mine["standing"])
        if missed or won:
            print(f"round {turn}: {name} alone fools {sorted(missed) or 'none'}, atodds alone {sorted(won) or 'none'}")


def all_at_once(bench: Bench, log: Log, threats: Mapping[str, Threat], given: argparse.Namespace) -> None:
    """Prints the curve beside separate runs. The rounds of the curve are spread among those of the separate runs."""
    norm, levels = next(iter(threats.values())).norm, [text.split()[1] for text in threats]
    todo = [(text, turn) for turn in range(given.curve_peer_rounds) for text in threats]
    places = [round(turn * len(todo) / max(1, given.rounds - 1)) for turn in range(given.rounds)]
    curves: list[Record] = []
    separate: dict[str, dict[str, list[Record]]] = {name: {text: [] for text in threats} for name in (OURS, PEER)}
    for place in range(len(todo) + 1):
        for turn in (turn for turn, at in enumerate(places) if at == place):
            what = {"what": [CURVE], "eps": f"{norm} {','.join(levels)}", "round": turn}
            what |= {"bare": False} if given.no_bare else {}
            make = partial(curve, bench, norm, levels, given.seed + turn, bare=not given.no_bare)
            curves.append(log.get(what, make)[CURVE])
        if place < len(todo):
            text, turn = todo[place]
            what = {"what": [OURS, PEER], "eps": text, "round": turn} | ({"bare": False} if given.no_bare else {})
            make = partial(contest, [OURS, PEER], bench, threats[text], given.seed + turn, bare=not given.no_bare)
            found = log.get(what, make)
            for name in (OURS, PEER):
                separate[name][text].append(found[name])
    rows = [["", "standing: all at once", "atodds, separate", PEER, "fooled by the peer alone, by atodds alone"]]
    for level, text in zip(levels, threats, strict=True):
        ours, its = separate[OURS][text], separate[PEER][text]
        mine = [done["standing"][level] for done in curves]
        only = [set(mine[0]) - set(its[0]["standing"]), set(its[0]["standing"]) - set(mine[0])]
        counts = [" ".join(str(len(standing)) for standing in mine)]
        counts += [" ".join(str(len(done["standing"])) for done in part) for part in (ours, its)]
        rows.append([text, *counts, f"{sorted(only[0])} {sorted(only[1])}"])
    print(f"\n{len(bench.images)} images, {int(bench.right(bench.images).sum())} classified correctly")
    print(table(rows))
    rows = [["", "passes an image", "seconds", "all at once / this", "over bare passes"]]
    at_once = [done["seconds"] for done in curves]
    over = "" if given.no_bare else _told([done["seconds"] / done["bare"] for done in curves])
    rows.append([CURVE, _passes(curves, len(bench.images)), _told(at_once, 1), "", over])
    for name in (OURS, PEER):
        sums = [_summed([separate[name][text][turn] for text in threats]) for turn in range(given.curve_peer_rounds)]
        ratio = _told([mine / its["seconds"] for mine in at_once for its in sums], 3)
        over = "" if given.no_bare else _told([done["seconds"] / done["bare"] for done in sums])
        seconds = _told([done["seconds"] for done in sums], 1)
        rows.append([f"{name}, {len(threats)} runs", _passes(sums, len(bench.images)), seconds, ratio, over])
    print(table(rows))


def _summed(records: Sequence[Record]) -> Record:
    return {
        kind: sum(done[kind] for done in records) for kind in ("seconds", "bare", "forwards", "backwards", "in part")
    }


def _threats(norm: str, budgets: str) -> dict[str, Threat]:
    found = parse_eps_list(budgets, norm) if budgets else ()
    return {f"{norm} {budget.text}": Threat(norm, budget) for budget in found}


def _code() -> str:
    """What stands in the files of the library, so that rounds of other code are not taken for this one's."""
    digest, folder = hashlib.sha256(), Path(atodds.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    """Runs what is not in the log yet, and prints the tables."""
    parser = options(__doc__.splitlines()[0], limit=200, rounds=3)
    parser.add_argument("--data", default="cifar10", help="a name or path that atodds.data.load reads")
    parser.add_argument("--root", default=None, help="where a named data set lies")
    parser.add_argument("--linf", default="", help="budgets, comma-separated")
    parser.add_argument("--l2", default="", help="budgets, comma-separated")
    parser.add_argument("--shipped", action="store_true", help="torchattacks with its own 10 steps takes part too")
    parser.add_argument("--bfloat16", action="store_true", help="atodds takes part with attacks in bfloat16 too")
    parser.add_argument("--curve", default="", help="budgets in l-inf to decide at once, beside separate runs")
    parser.add_argument("--curve-peer-rounds", type=int, default=1, help="rounds of the separate runs")
    parser.add_argument("--no-bare", action="store_true", help="leave the bare passes out")
    parser.add_argument("--log", type=Path, default=None, help="file of finished rounds, to continue from")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bench = Bench.of(given)
    bench.right(bench.images)  # the first passes of a process are slow
    network = given.model.rpartition(":")[2]
    shared = {"network": network, "n": len(bench.images), "seed": given.seed, "threads": given.threads, "code": _code()}
    log = Log(given.log, shared)
    print(f"{machine()}; torchattacks 3.5.1; code {shared['code']}")
    print(f"{network} on {bench.every.name} {bench.every.split}, {bench.every.selection}, seed {given.seed}")
    if given.curve:
        all_at_once(bench, log, _threats("linf", given.curve), given)
    points(bench, log, _threats("linf", given.linf) | _threats("l2", given.l2), given)


if __name__ == "__main__":
    main()
