"""C&W in l2: gradient descent on the distance and the miss together, in a space where every point is an image.

Carlini & Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017, sections V and VI, with the
settings of Su et al., "Is robustness the cost of accuracy?", ECCV 2018. An image is x = (1 + tanh(w)) / 2, and Adam
(Kingma & Ba, 2015) goes down |x - image|² + c·max(0, confidence - margin(x)) in w.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks.constants import Rules, above_zero, in_norm, search
from atodds.attacks.leaving import without
from atodds.attacks.pool import Balls, opened
from atodds.oracle import Oracle
from atodds.threat import Threat


def carlini_wagner(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls | str = "l2",
    *,
    targets: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - every attack takes one; this one draws nothing
    steps: int = 1000,
    searches: int = 9,
    confidence: float = 0.0,
    lr: float = 0.01,
    initial: float = 0.01,
    stop: bool = True,
    refine: int = 10,
) -> Tensor:
    """C&W in l2: the closest fooling image by Adam, at one constant after another between distance and miss.

    At most steps·searches + 2·refine + 10 gradients, and one more forward pass, an image.

    Args:
        model: images in [0, 1] -> logits, or an oracle.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) integers.
        threat: "l2", to find the closest fooling image at any distance; or a threat or balls in l2, and then an image
            leaves as soon as a fooling image within eps is found.
        targets: (N,) classes to reach, or None to leave the label.
        ids: (N,) stable ids; positions if None.
        seed: not used.
        steps: gradients an image and constant, at most.
        searches: constants: ten times as large until one succeeds, then halfway between failure and success.
        confidence: by how much the wrong logit must exceed all others (kappa); above 0, for images that are to fool
            other models too.
        lr: Adam's.
        initial: the first constant.
        stop: go on to the next constant when the loss has stopped falling; False makes every step.
        refine: steps at the end from what was found onto the linearised boundary, and onto that of a class which looks
            nearer; 0 leaves it as it is.

    Returns:
        (N, C, H, W) images in the box, and in the ball where there is one: the closest that fools by `confidence`. The
        image itself where none did.

    Raises:
        ArgumentError: bad images, labels, targets or settings; a threat in another norm.
    """
    rules = Rules(steps, searches, initial, confidence, stop, refine)
    above_zero(lr=lr)
    with opened(model, images, labels, threat, targets, ids) as pool:
        in_norm(pool, "l2", "C&W")
        search(pool, partial(_Tanh.at, lr=lr), rules)
        return pool.settled(images)


_FIRST, _SECOND = 0.9, 0.999
"""Adam's decay of the means of gradients and squared gradients."""
_LEAST = 1e-8 / 4
"""Adam's epsilon, for gradients that are kept as a quarter of what they are."""
_EDGE = 1e-6
"""Images are drawn so much towards grey: where x is 0 or 1, w would be infinite."""


@dataclass
class _Tanh:
    """Adam's state in the space of 2w, where x is the sigmoid. All (n, D), one row an image, written in place.

    Attributes:
        lr: of Adam.
        origins: the images.
        place: 2w.
        first, second: running means of the gradient and its square.
        points: x.
        delta: x - image, then the gradient.
    """

    lr: float
    origins: Tensor
    place: Tensor
    first: Tensor
    second: Tensor
    points: Tensor
    delta: Tensor

    @classmethod
    def at(cls, images: Tensor, lr: float) -> "_Tanh":
        """Adam's state at the images."""
        place = _place(images)
        first, second = torch.zeros_like(place), torch.zeros_like(place)
        return cls(lr, images, place, first, second, place.sigmoid(), torch.empty_like(place))

    def distances(self) -> tuple[Tensor, Tensor]:
        """The squared distance, twice."""
        torch.sub(self.points, self.origins, out=self.delta)
        square: Tensor = torch.linalg.vecdot(self.delta, self.delta)
        return square, square.sqrt()

    def advance(self, slopes: Tensor, constants: Tensor, step: Tensor) -> None:
        """A step of Adam, at a rate that corrects for means that began at 0."""
        weights, number = constants / -2, step.double() + 1
        rates = (1 - _SECOND**number).sqrt() / (1 - _FIRST**number)
        rates = rates.mul_(-2 * self.lr).to(slopes.dtype)
        for part in norms.blocks(slopes):
            x, gradient, spare = self.points[part], self.delta[part], slopes[part]
            gradient.addcmul_(spare, weights[part])
            gradient.mul_(torch.addcmul(x, x, x, value=-1, out=spare))  # x·(1 - x), half of dx/dw
            self.first[part].lerp_(gradient, 1 - _FIRST)
            square = self.second[part].mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            torch.div(self.first[part], torch.sqrt(square, out=spare).add_(_LEAST), out=spare)
            torch.sigmoid(self.place[part].addcmul_(spare, rates[part]), out=x)

    def restart(self, where: Tensor) -> None:
        """Forget Adam's state too."""
        at = where.nonzero()[:, 0]
        place = _place(self.origins.index_select(0, at))
        self.place.index_copy_(0, at, place)
        self.points.index_copy_(0, at, place.sigmoid_())
        self.first.index_fill_(0, at, 0)
        self.second.index_fill_(0, at, 0)

    def drop(self, gone: Tensor) -> None:
        """Forget images."""
        self.origins, self.place, self.first, self.second, self.points, self.delta = without(
            gone, self.origins, self.place, self.first, self.second, self.points, self.delta
        )


def _place(images: Tensor) -> Tensor:
    return torch.logit((images - 0.5).mul_(1 - _EDGE).add_(0.5))
