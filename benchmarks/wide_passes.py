"""Attacks on a WideResNet where a GPU is at hand: passes a second beside bare passes, float32 beside bfloat16, and the
model as it is beside its folded form, compiled, and replayed as a CUDA graph.

    python benchmarks/wide_passes.py --device cuda --log wide.jsonl
    python benchmarks/wide_passes.py --device cpu --network wrn10-2 --limit 64 --steps 3 --queries 20 --rounds 3

The network has random weights and, from one pass in train mode, batch statistics; images are uniform noise, labels what
the model says of them, and eps is so small that every image is kept to the end. Each attack takes turns with loops that
make as many passes of each kind at the same batch sizes, in the same layout and precision, with nothing around them.
*Of bare* is the loops' time over the attack's: passes a second beside those of the bare loops. Batch sizes and layouts
are those that a run measures with the model as it is, in each precision.

Every row is added to the --log file when it is done, and the same command goes on there.
"""

import argparse
import copy
import itertools
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atodds import Threat, noise
from atodds.attacks import auto_pgd, fab_targeted, square
from atodds.batching import BatchSizes
from atodds.models import build
from atodds.oracle import Oracle
from atodds.precision import Precision, full_float32
from side_by_side import interleaved, machine, table

EPS = 1e-6
SHAPE = 3, 32, 32
FORMS = "as it is", "folded", "compiled", "replayed"
"""What answers: the model, its folded form, the model compiled, and compiled with its kernels replayed as one graph."""

Attack = Callable[..., Tensor]


class Replayed(nn.Module):
    """A compiled model whose kernels are replayed. What it returns, and the gradient, is memory of the caller's own:
    the next replay writes over the graph's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.model.compile(mode="reduce-overhead", dynamic=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W) in [0, 1]."""
        torch.compiler.cudagraph_mark_step_begin()
        logits: Tensor = self.model(images * 1.0)
        return logits.clone()


