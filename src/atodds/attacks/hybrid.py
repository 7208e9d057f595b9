"""Auto-PGD and Square in turn, each from where the other has come.

Where gradients mislead, Auto-PGD comes to rest early; Square, which asks for no gradient, leaves that place within a
few windows, and then gradients lead on from there. So a few hundred passes find what Square alone takes thousands for.
The two are those of Croce & Hein (ICML 2020) and of Andriushchenko et al. (ECCV 2020); that they take turns is this
project's own.
"""

from torch import Tensor, nn

from atodds.attacks import losses
from atodds.attacks.auto_pgd import climb, nowhere
from atodds.attacks.pool import Balls, opened, positive
from atodds.attacks.square import halvings, search
from atodds.errors import ArgumentError
from atodds.oracle import Oracle
from atodds.threat import Threat


def hybrid(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls,
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    rounds: int = 4,
    steps: int = 20,
    queries: int = 80,
    p_init: float = 0.05,
) -> Tensor:
    """Auto-PGD and Square in turn, on the margin, each from the best point so far; the first round begins at random.

    At most `steps` gradients an image and round, and `queries` + 2 more forward passes, in l1 two more. An image leaves
    as soon as it is fooled.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1]. (N, D) is taken for one row of D pixels, (N, C, L) for a row with C channels.
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: decides start and windows, with each image's id.
        rounds: how often the two take turns.
        steps: gradients of Auto-PGD in a round, at most.
        queries: windows of Square in a round, at most.
        p_init: the share of the image that the first windows of a round cover; it is halved after 10 and 50 queries, as
            in `square`.

    Returns:
        (N, C, H, W) images in ball and box: one that fools where one was found, else the one that comes closest to it.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    positive(rounds=rounds, steps=steps, queries=queries)
    if not 0 < p_init <= 1:
        raise ArgumentError("p_init", p_init, "not a share of an image", "Give a number above 0, and 1 at most.")
    with opened(model, images, labels, threat, targets, ids) as pool:
        margin, reached = losses.objective("margin", pool.labels, pool.targets), nowhere(pool)
        shares = [p_init / 2 ** halvings(query) for query in range(queries)]
        for turn in range(rounds):
            climb(pool, margin, reached, steps, seed=seed, draw=turn, onward=turn > 0)
            search(pool, margin, shares, seed=seed, draw=turn, reached=reached)
        return pool.settled(images)
