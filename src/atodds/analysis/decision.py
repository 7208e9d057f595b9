"""From runs and a need to a choice: who the candidates are, what they weigh, and which is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from atodds import models
from atodds.analysis.candidates import Candidates, Measured, candidates, measuring
from atodds.analysis.choice import Choice, Settling, choose
from atodds.analysis.limits import Traits
from atodds.analysis.need import Need
from atodds.analysis.resampling import RESAMPLES
from atodds.errors import AtoddsError, NeedError
from atodds.evaluation.manifest import ModelInfo
from atodds.models.latency import latency_ms


@dataclass(frozen=True, eq=False)
class Decision:
    """A choice, and the candidates that it is from."""

    choice: Choice
    candidates: Candidates

    def name(self, model: str) -> str:
        """What to call a model."""
        return self.candidates.names[model]

    def more(self, settling: Settling) -> str | None:
        """The command that would settle a close call; None where no number of images would."""
        if settling.images is None:
            return None
        return measuring(self.candidates.manifests[0], limit=settling.images)


def decide(
    runs: Sequence[Measured],
    need: Need,
    *,
    brought: Mapping[str, nn.Module] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Decision:
    """The model of some runs that a need is best served by.

    Args:
        runs: finished, of the same data set; models are compared over the images that all have.
        need: what is asked.
        brought: models by name, to time where the need limits latency; those that are not here are loaded from where
            the run says that they came from.
        seed, resamples: of the bootstrap.

    Raises:
        NeedError: no model meets the need, or the runs lack a measurement, with the command that makes it.
        As for `candidates` and `choose` otherwise.
    """
    found = candidates(runs, need)
    shape = found.manifests[0].data.shape
    traits = {
        model: Traits(
            info.parameters,
            None if need.latency_ms is None else latency_ms(_model(info, brought or {}), shape),
        )
        for model, info in found.infos.items()
    }
    choice = choose(
        found.seen, found.labels, found.classes, need, traits, measured=found.measured, anywhere=found.anywhere,
        seed=seed, resamples=resamples,
    )  # fmt: skip
    return Decision(choice, found)


def _model(info: ModelInfo, brought: Mapping[str, nn.Module]) -> nn.Module:
    """The model itself, checked to be the one that was measured."""
    way_out = f"Bring it: --model {info.name}=MODEL, as for atodds bench (brought={{{info.name!r}: module}})."
    model = brought.get(info.name)
    if model is None:
        if not info.source:
            raise NeedError("latency_ms", info.name, "a model that the run cannot load, to be timed", way_out)
        try:
            model = models.load(info.source, name=info.name)
        except AtoddsError as error:
            problem = f"a model that cannot be loaded from {info.source} ({error})"
            raise NeedError("latency_ms", info.name, problem, way_out) from error
    if models.fingerprint(model) != info.fingerprint:
        problem = f"what {info.source or 'was brought'} gives is not the model that the run measured"
        raise NeedError("latency_ms", info.name, problem, way_out)
    return model
