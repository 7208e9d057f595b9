"""What the study of data sizes said, held against the curves of one: holds, does not hold, or cannot be told.

The submission of 2019 found that accuracy rises with data; that robustness rises first and falls beyond a turning point
on CIFAR-10 and STL-10 (not for ResNet without augmentation), keeps rising on Tiny ImageNet, and is flat on MNIST; and
that the turning point depends on the network. On other data its finding for CIFAR-10 is asked about.
"""

import math
from collections.abc import Mapping
from typing import Literal

from atodds.analysis.numbers import percent
from atodds.analysis.turning_point import Form, TurningPoint
from atodds.studies.claims import Claim, Verdict
from atodds.studies.data_size import NORMS, Curve, DataSizeStudy
from atodds.threat import Norm

Expected = Form | Literal["no turn"]

FLAT = 0.1
"""A curve is called flat where all differences that the intervals leave open are below this share of its mean."""
UNLIKELY = 0.05
FORMS: Mapping[str, Form] = {"tiny-imagenet": "rising", "mnist": "flat"}
"""What the study found, by data set; "turning" on the others."""
NEVER = ("cifar10", "stl10")
"""Where its ResNets without augmentation have no turning point."""
RANGES: Mapping[tuple[str, str, Norm], tuple[float, float]] = {
    ("cifar10", "cnn7", "l2"): (0.30, 0.55),
    ("cifar10", "densenet40", "l2"): (0.0, 0.25),
    ("cifar10", "densenet40+D", "l2"): (0.0, 0.25),
}
"""Between which values its figures show the means, by data set, network and norm."""


def claims(study: DataSizeStudy) -> tuple[Claim, ...]:
    """Every finding of the study that these curves can say something of."""
    found = [accuracy(curve) for curve in study.curves]
    for curve in study.curves:
        wanted = expected(study.plan.data, curve.variant.network, curve.variant.augmented)
        found += [robustness(curve, norm, wanted) for norm in NORMS]
    found += [claim for norm in NORMS if (claim := apart(study, norm)) is not None]
    for (data, name, norm), (low, high) in RANGES.items():
        for curve in study.curves:
            if data == study.plan.data and name == curve.variant.name:
                found.append(within(curve, norm, low, high))
    return tuple(found)


def expected(data: str, network: str, augmented: bool) -> Expected:
    """The form of the curve that the study found for a network."""
    if data in NEVER and network.startswith("resnet") and not augmented:
        return "no turn"
    return FORMS.get(data, "turning")


def accuracy(curve: Curve) -> Claim:
    """Whether accuracy on test images rises clearly, and does not clearly fall again."""
    form = curve.accuracy.form
    verdict: Verdict = "holds" if form == "rising" else "cannot be told" if form == "flat" else "does not hold"
    first, last = curve.test[0], curve.test[-1]
    sizes = [mean.size for mean in curve.accuracy.means]
    measured = f"{first} at {sizes[0]:,}, {last} at {sizes[-1]:,}; {said(curve.accuracy)}"
    return Claim(f"Accuracy rises with more training data ({curve.variant.name})", verdict, measured)


def robustness(curve: Curve, norm: Norm, wanted: Expected) -> Claim:
    """Whether the mean distance has the form that the study found."""
    words: Mapping[Expected, str] = {
        "turning": "rises first, then falls beyond a turning point",
        "rising": "still rises with the largest size",
        "flat": "does not depend on the size",
        "no turn": "has no turning point without augmentation",
    }
    found = curve.robustness[norm].curve
    claim = f"Robustness {words[wanted]} ({curve.variant.name}, {norm})"
    return Claim(claim, verdict_on(found, wanted), f"{said(found)}, over {found.n} images")


def verdict_on(found: TurningPoint, wanted: Expected) -> Verdict:
    """Whether a curve has a form, as far as its intervals say."""
    if wanted == "no turn":
        if found.form == "turning":
            return "does not hold"
        return "holds" if found.probability < UNLIKELY else "cannot be told"
    if wanted == "flat":
        if found.form != "flat":
            return "does not hold"
        return "holds" if found.resolution <= FLAT else "cannot be told"
    if found.form == wanted:
        at_the_end = found.peak_low == found.means[-1].size
        return "holds" if wanted != "rising" or at_the_end else "cannot be told"
    if found.form == "flat":
        return "does not hold" if found.resolution <= FLAT else "cannot be told"
    if found.form == "turning":
        return "does not hold"
    # A peak that is surely at an end leaves no room for a turn between; one that may lie inside does.
    at_an_end = found.means[-1].size if found.form == "rising" else found.means[0].size
    return "does not hold" if found.peak_low == found.peak_high == at_an_end else "cannot be told"


def apart(study: DataSizeStudy, norm: Norm) -> Claim | None:
    """Whether two networks that turn do so at sizes whose intervals do not meet."""
    turning = [curve for curve in study.curves if curve.robustness[norm].curve.form == "turning"]
    if len(study.curves) < 2:
        return None
    claim = f"The turning point depends on the network ({norm})"
    where = {curve.variant.name: curve.robustness[norm].curve for curve in turning}
    if len(turning) < 2:
        return Claim(claim, "cannot be told", f"{len(turning)} of {len(study.curves)} networks have one")
    measured = "; ".join(f"{name} {interval(one)}" for name, one in where.items())
    first, last = min(one.peak_high for one in where.values()), max(one.peak_low for one in where.values())
    if first < last:
        return Claim(claim, "holds", measured)
    same = all(one.peak_low == one.peak_high for one in where.values())
    return Claim(claim, "does not hold" if same else "cannot be told", measured)


def within(curve: Curve, norm: Norm, low: float, high: float) -> Claim:
    """Whether all means lie in a range, by their intervals."""
    means = curve.robustness[norm].curve.means
    verdict: Verdict = "cannot be told"
    if all(low <= mean.low and mean.high <= high for mean in means):
        verdict = "holds"
    elif any(mean.high < low or mean.low > high for mean in means):
        verdict = "does not hold"
    least, most = min(means, key=float), max(means, key=float)
    return Claim(
        f"Mean {norm} distances of {curve.variant.name} lie from {low:g} to {high:g}", verdict, f"{least} to {most}"
    )


def said(found: TurningPoint) -> str:
    """The form of a curve, in words, with the numbers that it rests on."""
    if found.form == "flat":
        return "flat" if math.isinf(found.resolution) else f"flat to within {percent(found.resolution)} % of the mean"
    steps = [f"{name} {step}" for name, step in (("rise", found.rise), ("fall", found.fall)) if step and step.clear]
    chance = f"probability of a turning point {percent(found.probability)} %"
    return f"{found.form}, largest at {interval(found)}; {'; '.join(steps)}; {chance}"


def interval(found: TurningPoint) -> str:
    """Where the curve is largest, with its interval."""
    if found.peak_low == found.peak_high:
        return f"{found.peak:,}"
    return f"{found.peak:,} ({found.peak_low:,}–{found.peak_high:,})"


def short(found: TurningPoint) -> str:
    """The form of a curve in a few words."""
    last = found.means[-1].size
    if found.form == "turning":
        return f"turns at {interval(found)}"
    if found.form == "rising":
        return (
            f"still rises at {last:,}"
            if found.peak == last
            else f"rises, and does not clearly fall after {found.peak:,}"
        )
    if found.form == "falling":
        return f"falls from {found.peak:,} on"
    return "is flat" if math.isinf(found.resolution) else f"is flat to within {percent(found.resolution)} %"
