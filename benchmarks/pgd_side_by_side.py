"""FGSM and PGD against torchattacks and foolbox: same model, images, eps, steps, step size and random start.

    make benchmarks-setup
    python benchmarks/pgd_side_by_side.py --model FILE.py:FACTORY --data cifar10 --root FOLDER

Every library attacks the same correctly classified images, all of them in one call. Each round takes another seed.
What a library returns is judged here, the same way for all: another prediction than the label, in the box, and within
eps, with a tolerance of 1e-4 of it for rounding. Passes are counted at the model. Ratios are seconds of atodds over
seconds of the row: the median over rounds, its 95 % bootstrap interval, and the extremes; below 1, atodds is faster. A
call on a bare model includes the search for a batch size; the second column of ratios is for one that is told.

`--start peers` takes chance out of the comparison: atodds then begins, once for each peer, at the very points that this
peer draws with this round's seed, and projects as the peer does, on the ball and then on the box; the two are compared
image by image. In l2 it goes there a second time with its own projection, which is another setting.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import foolbox
import torch
import torchattacks
from torch import Tensor, nn

import atodds.data
from atodds import norms
from atodds.attacks import fgsm, pgd
from atodds.attacks.gradient_sign import Projection
from atodds.oracle import Oracle
from atodds.threat import Threat, parse_eps_list
from side_by_side import Counting, Timed, factory, interleaved, machine, options, table

TOLERANCE = 1e-4
BATCH = 256
OURS, SETTLED, FROM = "atodds", f"atodds, batches of {BATCH}", "atodds, from the points of "
EXACT = ", exact projection"

Call = Callable[[nn.Module, int], Tensor]
"""(model, seed) -> images."""


@dataclass(frozen=True)
class Question:
    """One attack in one ball."""

    attack: str
    threat: Threat
    steps: int
    start: str

    @property
    def random_start(self) -> bool:
        """Whether peers draw their starts."""
        return self.start != "image"

    def __str__(self) -> str:
        start = {"random": " from random points", "peers": " from each peer's points", "image": ""}[self.start]
        ball = f"{self.threat.norm} eps {self.threat.eps:.4g}"
        return f"{self.attack} {ball}, {self.steps} steps of {self.size:.3g}{start}"

    @property
    def size(self) -> float:
        """Length of a step, for every library."""
        return self.threat.eps if self.attack == "FGSM" else 2.5 * self.threat.eps / self.steps


@dataclass(frozen=True)
class Judged:
    """How many images a library fooled in each round."""

    images: Tensor
    labels: Tensor
    threat: Threat
    counts: dict[str, list[int]] = field(default_factory=dict)
    fooled: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def take(self, name: str, turn: int, model: nn.Module, proposals: Tensor) -> None:
        """Count the proposals that fool."""
        with torch.no_grad():
            other = torch.cat([model(part).argmax(1) for part in proposals.split(256)]) != self.labels
        away = norms.distance(proposals.double(), self.images.double(), self.threat.norm)
        inside = (away <= self.threat.eps * (1 + TOLERANCE)) & ((proposals >= 0) & (proposals <= 1)).flatten(1).all(1)
        self.fooled[name, turn] = other & inside
        self.counts.setdefault(name, []).append(int((other & inside).sum()))

    def total(self, name: str) -> int:
        """Fooled over all rounds."""
        return sum(self.counts[name])


def contenders(question: Question, images: Tensor, labels: Tensor) -> dict[str, Call]:
    """Who takes part in a question, each at the same settings."""
    threat, steps, size = question.threat, question.steps, question.size
    if question.attack == "FGSM":
        found: dict[str, Call] = {
            OURS: lambda model, _: fgsm(model, images, labels, threat),
            SETTLED: lambda model, _: fgsm(Oracle(model, batch_size=BATCH), images, labels, threat),
        }
    elif question.start == "peers":
        return _from_their_points(question, images, labels)
    else:
        start = question.random_start
        ours = partial(
            pgd, images=images, labels=labels, threat=threat, steps=steps, step_size=size, random_start=start
        )
        found = {
            OURS: lambda model, seed: ours(model, seed=seed),
            SETTLED: lambda model, seed: ours(Oracle(model, batch_size=BATCH), seed=seed),
            "atodds, stop=False": lambda model, seed: ours(model, seed=seed, stop=False),
        }
    for name, make in (_of_torchattacks(question) | _of_foolbox(question)).items():
        found[name] = _seeded(make, images, labels)
    return found


class _FirstPassError(Exception):
    """Carries the images of the first pass out of an attack."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images


