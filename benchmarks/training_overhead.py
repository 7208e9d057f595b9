"""What training costs here beside the least that it can: a bare PyTorch loop over the same network and batches; and
adversarial training beside the same loop with torchattacks' PGD.

    python benchmarks/training_overhead.py --steps 24 --attack-steps 7

Ratios below 1 mean that this package is faster. Every contender trains a copy of its own, a batch at a time in turn, in
an order that rotates, and the processor time of each batch is compared with that of the same turn: so that what else
happens on a machine slows all alike. Data: uniform random images; the time of a step does not depend on pixels.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
import torchattacks
from torch.nn import functional as F

from atodds.data import ImageSet
from atodds.models import Classifier, build
from atodds.models.plain import Shape
from atodds.training.device import fabric
from atodds.training.feed import Feed
from atodds.training.fitting import Fitting, Tally
from atodds.training.recipe import Precision, Recipe
from side_by_side import Spread, machine, spread, table

EPS = 8 / 255
NETWORKS: Mapping[str, tuple[str, dict[str, int], Shape, Precision]] = {
    "mlp, MNIST": ("mlp", {}, (1, 28, 28), "float32"),
    "cnn4, MNIST": ("cnn4", {}, (1, 28, 28), "float32"),
    "resnet8 width 8, MNIST, bfloat16": ("resnet8", {"width": 8}, (1, 28, 28), "bfloat16"),
    "resnet20, CIFAR-10": ("resnet20", {}, (3, 32, 32), "float32"),
    "resnet20, CIFAR-10, bfloat16": ("resnet20", {}, (3, 32, 32), "bfloat16"),
}

Seconds: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"
Steps = Iterator[object]
"""A training that goes on by one batch whenever it is asked for the next."""


def ours(made: Callable[[], Classifier], images: ImageSet, recipe: Recipe) -> Steps:
    """This package's loop, with the sums that its progress shows."""
    fitting, feed = Fitting.of(made(), recipe, fabric("cpu", recipe.precision)), Feed.of(images)
    for epoch in range(recipe.epochs):
        tally = Tally.empty(torch.device("cpu"))
        for lowered in fitting.epoch(feed, epoch):
            tally.add(lowered)
            yield lowered


def bare(made: Callable[[], Classifier], images: ImageSet, recipe: Recipe, *, channels_last: bool) -> Steps:
    """The least that training takes: a batch, its loss, its gradient, a step. With an eps, on torchattacks' PGD."""
    model = made().train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    pixels, labels = torch.from_numpy(images.pixels()), torch.tensor(images.labels)
    inner = recipe.inner()
    attack = None
    if inner is not None:
        attack = torchattacks.PGD(model, eps=EPS, alpha=inner.step_size, steps=inner.steps, random_start=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(recipe.batch_size):
            given = pixels[rows].float() / 255
            with torch.autocast("cpu", torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext():
                if attack is not None:
                    given = attack(given, labels[rows])
                loss = F.cross_entropy(model(given), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss


def taking_turns(contenders: Mapping[str, Steps], steps: int, warm: int = 3) -> dict[str, Seconds]:
    """Processor seconds of every contender for every batch after the first few."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warm, steps):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.process_time()
            next(contenders[name])
            if turn >= 0:
                seconds[name].append(time.process_time() - start)
    return {name: np.asarray(values) for name, values in seconds.items()}


def measure(title: str, recipe: Recipe, steps: int) -> list[str]:
    """A row: the bare loop's milliseconds a batch, and ours over it, as it is and with channels last."""
    name, settings, shape, precision = NETWORKS[title]
    draws = np.random.default_rng(0)
    count = recipe.batch_size * 4
    pixels = draws.integers(0, 256, (count, *shape), dtype=np.uint8)
    images = ImageSet.from_arrays(pixels, np.arange(count) % 10, name="random")
    given = replace(recipe, precision=precision)

    def made() -> Classifier:
        return Classifier(build(name, shape, 10, settings=settings), mean=0.5, std=0.25)

    found = taking_turns(
        {
            "ours": ours(made, images, given),
            "bare": bare(made, images, given, channels_last=False),
            "channels last": bare(made, images, given, channels_last=True),
        },
        steps,
    )
    ratios: list[Spread] = [spread(found["ours"] / found[other]) for other in ("bare", "channels last")]
    return [title, f"{1000 * float(np.median(found['bare'])):.1f}", *map(str, ratios)]


def main() -> None:
    """Prints two tables: standard training, and adversarial training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="timed batches of each contender")
    parser.add_argument("--attack-steps", type=int, default=7, help="steps of PGD")
    parser.add_argument("--batch-size", type=int, default=128, help="images a batch")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    usual = Recipe(epochs=1000, batch_size=given.batch_size, lr=0.01)
    robust = Recipe(
        "adversarial", epochs=1000, batch_size=given.batch_size, lr=0.01, eps=EPS, attack_steps=given.attack_steps
    )
    for words, recipe in (
        ("Standard training: this package over a bare loop", usual),
        (f"Adversarial training, {given.attack_steps} steps: over a bare loop with torchattacks' PGD", robust),
    ):
        print(f"\n{words}, processor seconds of the same turn:")
        print(f"median over {given.steps} batches of {given.batch_size} images, its 95 % bootstrap interval, extremes")
        rows = [measure(title, recipe, given.steps) for title in NETWORKS]
        print(table([["network", "bare, ms", "ours / bare", "ours / bare with channels last"], *rows]), flush=True)


if __name__ == "__main__":
    main()
