"""Does a model keep what is required of it, and what an older one had? Yes, no, or: that cannot be told yet.

A requirement is not met only where an exact binomial test says so, and a model is worse than its baseline only where an
exact McNemar test over the images of both does; all of these together, corrected by Holm, fail a model that meets
everything, and is no worse, in at most (1 - confidence) / 2 of measurements. A requirement is met where the same test
says so on the other side. In between nothing is decided, and the number of images that would decide it is told.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from atodds.analysis.accuracy import Distances, Integers
from atodds.analysis.candidates import shared_images
from atodds.analysis.factors import holm
from atodds.analysis.intervals import CONFIDENCE, Bools, Difference, Floats, Rate, paired_bootstrap
from atodds.errors import ArgumentError
from atodds.threat import Budget, Norm, parse_eps, parse_norm

Verdict = Literal["met", "not met", "cannot tell"]
EXIT: dict[Verdict, int] = {"met": 0, "not met": 1, "cannot tell": 3}
"""Exit statuses; 2 is a usage error."""
POWER = 0.8
MOST = 10_000_000
"""Beyond this many images nobody measures: it is told that no number would decide."""


@dataclass(frozen=True)
class Requirement:
    """A least accuracy: on the images themselves where `norm` and `eps` are None, else within eps."""

    least: float
    norm: Norm | None = None
    eps: Budget | None = None

    @property
    def what(self) -> str:
        """What it is about: "robust accuracy at linf:8/255"."""
        return "clean accuracy" if self.eps is None else f"robust accuracy at {self.norm}:{self.eps}"


@dataclass(frozen=True)
class Check:
    """One requirement, or one comparison with the baseline, and what came of it.

    Attributes:
        model: its name.
        what: "clean accuracy", "robust accuracy at linf:8/255".
        required: the least share; None for a comparison with the baseline.
        rate: what was measured, with its exact (Clopper-Pearson) interval.
        p_value: of the test that the model falls short, corrected for the number of tests.
        verdict: what is decided.
        more: images that are lacking to decide with the gate's power, if the truth is as measured; None where it is
            decided, or where no number would do.
        baseline: what the old model had on the same images, and `difference` how much more the new one has.
        detectable: the loss that would have been found with the gate's power.
    """

    model: str
    what: str
    required: float | None
    rate: Rate
    p_value: float
    verdict: Verdict
    more: int | None = None
    baseline: Rate | None = None
    difference: Difference | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Gate:
    """All checks, and what they come to."""

    checks: tuple[Check, ...]
    confidence: float
    power: float

    @property
    def verdict(self) -> Verdict:
        """Not met if anything is not; met if everything is."""
        found = {check.verdict for check in self.checks}
        return "not met" if "not met" in found else "cannot tell" if "cannot tell" in found else "met"

    @property
    def exit_status(self) -> int:
        """0 met, 1 not met, 3 cannot tell."""
        return EXIT[self.verdict]


@dataclass(frozen=True, eq=False)
class Old:
    """A baseline: its distances, in the norm of the new model's."""

    name: str
    found: Distances


def parse_requirement(text: str, argument: str = "--min-robust") -> Requirement:
    """The requirement that "0.45@linf:8/255" says; "45%@linf:8/255" too.

    Raises:
        ArgumentError: not of this form, or not a share.
        ThreatError: a norm or a budget that means nothing.
    """
    share, at, ball = text.partition("@")
    norm, colon, eps = ball.partition(":")
    if not (at and colon):
        raise ArgumentError(argument, text, "not a share at a norm and an eps", "Write 0.45@linf:8/255.")
    ball_norm = parse_norm(norm, argument)
    return Requirement(parse_least(share, argument), ball_norm, parse_eps(eps, ball_norm, argument))


def parse_least(text: str, argument: str = "--min-clean") -> float:
    """The share that "0.9" or "90%" says.

    Raises:
        ArgumentError: not a share from 0 to 1.
    """
    plain = text.strip()
    try:
        value = float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ArgumentError(argument, text, "not a share from 0 to 1", "Write 0.9, or 90%.")
    return value


def gate(
    models: Sequence[tuple[str, Distances, Old | None]],
    requirements: Sequence[Requirement],
    compared: Sequence[Budget | None],
    *,
    confidence: float = CONFIDENCE,
    power: float = POWER,
    seed: int = 0,
) -> Gate:
    """Hold models against requirements and against their baselines.

    Args:
        models: name and distances of each, and its baseline if there is one.
        requirements: all in the norm of the distances; each is held against every model.
        compared: where each model is held against its baseline: None for clean accuracy.
        confidence: the exact intervals' own; a model that meets all is failed in at most half of the rest.
        power: of the measurement that `more` asks for, and of `detectable`.
        seed: of the bootstrap interval of differences, which decides nothing.

    Raises:
        EmptyDataError: a model and its baseline share no image.
        ArgumentError: nothing to check, or a confidence or power outside (0, 1).
    """
    for name, value in (("confidence", confidence), ("power", power)):
        if not 0 < value < 1:
            raise ArgumentError(name, value, "not a share between 0 and 1", "Give 0.95, or 0.8 for the power.")
    level = (1 - confidence) / 2
    checks = [_required(name, found, one, level) for name, found, _ in models for one in requirements]
    checks += [
        _compared(name, found, old, eps, level, power, seed)
        for name, found, old in models
        if old is not None
        for eps in compared
    ]
    if not checks:
        way_out = "Give --min-robust 0.45@linf:8/255, --min-clean 0.9, or --baseline RUN."
        raise ArgumentError("requirements", "none", "nothing to check", way_out)
    corrected = holm([check.p_value for check in checks])
    strict = level / len(checks)
    return Gate(
        tuple(_decided(check, p, level, strict, power) for check, p in zip(checks, corrected, strict=True)),
        confidence,
        power,
    )


