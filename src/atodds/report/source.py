"""What a report needs of a run, whatever keeps it: a `Store`, or a stand-in with the same answers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import polars as pl

from atodds.evaluation.manifest import Finding, Manifest
from atodds.evaluation.store import Kept


class Source(Protocol):
    """A finished run, to be read.

    `transfers` is asked only where the manifest names some; `bounds` are empty where there are none. `kept` gives the
    closest fooling image of each of some images, by id, where one was found and kept.
    """

    @property
    def manifest(self) -> Manifest: ...
    def table(self) -> pl.DataFrame: ...
    def findings(self) -> Sequence[Finding]: ...
    def seconds(self) -> pl.DataFrame: ...
    def transfers(self) -> pl.DataFrame: ...
    def bounds(self) -> pl.DataFrame: ...
    def kept(self, model: str, ids: Sequence[int]) -> Mapping[int, Kept]: ...
