"""Several attacks in turn, each on the images that none before it has fooled: the worst case over all of them.

The presets "standard", "plus" and "rand" are those of AutoAttack: Croce & Hein, "Reliable evaluation of adversarial
robustness with an ensemble of diverse parameter-free attacks", ICML 2020; in l1, Croce & Hein, "Mind the box: l1-APGD
for sparse adversarial attacks on image classifiers", ICML 2021.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from atodds.attacks import registry
from atodds.attacks.pool import Balls, opened
from atodds.attacks.targets import target_classes
from atodds.oracle import Oracle
from atodds.threat import Threat


def ensemble(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    attacks: str | Sequence[str] = "standard",
    ids: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """The attacks of a preset or a list in turn; an image leaves as soon as it is fooled, whatever class that is.

    To decide many eps at once, and to keep what was found, use `atodds.evaluate`.

    Args:
        model: images in [0, 1] -> logits, or an oracle; for the preset "rand", one with `eot=20`.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each.
        attacks: a preset or attacks by name, as for `atodds.evaluate`.
        ids: (N,) stable ids; positions if None.
        seed: decides all draws, with each image's id.

    Returns:
        (N, C, H, W) images in ball and box: one that fools where one was found, else what the last attack proposes.

    Raises:
        ArgumentError: bad images, labels or attacks.
        UnknownNameError: no such attack.
    """
    oracle = Oracle.of(model, folded=True)
    with opened(oracle, images, labels, threat, None, ids) as pool:
        classes = pool.wrong_classes().shape[1] + 1
        for spec in registry.parse(attacks, pool.norm, classes):
            rows = pool.left()
            if len(rows) == 0:
                break
            some, names = pool.images[rows], pool.ids[rows]
            labels, balls, targets = pool.labels[rows], Balls(pool.norm, pool.eps[rows]), None
            if spec.target:
                targets = target_classes(oracle.logits(some, names), labels, spec.target, ids=names, seed=seed)
            points = spec.run(oracle, some, labels, balls, targets=targets, ids=names, seed=seed)
            hit = pool.fooled(oracle.logits(points, names), rows, points)
            pool.keep(rows, points, fooled=False)
            pool.found[rows[hit]] = True
        return pool.settled(images)
