"""Two classifiers as one: their probabilities mixed, or their weights interpolated.

With probabilities p of the first and q of the second, and a share alpha for the second, a mixture answers with
log((1 - alpha) p + alpha q) (Bai, Anderson, Kim, Sojoudi: "Improving the accuracy-robustness trade-off of classifiers
via adaptive smoothing", 2023, equation 3.4). It is a module like any other, so attacks see it as a whole: gradients
flow through both classifiers, and through the network that chooses alpha where there is one.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atodds.errors import ArgumentError, ModelError, ThreatError
from atodds.models.classifier import Classifier, name_of
from atodds.models.fingerprint import fingerprint
from atodds.models.log_mixture import log_mixed, log_shares
from atodds.models.sources import load
from atodds.threat import parse_eps_list

OUTPUTS, WEIGHTS = "mix", "mix-weights"
"""What the names of mixtures and of interpolated networks begin with."""


class Mixture(nn.Module):
    """The log of the mixed probabilities of two classifiers of the same classes.

    Where alpha is 0 or 1 the answer is the logits of the one classifier, scaled, and the other one is not asked.

    Args:
        first, second: images (N, C, H, W) in [0, 1] -> logits (N, K), each with its own normalisation.
        alpha: the share of the second, from 0 to 1; or a network, images -> a number each, (N,) or (N, 1), whose
            sigmoid says where in `span` the share of an image lies.
        first_scale, second_scale: what the logits of each are multiplied by before their softmax.
        span: the least and the largest share that a network may choose.

    Raises:
        ArgumentError: a share, scale or span out of its range.
        ModelError: from `forward`, classifiers with other numbers of classes, or a network that does not give one
            number an image.
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        alpha: float | nn.Module,
        *,
        first_scale: float = 1.0,
        second_scale: float = 1.0,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        for argument, scale in (("first_scale", first_scale), ("second_scale", second_scale)):
            if not (math.isfinite(scale) and scale > 0):
                raise ArgumentError(argument, scale, "not a positive number", "Give 1 to take the logits as they are.")
        low, high = span
        if not 0 <= low < high <= 1:
            raise ArgumentError("span", span, "not a range of shares", "Give two shares, such as (0.96, 1.0).")
        self.first, self.second = first, second
        self.alpha = alpha if isinstance(alpha, nn.Module) else _share(alpha)
        self.first_scale, self.second_scale = float(first_scale), float(second_scale)
        self.span = (float(low), float(high))
        self.training = first.training or second.training

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> logits (N, K)."""
        if self.alpha == 0:
            return self._scaled(self.first, images, self.first_scale)
        if self.alpha == 1:
            return self._scaled(self.second, images, self.second_scale)
        first = self._scaled(self.first, images, self.first_scale)
        second = self._scaled(self.second, images, self.second_scale)
        if first.shape != second.shape:
            raise ModelError(
                f"One classifier of the mixture gives {tuple(first.shape)} logits, the other {tuple(second.shape)}. "
                "Mix classifiers of the same classes."
            )
        if isinstance(self.alpha, nn.Module):
            chosen: Tensor = self.alpha(images)
            if chosen.numel() != len(images):
                problem = f"gives numbers of shape {tuple(chosen.shape)} for {len(images)} images"
                raise ModelError(f"The network that chooses alpha {problem}. Let it return one number an image.")
            return log_mixed(first, second, *log_shares(chosen.reshape(-1, 1), self.span))
        return log_mixed(first, second, math.log1p(-self.alpha), math.log(self.alpha))

    @staticmethod
    def _scaled(classifier: nn.Module, images: Tensor, scale: float) -> Tensor:
        logits: Tensor = classifier(images)
        return logits if scale == 1 else logits * scale


class MixingNetwork(nn.Module):
    """A small network that chooses alpha by the image: two convolutions of stride 2, the mean of the maps, one number.

    It begins by choosing the middle of the span for every image. Train it with the classifiers frozen.

    Args:
        channels: of the images.
        width: channels of the first convolution; the second has twice as many.
    """

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 2, 1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.head = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> (N, 1)."""
        number: Tensor = self.head(self.conv2(self.conv1(images).relu()).relu().mean((2, 3)))
        return number


def mixture(
    first: nn.Module | str,
    second: nn.Module | str,
    alpha: float | nn.Module,
    *,
    first_scale: float = 1.0,
    second_scale: float = 1.0,
    span: tuple[float, float] = (0.0, 1.0),
    name: str | None = None,
) -> Classifier:
    """Two classifiers as one, called mix(FIRST,SECOND,ALPHA): see `Mixture`, whose arguments and errors it has.

    The classifiers are taken as they are, not copied, so many mixtures of the same two need no more memory than one.

    Args:
        first, second: classifiers, or text for `load`.
        name: another name for it.
    """
    pair = _brought(first), _brought(second)
    mixed = Mixture(*pair, alpha, first_scale=first_scale, second_scale=second_scale, span=span)
    return _named(OUTPUTS, pair, mixed, mixed.alpha if isinstance(mixed.alpha, float) else None, name)