class _Stopping(nn.Module):
    """A model that stops an attack at its first pass. Libraries ask where its parameters are."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Never returns."""
        raise _FirstPassError(images.detach().clone())


def _from_their_points(question: Question, images: Tensor, labels: Tensor) -> dict[str, Call]:
    """Each peer, and before it atodds from the points that this peer draws."""
    found: dict[str, Call] = {}
    for name, make in (_of_torchattacks(question) | _of_foolbox(question)).items():
        call, ball = _seeded(make, images, labels), (question.threat, question.steps, question.size)
        drawn: dict[int, Tensor] = {}
        ours = partial(_ours_from, call, images, labels, *ball, drawn=drawn)
        found[f"{FROM}{name}"] = partial(ours, projection="ball-then-box")
        if question.threat.norm == "l2":
            found[f"{FROM}{name}{EXACT}"] = partial(ours, projection="exact")
        found[name] = call
    return found


def _ours_from(
    call: Call, images: Tensor, labels: Tensor, threat: Threat, steps: int, size: float, model: nn.Module, seed: int,
    *, drawn: dict[int, Tensor], projection: Projection,
) -> Tensor:  # fmt: skip
    if seed not in drawn:
        try:
            call(_Stopping(), seed)
        except _FirstPassError as seen:
            drawn[seed] = seen.images
    return pgd(
        Oracle(model, batch_size=BATCH),
        images,
        labels,
        threat,
        steps=steps,
        step_size=size,
        projection=projection,
        starting_points=drawn[seed],
    )


def _seeded(make: Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]], images: Tensor, labels: Tensor) -> Call:
    def call(model: nn.Module, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return make(model)(images, labels)

    return call


Peers = dict[str, Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]]


def _of_torchattacks(question: Question) -> Peers:
    eps, start = question.threat.eps, question.random_start
    walk = {"eps": eps, "alpha": question.size, "steps": question.steps, "random_start": start}
    match question.attack, question.threat.norm:
        case "FGSM", "linf":
            return {"torchattacks FGSM": lambda model: torchattacks.FGSM(model, eps=eps)}
        case "PGD", "linf":
            return {"torchattacks PGD": lambda model: torchattacks.PGD(model, **walk)}
        case "PGD", "l2":
            return {"torchattacks PGDL2": lambda model: torchattacks.PGDL2(model, **walk)}
        case _:
            return {}


def _of_foolbox(question: Question) -> Peers:
    known = {
        ("FGSM", "linf"): [foolbox.attacks.LinfFastGradientAttack],
        ("FGSM", "l2"): [foolbox.attacks.L2FastGradientAttack],
        ("FGSM", "l1"): [foolbox.attacks.L1FastGradientAttack],
        ("PGD", "linf"): [foolbox.attacks.LinfPGD],
        ("PGD", "l2"): [foolbox.attacks.L2PGD],
        ("PGD", "l1"): [foolbox.attacks.L1PGD, foolbox.attacks.SparseL1DescentAttack],
    }
    kinds = known[question.attack, question.threat.norm]
    return {f"foolbox {kind.__name__.removesuffix('Attack')}": _foolbox_call(kind, question) for kind in kinds}


