"""Lower bounds of the distance to the decision boundary, to stand beside the upper bounds that attacks find."""

from atodds.bounds.certify import Beside, Crossing, beside
from atodds.bounds.clever import Clever, clever
from atodds.bounds.smoothing import ABSTAIN, Certificates, Smoothed, certify, predict

__all__ = [
    "ABSTAIN",
    "Beside",
    "Certificates",
    "Clever",
    "Crossing",
    "Smoothed",
    "beside",
    "certify",
    "clever",
    "predict",
]
