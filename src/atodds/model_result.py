"""What a run found on one model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from atodds import analysis
from atodds.analysis import AttackDistortion, AttackShares, ClassCurves, Curve, LowerUpper, Median, Rate
from atodds.errors import ThreatError
from atodds.evaluation.manifest import Finding, ModelInfo
from atodds.evaluation.store import Store
from atodds.threat import SLACK, Budget, EpsLike, EpsSpec, parse_eps_list


@dataclass(frozen=True)
class ModelResult:
    """What a run found on one model. Rates carry their n and a 95 % interval."""

    store: Store
    info: ModelInfo

    @property
    def accuracy(self) -> Rate:
        """The share of images that are classified correctly."""
        return analysis.accuracy(self.store.table(), self.info.id)

    def robust_accuracy(self, eps: EpsLike) -> Rate:
        """The share of images that are classified correctly and that no attack fooled within `eps`.

        Raises:
            ThreatError: a budget that means nothing, or that no attack was given.
        """
        return self.curve([eps]).rates[0]

    def curve(self, eps: EpsSpec | None = None) -> Curve:
        """Robust accuracy over budgets; those of the run if none are given.

        Raises:
            ThreatError: as for `robust_accuracy`.
        """
        return analysis.curve(self.store.table(), self.info.id, self.store.manifest.norm, self._attacked(eps))

    def per_class(self, eps: EpsSpec | None = None) -> ClassCurves:
        """The curve of each class.

        Raises:
            ThreatError: as for `robust_accuracy`.
        """
        manifest = self.store.manifest
        budgets = self._attacked(eps)
        return analysis.per_class(self.store.table(), self.info.id, manifest.norm, budgets, manifest.data.classes)

    def attack_shares(self) -> AttackShares:
        """What each attack added, at each budget of the run."""
        manifest = self.store.manifest
        return analysis.attack_shares(
            self.store.table(), self.info.id, manifest.norm, manifest.budgets, manifest.attacks, alone=manifest.alone
        )

    def distances(
        self, *, images: npt.ArrayLike | None = None, eps: EpsLike | None = None
    ) -> tuple[AttackDistortion, ...]:
        """Success rate and distances of each attack that was made on any of the images, in l0, l1, l2 and linf.

        Args:
            images: ids of those that count, such as `Run.common_images`; None for all that the model has right.
            eps: only what was found within it counts as a success; None for any distance.

        Raises:
            EmptyDataError: no such image was attacked.
            ThreatError: a budget that means nothing.
        """
        manifest, table = self.store.manifest, self.store.table()
        counts = pl.lit(True) if images is None else pl.col("image").is_in(np.asarray(images).tolist())
        made = table.filter(pl.col("model") == self.info.id, pl.col("clean") == pl.col("label"), counts)["attack"]
        attacks = [name for name in manifest.attacks if name in set(made.unique())]
        return analysis.attack_distortions(table, self.info.id, manifest.norm, attacks=attacks, images=images, eps=eps)

    def lower_upper(self) -> tuple[LowerUpper, ...]:
        """The lower bounds of each method beside the distances that the attacks found; none where the run was not asked
        for any, or where the model classifies no image rightly.

        Raises:
            RunError: the bounds are not finished.
        """
        return analysis.lower_uppers(self.store.bounds(), self.store.table(), self.info.id)

    def _attacked(self, eps: EpsSpec | None) -> tuple[Budget, ...]:
        """The budgets, all of them within the largest that was attacked: beyond it nothing was looked for, unless by an
        attack that knows no budget."""
        manifest = self.store.manifest
        if eps is None:
            return manifest.budgets
        budgets, largest = parse_eps_list(eps, manifest.norm), manifest.budgets[-1]
        if self._searched:
            return budgets
        if budgets[-1].value > largest.value * (1 + SLACK):
            problem = f"no attack of this run went beyond {largest}"
            raise ThreatError("eps", budgets[-1].text, problem, "Evaluate at this eps too: a run may grow.")
        return budgets

    @property
    def _searched(self) -> bool:
        """Whether an attack of the run looked for the closest image that fools in any way, at any distance."""
        anywhere = pl.col("eps").is_null() & pl.col("target").is_null()
        found = self.store.table().filter((pl.col("model") == self.info.id) & anywhere)["attack"]
        return not set(found.unique()).isdisjoint(self.store.manifest.attacks)

    @property
    def median_distance(self) -> Median:
        """The median over the correctly classified images of the smallest distance at which one was fooled."""
        return analysis.median_distance(self.store.table(), self.info.id, self.store.manifest.norm)

    @property
    def audit(self) -> tuple[Finding, ...]:
        """What speaks against believing these numbers, the gravest first."""
        return tuple(finding for finding in self.store.findings() if finding.model == self.info.id)
