"""Networks of the RobustBench leaderboard, with the parameter names of its files: see `entries`."""

from atodds.models.robustbench.bit import BiT
from atodds.models.robustbench.entries import ENTRIES, Entry, find, make
from atodds.models.robustbench.mixed import MixedClassifier, PolicyNetwork
from atodds.models.robustbench.preact import PreActResNet
from atodds.models.robustbench.wide import RobustWideResNet

__all__ = [
    "ENTRIES",
    "BiT",
    "Entry",
    "MixedClassifier",
    "PolicyNetwork",
    "PreActResNet",
    "RobustWideResNet",
    "find",
    "make",
]
