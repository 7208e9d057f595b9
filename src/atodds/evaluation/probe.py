"""A model on a few images, the audit's common ground."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atodds import noise
from atodds.attacks import losses
from atodds.evaluation.manifest import Finding, Severity
from atodds.oracle import Oracle

_SAME = 1e-4
"""Logits that differ by more than this share of their spread are taken to differ."""
_LEAST = 1e-30
"""The smallest probability whose logarithm has a gradient in float32."""


@dataclass(frozen=True)
class Probe:
    """A model, a few images (N, C, H, W) in [0, 1] with their labels (N,), and its logits (N, K) for them."""

    model: str
    oracle: Oracle
    images: Tensor
    labels: Tensor
    logits: Tensor
    probabilities: bool = False
    """The model returns probabilities: their logarithms are taken for logits, which they are but for a shift."""

    @property
    def ids(self) -> Tensor:
        """(N,) positions, on the CPU: whom passes are counted for."""
        return torch.arange(len(self.images))

    def finding(self, check: str, severity: Severity, measured: str, meaning: str, advice: str) -> Finding:
        """A finding on this model."""
        return Finding(check, severity, self.model, measured, meaning, advice)

    def only(self, rows: Tensor) -> "Probe":
        """The images at these positions, or where a mask is true."""
        return replace(self, images=self.images[rows], labels=self.labels[rows], logits=self.logits[rows])

    def unsaturated(self) -> "Probe":
        """The same probe of a model that returns probabilities, for the images where none of the first two is 0."""
        clear = self.logits.topk(2, 1).values[:, 1] > _LEAST
        logits = self.logits[clear].clamp_min(_LEAST).log()
        return replace(self, images=self.images[clear], labels=self.labels[clear], logits=logits, probabilities=True)

    def outputs(self, images: Tensor) -> Tensor:
        """(N, K) logits of any images."""
        logits = self.oracle.logits(images, torch.arange(len(images)))
        return logits.clamp_min(_LEAST).log() if self.probabilities else logits

    def margin(self, images: Tensor) -> Tensor:
        """(N,) the margin at other images with the same labels, in float64: small differences count. Outputs that are
        no numbers are wrong answers, infinitely far over the boundary."""
        return losses.margin(self.outputs(images).double(), self.labels).nan_to_num(torch.inf, torch.inf, -torch.inf)

    def gradient(self, loss: losses.LossName, images: Tensor) -> Tensor:
        """(N, C, H, W) the gradient of a loss on the labels."""
        raised = losses.objective(loss, self.labels, None)

        def objective(logits: Tensor, positions: Tensor) -> Tensor:
            return raised(logits.clamp_min(_LEAST).log() if self.probabilities else logits, positions)

        return self.oracle.gradients(images, objective, self.ids).gradient

    def shaken(self, by: float, stream: str) -> Tensor:
        """(N, C, H, W) the images, each pixel up to `by` away in either direction, and in the box. Always the same."""
        ids = self.ids.to(self.images.device)
        draws = noise.uniform(
            ids, self.images.shape[1:], seed=0, stream=stream, dtype=self.images.dtype, low=-by, high=by
        )
        return (self.images + draws).clamp(0, 1)


def differ(logits: Tensor, others: Tensor) -> Tensor:
    """(..., N) whether rows of logits differ by more than rounding. Minus infinity is equal to itself."""
    finite = others[others.isfinite()]
    spread = (finite.amax() - finite.amin()).clamp_min(1e-12)
    return ((logits != others) & ~((logits - others).abs() <= _SAME * spread)).any(-1)


def of(mask: Tensor) -> str:
    """Such as "3 of 64"."""
    return f"{int(mask.sum())} of {len(mask)}"
