"""Training networks of ours, for accuracy or for robustness."""

from atodds.training.digits import digits_pair
from atodds.training.loop import Progress, train
from atodds.training.recipe import Recipe
from atodds.training.suites import SUITES, Entry

__all__ = ["SUITES", "Entry", "Progress", "Recipe", "digits_pair", "train"]
