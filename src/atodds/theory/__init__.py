"""Closed forms and small simulations: what is known about accuracy and robustness without training a network."""

from atodds.theory import regression, soft_margin, tsipras

__all__ = ["regression", "soft_margin", "tsipras"]
