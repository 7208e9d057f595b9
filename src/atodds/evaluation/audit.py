"""Whether the numbers can be believed, seen before the run: what a model does with a few images.

After the flags of AutoAttack (Croce & Hein, 2020) and Athalye et al., "Obfuscated gradients give a false sense of
security" (ICML 2018).
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from atodds.batching import Batching
from atodds.data.images import ImageSet
from atodds.errors import AtoddsError, LogitsError, ModelError
from atodds.evaluation import masking
from atodds.evaluation.manifest import Finding, ModelInfo
from atodds.evaluation.plan import CHUNK
from atodds.evaluation.probe import Probe, differ, of
from atodds.oracle import Oracle

VERSION = 3
PROBE = 64
"""Images that are looked at, at most."""

RANDOM, BATCH = "random outputs", "batch dependence"
"""The checks that find a model which gives one image different answers."""

_REPEATS = 5


def before(info: ModelInfo, model: nn.Module, images: ImageSet, batching: Batching) -> tuple[Finding, ...]:
    """What a few images say about a model before it is attacked.

    Args:
        info: of the model.
        model: as it was brought, maybe in training mode.
        images: the first `PROBE` are looked at; all go through the model once.
        batching: shared with the run, so that the passes made here also measure the batch size.

    Raises:
        ModelError: it cannot take these images, or one of them alone.
        LogitsError: outputs that are not one finite row of logits an image, or fewer classes than labels.
    """
    chosen = range(min(PROBE, len(images)))
    oracle = Oracle(model, batch_size=batching)
    pixels = _pixels(oracle, images, chosen)
    labels = torch.from_numpy(images.labels[: len(pixels)]).to(oracle.device)
    was_training = any(module.training for module in model.modules())
    with oracle.running():
        logits = first_pass(info, oracle, pixels)
        _one_alone(info, oracle, pixels)
        _check_logits(info, logits, images)
        for start in range(PROBE, len(images), CHUNK):  # outputs that are no numbers are found now, not after hours
            first_pass(info, oracle, _pixels(oracle, images, range(start, min(start + CHUNK, len(images)))))
        probe = Probe(info.id, oracle, pixels, labels, logits)
        random = _random(probe)
        mixing = [] if random else _batch_dependence(probe)
        softmax = _softmax(probe)
        clear = probe.unsaturated() if softmax else probe
        # between the images a model may break down, and that is for the attacks to find
        clear = replace(clear, oracle=Oracle(model, batch_size=batching, strict=False))
        found = [
            *_training_mode(probe, was_training),
            *random,
            *mixing,
            *softmax,
            *_few_classes(probe),
            *(masking.findings(clear, random=bool(random), mixing=bool(mixing)) if len(clear.images) else []),
        ]
    return tuple(found)


def _pixels(oracle: Oracle, images: ImageSet, positions: range) -> Tensor:
    pixels = images.images(positions).to(oracle.device)
    return pixels.double() if oracle.precision == "float64" else pixels


def first_pass(info: ModelInfo, oracle: Oracle, pixels: Tensor) -> Tensor:
    try:
        return oracle.logits(pixels, torch.arange(len(pixels)))
    except LogitsError as error:
        raise LogitsError(f"{info.name}: {error}") from error
    except AtoddsError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        shape = "x".join(str(side) for side in pixels.shape[1:])
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{info.name} fails on images of {shape} (channels x height x width): {reason.rstrip('.')}. "
            "Bring images of the shape that it was made for: another data set, or size=."
        ) from error


def _one_alone(info: ModelInfo, oracle: Oracle, pixels: Tensor) -> None:
    """Attacks leave out images that are done: sooner or later one is alone in its batch."""
    try:
        oracle.logits(pixels[:1], torch.arange(1))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{info.name} fails on one image alone: {reason} Its batch norm ignores its running statistics, perhaps: "
            "bring it with track_running_stats=True, and trained so."
        ) from error


def _check_logits(info: ModelInfo, logits: Tensor, images: ImageSet) -> None:
    highest = int(images.labels.max())
    if highest >= logits.shape[1]:
        raise LogitsError(
            f"{info.name} has {logits.shape[1]} classes, but the images have labels up to {highest}. "
            "Bring the model that was trained on these classes, or the right images."
        )


def _training_mode(probe: Probe, was_training: bool) -> list[Finding]:
    changes = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    if not was_training or not any(isinstance(module, changes) for module in probe.oracle.model.modules()):
        return []
    return [
        probe.finding(
            "training mode",
            "note",
            "the model came in training mode, with dropout or batch norm in it",
            "It was run in evaluation mode, and given back in training mode.",
            "Nothing, if evaluation mode is what will be deployed.",
        )
    ]


def _random(probe: Probe) -> list[Finding]:
    ids = torch.arange(len(probe.images))
    again = torch.stack([probe.oracle.logits(probe.images, ids) for _ in range(_REPEATS - 1)])
    apart = differ(again, probe.logits).any(0)
    if not apart.any():
        return []
    return [
        probe.finding(
            RANDOM,
            "warning",
            f"{of(apart)} images get other logits in {_REPEATS} identical passes",
            "The model draws at random, as with added noise, random resizing or dropout. One pass says little of it, "
            "and the gradient of one draw is noisy: the robust accuracy shown is too high, and another run gives "
            "another number.",
            "Average over draws, and take every step though one draw is fooled: --attacks rand --eot 20, or "
            "--attacks 'pgd(stop=False)' --eot 20. Where the randomness is a defence, report the accuracy of its "
            "average too.",
        )
    ]


def _batch_dependence(probe: Probe) -> list[Finding]:
    few = min(8, len(probe.images))
    single = torch.cat([probe.oracle.logits(probe.images[k : k + 1], torch.tensor([k])) for k in range(few)])
    flipped = probe.oracle.logits(probe.images.flip(0), torch.arange(len(probe.images))).flip(0)
    apart = differ(single, probe.logits[:few]) | differ(flipped[:few], probe.logits[:few])
    if not apart.any():
        return []
    return [
        probe.finding(
            BATCH,
            "warning",
            f"{of(apart)} images get other logits alone than among others",
            "An image's prediction depends on the images that it is batched with, as with batch norm that ignores its "
            "running statistics. Verdicts depend on the batch size.",
            "Freeze the batch statistics (track_running_stats=True and eval mode), or report with --batch-size 1.",
        )
    ]


def _softmax(probe: Probe) -> list[Finding]:
    sums = probe.logits.sum(1)
    if not bool((probe.logits >= 0).all()) or not bool(((sums - 1).abs() < 1e-3).all()):
        return []
    return [
        probe.finding(
            "softmax outputs",
            "warning",
            "every row of outputs is positive and sums to 1",
            "The model returns probabilities, not logits. Losses that expect logits saturate, and attacks get weaker.",
            "Take the softmax off: return what goes into it, or the logarithm of the probabilities.",
        )
    ]


def _few_classes(probe: Probe) -> list[Finding]:
    classes = probe.logits.shape[1]
    if classes >= 4:
        return []
    return [
        probe.finding(
            "few classes",
            "note",
            f"{classes} classes",
            "The DLR loss needs 3 classes, and 4 with a target: it cannot be used here.",
            "Read the results as those of cross-entropy and margin losses.",
        )
    ]
