"""Training networks of ours, for accuracy or for robustness."""

from atodds.training.digits import digits_pair
from atodds.training.loop import Progress, train
from atodds.training.recipe import Recipe

__all__ = ["Progress", "Recipe", "digits_pair", "train"]
