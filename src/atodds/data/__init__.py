"""Images with their labels, from wherever they lie."""

from atodds.data.catalog import load
from atodds.data.images import ImageSet

__all__ = ["ImageSet", "load"]
