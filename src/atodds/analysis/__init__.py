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
from atodds.analysis.bounds import LowerUpper, certified_accuracy, lower_upper, lower_uppers
from atodds.analysis.decision import Decision, decide
from atodds.analysis.distortion import AttackDistortion, Spread, attack_distortions, common_images
from atodds.analysis.factors import Comparison, Explained, Factors, Traits, Trend, factors, holm
from atodds.analysis.frontier import Dominator, Frontier, FrontierPoint, frontier, pareto
from atodds.analysis.gate import Gate, Requirement, parse_requirement
from atodds.analysis.gate_runs import check
from atodds.analysis.intervals import Difference, Median, Rate, median, paired_bootstrap, wilson
from atodds.analysis.leaderboard import Entry, published_frontier
from atodds.analysis.line import Footing, Influence, Line, least_squares
from atodds.analysis.mixtures import Mixed, MixtureFrontier, MixturePoint, mixed_in, mixture_frontier
from atodds.analysis.need import Need, parse_need, read_need
from atodds.analysis.optimality import AttackOptimality, LocalOptimality, Optimalities, Optimality, optimality
from atodds.analysis.scaling import PublishedFit, Scaling, ScalingPoint, scaling
from atodds.analysis.together import Distortion
from atodds.analysis.transfer import Block, FamilyEffect, MeanRate, Sender, TransferMatrix, transfer
from atodds.analysis.turning_point import (
    Robustness,
    SizeMean,
    Step,
    TurningPoint,
    robust_accuracy_over_sizes,
    robustness_over_sizes,
    turning_point,
)

__all__ = [
    "AttackDistortion",
    "AttackOptimality",
    "AttackShare",
    "AttackShares",
    "Block",
    "ClassCurves",
    "Comparison",
    "Curve",
    "Decision",
    "Difference",
    "Distances",
    "Distortion",
    "Dominator",
    "Entry",
    "Explained",
    "Factors",
    "FamilyEffect",
    "Footing",
    "Frontier",
    "FrontierPoint",
    "Gate",
    "Influence",
    "Line",
    "LocalOptimality",
    "LowerUpper",
    "MeanRate",
    "Median",
    "Mixed",
    "MixtureFrontier",
    "MixturePoint",
    "Need",
    "Optimalities",
    "Optimality",
    "PublishedFit",
    "Rate",
    "Requirement",
    "Robustness",
    "Scaling",
    "ScalingPoint",
    "Sender",
    "SizeMean",
    "Spread",
    "Step",
    "Traits",
    "TransferMatrix",
    "Trend",
    "TurningPoint",
    "accuracy",
    "attack_distortions",
    "attack_shares",
    "certified_accuracy",
    "check",
    "common_images",
    "curve",
    "decide",
    "difference",
    "distances",
    "factors",
    "frontier",
    "holm",
    "least_squares",
    "lower_upper",
    "lower_uppers",
    "median",
    "median_distance",
    "mixed_in",
    "mixture_frontier",
    "optimality",
    "paired_bootstrap",
    "pareto",
    "parse_need",
    "parse_requirement",
    "per_class",
    "published_frontier",
    "read_need",
    "robust_accuracy",
    "robust_accuracy_over_sizes",
    "robustness_over_sizes",
    "scaling",
    "transfer",
    "turning_point",
    "wilson",
]
