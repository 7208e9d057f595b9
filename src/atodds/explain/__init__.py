"""What networks see: gradients of the loss in the image, images that they hold for a class, weights of features."""

from atodds.explain import features, gradients, synthesis

__all__ = ["features", "gradients", "synthesis"]