def interpolate(
    first: nn.Module | str, second: nn.Module | str, alpha: float, *, name: str | None = None
) -> Classifier:
    """A network with the weights (1 - alpha) a + alpha b, for two networks that differ in their weights only, such as
    one that was fine-tuned in two ways. Called mix-weights(FIRST,SECOND,ALPHA); alpha 0 is the first, 1 the second.

    Every floating-point entry of the state dict is interpolated, the running statistics of a batch norm among them:
    they are not measured again, and where the two networks have little in common they fit neither the weights nor the
    images, and accuracy falls to chance. Whole numbers, such as counts of batches, are the first network's.

    Args:
        first, second: two networks of one architecture with the same settings and normalisation, or text for `load`.
        alpha: the share of the second, from 0 to 1.
        name: another name for it.

    Raises:
        ArgumentError: a share out of its range.
        ModelError: two architectures, or the same one with other settings or another normalisation.
    """
    pair = _brought(first), _brought(second)
    share = _share(alpha)
    if _without_weights(pair[0]) != _without_weights(pair[1]):
        raise ModelError(_difference(*pair))
    state, other = pair[0].state_dict(), pair[1].state_dict()
    between = copy.deepcopy(pair[0])
    between.load_state_dict({key: _between(held, other[key], share) for key, held in state.items()})
    return _named(WEIGHTS, pair, between, share, name)


def sweep(first: nn.Module, second: nn.Module, alphas: Sequence[float], *, by: str = "outputs") -> list[nn.Module]:
    """The mixtures of two classifiers at several shares, in their order, with the classifiers themselves at the ends:
    the first where alpha is 0, the second where it is 1, both of them always.

    Args:
        first, second: the ends.
        alphas: shares of the second, from 0 to 1.
        by: "outputs" mixes probabilities, "weights" interpolates weights.

    Raises:
        ArgumentError, ModelError: as for `mixture` and `interpolate`.
    """
    inner = [alpha for alpha in sorted(set(map(_share, alphas))) if 0 < alpha < 1]
    make = {"outputs": mixture, "weights": interpolate}.get(by)
    if make is None:
        raise ArgumentError("by", by, "not a way to mix", "Choose outputs or weights.")
    return [first, *(make(first, second, alpha) for alpha in inner), second]


def parse_alphas(text: str) -> tuple[float, ...]:
    """Shares written like budgets: "0.5", "0.2,0.4", "0:1:0.1".

    Raises:
        ArgumentError: anything else, or a share that is not from 0 to 1.
    """
    try:
        return tuple(share.value for share in parse_eps_list(text, "linf", "alphas"))
    except ThreatError:
        way_out = "Write 0.5, a list 0.2,0.4, or a range start:stop:step, such as 0:1:0.1."
        raise ArgumentError("alphas", text, "not shares from 0 to 1", way_out) from None


def is_loaded(classifier: Classifier) -> bool:
    """Whether a classifier came from what its source names, so that `load` gives it again; one that was made here of
    two others did not."""
    return bool(classifier.source) and not classifier.source.startswith((f"{OUTPUTS}(", f"{WEIGHTS}("))


def _share(alpha: float) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
        raise ArgumentError("alpha", alpha, "not a share from 0 to 1", "0 is the first classifier, 1 the second.")
    return float(alpha)


def _brought(classifier: object) -> nn.Module:
    if isinstance(classifier, str):
        return load(classifier)
    if not isinstance(classifier, nn.Module):
        way_out = "Give a torch.nn.Module, or text to load."
        raise ArgumentError("first, second", type(classifier).__name__, "not a classifier", way_out)
    return classifier


def _named(
    kind: str, pair: tuple[nn.Module, nn.Module], made: nn.Module, alpha: float | None, name: str | None
) -> Classifier:
    """A mixture with its name, and with what it was made from in the place of a source."""
    share = "network" if alpha is None else f"{alpha:.6g}"
    names = [name_of(each) for each in pair]
    known = [f"{each}@{fingerprint(module)[:8]}" for each, module in zip(names, pair, strict=True)]
    title = f"{kind}({names[0]},{names[1]},{share})"
    network, mean, std = made, None, None
    if isinstance(made, Classifier):
        network, mean, std = made.network, made.mean, made.std
    source = f"{kind}({known[0]},{known[1]},{share})"
    return Classifier(network, mean=mean, std=std, name=title if name is None else name, source=source)


def _between(first: Tensor, second: Tensor, alpha: float) -> Tensor:
    """Exactly the first at 0 and the second at 1; whole numbers are the first's."""
    if alpha == 0 or not first.is_floating_point():
        return first
    return second.to(first.device) if alpha == 1 else torch.lerp(first, second.to(first.device), alpha)


def _without_weights(model: nn.Module) -> str:
    """What a model is beside its weights: the fingerprint of a copy whose state dict is 0."""
    bare = copy.deepcopy(model)
    with torch.no_grad():
        for held in bare.state_dict().values():
            held.zero_()
    return fingerprint(bare)


def _difference(first: nn.Module, second: nn.Module) -> str:
    """Why two models cannot be interpolated."""
    mine = {key: tuple(held.shape) for key, held in first.state_dict().items()}
    theirs = {key: tuple(held.shape) for key, held in second.state_dict().items()}
    names = f"{name_of(first)} and {name_of(second)}"
    other = [key for key in (*mine, *theirs) if mine.get(key) != theirs.get(key)]
    told = f"their weights differ in name or shape, {other[0]} for one" if other else "their settings or layers differ"
    return (
        f"{names} are not one architecture with two sets of weights: {told}. Interpolate networks that were trained "
        "from the same code, settings and normalisation; mix the outputs of any others with mixture()."
    )
