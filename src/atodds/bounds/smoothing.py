"""Randomized smoothing: the class that a model answers most often under Gaussian noise, and a radius within which no
image changes that answer.

Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019, theorem 1 and section
3.2. The certificate is about the smoothed classifier, which is another one than the model itself.
"""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from atodds import noise
from atodds.attacks.pool import Pool, opened, positive
from atodds.bounds.draws import DRAWS, cut, keys
from atodds.errors import ArgumentError
from atodds.oracle import Oracle

ABSTAIN = -1
"""The prediction where the votes do not tell."""
_CHECKS = 20
"""How often, on the way, images leave whose votes cannot be enough any more."""
_VALUES = 2**23
"""Values of the noisy images that are made at once: 32 MB in float32."""
_STREAM = "smoothing"


@dataclass(frozen=True, eq=False)
class Certificates:
    """What holds for the smoothed classifier on N images: tensors (N,) on the CPU.

    Attributes:
        sigma, alpha: standard deviation of the noise; chance that an image's certificate is wrong.
        prediction: int64, `ABSTAIN` where no class has more than half of the votes for certain.
        radius: float64, in l2: every image that is nearer has the same prediction; 0 where it abstains.
        high: float64, what the radius could become with more samples, at the same confidence; infinite where all votes
            are for one class.
        probability: float64, lower confidence bound of the share of noisy images that the model gives this class.
        votes, trials: int64, for the class that led among the first samples, out of how many. Images that abstain may
            have fewer trials than were asked for.
    """

    sigma: float
    alpha: float
    prediction: Tensor
    radius: Tensor
    high: Tensor
    probability: Tensor
    votes: Tensor
    trials: Tensor


