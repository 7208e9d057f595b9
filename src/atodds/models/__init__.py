"""The classifiers that are measured: brought from anywhere, or one of the networks that come along."""

from atodds.models.card import Card
from atodds.models.checkpoint import load_checkpoint, save
from atodds.models.classifier import Classifier, name_of
from atodds.models.fingerprint import fingerprint
from atodds.models.mixing import MixingNetwork, Mixture, interpolate, is_loaded, mixture
from atodds.models.networks import NETWORKS, Network, build, parameter_count
from atodds.models.sources import arguments, load
from atodds.models.suites import PREFIX, SUITES, Suite, expand, suite
from atodds.models.usage import Usage

__all__ = [
    "NETWORKS",
    "PREFIX",
    "SUITES",
    "Card",
    "Classifier",
    "MixingNetwork",
    "Mixture",
    "Network",
    "Suite",
    "Usage",
    "arguments",
    "build",
    "expand",
    "fingerprint",
    "interpolate",
    "is_loaded",
    "load",
    "load_checkpoint",
    "mixture",
    "name_of",
    "parameter_count",
    "save",
    "suite",
]
