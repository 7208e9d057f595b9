"""What every attack begins and ends with: checked arguments on the model's device, proposals inside ball and box."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import losses
from atodds.errors import ArgumentError, EmptyDataError
from atodds.oracle import Oracle
from atodds.threat import Norm, Threat, parse_norm


@dataclass(frozen=True)
class Balls:
    """A ball of its own for each image, where a `Threat` is the same for all.

    Attributes:
        norm: of the balls.
        eps: (N,) radii; infinite where only the box limits.
    """

    norm: Norm
    eps: Tensor

    @classmethod
    def of(cls, threat: "Threat | Balls | str", count: int) -> "Balls":
        """The balls of `count` images; the name of a norm stands for no limit.

        Raises:
            ArgumentError: another number of balls, or radii that are negative or no numbers.
            ThreatError: no such norm.
        """
        if isinstance(threat, Threat):
            return cls(threat.norm, torch.full((count,), threat.eps, dtype=torch.float64))
        if not isinstance(threat, Balls):
            return cls(parse_norm(threat, "threat"), torch.full((count,), torch.inf, dtype=torch.float64))
        if threat.eps.shape != (count,):
            problem = f"radii of shape {tuple(threat.eps.shape)} for {count} images"
            raise ArgumentError("threat", "Balls", problem, f"Give eps of shape ({count},).")
        if not bool((threat.eps >= 0).all()):
            raise ArgumentError("threat", float(threat.eps.min()), "not a radius", "Give radii of 0 or more.")
        return threat


@dataclass
class Pool:
    """The images that an attack works on, and its best proposal for each so far.

    Attributes:
        images: (N, C, H, W), on the model's device, float32 or float64.
        labels: (N,) int64.
        targets: (N,) int64, or None for an untargeted attack.
        ids: (N,) int64.
        norm, eps: of each image's ball; eps is (N,) float64.
        proposals: (N, C, H, W); starts as the images themselves.
        found: (N,) bool, whether the proposal fooled the model when the attack saw it.
        highest: the highest class among labels and targets, and which of them it comes from.
    """

    oracle: Oracle
    images: Tensor
    labels: Tensor
    targets: Tensor | None
    ids: Tensor
    norm: Norm
    eps: Tensor
    proposals: Tensor
    found: Tensor
    highest: tuple[int, str]

    def keep(self, rows: Tensor, points: Tensor, *, fooled: bool) -> None:
        """Take the points as proposals for the images at `rows`."""
        self.proposals.index_copy_(0, rows, points)
        if fooled:
            self.found[rows] = True

    def fooled(self, logits: Tensor, rows: Tensor, points: Tensor, *, exact: bool = True) -> Tensor:
        """(M,) whether these logits, of the points for the images at `rows`, are what the attack wants: the target, or
        any answer but the label, and outputs that are no numbers are none.

        Where the attack runs in reduced precision, or the logits are not `exact`, those that seem to fool are shown to
        the model in its own too: an image that leaves for an error of rounding would count as robust. Where its folded
        form answers, those are shown to it whose lead rounding could explain.

        Raises:
            ArgumentError: a label or target that the model has no logit for.
        """
        hit = self.seems_fooled(logits, rows)
        all_of_them = self.oracle.reduced or not exact
        if (all_of_them or self.oracle.folded) and hit.any():
            at = (hit if all_of_them else hit & _close(logits, self.oracle.slack)).nonzero()[:, 0]
            if len(at) == 0:
                return hit
            shown = points.view(-1, *self.images.shape[1:]).index_select(0, at)
            hit[at] = self.seems_fooled(self.oracle.logits(shown, self.ids[rows[at]], exact=True), rows[at])
        return hit

    def seems_fooled(self, logits: Tensor, rows: Tensor) -> Tensor:
        """As `fooled`, from these logits alone: enough to steer by."""
        losses.known(logits, *self.highest)
        largest, prediction = logits.max(1)
        answers = largest.isfinite()
        if self.targets is not None:
            return (prediction == self.targets[rows]) & answers
        return (prediction != self.labels[rows]) | ~answers

    @property
    def patient(self) -> bool:
        """Whether attacks that climb keep every image to the end: what fools an average over a few passes may not fool
        the next, and the further they climb the surer their proposal is."""
        return self.oracle.eot > 1

    def radii(self, rows: Tensor, share: float = 1.0) -> Tensor:
        """(M,) a share of eps for the images at `rows`, in their type. A ball that holds the whole box is taken as no
        larger than that."""
        values = self.images[0].numel()
        most = {"l1": float(values), "l2": values**0.5, "linf": 1.0}[self.norm]
        return (self.eps[rows].clamp_max(most) * share).to(self.images.dtype)

    def left(self) -> Tensor:
        """The rows of the images that nothing has fooled yet."""
        return (~self.found).nonzero()[:, 0]

    def looked(self) -> Tensor:
        """(N, K) logits at the images. One forward pass an image; images that fool already are found."""
        logits = self.oracle.logits(self.images, self.ids)
        rows = torch.arange(len(logits), device=logits.device)
        self.found |= self.fooled(logits, rows, self.images)
        return logits

    def wrong_classes(self, logits: Tensor | None = None) -> Tensor:
        """(N, K - 1) all classes but the label, the most likely at the image first, from the logits of `looked` or
        after a look."""
        ranked: Tensor = torch.sort(
            self.looked() if logits is None else logits, dim=1, descending=True, stable=True
        ).indices
        return ranked.masked_select(ranked != self.labels[:, None]).view(len(ranked), -1)

    def settled(self, like: Tensor) -> Tensor:
        """The proposals, exactly inside ball and box, on the device and of the type of `like`."""
        done = norms.settle(self.proposals, self.images, self.eps, self.norm)
        return done.to(device=like.device, dtype=like.dtype if like.dtype == torch.float64 else torch.float32)


@contextmanager
def opened(
    model: nn.Module | Oracle,
    images: Tensor,
    labels: Tensor,
    threat: Threat | Balls | str,
    targets: Tensor | None,
    ids: Tensor | None,
) -> Iterator[Pool]:
    """A pool, with the model in eval mode and frozen while it lasts. The arguments are read, never written.

    Raises:
        ArgumentError: shapes or types that do not belong together, pixels outside [0, 1] or not finite, a target that
            is the label.
        EmptyDataError: no image.
        ThreatError: a threat that is a text, and not a norm.
    """
    oracle = Oracle.of(model)
    _check(images, labels, targets, ids)
    balls = Balls.of(threat, len(images))
    with torch.inference_mode(False), torch.no_grad(), oracle.running():
        wide = torch.float64 if images.dtype == torch.float64 else torch.float32
        pool = _brought(images, oracle.device).to(wide, memory_format=torch.contiguous_format)
        yield Pool(
            oracle=oracle,
            images=pool,
            labels=_brought(labels, oracle.device).long(),
            targets=None if targets is None else _brought(targets, oracle.device).long(),
            ids=torch.arange(len(pool), device=oracle.device) if ids is None else _brought(ids, oracle.device).long(),
            norm=balls.norm,
            eps=_brought(balls.eps, oracle.device).double(),
            proposals=pool.clone(),
            found=torch.zeros(len(pool), dtype=torch.bool, device=pool.device),
            highest=losses.highest(labels, targets),
        )


def positive(**counts: int | None) -> None:
    """Nothing, where every argument that is given is a number of times.

    Raises:
        ArgumentError: one is not.
    """
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ArgumentError(name, count, "not a number of times", "Give a whole number, 1 or more.")


def check_starting_points(start: Tensor, images: Tensor) -> None:
    """Nothing, where points to begin from are numbers and one for each image.

    Raises:
        ArgumentError: they are not.
    """
    if not isinstance(start, Tensor) or not start.is_floating_point() or start.shape != images.shape:
        kind = f"{start.dtype} {tuple(start.shape)}" if isinstance(start, Tensor) else type(start).__name__
        raise ArgumentError(
            "starting_points", kind, "not a point for each image", f"Give floats of shape {tuple(images.shape)}."
        )
    if not bool(start.isfinite().all()):
        raise ArgumentError("starting_points", "NaN or infinite values", "not points", "Look for what made them.")


def _close(logits: Tensor, slack: float) -> Tensor:
    """(N,) whether the largest two logits are no further apart."""
    first, second = logits.topk(2).values.unbind(1)
    return ~(first - second > slack)


def _brought(given: Tensor, device: torch.device) -> Tensor:
    """An ordinary tensor on the device, without a history."""
    return (given.clone() if given.is_inference() else given.detach()).to(device)


def _check(images: Tensor, labels: Tensor, targets: Tensor | None, ids: Tensor | None) -> None:
    if not isinstance(images, Tensor) or images.ndim < 2 or not images.is_floating_point():
        kind = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ArgumentError("images", kind, "not a batch of images", "Pass floats of shape (N, C, H, W) in [0, 1].")
    if images.numel() == 0:
        raise EmptyDataError(f"images: an empty batch, shape {tuple(images.shape)}. Pass at least one image.")
    for name, values in (("labels", labels), ("targets", targets), ("ids", ids)):
        if values is not None or name == "labels":
            _check_numbers(name, values, len(images))
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise outside_box(low, high)
    if targets is not None and bool((targets.to(labels.device) == labels).any()):
        row = int((targets.to(labels.device) == labels).nonzero()[0])
        way_out = "Give each image a target that is another class."
        raise ArgumentError("targets", int(targets[row]), f"the target of image {row} is its own label", way_out)


def _check_numbers(name: str, values: Tensor | None, count: int) -> None:
    if not isinstance(values, Tensor) or values.dtype not in _WHOLE or values.shape != (count,):
        kind = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ArgumentError(name, kind, "not one whole number an image", f"Pass integers of shape ({count},).")
    if name != "ids" and int(values.min()) < 0:
        raise ArgumentError(name, int(values.min()), "no such class", "Classes count from 0.")


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def outside_box(low: float, high: float) -> ArgumentError:
    """The error for images whose smallest and largest value are `low` and `high`."""
    problem = "values outside [0, 1]"
    if math.isnan(low) or math.isinf(high - low):
        problem, way_out = "values that are no finite numbers", "Look for NaN and infinity where images are made."
    elif low >= 0 and high > 2:
        way_out = "Divide by 255."
    else:
        way_out = "Leave images as they are, in [0, 1], and give the normalisation to the model: mean=, std=."
    return ArgumentError("images", f"{low:.4g} to {high:.4g}", problem, way_out)
