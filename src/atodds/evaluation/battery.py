"""Whether the numbers can be believed, seen after the run: small attacks on a sample, whatever the run was asked for.

After Carlini et al., "On evaluating adversarial robustness" (2019), Athalye et al., "Obfuscated gradients give a false
sense of security" (ICML 2018), and the flags of AutoAttack (Croce & Hein, 2020) and RobustBench.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks import fgsm, pgd, random_noise
from atodds.attacks.registry import ATTACKS
from atodds.batching import Batching
from atodds.data.images import ImageSet
from atodds.evaluation.manifest import Finding, Manifest, ModelInfo
from atodds.evaluation.schema import CLEAN
from atodds.oracle import Oracle
from atodds.precision import Precision
from atodds.threat import SLACK, Budget, Norm, Threat

VERSION = 5
MASKED = 1 / 3
"""The share of the fooled images that must have been found without gradients alone for gradients to be of no use."""
SAMPLE = 100
"""Images that are attacked, at most."""


def sampled(budgets: Sequence[Budget], images: ImageSet) -> tuple[ImageSet, Budget]:
    """The images that the battery attacks, spread over the set, and the middle of the budgets."""
    count = min(SAMPLE, len(images))
    some = [budget for budget in budgets if budget.value > 0]
    middle = some[(len(some) - 1) // 2] if some else Budget(0.0, "0")
    return images.take([len(images) * k // count for k in range(count)]), middle


def battery(
    info: ModelInfo,
    model: nn.Module,
    images: ImageSet,
    norm: Norm,
    budget: Budget,
    table: pl.DataFrame,
    *,
    seed: int,
    eot: int,
    batching: Batching,
    precision: Precision | None = None,
) -> tuple[Finding, ...]:
    """What small attacks on a sample say: noise against gradients, one step against many, a budget that leaves nothing,
    and all of them against the run.

    Args:
        info: of the model.
        model: the model.
        images: the sample; misclassified images are left out.
        norm, budget: of the attacks.
        table: the run's verdicts.
        seed: of their draws.
        eot: passes that each answer averages over.
        batching: shared with the run.
        precision: of the run's attacks, where that is not the model's own; these attacks run in the model's own.
    """
    oracle = Oracle(model, batch_size=batching, eot=eot, strict=False)
    pixels = images.images().to(oracle.device)
    pixels = pixels.double() if oracle.precision == "float64" else pixels
    labels, ids = torch.from_numpy(images.labels).to(oracle.device), torch.from_numpy(images.ids).to(oracle.device)
    with oracle.running():
        right = oracle.logits(pixels, ids).argmax(1) == labels
        if not right.any() or budget.value == 0:
            return ()
        pixels, labels, ids = pixels[right], labels[right], ids[right]
        threat, huge = Threat(norm, budget.value), Threat(norm, _huge(norm, pixels))

        def fooled(proposals: Tensor) -> Tensor:
            return oracle.logits(proposals, ids).argmax(1) != labels

        climbed = pgd(oracle, pixels, labels, threat, ids=ids, seed=seed, steps=20, loss="margin")
        many, one = fooled(climbed), fooled(fgsm(oracle, pixels, labels, threat, ids=ids, loss="margin"))
        noise = fooled(random_noise(oracle, pixels, labels, threat, ids=ids, seed=seed, queries=50))
        first = many.clone()
        rough = first
        if precision is not None:
            low = Oracle(model, batch_size=batching, eot=eot, strict=False, precision=precision)
            rough = fooled(pgd(low, pixels, labels, threat, ids=ids, seed=seed, steps=20, loss="margin"))
        if (missed := (one | noise) & ~many).any():  # by bad luck, perhaps: where two classes are about as near
            rows = missed.nonzero()[:, 0]
            again = pgd(
                oracle, pixels[rows], labels[rows], threat,
                ids=ids[rows], seed=seed, steps=50, loss="margin", random_start=False,
            )  # fmt: skip
            climbed[rows] = again
            many[rows] = oracle.logits(again, ids[rows]).argmax(1) != labels[rows]
        grey = oracle.logits(torch.full_like(pixels[:1], 0.5), ids[:1]).argmax(1)
        left = ~fooled(pgd(oracle, pixels, labels, huge, ids=ids, seed=seed, steps=50, restarts=2, loss="margin"))
        left &= labels != grey
        coarse = many & ~fooled((climbed * 255).round() / 255)
    standing = torch.isin(ids.cpu(), _standing(table, info.id, norm, budget)).to(many.device)
    sample = _Sample(info.id, norm, budget, len(pixels))
    return (
        *sample.beats("black-box beats white-box", "random noise", noise, many),
        *sample.beats("one step beats many", "one step (FGSM)", one, many),
        *sample.survivors(left, huge),
        *sample.overlooked((first | one | noise) & standing),
        *sample.rounding(coarse, many),
        *sample.weakened(rough, first, precision),
    )


@dataclass(frozen=True)
class _Sample:
    model: str
    norm: Norm
    budget: Budget
    n: int

    def beats(self, check: str, name: str, weaker: Tensor, stronger: Tensor) -> list[Finding]:
        """A weak attack that finds clearly more than a strong one: more than the strong finds beyond the weak."""
        gain, loss = int((weaker & ~stronger).sum()), int((stronger & ~weaker).sum())
        if gain <= loss + max(1, 0.02 * self.n):
            return []
        return [
            Finding(
                check,
                "warning",
                self.model,
                f"{name} fools {int(weaker.sum())}, PGD in 20 steps and 50 more {int(stronger.sum())} of {self.n} "
                f"images at {self.norm} {self.budget}",
                "Gradients lead the stronger attack astray (masked gradients): the robust accuracy shown is too high.",
                "Run attacks without gradients and attacks with other losses; look for rounding, randomness or "
                "saturation in the model.",
            )
        ]

    def survivors(self, left: Tensor, huge: Threat) -> list[Finding]:
        """Images that survive where any image can be turned grey, though grey is of another class."""
        count = int(left.sum())
        if count <= max(1, 0.05 * self.n):
            return []
        return [
            Finding(
                "a huge eps leaves accuracy",
                "warning",
                self.model,
                f"{count} of {self.n} images survive PGD at {huge}, where every image can be turned grey, and grey is "
                "another class to the model",
                "The attack misses fooling images that are there: it fails for another reason than robustness.",
                "Give the attack more steps and other losses; look for masked gradients.",
            )
        ]

    def overlooked(self, fallen: Tensor) -> list[Finding]:
        """Images that the run left standing, and that fall to what the audit tries."""
        count = int(fallen.sum())
        if count <= max(1, 0.05 * self.n):
            return []
        return [
            Finding(
                "the audit beats the run",
                "warning",
                self.model,
                f"{count} of {self.n} images that the run left standing at {self.norm} {self.budget} fall to 20 steps "
                "of PGD on the margin, one step of it, or noise",
                "The attacks of the run are too weak for this model: the robust accuracy shown is too high.",
                "Add stronger attacks, with other losses: --attacks 'pgd,pgd(loss=margin,steps=100)'.",
            )
        ]

    def weakened(self, rough: Tensor, full: Tensor, precision: Precision | None) -> list[Finding]:
        """A number format in which the same attack finds clearly less."""
        lost, gained = int((full & ~rough).sum()), int((rough & ~full).sum())
        if lost <= gained + max(1, 0.01 * self.n):
            return []
        return [
            Finding(
                "reduced precision costs strength",
                "warning",
                self.model,
                f"20 steps of PGD in {precision} fool {int(rough.sum())}, in the model's own precision "
                f"{int(full.sum())} of {self.n} images at {self.norm} {self.budget}",
                "Rounding leads the attacks of this run astray: the robust accuracy shown is too high.",
                "Attack in the model's own precision: leave --precision out.",
            )
        ]

    def rounding(self, coarse: Tensor, many: Tensor) -> list[Finding]:
        """Fooling images that cannot be saved as 8-bit files."""
        count, of = int(coarse.sum()), int(many.sum())
        if count == 0:
            return []
        return [
            Finding(
                "fooling images lost by rounding",
                "note",
                self.model,
                f"{count} of {of} fooling images at {self.norm} {self.budget} stop fooling when rounded to 8 bit",
                "They exist only between the 256 levels of an image file: an adversary who must send a file cannot use "
                "them as they are.",
                "Nothing, if pixels reach the model as floats; else read the robust accuracy as a lower bound.",
            )
        ]


def after(manifest: Manifest, table: pl.DataFrame) -> tuple[Finding, ...]:
    """What the finished table says: attacks without gradients that found what those with gradients, run before them,
    did not, or only at a larger eps."""
    seeing = [name for name in manifest.attacks if not _is_black_box(name)]
    first = manifest.attacks.index(seeing[0]) if seeing and not manifest.alone else 0
    blind = [name for name in manifest.attacks[first:] if _is_black_box(name)]
    found: list[Finding] = []
    for model in manifest.models if blind and seeing else ():
        wrong = pl.col(manifest.norm).is_finite()
        rows = table.filter((pl.col("model") == model.id) & wrong & (pl.col("attack") != CLEAN))
        by_blind, by_seeing = _reach(rows, blind, manifest.norm), _reach(rows, seeing, manifest.norm)
        only = [image for image, eps in by_blind.items() if eps < by_seeing.get(image, math.inf)]
        every = rows["image"].n_unique()
        if len(only) > 0.002 * manifest.data.n and len(only) > 1:
            mostly = len(only) > MASKED * every
            found.append(
                Finding(
                    "black-box beats white-box",
                    "warning" if mostly else "note",
                    model.id,
                    f"{len(only)} of {every} fooled images were fooled only without gradients, or at a smaller eps "
                    f"({', '.join(blind)})",
                    "Gradients are masked, or the attacks that follow them are too short: the robust accuracy shown "
                    "is too high."
                    if mostly
                    else "Attacks with gradients should find these too. They find most of what there is, and the rest "
                    "counts in the robust accuracy shown.",
                    "Raise the steps and restarts, attack other losses; look for rounding or randomness in the model."
                    if mostly
                    else "Keep attacks without gradients in the list for this model; more of their queries may find "
                    "more.",
                )
            )
    return tuple(found)


def _reach(rows: pl.DataFrame, attacks: Sequence[str], norm: str) -> dict[int, float]:
    """The smallest eps at which one of the attacks fooled each image; for an attack without one, the distance."""
    mine = rows.filter(pl.col("attack").is_in(list(attacks)))
    return dict(mine.group_by("image").agg(pl.coalesce("eps", norm).min().alias("eps")).iter_rows())


def _standing(table: pl.DataFrame, model: str, norm: Norm, budget: Budget) -> Tensor:
    """Ids of the images that nothing in the table fools within the budget."""
    rows = table.filter(pl.col("model") == model)
    fallen = rows.filter(pl.col(norm) <= budget.value * (1 + SLACK))["image"]
    return torch.tensor(sorted(set(rows["image"]) - set(fallen)), dtype=torch.int64)


def _is_black_box(attack: str) -> bool:
    return ATTACKS[attack.partition("(")[0]].black_box


def _huge(norm: Norm, images: Tensor) -> float:
    """The radius within which every image can be turned uniformly grey."""
    grey = norms.distance(torch.full_like(images, 0.5), images, norm)
    return min(1.0, float(grey.max()) * 1.001) if norm == "linf" else float(grey.max()) * 1.001