def _foolbox_call(
    kind: Callable[..., Any], question: Question
) -> Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]:
    settings = {} if question.attack == "FGSM" else {"steps": question.steps, "abs_stepsize": question.size}
    attack = kind(random_start=question.random_start, **settings)

    def make(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        def call(images: Tensor, labels: Tensor) -> Tensor:
            bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
            clipped: Tensor = attack(bounded, images, labels, epsilons=question.threat.eps)[1]
            return clipped

        return call

    return make


def ask(question: Question, model: nn.Module, images: Tensor, labels: Tensor, given: argparse.Namespace) -> list[str]:
    """Prints the table of one question; returns the lines where atodds comes second."""
    calls = contenders(question, images, labels)
    wrapped = {name: Counting(model) for name in calls}
    judged = Judged(images, labels, question.threat)
    proposals: dict[tuple[str, int], Tensor] = {}

    def run(name: str) -> Callable[[int], object]:
        def once(turn: int) -> None:
            proposals[name, turn] = calls[name](wrapped[name], given.seed + turn + 1)

        return once

    timed = interleaved({name: run(name) for name in calls}, given.rounds)
    for (name, turn), found in proposals.items():
        if turn >= 0:
            judged.take(name, turn, model, found)
    if question.start == "peers":
        return _image_by_image(question, wrapped, judged, timed, given)
    rows = [["", "fooled, by round", "passes an image", "atodds / this", f"{SETTLED} / this"]]
    for name in calls:
        passes = wrapped[name].passes(len(images) * (given.rounds + 1))
        ratios = ["" if name == ours else str(timed.ratio(ours, name)) for ours in (OURS, SETTLED)]
        rows.append([name, " ".join(map(str, judged.counts[name])), passes, *ratios])
    print(f"\n{question}, {len(images)} images\n{table(rows)}")
    behind = [f"{question}: {name} fools {judged.total(name)}, atodds {judged.total(OURS)}" for name in calls]
    behind = [line for line, name in zip(behind, calls, strict=True) if judged.total(name) > judged.total(OURS)]
    peers = [name for name in calls if not name.startswith(OURS)]
    slower = [name for name in peers if timed.ratio(OURS, name).median > 1]
    return behind + [f"{question}: {timed.ratio(OURS, name)} times the seconds of {name}" for name in slower]


def _image_by_image(
    question: Question, wrapped: dict[str, Counting], judged: Judged, timed: Timed, given: argparse.Namespace
) -> list[str]:
    """As `ask`, where atodds began at the points of each peer."""
    rows = [["", "fooled, by round", "only atodds", "only this", "passes an image", "atodds / this"]]
    behind = []
    for name in wrapped:
        passes = wrapped[name].passes(len(judged.images) * (given.rounds + 1))
        counts = " ".join(map(str, judged.counts[name]))
        if name.startswith(FROM):
            rows.append([name, counts, "", "", passes, ""])
            continue
        pairs = [(judged.fooled[FROM + name, turn], judged.fooled[name, turn]) for turn in range(given.rounds)]
        ours, theirs = (sum(int((a & ~b).sum()) for a, b in found) for found in (pairs, [(b, a) for a, b in pairs]))
        rows.append([name, counts, str(ours), str(theirs), passes, str(timed.ratio(FROM + name, name))])
        fewer = [turn for turn, (a, b) in enumerate(pairs) if a.sum() < b.sum()]
        if fewer:
            behind.append(f"{question}: fewer than {name} in rounds {fewer}")
    print(f"\n{question}, {len(judged.images)} images\n{table(rows)}")
    return behind


def main() -> None:
    """Asks each question in turn, and ends with the cases where atodds comes second."""
    parser = options(__doc__.splitlines()[0], limit=200, rounds=5)
    parser.add_argument("--data", default="cifar10", help="a name or path that atodds.data.load reads")
    parser.add_argument("--root", default=None, help="where a named data set lies")
    parser.add_argument("--linf", default="0.5/255,1/255", help="budgets, comma-separated")
    parser.add_argument("--l2", default="0.1,0.2", help="budgets, comma-separated")
    parser.add_argument("--l1", default="2,4", help="budgets, comma-separated")
    parser.add_argument(
        "--start",
        choices=("random", "image", "peers"),
        default="random",
        help="where PGD starts: each library at its own random points, all at the image, atodds at each peer's points",
    )
    parser.add_argument("--steps", default="10,40", help="steps of PGD, comma-separated")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = factory(given.model)
    every = atodds.data.load(given.data, root=given.root, limit=2 * given.limit)
    images, labels = every.images(), torch.from_numpy(every.labels)
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in images.split(256)]) == labels
    images, labels = images[right][: given.limit], labels[right][: given.limit]
    print(f"{machine()}; torchattacks 3.5.1, foolbox {foolbox.__version__}")
    print(f"{given.model} on {len(images)} correctly classified images of {every.name} {every.split}")
    behind: list[str] = []
    for norm, budgets in (("linf", given.linf), ("l2", given.l2), ("l1", given.l1)):
        for eps in parse_eps_list(budgets, norm) if budgets else ():
            threat = Threat(norm, eps)
            questions = [] if given.start == "peers" else [Question("FGSM", threat, 1, "image")]
            questions += [Question("PGD", threat, int(steps), given.start) for steps in given.steps.split(",")]
            for question in questions:
                behind += ask(question, model, images, labels, given)
    print("\nWhere atodds comes second:", *(behind or ["nowhere in these rounds"]), sep="\n  ")


if __name__ == "__main__":
    main()
