"""Pure functions of the verdict table: a table goes in, a frozen dataclass comes out."""

from atodds.analysis.accuracy import (
    ClassCurves,
    Curve,
    Distances,
    accuracy,
    curve,
    difference,
    distances,
    median_distance,
    per_class,
    robust_accuracy,
)
from atodds.analysis.attacks import AttackShare, AttackShares, attack_shares
from atodds.analysis.intervals import Difference, Median, Rate, median, paired_bootstrap, wilson

__all__ = [
    "AttackShare",
    "AttackShares",
    "ClassCurves",
    "Curve",
    "Difference",
    "Distances",
    "Median",
    "Rate",
    "accuracy",
    "attack_shares",
    "curve",
    "difference",
    "distances",
    "median",
    "median_distance",
    "paired_bootstrap",
    "per_class",
    "robust_accuracy",
    "wilson",
]