def exact(successes: int, n: int, confidence: float = CONFIDENCE) -> Rate:
    """A rate with its exact interval: it leaves a value out exactly where the binomial test does.

    References:
        C. J. Clopper, E. S. Pearson (1934), "The use of confidence or fiducial limits".
    """
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return Rate(successes / n, low, high, n)


def mcnemar(worse: int, better: int) -> float:
    """The chance of at least `worse` of all images on which two models differ, if neither side were likelier.

    References:
        Q. McNemar (1947), "Note on the sampling error of the difference between correlated proportions"; exact form.
    """
    return float(stats.binom.sf(worse - 1, worse + better, 0.5)) if worse + better else 1.0


def images_to_decide(rate: float, required: float, level: float, power: float = POWER) -> int | None:
    """The least number of images from which on an exact test at a level tells a true rate from a required one, with at
    least this power.

    None where they are the same, or more than `MOST` images are needed.
    """
    gap = abs(rate - required)
    if gap == 0:
        return None
    spread = stats.norm.ppf(1 - level) * math.sqrt(required * (1 - required))
    spread += stats.norm.ppf(power) * math.sqrt(rate * (1 - rate))
    guess = (spread / gap) ** 2
    if guess > MOST:
        return None
    about, wide = math.ceil(guess), 100 + 4 * math.ceil(math.sqrt(guess))
    while True:  # the power goes up in saw teeth: find the last tooth that falls short
        counts = np.arange(max(1, about - wide), about + wide)
        short = np.flatnonzero(_reached(counts, rate, required, level) < power)
        if short.size == 0 and counts[0] == 1:
            return 1
        if short.size and short[-1] + 1 < len(counts):
            return int(counts[short[-1] + 1])
        wide *= 2


def _reached(counts: Integers, rate: float, required: float, level: float) -> Floats:
    """(n,) the power of the exact test with each of some numbers of images."""
    if rate < required:
        last = np.asarray(stats.binom.ppf(level, counts, required))
        last = last - (stats.binom.cdf(last, counts, required) > level)
        return np.asarray(stats.binom.cdf(last, counts, rate))
    return np.asarray(stats.binom.sf(stats.binom.isf(level, counts, required), counts, rate))


def _required(name: str, found: Distances, one: Requirement, level: float) -> Check:
    standing = found.correct if one.eps is None else found.standing(one.eps.value)
    n, k = len(found), int(standing.sum())
    p = float(stats.binom.cdf(k, n, one.least))
    return Check(name, one.what, one.least, exact(k, n, 1 - 2 * level), p, "cannot tell")


def _compared(
    name: str, found: Distances, old: Old, eps: Budget | None, level: float, power: float, seed: int
) -> Check:
    left, right = shared_images(found, old.found)
    new, before = _standing(found, eps)[left], _standing(old.found, eps)[right]
    worse, better = int((before & ~new).sum()), int((new & ~before).sum())
    n = len(left)
    apart = max(worse + better, 3) / n  # of none in n, up to 3 in n are plausible
    both = stats.norm.ppf(1 - level) + stats.norm.ppf(power)
    return Check(
        model=name,
        what="clean accuracy" if eps is None else f"robust accuracy at {found.norm}:{eps}",
        required=None,
        rate=exact(int(new.sum()), n, 1 - 2 * level),
        p_value=mcnemar(worse, better),
        verdict="cannot tell",
        baseline=exact(int(before.sum()), n, 1 - 2 * level),
        difference=paired_bootstrap(new, before, seed=seed, confidence=1 - 2 * level),
        detectable=min(1.0, float(both * math.sqrt(apart / n))),
    )


def _standing(found: Distances, eps: Budget | None) -> Bools:
    return found.correct if eps is None else found.standing(eps.value)


def _decided(check: Check, corrected: float, level: float, strict: float, power: float) -> Check:
    if corrected <= level:
        return replace(check, p_value=corrected, verdict="not met")
    if check.required is None:
        return replace(check, p_value=corrected, verdict="met")
    n, k = check.rate.n, round(check.rate.value * check.rate.n)
    if float(stats.binom.sf(k - 1, n, check.required)) <= level or check.required == 0:
        return replace(check, p_value=corrected, verdict="met")
    needed = images_to_decide(
        check.rate.value, check.required, strict if check.rate.value < check.required else level, power
    )
    more = None if needed is None else max(1, needed - n)
    return replace(check, p_value=corrected, verdict="cannot tell", more=more)
