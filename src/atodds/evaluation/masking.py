"""What hides a model's gradient from attacks, each cause told apart from the others and said with its way out.

After Athalye et al., "Obfuscated gradients give a false sense of security" (ICML 2018), and Tramèr et al., "On
adaptive attacks to adversarial example defenses" (NeurIPS 2020).
"""

import torch
from torch import Tensor

from atodds.evaluation import measures
from atodds.evaluation.manifest import Finding
from atodds.evaluation.measures import SWEEP
from atodds.evaluation.probe import Probe, of

_MANY, _SOME = 0.2, 0.05
"""Shares of the images above which a sign is the model's, and above which it is more than that of an odd image."""
_FEW = 16
"""Images that are looked at for jumps."""
_FINE = 100
"""An input of at least so many levels is rounded; of fewer, quantised."""
_FORETOLD = 0.8
"""R² of the gradient below which it is not the model's own: 0.97 and more for healthy networks."""


def findings(probe: Probe, *, random: bool, mixing: bool) -> list[Finding]:
    """What hides the gradient of a model.

    Args:
        probe: of a model that returns logits.
        random: it answers differently each time, so that two answers cannot be compared.
        mixing: what it says of an image depends on the images beside it.
    """
    before = probe.oracle.odd_gradients
    gradient = probe.gradient("margin", probe.images)
    entropy = probe.gradient("cross-entropy", probe.images)
    dead = (gradient.flatten(1) == 0).all(1)
    mute = (entropy.flatten(1) == 0).all(1) & ~dead & (probe.logits.argmax(1) == probe.labels)
    found = [*_odd(probe, probe.oracle.odd_gradients - before), *_saturated(probe, mute)]
    if random:
        return found + _vanishing(probe, dead, "")
    if levels := _levels(probe, dead, gradient):
        return found + levels
    found += _dead(probe, dead, mixing=mixing)
    if _more(dead, _MANY):
        return found
    jumps = _jumps(probe, mixing=mixing)
    return found + (_jumping(probe, jumps) or _astray(probe, gradient, mixing=mixing))


def _jumps(probe: Probe, *, mixing: bool) -> Tensor:
    """(16,) or fewer: whether the margin jumps near the first images."""
    few = probe.only(torch.arange(min(_FEW, len(probe.images)), device=probe.images.device))
    # where images depend on each other, each one's own way through its neighbourhood moves the others
    return few.labels < 0 if mixing else measures.jumps(few)


def _more(mask: Tensor, share: float) -> bool:
    return int(mask.sum()) > share * len(mask)


def _odd(probe: Probe, count: int) -> list[Finding]:
    if count == 0:
        return []
    return [
        probe.finding(
            "gradients that are not numbers",
            "warning",
            f"{count} of {2 * len(probe.images)} gradients hold NaN or infinite values",
            "Those values were taken as 0, so attacks that follow gradients are weaker than they should be.",
            "Look for square roots, norms or logarithms at 0 in the model.",
        )
    ]


def _saturated(probe: Probe, mute: Tensor) -> list[Finding]:
    """Is the model so sure that the softmax rounds to 1, and the cross-entropy to 0?"""
    if not mute.any():
        return []
    first, second = probe.logits[mute].double().topk(2, 1).values.unbind(1)
    lead = float((first - second).median())
    dlr = "" if probe.logits.shape[1] < 3 else " or 'auto_pgd(loss=dlr)', the latter whatever the scale"
    return [
        probe.finding(
            "saturated cross-entropy",
            "warning" if _more(mute, _MANY) else "note",
            f"the gradient of the cross-entropy is exactly 0 for {of(mute)} images, that of the margin is not; the "
            f"largest logit leads by {lead:.3g} there",
            "The logits are so large that the softmax saturates, as with a scale on the logits or after defensive "
            "distillation. Attacks on the cross-entropy do not move from these images, which says nothing about "
            "robustness.",
            f"Attack differences of logits: --attacks 'pgd(loss=margin)'{dlr}. Or divide the logits by about "
            f"{max(lead / 10, 2):.2g} before attacking.",
        )
    ]


