"""What the oracle costs on top of the passes it makes: its calls against bare loops at the same batch size.

    python benchmarks/oracle_overhead.py --model FILE.py:FACTORY --batches 16,64,256
    python benchmarks/oracle_overhead.py --model FILE.py:FACTORY --batches 16,64,256 --folded

Ratios above 1 are the oracle's overhead; with --folded, where the model's folded form answers, below 1 what that saves.
Data: uniform random images; the time of a pass does not depend on pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atodds.oracle import Oracle
from side_by_side import Spread, factory, interleaved, machine, options, table


def bare_gradients(model: nn.Module, images: Tensor, labels: Tensor, batch: int) -> Tensor:
    """The least that a gradient of the cross-entropy takes: cut, forward, backward, join."""
    parts: list[Tensor] = []
    for start in range(0, len(images), batch):
        leaf = images[start : start + batch].clone().requires_grad_(True)
        loss = F.cross_entropy(model(leaf), labels[start : start + batch], reduction="sum")
        parts += torch.autograd.grad(loss, leaf)
    return torch.cat(parts)


def bare_logits(model: nn.Module, images: Tensor, batch: int) -> Tensor:
    """The least that logits take: cut, forward, join."""
    with torch.no_grad():
        return torch.cat([model(images[start : start + batch]) for start in range(0, len(images), batch)])


def measure(
    model: nn.Module, images: Tensor, labels: Tensor, batch: int, rounds: int, *, folded: bool
) -> tuple[Spread, Spread]:
    """Ratios oracle / bare loop at one batch size: gradients, logits."""
    oracle = Oracle(model, batch_size=batch, folded=folded)
    ids = torch.arange(len(images))

    def objective(logits: Tensor, positions: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels[positions], reduction="none")

    contenders: dict[str, Callable[[int], object]] = {
        "oracle gradients": lambda _: oracle.gradients(images, objective, ids),
        "bare gradients": lambda _: bare_gradients(model, images, labels, batch),
        "oracle logits": lambda _: oracle.logits(images, ids),
        "bare logits": lambda _: bare_logits(model, images, batch),
    }
    with oracle.running():
        ours, bare = oracle.gradients(images, objective, ids).gradient, bare_gradients(model, images, labels, batch)
        close = (ours - bare).flatten(1).norm(dim=1) <= 1e-4 * bare.flatten(1).norm(dim=1)
        if not close.double().mean() >= (0.9 if folded else 1):  # the others may lie where a rectifier begins
            raise SystemExit("The gradients differ.")
        if oracle.folded != folded:
            raise SystemExit("The model has no folded form.")
        timed = interleaved(contenders, rounds)
    return timed.ratio("oracle gradients", "bare gradients"), timed.ratio("oracle logits", "bare logits")


def main() -> None:
    """Prints one line a batch size."""
    parser = options(__doc__.splitlines()[0], limit=256, rounds=31)
    parser.add_argument("--batches", default="16,64,256", help="batch sizes, comma-separated")
    parser.add_argument("--shape", default="3,32,32", help="shape of an image")
    parser.add_argument("--folded", action="store_true", help="let the model's folded form answer")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = factory(given.model)
    shape = [int(side) for side in given.shape.split(",")]
    images = torch.rand(given.limit, *shape, generator=torch.Generator().manual_seed(given.seed))
    labels = bare_logits(model, images, 256).argmax(1)
    print(machine())
    print(f"{given.model}, {len(images)} images; seconds of the oracle over seconds of the bare loop: median over")
    print(f"{given.rounds} rounds, its 95 % bootstrap interval, and the extremes")
    sizes = [int(size) for size in given.batches.split(",")]
    rows = [["batch", "gradients", "logits"]]
    for size in sizes:
        ratios = measure(model, images, labels, size, given.rounds, folded=given.folded)
        rows.append([str(size), *map(str, ratios)])
    print(table(rows))


if __name__ == "__main__":
    main()
