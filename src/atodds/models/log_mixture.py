"""The logarithm of mixed probabilities, computed without leaving the logarithms."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def log_mixed(first: Tensor, second: Tensor, log_rest: Tensor | float, log_alpha: Tensor | float) -> Tensor:
    """log((1 - alpha) softmax(first) + alpha softmax(second)), (N, K), without leaving the logarithms: finite with
    finite gradients wherever the logits are, however sure either classifier is.

    Args:
        first, second: (N, K) logits.
        log_rest, log_alpha: the logarithms of 1 - alpha and alpha, numbers or (N, 1).
    """
    return torch.logaddexp(F.log_softmax(first, dim=1) + log_rest, F.log_softmax(second, dim=1) + log_alpha)


def log_shares(chosen: Tensor, span: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The logarithms of 1 - alpha and of alpha = low + (high - low) sigmoid(chosen), each without cancellation.

    1 - alpha is (1 - high) + (high - low) sigmoid(-chosen), so both are sums of positive terms.
    """
    low, high = span
    width = math.log(high - low)
    return _log_sum(1 - high, width + F.logsigmoid(-chosen)), _log_sum(low, width + F.logsigmoid(chosen))


def _log_sum(number: float, log: Tensor) -> Tensor:
    """The logarithm of number + exp(log)."""
    return log if number <= 0 else torch.logaddexp(log.new_tensor(math.log(number)), log)
