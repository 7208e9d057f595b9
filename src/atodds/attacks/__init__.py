"""Attacks: pure functions over a pool of images. Each only proposes; the evaluation judges."""

from atodds.attacks.auto_pgd import auto_pgd, auto_pgd_targeted
from atodds.attacks.carlini_wagner import carlini_wagner
from atodds.attacks.elastic_net import elastic_net
from atodds.attacks.ensemble import ensemble
from atodds.attacks.fast_adaptive_boundary import fab, fab_targeted
from atodds.attacks.gradient_sign import fgsm, ifgsm, pgd
from atodds.attacks.hybrid import hybrid
from atodds.attacks.ifgsm_search import ifgsm_search
from atodds.attacks.minimum_norm import minimum_norm
from atodds.attacks.random_noise import random_noise
from atodds.attacks.square import square
from atodds.attacks.targets import target_classes

__all__ = [
    "auto_pgd",
    "auto_pgd_targeted",
    "carlini_wagner",
    "elastic_net",
    "ensemble",
    "fab",
    "fab_targeted",
    "fgsm",
    "hybrid",
    "ifgsm",
    "ifgsm_search",
    "minimum_norm",
    "pgd",
    "random_noise",
    "square",
    "target_classes",
]