@dataclass(frozen=True)
class Bench:
    """What every contender is given."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    attacks: dict[str, Attack]
    rounds: int

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Bench":
        """The network and the images, on the device."""
        model = build(given.network, SHAPE, 10, seed=given.seed).to(given.device)
        ids = torch.arange(given.limit)
        images = noise.uniform(ids, torch.Size(SHAPE), seed=given.seed, stream="wide", low=0, high=1)
        images = images.float().to(given.device)
        with torch.no_grad():
            for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
                norm.momentum = None
            model.train()(images[:128])
            model.eval().requires_grad_(False)
            labels = torch.cat([model(part).argmax(1) for part in images.split(128)])
        attacks: dict[str, Attack] = {
            "auto_pgd": partial(auto_pgd, steps=given.steps),
            "fab_targeted": partial(fab_targeted, steps=given.steps),
            "square": partial(square, queries=given.queries),
        }
        return cls(model, images, labels, attacks, given.rounds)

    def formed(self, form: str) -> nn.Module:
        """The model that is attacked, and that bare passes are made with."""
        torch.compiler.reset()  # what is compiled for one form counts against the limit of the next
        match form:
            case "compiled":
                model = copy.deepcopy(self.model)
                model.compile(dynamic=False)
                return model
            case "replayed":
                return Replayed(copy.deepcopy(self.model))
            case _:
                return self.model

    def sizes(self, precision: Precision) -> BatchSizes:
        """Batch sizes and layouts, measured as a run does."""
        oracle = Oracle(self.model, precision=precision)
        ids = torch.arange(len(self.images))
        for _ in range(500):  # where the images fill no larger batch, that is all that can be known
            if not oracle.batching.unsettled:
                break
            oracle.logits(self.images, ids)
            oracle.gradients(self.images, lambda logits, _: logits.sum(1), ids)
        return oracle.batching.sizes

    def row(self, name: str, form: str, precision: Precision, sizes: BatchSizes) -> dict[str, Any]:
        """An attack beside bare loops: seconds of both in the middle, their ratio, passes a second, images kept."""
        model, passes = self.formed(form), [0, 0]

        def count(forwards: int, backwards: int) -> None:
            passes[0] += forwards
            passes[1] += backwards

        oracle = Oracle(model, batch_size=sizes, precision=precision, folded=form == "folded", on_passes=count)
        threat, device = Threat("linf", EPS), self.images.device

        def attack(_: int) -> None:
            passes[:] = [0, 0]
            proposals = self.attacks[name](oracle, self.images, self.labels, threat)
            if not bool((proposals - self.images).abs().max() <= 2 * EPS):
                raise SystemExit(f"{name} left the ball.")

        def bare(_: int) -> None:
            reduced = precision == "bfloat16"
            with (
                full_float32(device, precision),
                torch.autocast(device.type, torch.bfloat16) if reduced else nullcontext(),
            ):
                self._bare("gradient", model, passes[1], sizes)
                self._bare("forward", model, passes[0] - passes[1], sizes)

        timed = interleaved({"attack": attack, "bare": bare}, self.rounds)
        whole = len(self.images)
        if form == "folded" and not oracle.folded:
            raise SystemExit("The model has no folded form.")
        return {
            "batches": f"{sizes.gradient}, {sizes.forward}",
            "passes an image": f"{passes[0] / whole:.1f} + {passes[1] / whole:.1f}",
            "passes a second": f"{sum(passes) / timed.median('attack'):,.0f}",
            "bare": f"{sum(passes) / timed.median('bare'):,.0f}",
            "of bare": str(timed.ratio("bare", "attack")),
        }

    def _bare(self, kind: str, model: nn.Module, passes: int, sizes: BatchSizes) -> None:
        batch = min(sizes.gradient if kind == "gradient" else sizes.forward, len(self.images))
        layout = torch.channels_last if kind in sizes.channels_last else torch.contiguous_format
        while passes > 0:
            for part in self.images.split(batch):
                given = part[:passes].contiguous(memory_format=layout)
                if kind == "gradient":
                    leaf = given.detach().requires_grad_(True)
                    torch.autograd.grad(model(leaf).sum(), leaf)
                else:
                    with torch.no_grad():
                        model(given)
                passes -= len(given)
                if passes <= 0:
                    break


def main() -> None:
    """Measures what is not in the log yet, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="where the model runs")
    parser.add_argument("--network", default="wrn28-10", help="a network of this package, from images of CIFAR-10")
    parser.add_argument("--limit", type=int, default=1024, help="images")
    parser.add_argument("--steps", type=int, default=10, help="of auto_pgd and fab_targeted")
    parser.add_argument("--queries", type=int, default=100, help="of square")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    parser.add_argument("--forms", default="", help=f"some of {','.join(FORMS)}; all that the device can do if empty")
    parser.add_argument("--precisions", default="float32,bfloat16", help="of the attacks")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--seed", type=int, default=0, help="of weights and images")
    parser.add_argument("--log", type=Path, default=None, help="file of finished rows, to continue from")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bench = Bench.of(given)
    forms = [form for form in FORMS if form in given.forms.split(",") or not given.forms]
    forms = [form for form in forms if form != "replayed" or given.device.startswith("cuda")]
    names = "device", "network", "limit", "steps", "queries", "rounds", "threads", "seed"
    settings = [str(getattr(given, name)) for name in names]
    lines = given.log.read_text(encoding="utf-8").splitlines() if given.log and given.log.exists() else []
    done = {tuple(record["what"]): record["row"] for record in map(json.loads, lines)}
    print(machine())
    print(f"{given.network}, random weights, {given.limit} images, all kept to the end")
    print(f"median of {given.rounds} rounds, its 95 % bootstrap interval, and the extremes")
    rows = []
    for precision in given.precisions.split(","):
        sizes: BatchSizes | None = None
        for form, name in itertools.product(forms, bench.attacks):
            if form == "folded" and precision != "float32":
                continue  # passes in reduced precision are the model's own
            what = (*settings, precision, form, name)
            if what not in done:
                sizes = sizes or bench.sizes(precision)
                done[what] = bench.row(name, form, precision, sizes)
                if given.log:
                    with given.log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"what": what, "row": done[what]}) + "\n")
            rows.append({"precision": precision, "model": form, "attack": name} | done[what])
    print(table([list(rows[0]), *([str(value) for value in row.values()] for row in rows)]))


if __name__ == "__main__":
    main()
