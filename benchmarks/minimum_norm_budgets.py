"""How close minimum_norm comes with how many gradients: mean distances over budgets and seeds, and the passes taken.

    python benchmarks/minimum_norm_budgets.py --model FILE.py:FACTORY --data cifar10 --root FOLDER --norms l2,linf,l1

The images are the correctly classified among the first `--limit`. What is proposed is judged by a copy of the model
that the attack has not seen, in one batch; an image that it does not misclassify counts as a failure, and not in the
mean.
"""

import copy
import json
import time

import torch

import atodds.data
from atodds import norms
from atodds.attacks import minimum_norm
from atodds.oracle import Oracle
from side_by_side import Counting, factory, machine, options, table


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__ or "", limit=100, rounds=1)
    parser.add_argument("--data", required=True, help="name of a data set")
    parser.add_argument("--root", required=True, help="where it lies")
    parser.add_argument("--skip", type=int, default=0, help="images to leave out at the beginning")
    parser.add_argument("--norms", default="l2,linf,l1")
    parser.add_argument("--budgets", default="30,60,200,300,500,1000", help="gradients an image")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    judge = factory(chosen.model)
    every = atodds.data.load(chosen.data, root=chosen.root, limit=chosen.skip + chosen.limit, how="first")
    images, labels = every.images()[chosen.skip :], torch.from_numpy(every.labels)[chosen.skip :].long()
    with torch.no_grad():
        right = judge(images).argmax(1) == labels
    images, labels, ids = images[right], labels[right], right.nonzero()[:, 0] + chosen.skip
    print(f"{chosen.model.rpartition(':')[2]}, n = {len(images)}; {machine()}")
    rows = [["norm", "gradients", "mean by seed", "median", "failures", "passes an image", "seconds"]]
    for norm in chosen.norms.split(","):
        for budget in map(int, chosen.budgets.split(",")):
            means, failures, seconds = [], 0, 0.0
            for seed in range(chosen.seed, chosen.seed + chosen.seeds):
                model = Counting(judge)
                start = time.process_time()
                found = minimum_norm(
                    Oracle(model, batch_size=256), images, labels, norm, ids=ids, seed=seed, gradients=budget
                )
                seconds += time.process_time() - start
                with torch.no_grad():
                    fooled = copy.deepcopy(judge)(found).argmax(1) != labels
                away = norms.distance(found.double(), images.double(), norm)[fooled]
                means.append(float(away.mean()))
                failures += int((~fooled).sum())
            rows.append(
                [norm, str(budget), " ".join(f"{mean:.5f}" for mean in means), f"{float(away.median()):.4f}",
                 str(failures), model.passes(len(images)), f"{seconds / chosen.seeds:.1f}"]
            )  # fmt: skip
            print(json.dumps(dict(zip(rows[0], rows[-1], strict=True))), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
