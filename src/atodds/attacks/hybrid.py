"""Auto-PGD and Square in turn, each from where the other has come; and where Square is of no help, a search along the
boundary for the closest fooling image.

Where gradients mislead, Auto-PGD comes to rest early; Square, which asks for no gradient, leaves that place within a
few windows, and then gradients lead on from there. So a few hundred passes find what Square alone takes thousands for.
Where gradients lead, Square finds next to nothing after Auto-PGD, and passes are better spent on `minimum_norm`, which
goes towards several classes and does not care how large the ball is. Auto-PGD and Square are of AutoAttack (Croce &
Hein, ICML 2020; Square: Andriushchenko et al., ECCV 2020); the rest is this project's own.
"""

import torch
from torch import Tensor, nn

from atodds.attacks import losses
from atodds.attacks.auto_pgd import climb, nowhere
from atodds.attacks.minimum_norm import approach
from atodds.attacks.pool import Balls, Pool, opened, positive
from atodds.attacks.square import halvings, search
from atodds.errors import ArgumentError
from atodds.oracle import Objective, Oracle
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
    rounds: int = 6,
    restarts: int = 3,
    steps: int = 30,
    queries: int = 180,
    p_init: float = 0.05,
    worth: float = 0.04,
    near: float = 0.15,
    gradients: int = 100,
    classes: int = 9,
) -> Tensor:
    """Auto-PGD and Square in turn, on the margin, each from the best point so far, from several random starts. For an
    image that Square hardly brings closer in the very first round, the closest fooling image is looked for instead, as
    `minimum_norm` does; one that Square does not help later ends that start. An image leaves as soon as it is fooled.

    Passes an image, restart and round, at most: `steps` gradients, and `queries` + 2 more forward passes, in l1 two
    more; in the very first round a third of the `queries`. In the place of all rounds but that one, at most `gradients`
    passes forward and backward. One forward pass at the beginning.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1]. (N, D) is taken for one row of D pixels, (N, C, L) for a row with C channels.
        labels: (N,) integers.
        threat: norm and eps, the same for all images or one for each.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: decides starts and windows, with each image's id.
        rounds: how often the two take turns from a start, at most.
        restarts: random starts; later ones only for images that Square helped in the first round and that one before
            has come near to fooling.
        steps: gradients of Auto-PGD in a round, at most.
        queries: windows of Square in a round, at most; a third of them in the very first.
        p_init: the share of the image that the first windows of a round cover; it is halved after 10 and 50 queries, as
            in `square`.
        worth: the share of its margin that Square must win back in a round for an image to have another.
        near: the share of its margin at the image itself that an image may have kept where it is near to being fooled.
        gradients: the budget of the search for the closest fooling image.
        classes: how many wrong classes it looks at, the most likely ones at the image: of 10 classes, all; or the
            target.

    Returns:
        (N, C, H, W) images in ball and box: one that fools where one was found, else the one that comes closest to it.

    Raises:
        ArgumentError: bad images, labels, targets or settings.
    """
    positive(rounds=rounds, restarts=restarts, steps=steps, queries=queries, gradients=gradients, classes=classes)
    if not 0 < p_init <= 1:
        raise ArgumentError("p_init", p_init, "not a share of an image", "Give a number above 0, and 1 at most.")
    for name, share in (("worth", worth), ("near", near)):
        if not 0 <= share <= 1:
            raise ArgumentError(name, share, "not a share of the margin", "Give a number from 0 to 1.")
    with opened(model, images, labels, threat, targets, ids) as pool:
        margin, reached = losses.objective("margin", pool.labels, pool.targets), nowhere(pool)
        logits = pool.looked()
        wrong, clean = pool.wrong_classes(logits), margin(logits, torch.arange(len(logits), device=logits.device))
        shares = [p_init / 2 ** halvings(query) for query in range(queries)]
        helped = _in_turn(pool, pool.left(), margin, reached, shares, rounds, steps, worth, seed=seed, restart=0)
        led = ~pool.found
        led[helped] = False
        for restart in range(1, restarts):
            rows = helped[(~pool.found & (reached > near * clean))[helped]]
            points, height = pool.proposals[rows], reached[rows]
            reached[rows] = -torch.inf
            _in_turn(pool, rows, margin, reached, shares, rounds, steps, worth, seed=seed, restart=restart)
            worse = ~pool.found[rows] & (reached[rows] < height)
            pool.keep(rows[worse], points[worse], fooled=False)
            reached[rows] = torch.maximum(reached[rows], height)
        ranked = wrong[:, :classes] if pool.targets is None else pool.targets[:, None]
        approach(pool, (led & ~pool.found).nonzero()[:, 0], ranked, gradients, seed=seed, near=True)
        return pool.settled(images)


def first_queries(queries: int) -> int:
    """Windows in the very first round, which show whether more are worth it."""
    return max(1, queries // 3)


def _in_turn(
    pool: Pool,
    rows: Tensor,
    margin: Objective,
    reached: Tensor,
    shares: list[float],
    rounds: int,
    steps: int,
    worth: float,
    *,
    seed: int,
    restart: int,
) -> Tensor:
    """Auto-PGD and Square in turn from a random start. Gives the rows of the images that Square helped in the first
    round and that nothing has fooled."""
    helped = rows
    for turn in range(rounds):
        climb(pool, rows.clone(), margin, reached, steps, seed=seed, draw=None if turn else restart)
        rows, before = rows[~pool.found[rows]], reached.clone()
        windows = shares[: first_queries(len(shares))] if restart == turn == 0 else shares
        search(pool, rows.clone(), margin, windows, seed=seed, draw=restart * rounds + turn, reached=reached)
        rows = rows[(~pool.found & (reached - before > worth * before.abs()))[rows]]
        if turn == 0:
            helped = rows
    return helped[~pool.found[helped]]
