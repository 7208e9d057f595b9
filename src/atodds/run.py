"""The surface: evaluate models, and ask the run that it gives."""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import nn

from atodds import analysis, models
from atodds.analysis import (
    AttackDistortion,
    AttackShares,
    ClassCurves,
    Curve,
    LowerUpper,
    MixtureFrontier,
    Rate,
)
from atodds.analysis.decision import Decision, decide
from atodds.analysis.gate import Gate, Requirement, parse_least, parse_requirement
from atodds.analysis.gate_runs import check
from atodds.analysis.mixtures import mixture_frontiers
from atodds.analysis.need import Need, parse_need
from atodds.analysis.together import together
from atodds.bounds.registry import parse as parse_bounds
from atodds.data.arrays import ArrayLike
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, RunError, UnknownNameError
from atodds.evaluation.bounds import bound
from atodds.evaluation.conduct import Settings, conduct
from atodds.evaluation.manifest import Finding
from atodds.evaluation.store import Store
from atodds.model_result import ModelResult
from atodds.models.classifier import checked_name
from atodds.threat import EpsLike, EpsSpec, parse_norm

Images = ImageSet | tuple[ArrayLike, ArrayLike | Sequence[int]]
Models = nn.Module | str | Sequence[nn.Module | str] | Mapping[str, nn.Module | str]


def evaluate(
    model: Models,
    images: Images,
    *,
    norm: str = "linf",
    eps: EpsSpec = "8/255",
    attacks: str | Sequence[str] = "quick",
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    precision: str | None = None,
    eot: int | None = None,
    alone: bool = False,
    keep: bool | None = None,
    workers: int = 1,
    batch_size: int | None = None,
    chunk: int | None = None,
    command: str = "",
    progress: bool | None = None,
    transfer: bool = False,
    bounds: str | Sequence[str] = (),
) -> "Run":
    """Attack models on images, judge every proposal in full precision, and keep every verdict.

    The same call again continues where it stopped: what is finished is not done again.

    Args:
        model: a module, images (N, C, H, W) in [0, 1] -> logits; or text for `atodds.models.load`; or several, as a
            list or by name. Each stays on its device and is given back as it came.
        images: an ImageSet, or a pair (images, labels) as for `ImageSet.from_arrays`.
        norm: "linf", "l2" or "l1".
        eps: a number, text ("8/255"), a range ("0:8/255:1/255"), or a list of these.
        attacks: a preset or attacks by name ("fgsm,pgd(steps=100),pgd(target=random)"), in the order in which they
            run. Minimum-norm attacks run once; the budgets then only say where curves are read.
        out: folder or bucket of the run; a new temporary folder where left out.
        seed: decides every random draw, with each image's id.
        precision: "bfloat16" or "float16" attacks in it; verdicts are always in the model's own precision.
        eot: passes that each answer of a random model is averaged over, and its verdicts too; None is 1, and 20 for
            the preset "rand".
        alone: run every attack on every correctly classified image, not only on those that none before it fooled.
        keep: keep the fooling images; None keeps them up to 1 GiB.
        workers: processes on this machine.
        batch_size: images at once; None measures it.
        chunk: images of a job, at most: what a crash can lose.
        command: what the page shows as the command that made it.
        progress: show a bar; None shows it on a terminal.
        transfer: show every model what was found on every other one: see `Run.transfer`. It keeps the fooling images.
        bounds: lower bounds by name ("clever,smoothing(sigma=0.25)"), computed after the attacks: see `Run.bounds`.

    Raises:
        ArgumentError, ThreatError, UnknownNameError: an argument that cannot work.
        DataError: images or labels that cannot be used.
        ModelError, LogitsError: a model that cannot be used.
        RunError: a folder that cannot be used, a disk that is full, a worker that died.
    """
    settings = Settings(
        seed=seed, precision=precision, eot=eot, alone=alone, keep=keep, workers=workers, batch_size=batch_size,
        command=command, progress=progress, transfer=transfer, **({} if chunk is None else {"chunk": chunk}),
    )  # fmt: skip
    methods, ball = parse_bounds(bounds), parse_norm(norm)
    for method in methods:
        method.check(ball)
    brought, chosen = _brought(model), _set(images)
    place = tempfile.mkdtemp(prefix="atodds-") if out is None else out
    store = conduct(brought, chosen, norm, eps, attacks, place, settings)
    if methods:
        bound(store, brought, chosen, methods, shown=progress)
    return Run(store)


