"""Accuracy and robustness of image classifiers, the trade-off between them, and help to choose."""

from atodds.version import __version__

__all__ = ["__version__"]