def certify(
    model: nn.Module | Oracle,
    images: Tensor,
    *,
    sigma: float,
    ids: Tensor | None = None,
    seed: int = 0,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
) -> Certificates:
    """Prediction and certified l2 radius of the smoothed classifier (algorithm CERTIFY).

    Of n0 noisy images the most frequent class is taken; of n further ones its votes are counted. With p, the exact
    lower confidence limit (Clopper-Pearson) of its share, the radius is sigma times the standard normal quantile of p
    where p exceeds 1/2; else the classifier abstains. An image leaves as soon as its votes cannot be enough any more,
    which changes no answer.

    Noisy images leave the box: the theorem needs the noise as it is.

    Args:
        model: images in [0, 1] -> logits, or an oracle; best trained under such noise.
        images: (N, C, H, W) in [0, 1].
        sigma: standard deviation of the noise, in pixels of [0, 1].
        ids: (N,) stable ids; positions if None.
        seed: decides the noise, with each image's id and the number of the sample.
        n0: samples that choose the class.
        n: samples that count its votes; the paper takes 100,000. The largest possible radius grows with it.
        alpha: chance of a wrong certificate, for each image.

    Raises:
        ArgumentError: bad images or settings.
    """
    _check(sigma, alpha, n0=n0, n=n)
    with _opened(model, images, ids) as pool:
        every = torch.arange(len(images), device=pool.images.device)
        leading = _votes(pool, every, range(n0), sigma, seed).argmax(1)
        votes, trials = torch.zeros_like(every), torch.zeros_like(every)
        needed, rows = int(stats.binom.isf(alpha, n, 0.5)) + 1, every
        for numbers in cut(range(n0, n0 + n), -(-n // _CHECKS)):
            counts = _votes(pool, rows, numbers, sigma, seed)
            votes[rows] += counts.gather(1, leading[rows, None])[:, 0]
            trials[rows] += len(numbers)
            rows = rows[votes[rows] + n - trials[rows] >= needed]
            if len(rows) == 0:
                break
        return _certificates(sigma, alpha, leading.cpu(), votes.cpu(), trials.cpu(), n)


def predict(
    model: nn.Module | Oracle,
    images: Tensor,
    *,
    sigma: float,
    ids: Tensor | None = None,
    seed: int = 0,
    n: int = 1000,
    alpha: float = 0.001,
) -> Tensor:
    """The smoothed classifier's answer (algorithm PREDICT): the most frequent class under noise where an exact
    two-sided binomial test says that it is ahead of the second, else `ABSTAIN`.

    Args:
        model, images, sigma, ids, seed: as in `certify`.
        n: samples.
        alpha: chance of another answer than that of endlessly many samples, for each image.

    Returns:
        (N,) int64, on the CPU.

    Raises:
        ArgumentError: bad images or settings.
    """
    _check(sigma, alpha, n=n)
    with _opened(model, images, ids) as pool:
        every = torch.arange(len(images), device=pool.images.device)
        counts, classes = _votes(pool, every, range(n), sigma, seed).cpu().topk(2, 1)
        first, second = counts.numpy().T
        sure = 2 * stats.binom.cdf(second, first + second, 0.5) <= alpha
        return torch.where(torch.from_numpy(sure), classes[:, 0], ABSTAIN)


class Smoothed(nn.Module):
    """A smoothed classifier.

    As a module it is a random model, whose answers attacks average over (EoT): each pass adds noise that was not used
    before to every image, and gives the logits of the network inside. `predict` and `certify` are its answers.

    Args:
        network: images in [0, 1] -> logits.
        sigma: standard deviation of the noise, in pixels of [0, 1].
        seed: of the noise.

    Raises:
        ArgumentError: a sigma that is no standard deviation.
    """

    def __init__(self, network: nn.Module, sigma: float, *, seed: int = 0) -> None:
        super().__init__()
        _check(sigma)
        self.network, self.sigma, self.seed = network, sigma, seed
        self._passes = 0  # not part of the model: it decides which noise comes next, as the state of any random model

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, K) of one noisy copy of each."""
        ids = torch.arange(len(images), device=images.device)
        drawn = noise.normal(
            ids, images.shape[1:], seed=self.seed, step=self._passes, stream="smoothed", dtype=images.dtype
        )
        self._passes += 1
        logits: Tensor = self.network(images + self.sigma * drawn)
        return logits

    def predict(self, images: Tensor, *, ids: Tensor | None = None, n: int = 1000, alpha: float = 0.001) -> Tensor:
        """(N,) classes or `ABSTAIN`; see `predict` of this module."""
        return predict(self.network, images, sigma=self.sigma, ids=ids, seed=self.seed, n=n, alpha=alpha)

    def certify(
        self, images: Tensor, *, ids: Tensor | None = None, n0: int = 100, n: int = 10_000, alpha: float = 0.001
    ) -> Certificates:
        """Predictions with certified radii; see `certify` of this module."""
        return certify(self.network, images, sigma=self.sigma, ids=ids, seed=self.seed, n0=n0, n=n, alpha=alpha)


def _opened(model: nn.Module | Oracle, images: Tensor, ids: Tensor | None) -> AbstractContextManager[Pool]:
    """The pool of an attack on class 0 in l2: nothing here asks for labels."""
    count = len(images) if isinstance(images, Tensor) and images.ndim else 0
    return opened(model, images, torch.zeros(count, dtype=torch.int64), "l2", None, ids)


def _votes(pool: Pool, rows: Tensor, numbers: range, sigma: float, seed: int) -> Tensor:
    """(n, K) how often the model gives each class to noisy copies of the images at `rows`. Outputs that are no numbers
    are no votes."""
    shape, dtype = pool.images.shape[1:], pool.images.dtype
    copies = max(1, _VALUES // math.prod(shape))
    counted: list[Tensor] = []
    for part in cut(range(len(rows)), copies):
        mine, votes = rows[part.start : part.stop], torch.zeros(0)
        for some in cut(numbers, copies // len(part)):
            drawn = noise.normal(keys(pool.ids[mine], some), shape, seed=seed, stream=_STREAM, dtype=dtype)
            again = mine.repeat_interleave(len(some))
            logits = pool.oracle.logits(drawn.mul_(sigma).add_(pool.images[again]), pool.ids[again])
            width, answers = logits.shape[1], logits.amax(1).isfinite()
            place = torch.arange(len(mine), device=mine.device).repeat_interleave(len(some)) * width + logits.argmax(1)
            found = torch.bincount(place[answers], minlength=len(mine) * width).view(len(mine), width)
            votes = found if len(votes) == 0 else votes + found
        counted.append(votes)
    return torch.cat(counted)


def _certificates(sigma: float, alpha: float, leading: Tensor, votes: Tensor, trials: Tensor, n: int) -> Certificates:
    k, whole = votes.numpy().astype(np.float64), trials.numpy()
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, stats.beta.ppf(alpha, k, whole - k + 1), 0.0)
        up = np.where(k < whole, stats.beta.ppf(1 - alpha, k + 1, whole - k), 1.0)
    sure = (low > 0.5) & (whole == n)
    radius, high = (np.where(sure, sigma * stats.norm.ppf(share), 0.0) for share in (low, up))
    return Certificates(
        sigma=sigma,
        alpha=alpha,
        prediction=torch.where(torch.from_numpy(sure), leading, ABSTAIN),
        radius=torch.from_numpy(radius),
        high=torch.from_numpy(high),
        probability=torch.from_numpy(low),
        votes=votes,
        trials=trials,
    )


def _check(sigma: float, alpha: float = 0.5, **counts: int) -> None:
    positive(**counts)
    if sum(counts.values()) > DRAWS:
        raise ArgumentError("n", counts["n"], f"more than {DRAWS} samples an image", "Take fewer.")
    if not isinstance(sigma, (int, float)) or not 0 < sigma < math.inf:
        raise ArgumentError("sigma", sigma, "not a standard deviation", "Give a positive number, such as 0.25.")
    if not 0 < alpha < 1:
        raise ArgumentError("alpha", alpha, "not a chance", "Give a number between 0 and 1, such as 0.001.")