class Run:
    """A finished run. With one model it answers for that model; with several, `run["name"]` answers for each.

    Args:
        store: of the run.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def open(cls, place: str | os.PathLike[str]) -> "Run":
        """The run in a folder.

        Raises:
            NotARunError: the folder holds none.
            NewerRunError, OlderRunError: another version made it.
        """
        return cls(Store.open(place))

    @property
    def place(self) -> str:
        """The run's folder."""
        return self.store.folder.place

    @property
    def models(self) -> tuple[ModelResult, ...]:
        """The results on each model, in the order in which they were given."""
        return tuple(ModelResult(self.store, info) for info in self.store.manifest.models)

    def __getitem__(self, name: str) -> ModelResult:
        """The results on the model of that name, or of that id.

        Raises:
            UnknownNameError: the run has no such model.
        """
        found = next((result for result in self.models if name in (result.info.id, result.info.name)), None)
        if found is None:
            raise UnknownNameError.among("model", name, [result.info.name for result in self.models])
        return found

    @property
    def accuracy(self) -> Rate:
        """As in `ModelResult`, for a run of one model."""
        return self._only().accuracy

    def robust_accuracy(self, eps: EpsLike) -> Rate:
        """As in `ModelResult`, for a run of one model."""
        return self._only().robust_accuracy(eps)

    def curve(self, eps: EpsSpec | None = None) -> Curve:
        """As in `ModelResult`, for a run of one model."""
        return self._only().curve(eps)

    def per_class(self, eps: EpsSpec | None = None) -> ClassCurves:
        """As in `ModelResult`, for a run of one model."""
        return self._only().per_class(eps)

    def attack_shares(self) -> AttackShares:
        """As in `ModelResult`, for a run of one model."""
        return self._only().attack_shares()

    def distances(
        self, *, images: npt.ArrayLike | None = None, eps: EpsLike | None = None
    ) -> tuple[AttackDistortion, ...]:
        """As in `ModelResult`, for a run of one model."""
        return self._only().distances(images=images, eps=eps)

    def common_images(self, models: Sequence[str] | None = None) -> npt.NDArray[np.int64]:
        """Ids of the images that all of some models, by name, classify rightly; all models if none are named.

        Raises:
            EmptyDataError: there is none.
            UnknownNameError: the run has no such model.
        """
        ids = [result.info.id for result in (self.models if models is None else [self[name] for name in models])]
        return analysis.common_images(self.table, ids)

    def lower_upper(self) -> tuple[LowerUpper, ...]:
        """As in `ModelResult`, for a run of one model."""
        return self._only().lower_upper()

    def mixtures(self, eps: EpsSpec | None = None) -> tuple[tuple[MixtureFrontier, ...], ...]:
        """The line that mixtures trace between each two models of the run, at every budget at which the two differ; no
        line for a run without mixtures.

        Args:
            eps: budgets; those of the run where left out.

        Raises:
            ThreatError: a budget that means nothing, or that no attack was given.
        """
        norm, found = self.store.manifest.norm, analysis.mixed_in(self.store.manifest.models)
        budgets = self.models[0]._attacked(eps) if found else ()
        return tuple(mixture_frontiers(together(self.table, norm, mixed.models), budgets, mixed) for mixed in found)

    @property
    def bounds(self) -> pl.DataFrame:
        """Every lower bound: `atodds.bounds.schema.SCHEMA`. Empty where the run was not asked for any.

        Raises:
            RunError: they are not finished.
        """
        return self.store.bounds()

    @property
    def transfer(self) -> pl.DataFrame:
        """What every model says of the images that fooled every other one: `atodds.evaluation.transfers.SCHEMA`.

        Raises:
            RunError: the run was not asked for it, or has not finished it.
        """
        if not self.store.manifest.transfers:
            way_out = (
                "The same command with --transfer, or evaluate(..., transfer=True), adds it and repeats no attack."
            )
            raise RunError(f"{self.place} was evaluated without transfer. {way_out}")
        return self.store.transfers()

    @property
    def audit(self) -> tuple[Finding, ...]:
        """What speaks against believing the numbers, over all models, the gravest first."""
        return self.store.findings()

    @property
    def table(self) -> pl.DataFrame:
        """Every verdict."""
        return self.store.table()

    def choose(
        self, need: Need | Mapping[str, object], *, brought: Mapping[str, nn.Module] | None = None, seed: int = 0
    ) -> Decision:
        """The model of this run that a need is best served by; `atodds.analysis.decide` takes several runs.

        Args:
            need: a Need, or its words: {"attacked": 0.1, "eps": "4/255", "min_clean": 0.9}.
            brought: models by name, to be timed where the need limits latency and the run cannot load them.
            seed: of the bootstrap over images.

        Raises:
            NeedError: no model meets the need, or the run lacks a measurement, with the command that makes it.
            ArgumentError, ThreatError, UnknownNameError: a need that means nothing.
        """
        return decide([self.store], need if isinstance(need, Need) else parse_need(need), brought=brought, seed=seed)

    def check(
        self,
        min_robust: str | Sequence[str] = (),
        *,
        min_clean: float | str | None = None,
        baseline: "Run | None" = None,
        models: Sequence[str] = (),
    ) -> Gate:
        """Hold the models of this run against requirements, and against an older run: `atodds.analysis.check`.

        Args:
            min_robust: least robust accuracy, "0.45@linf:8/255", or several.
            min_clean: least accuracy on images that are not attacked.
            baseline: an older run; compared over the images that both have.
            models: names of those to look at, or NEW=OLD where the baseline's has another name; all where left out.

        Raises:
            ArgumentError, ThreatError: a requirement that means nothing, or nothing to check.
            NeedError: a norm or budget that a run was not attacked at, with the command that measures it.
            UnknownNameError: no such model.
            EmptyDataError: a model and its baseline share no image.
        """
        wanted = [] if min_clean is None else [Requirement(parse_least(str(min_clean), "min_clean"))]
        texts = [min_robust] if isinstance(min_robust, str) else min_robust
        wanted += [parse_requirement(text, "min_robust") for text in texts]
        return check(self.store, wanted, baseline=None if baseline is None else baseline.store, models=models)

    def report(self, file: str | os.PathLike[str] | None = None) -> Path:
        """Write the page, one file that needs nothing else.

        Args:
            file: where to; `report.html` in the run's folder if that is on this machine, else here, where left out.
        """
        from atodds import report  # charts take a while to import, and most scripts draw none

        folder = Path() if "://" in self.place else Path(self.place)
        return report.write(self.store, folder / "report.html" if file is None else Path(file))

    def export(
        self,
        form: str,
        out: str | os.PathLike[str] | None = None,
        *,
        models: Sequence[str] | None = None,
        eps: EpsSpec | None = None,
        fields: Mapping[str, str] | None = None,
        experiment: str = "atodds",
    ) -> tuple[str, ...]:
        """The run in another format, "robustbench", "model-card" or "mlflow": see `atodds.report.exports.export`, whose
        arguments and errors it has.

        Returns:
            The files that were written, one a model, or the ids of MLflow's runs.
        """
        from atodds.report import exports

        return exports.export(self.store, form, out, models=models, eps=eps, fields=fields, experiment=experiment)

    def __repr__(self) -> str:
        names = ", ".join(result.info.name for result in self.models)
        return f"<Run of {names} on {self.store.manifest.data.name} in {self.place}>"

    def _only(self) -> ModelResult:
        if len(self.models) > 1:
            names = ", ".join(repr(result.info.name) for result in self.models)
            raise ArgumentError("model", "none", "the run has several models", f'Ask one: run["name"], of {names}.')
        return self.models[0]


