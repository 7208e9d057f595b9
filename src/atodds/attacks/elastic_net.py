"""EAD: sparse fooling images, by accelerated shrinkage under an elastic net of l1 and squared l2 distance.

Chen, Sharma, Zhang, Yi, Hsieh, "EAD: elastic-net attacks to deep neural networks via adversarial examples", AAAI 2018,
section 4, with the settings of Su et al., "Is robustness the cost of accuracy?", ECCV 2018.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from atodds import norms
from atodds.attacks.constants import Rules, above_zero, in_norm, search
from atodds.attacks.leaving import without
from atodds.attacks.pool import Balls, opened
from atodds.errors import UnknownNameError
from atodds.oracle import Oracle
from atodds.threat import Threat

Rule = Literal["l1", "elastic-net"]


def elastic_net(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls | str = "l1",
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - every attack takes one; this one draws nothing
    steps: int = 1000,
    searches: int = 9,
    rule: Rule = "l1",
    beta: float = 1e-3,
    confidence: float = 0.0,
    lr: float = 0.01,
    initial: float = 0.01,
    stop: bool = True,
    refine: int = 10,
) -> Tensor:
    """EAD: the closest fooling image in l1 by shrinkage, at one constant after another between distance and miss.

    At most steps·searches + 2·refine + 10 gradients, and one more forward pass, an image.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: "l1", to find the closest fooling image at any distance; or a threat or balls in l1, and then an image
            leaves as soon as a fooling image within eps is found.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: not used.
        steps: gradients an image and constant, at most.
        searches: constants: ten times as large until one succeeds, then halfway between failure and success.
        rule: what makes one fooling image closer than another: its l1 distance, or beta·l1 + l2².
        beta: weight of l1 in the elastic net: every value is shrunk by so much in each step.
        confidence: by how much the wrong logit must exceed all others (kappa); above 0, for images that are to fool
            other models too.
        lr: of the first step; it falls with the root of the steps that are left.
        initial: the first constant.
        stop: go on to the next constant when the loss has stopped falling; False makes every step.
        refine: steps at the end from what was found onto the linearised boundary, and onto that of a class which looks
            nearer; 0 leaves it as it is.

    Returns:
        (N, C, H, W) images in the box, and in the ball where there is one: the closest that fools by `confidence`. The
        image itself where none did.

    Raises:
        ArgumentError: bad images, labels, targets or settings; a threat in another norm.
        UnknownNameError: no such rule.
    """
    rules = Rules(steps, searches, initial, confidence, stop, refine, _PATIENCE)
    above_zero(lr=lr, beta=beta)
    if rule not in get_args(Rule):
        raise UnknownNameError.among("rule", rule, get_args(Rule))
    with opened(model, images, labels, threat, targets, ids) as pool:
        in_norm(pool, "l1", "EAD")
        search(pool, partial(_Shrinkage.at, rule=rule, beta=beta, lr=lr, steps=steps), rules)
        return pool.settled(images)


_PATIENCE = 8
"""With momentum, a loss swings before it falls on."""


@dataclass
class _Shrinkage:
    """FISTA's state. All (n, D), one row an image, written in place.

    Attributes:
        rule, beta, lr, steps: as in `elastic_net`.
        origins: the images.
        last: the last shrunk point, less the image.
        delta: the point that the next step starts from, less the image: beyond the last one, by the momentum.
        points: that point.
    """

    rule: Rule
    beta: float
    lr: float
    steps: int
    origins: Tensor
    last: Tensor
    delta: Tensor
    points: Tensor

    @classmethod
    def at(cls, images: Tensor, rule: Rule, beta: float, lr: float, steps: int) -> "_Shrinkage":
        """The state at the images."""
        last, delta = torch.zeros_like(images), torch.zeros_like(images)
        return cls(rule, beta, lr, steps, images, last, delta, images.clone())

    def distances(self) -> tuple[Tensor, Tensor]:
        """The elastic net, and what the rule says."""
        size = torch.linalg.vector_norm(self.delta, 1, dim=1)
        square: Tensor = torch.linalg.vecdot(self.delta, self.delta)
        net = square.add_(size, alpha=self.beta)
        return net, size if self.rule == "l1" else net

    def advance(self, slopes: Tensor, constants: Tensor, step: Tensor) -> None:
        """Down the squared distance and the miss, towards the image by beta, into the box, and on by the momentum."""
        number = step.to(slopes.dtype)
        rate = (1 - number / self.steps).sqrt_().mul_(self.lr)
        keep, weight, momentum = 1 - 2 * rate, rate * constants, number / (number + 3)
        for part in norms.blocks(slopes):
            origin, delta, last, moved = self.origins[part], self.delta[part], self.last[part], slopes[part]
            moved.mul_(weight[part]).addcmul_(delta, keep[part])
            moved = functional.softshrink(moved, self.beta).add_(origin).clamp_(0, 1).sub_(origin)
            torch.lerp(moved, last, -momentum[part], out=delta)
            last.copy_(moved)
            torch.add(origin, delta, out=self.points[part]).clamp_(0, 1)
            torch.sub(self.points[part], origin, out=delta)

    def restart(self, where: Tensor) -> None:
        """Forget the momentum too."""
        at = where.nonzero()[:, 0]
        self.last.index_fill_(0, at, 0)
        self.delta.index_fill_(0, at, 0)
        self.points.index_copy_(0, at, self.origins.index_select(0, at))

    def drop(self, gone: Tensor) -> None:
        """Forget images."""
        self.origins, self.last, self.delta, self.points = without(
            gone, self.origins, self.last, self.delta, self.points
        )
