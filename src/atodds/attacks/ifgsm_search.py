"""The smallest eps at which I-FGSM fools, an image at a time.

Su et al., "Is robustness the cost of accuracy?", ECCV 2018, section 3: halved while I-FGSM succeeds, or doubled while
it fails, then halfway between the largest eps that failed and the smallest that succeeded.
"""

import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import losses
from atodds.attacks.constants import above_zero, in_norm
from atodds.attacks.gradient_sign import ifgsm
from atodds.attacks.pool import Balls, Pool, opened, positive
from atodds.attacks.refinement import check_refine, closer
from atodds.oracle import Oracle
from atodds.threat import Threat


def ifgsm_search(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls | str = "linf",
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - every attack takes one; this one draws nothing
    steps: int = 50,
    start: float = 0.02,
    runs: int = 9,
    loss: losses.LossName = "logit",
    stop: bool = True,
    refine: int = 10,
) -> Tensor:
    """I-FGSM at the smallest eps that fools: halved or doubled until it lies between two, then bisected.

    At most steps·runs + 2·refine + 10 gradients, and 2·runs + 1 more forward passes, an image.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: "linf", to find the closest fooling image at any distance; or a threat or balls in linf, and then no eps
            beyond theirs is tried, and an image leaves as soon as one fools.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: not used.
        steps: gradients an image and run, at most.
        start: the first eps.
        runs: of I-FGSM, each at another eps.
        loss: as in `ifgsm`.
        stop: leave a run as soon as the image is fooled: a point that fools on the way is closer than eps, and the
            search goes on below its distance. False takes every step, as the study does.
        refine: steps at the end from what was found onto the linearised boundary, and onto that of a class which looks
            nearer; 0 leaves it as it is, as the study does.

    Returns:
        (N, C, H, W) images in the box, and in the ball where there is one: the closest that fooled.
        The image itself where none did.

    Raises:
        ArgumentError: bad images, labels, targets or settings; a threat in another norm.
    """
    positive(steps=steps, runs=runs)
    above_zero(start=start)
    check_refine(refine)
    with opened(model, images, labels, threat, targets, ids) as pool:
        in_norm(pool, "linf", "I-FGSM's search")
        everyone = torch.arange(len(images), device=pool.images.device)
        pool.found |= pool.fooled(pool.oracle.logits(pool.images, pool.ids), everyone, pool.images)
        most = pool.eps.clamp_max(1)
        eps, low, high = most.clamp_max(start), torch.zeros_like(most), torch.full_like(most, torch.inf)
        rows = (~pool.found & (most > 0)).nonzero()[:, 0]
        for _ in range(runs):
            if len(rows) == 0:
                break
            tried = eps[rows]
            hit, reached = _tried(pool, rows, tried, steps=steps, loss=loss, stop=stop)
            low[rows] = torch.where(hit, low[rows], tried)
            high[rows] = torch.where(hit, reached if stop else tried, high[rows])
            eps = torch.where(high.isinf(), 2 * eps, (low + high) / 2).minimum(most)
            done = torch.where(hit, pool.eps[rows].isfinite(), high[rows].isinf() & (tried == most[rows]))
            rows = rows[~done]
        closer(pool, 0.0, refine)
        return pool.settled(images)


def _tried(
    pool: Pool, rows: Tensor, eps: Tensor, *, steps: int, loss: losses.LossName, stop: bool
) -> tuple[Tensor, Tensor]:
    """Whether I-FGSM fools the model at `eps` for the images at `rows`, and how far it went; what fools is proposed."""
    images, ids, targets = pool.images[rows], pool.ids[rows], None if pool.targets is None else pool.targets[rows]
    balls = Balls(pool.norm, eps)
    points = ifgsm(
        pool.oracle, images, pool.labels[rows], balls, targets=targets, ids=ids, steps=steps, loss=loss, stop=stop
    )
    hit = pool.fooled(pool.oracle.logits(points, ids), rows, points)
    pool.keep(rows[hit], points[hit], fooled=True)
    return hit, norms.distance(points.double(), images.double(), pool.norm)