def _set(images: Images) -> ImageSet:
    if isinstance(images, ImageSet):
        return images
    if not isinstance(images, (tuple, list)) or len(images) != 2:
        raise ArgumentError(
            "images", type(images).__name__, "not images with labels", "Pass an ImageSet or (images, labels)."
        )
    pixels, labels = images
    return ImageSet.from_arrays(pixels, labels)


def _brought(model: Models) -> dict[str, nn.Module]:
    """Models by name. Text is loaded; a module without a name is called by its class, with a number for the second."""
    if isinstance(model, Mapping):
        return {checked_name(name): _loaded(one, name) for name, one in model.items()}
    several = list(model) if isinstance(model, Iterable) and not isinstance(model, (nn.Module, str)) else [model]
    named: dict[str, nn.Module] = {}
    for one in several:
        module = _loaded(one)
        plain = models.name_of(module)
        name = next(name for name in _numbered(plain, len(several) + 1) if name not in named)
        named[name] = module
    return named


def _numbered(name: str, count: int) -> list[str]:
    return [name, *(f"{name}-{number}" for number in range(2, count + 1))]


def _loaded(model: object, name: str | None = None) -> nn.Module:
    if isinstance(model, str):
        return models.load(model, name=name)
    if not isinstance(model, nn.Module):
        way_out = "Pass a torch.nn.Module, or text for atodds.models.load."
        raise ArgumentError("model", type(model).__name__, "not a model", way_out)
    return model
