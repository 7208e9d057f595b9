"""What can go wrong, as types.

AtoddsError
├── ArgumentError (also a ValueError)   an argument that cannot work, found before any long work starts
│   ├── ThreatError                     a norm or a budget: `--eps 8`, a negative or NaN eps
│   ├── NeedError                       a need that no model meets, or that a run cannot answer yet
│   └── UnknownNameError                an attack, network or data set that does not exist, with the nearest names
├── DataError                           the images or labels that were brought
│   ├── UnreadableImageError            one file or row that cannot be decoded, by name
│   ├── EmptyDataError                  nothing left to measure
│   └── DownloadError                   the network refused, or the bytes were not the ones promised
├── ModelError                          the classifier that was brought
│   ├── UntrustedFileError              a file that could run code, without leave to do so
│   ├── WeightsDownloadError            a library that could not fetch its pretrained weights
│   ├── WebPageError                    a web page that was saved in the place of weights
│   ├── TruncatedFileError              a file of weights whose end is missing
│   ├── ChecksumError                   a file of weights with another hash than promised
│   └── LogitsError                     outputs of another shape, NaN or infinite outputs
├── RunError                            a folder of results
│   ├── NotARunError                    a folder that holds no run
│   ├── NewerRunError                   a run that a newer version wrote
│   ├── OlderRunError                   a run that an older version wrote, in another way
│   ├── OtherPlanError                  a run in the same folder that was asked another question
│   ├── CorruptShardError               a result file that is not what was written
│   ├── StoreFullError                  no room left on the disk
│   └── WorkerError                     a worker process that died
└── MissingExtraError                   an optional package that is not installed

Every message says which argument (or file), what came, and the way out.
"""

import difflib
from collections.abc import Iterable


class AtoddsError(Exception):
    """The root of every error that this package raises on purpose."""


class ArgumentError(AtoddsError, ValueError):
    """An argument that cannot work.

    Args:
        argument: its name, as the caller wrote it (`eps`, `--limit`).
        value: what came.
        problem: what is wrong with it.
        way_out: what to do instead.
    """

    def __init__(self, argument: str, value: object, problem: str, way_out: str) -> None:
        self.argument, self.value, self.problem, self.way_out = argument, value, problem, way_out
        super().__init__(f"{argument}={shown(value)}: {problem}. {way_out}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.argument, self.value, self.problem, self.way_out)


class ThreatError(ArgumentError):
    """A norm or a budget that means nothing."""


class NeedError(ArgumentError):
    """A need that contradicts itself or what is there: no model meets it, or the run lacks the measurement."""


class UnknownNameError(ArgumentError):
    """A name that nothing answers to."""

    @classmethod
    def among(cls, argument: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """The error for `name`, which offers the nearest of the `known` names."""
        names = sorted(known)
        near = difflib.get_close_matches(name[:100], names, n=3, cutoff=0.4)  # the time grows with the length
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        return cls(argument, name, "no such name", f"{hint}Known: {', '.join(names) or 'none'}.")


class DataError(AtoddsError):
    """Images or labels that cannot be used."""


class UnreadableImageError(DataError):
    """An image that cannot be decoded."""


class EmptyDataError(DataError):
    """A selection without images."""


class DownloadError(DataError):
    """Official files that could not be fetched, or were not what their checksum promises."""


class ModelError(AtoddsError):
    """A classifier that cannot be used."""


class UntrustedFileError(ModelError):
    """A file that could run code when it is opened."""


class WeightsDownloadError(ModelError):
    """Pretrained weights that a library could not fetch."""


class WebPageError(ModelError):
    """A web page that was saved in the place of weights."""


class TruncatedFileError(ModelError):
    """A file of weights whose end is missing."""


class ChecksumError(ModelError):
    """A file of weights with another hash than promised."""


class LogitsError(ModelError):
    """Outputs that are not one finite row of logits an image."""


class RunError(AtoddsError):
    """A folder of results that cannot be used."""


class NotARunError(RunError):
    """A folder that holds no run."""


class NewerRunError(RunError):
    """A run written by a newer version."""


class OlderRunError(RunError):
    """A run written by an older version, whose results cannot stand beside those of this one."""


class OtherPlanError(RunError):
    """A run in the same folder that was asked another question."""


class CorruptShardError(RunError):
    """A result file that is truncated, altered or not ours."""


class StoreFullError(RunError):
    """No room left where results are written."""


class WorkerError(RunError):
    """A worker process that ended before its work."""


class MissingExtraError(AtoddsError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed. Install it with: pip install 'atodds[{extra}]'")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.package, self.extra)


def shown(value: object, longest: int = 80) -> str:
    """A value as an error message shows it: on one line, cut when long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
