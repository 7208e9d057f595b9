"""Accuracy and robustness of image classifiers, the trade-off between them, and help to choose."""

from atodds import analysis, attacks, bounds, data, explain, models, theory
from atodds.analysis import Rate
from atodds.data import ImageSet
from atodds.oracle import Oracle
from atodds.run import Run, evaluate
from atodds.threat import Threat
from atodds.version import __version__

__all__ = [
    "ImageSet",
    "Oracle",
    "Rate",
    "Run",
    "Threat",
    "__version__",
    "analysis",
    "attacks",
    "bounds",
    "data",
    "evaluate",
    "explain",
    "models",
    "theory",
]
