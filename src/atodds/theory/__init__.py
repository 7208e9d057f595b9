"""Closed forms and small simulations: what is known about accuracy and robustness without training a network."""