def _levels(probe: Probe, dead: Tensor, gradient: Tensor) -> list[Finding]:
    """Is the input cut to levels of equal width? A short sweep tells the models where it is not."""
    short = range(SWEEP // 2, SWEEP // 2 + 32)
    if len(measures.runs(probe, short)) > len(short) // 2:
        return []
    runs = measures.runs(probe, range(SWEEP + 1))
    width = float(runs.double().median())
    even = ((runs > 0.6 * width) & (runs < 1.6 * width)).double().mean()
    if len(runs) < 2 or even < 0.6:
        return []
    count = len(runs)
    measured = (
        f"while one grey of an image goes from black to white in {SWEEP} steps, the model gives {count} different "
        "outputs; the gradient of the margin is " + (f"exactly 0 for {of(dead)} images" if dead.any() else "not 0")
    )
    name = "rounded input" if count >= _FINE else "quantised input"
    if not _more(dead, _SOME) and not _more(~measures.raises(probe, gradient, width / SWEEP), _MANY):
        return [
            probe.finding(
                name,
                "note",
                measured,
                f"The model rounds its input to about {count} levels and lets the gradient pass: attacks find their "
                "way, in steps of a level or more.",
                f"Nothing, for an eps of several times {width / SWEEP:.2g}.",
            )
        ]
    if name == "rounded input":
        return [
            probe.finding(
                name,
                "warning",
                measured,
                f"The model rounds its input to about {count} levels. The gradient of rounding is 0, and steps smaller "
                "than a level change nothing: attacks that follow gradients find nothing, which says nothing about "
                "robustness.",
                "Let the gradient pass straight through the rounding (BPDA: x + (round(x) - x).detach()) and attack "
                "that; and run an attack without gradients: --attacks square.",
            )
        ]
    return [
        probe.finding(
            name,
            "warning",
            measured,
            f"The model sees about {count} levels of its input, as through a thermometer code, one-hot levels or fewer "
            "bits, and steps have no gradient: attacks that follow gradients find nothing, which says nothing about "
            "robustness.",
            "Attack a stand-in whose steps are ramps (BPDA: ramps backward, steps forward), and run an attack without "
            "gradients: --attacks square.",
        )
    ]


def _dead(probe: Probe, dead: Tensor, *, mixing: bool) -> list[Finding]:
    """Why the gradient is 0: the model moves in jumps, or smoothly and the gradient is cut, or not at all."""
    if not dead.any():
        return []
    there = probe.only(dead)
    if _more(_jumps(there, mixing=mixing), 0.5):
        return _vanishing(probe, dead, ", and the margin moves in jumps")
    if _more(measures.follows(there), 0.5):
        return _cut(probe, dead)
    return _vanishing(probe, dead, ", and a change of 0.25/255 does not move it")


def _vanishing(probe: Probe, dead: Tensor, seen: str) -> list[Finding]:
    if not dead.any():
        return []
    return [
        probe.finding(
            "vanishing gradients",
            "warning" if _more(dead, _SOME) else "note",
            f"the gradient of the margin is exactly 0 for {of(dead)} images{seen}",
            "The model computes in steps or where its functions are flat: rounding, signs or thresholds inside it, or "
            "saturated units. Attacks that follow gradients find nothing, which says nothing about robustness.",
            "Attack a differentiable stand-in of the steps (BPDA), and run an attack without gradients: "
            "--attacks square.",
        )
    ]


def _cut(probe: Probe, dead: Tensor) -> list[Finding]:
    return [
        probe.finding(
            "cut gradient",
            "warning",
            f"the gradient of the margin is exactly 0 for {of(dead)} images, though the margin follows changes of "
            "0.25/255, and without a jump",
            "What the model computes is differentiable, and its gradient is cut on the way: by detach, no_grad, .data, "
            "or a way through NumPy. Attacks that follow gradients find nothing, which says nothing about robustness.",
            "Take the cut out, or put the true gradient back, and attack that; and run an attack without gradients: "
            "--attacks square.",
        )
    ]


def _jumping(probe: Probe, jumps: Tensor) -> list[Finding]:
    if not _more(jumps, _MANY):
        return []
    return [
        probe.finding(
            "jumping outputs",
            "warning",
            f"the margin of {of(jumps)} images jumps on a way of 16/255: a step of 0.001/255 changes it by more than "
            f"{100 * measures.JUMP} % of all its ups and downs there",
            "Activations switch on and off at full height, as with k-winners-take-all, so that the loss is "
            "discontinuous. The gradient holds only up to the next jump: attacks that follow it go astray, which says "
            "nothing about robustness.",
            "Let a continuous activation stand in backward for the one that switches (BPDA), or average the gradient "
            "over many points around the image; and run an attack without gradients: --attacks square.",
        )
    ]


def _astray(probe: Probe, gradient: Tensor, *, mixing: bool) -> list[Finding]:
    """Does a small step along the gradient raise the margin, and does the gradient foretell how the margin moves?"""
    lower = ~measures.raises(probe, gradient, 0.25 * measures.LEVEL)
    foretold = 1.0 if mixing else measures.foretold(probe)
    if not _more(lower, _MANY) and foretold > _FORETOLD:
        return []
    return [
        probe.finding(
            "gradients that lead astray",
            "warning",
            f"a step of 0.25/255 along its sign does not raise the margin for {of(lower)} images; the gradient "
            f"explains {max(foretold, 0):.0%} of how the margin moves on a short random way",
            "The gradient is not that of what the model computes: a part of it is detached, or has a backward pass of "
            "its own.",
            "Put the true gradient back, or a stand-in that is close to it (BPDA), and attack that; and run an attack "
            "without gradients: --attacks square.",
        )
    ]
