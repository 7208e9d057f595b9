"""Attacks: pure functions over a pool of images. Each only proposes; the evaluation judges."""

from atodds.attacks.gradient_sign import fgsm, ifgsm, pgd
from atodds.attacks.random_noise import random_noise

__all__ = ["fgsm", "ifgsm", "pgd", "random_noise"]
