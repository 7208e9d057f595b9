"""A run's folder: `run.json`, one shard a job in `jobs/` and `transfers/`, the audit's findings in `audit/`.

Nothing but shards and findings is stored as truth; every figure is computed from the table that the shards make.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from atodds.errors import CorruptShardError, NotARunError, RunError
from atodds.evaluation import kept_bounds
from atodds.evaluation.folder import Folder
from atodds.evaluation.manifest import Finding, Manifest, finding_from
from atodds.evaluation.schema import CLEAN, SCHEMA
from atodds.evaluation.shards import IMAGES, Footer, pack, unpack
from atodds.evaluation.transfers import SCHEMA as TRANSFERS

log = logging.getLogger("atodds")

Image = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Kept:
    """A fooling image and what it was made of, (C, H, W) float32 in [0, 1], with the softmax probabilities of the
    predictions on each."""

    original: Image
    proposal: Image
    clean_confidence: float
    confidence: float


class Store:
    """A run's results.

    Args:
        place: folder or bucket.
        manifest: of the run.
    """

    def __init__(self, place: str | os.PathLike[str], manifest: Manifest) -> None:
        self.folder, self.manifest = Folder(place), manifest

    @classmethod
    def open(cls, place: str | os.PathLike[str]) -> "Store":
        """The run in a folder.

        Raises:
            NotARunError: the folder holds none.
            NewerRunError, OlderRunError: another version made it.
        """
        folder = Folder(place)
        try:
            text = folder.read("run.json")
        except FileNotFoundError:
            what = "there is no such folder" if not folder.exists() else "it has no run.json"
            raise NotARunError(
                f"{folder.place} is not a run: {what}. `atodds bench --out FOLDER` and evaluate(out=FOLDER) make one."
            ) from None
        return cls(place, Manifest.from_json(text, folder.place))

    @classmethod
    def create(cls, place: str | os.PathLike[str], manifest: Manifest) -> "Store":
        """A run in a folder, new or grown from the one that is there.

        Raises:
            OtherPlanError: the folder holds a run that was asked something else.
            NotARunError, NewerRunError, OlderRunError: it holds a run.json that is not one of ours.
            StoreFullError: no room.
        """
        store = cls(place, manifest)
        if store.folder.exists("run.json"):
            manifest.grown_from(cls.open(place).manifest, store.folder.place)
        store.folder.write("run.json", manifest.to_json().encode())
        return store

    def put(self, table: pa.Table, footer: Footer, images: pa.Table | None = None) -> None:
        """Keep a job's rows, and the fooling images if there are any; the rows last, so that they vouch for both."""
        if images is not None:
            self.folder.write(_images_of(footer.job), pack(images, footer))
        self.folder.write(_shard_of(footer.job), pack(table, footer))

    def get(self, job: str) -> tuple[pa.Table, Footer] | None:
        """A job's rows and footer, or None where they have to be computed. A shard that is not whole is reported and
        removed."""
        try:
            found = self._shard(job)
            if self.manifest.keep and found[1].attack != CLEAN:
                unpack(self.folder.read(_images_of(job)), _images_of(job), IMAGES)
        except FileNotFoundError:
            return None
        except CorruptShardError as error:
            log.warning("%s It is computed again.", error)
            self.folder.remove(_shard_of(job))
            return None
        return found

    def verdicts(self, job: str) -> pa.Table:
        """The rows of a job that is finished.

        Raises:
            FileNotFoundError: it is not.
            CorruptShardError: its shard is not whole.
        """
        return self._shard(job)[0]

    def proposals(self, job: str) -> pa.Table:
        """What was kept of a job's proposals (columns: `shards.IMAGES`), in the order of its rows.

        Raises:
            FileNotFoundError, CorruptShardError: as for `verdicts`.
        """
        return unpack(self.folder.read(_images_of(job)), _images_of(job), IMAGES)[0]

    def put_transfer(self, table: pa.Table, footer: Footer) -> None:
        """Keep what a model says of proposals that were made for another."""
        self.folder.write(_transfer_of(footer.job), pack(table, footer))

    def get_transfer(self, job: str) -> pa.Table | None:
        """What was kept under the key of a transfer, or None where it has to be made. A shard that is not whole is
        reported and removed."""
        try:
            return self._transfer(job)
        except FileNotFoundError:
            return None
        except CorruptShardError as error:
            log.warning("%s It is computed again.", error)
            self.folder.remove(_transfer_of(job))
            return None

    def transfers(self) -> pl.DataFrame:
        """The transfer table: columns as in `transfers.SCHEMA`. Empty where the run was not asked for it.

        Raises:
            RunError: transfers are missing.
            CorruptShardError: a shard is not whole.
        """
        if missing := self._missing_transfers():
            raise self._unfinished(f"{missing} of {len(self.manifest.transfers)} transfers are missing")
        try:
            shards = [self._transfer(job) for job in self.manifest.transfers]
        except CorruptShardError as error:
            raise self._to_be_made_again(error) from error
        return self._frame(pa.concat_tables([TRANSFERS.empty_table(), *shards]))

    def bounds(self) -> pl.DataFrame:
        """The lower bounds, columns as in `atodds.bounds.schema.SCHEMA`. Empty where the run was not asked for any.

        Raises:
            RunError: some are missing.
            CorruptShardError: a shard is not whole.
        """
        return kept_bounds.table(self.folder, self.manifest.command or "atodds.evaluate with the same arguments")

    def put_findings(self, key: str, findings: Iterable[Finding]) -> None:
        """Keep what the audit found under a key."""
        text = json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False)
        self.folder.write(f"audit/{key}.json", text.encode())

    def get_findings(self, key: str) -> tuple[Finding, ...] | None:
        """What the audit found under a key, or None where it has to look."""
        try:
            said = json.loads(self.folder.read(f"audit/{key}.json"))
            if not isinstance(said, list):
                raise TypeError(f"{type(said).__name__} instead of a list")
            return tuple(finding_from(one) for one in said)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, RecursionError) as error:
            log.warning("audit/%s.json is damaged (%s). The audit looks again.", key, error)
            return None

    def findings(self) -> tuple[Finding, ...]:
        """All that the audit found, the gravest first.

        Raises:
            RunError: the audit is not finished.
        """
        found: list[Finding] = []
        for key in self.manifest.looks:
            seen = self.get_findings(key)
            if seen is None:
                raise self._unfinished("the audit has not looked at everything")
            found += seen
        grave = ("error", "warning", "note")
        return tuple(sorted(dict.fromkeys(found), key=lambda finding: (grave.index(finding.severity), finding.check)))

    @property
    def complete(self) -> bool:
        """Whether every job of the run has a shard, and the audit has looked at everything."""
        there = set(self.folder.names("audit"))
        missing = self._missing() or self._missing_transfers()
        return not missing and all(f"audit/{key}.json" in there for key in self.manifest.looks)

    def table(self) -> pl.DataFrame:
        """Every verdict of the run.

        Raises:
            RunError: jobs are missing.
            CorruptShardError: a shard is not whole.
        """
        return self._all[0]

    def seconds(self) -> pl.DataFrame:
        """Wall seconds by model and attack."""
        footers = self._all[1]
        rows = [(footer.model, footer.attack, footer.seconds) for footer in footers]
        frame = pl.DataFrame(rows, schema=["model", "attack", "seconds"], orient="row")
        return frame.group_by("model", "attack", maintain_order=True).agg(pl.col("seconds").sum())

    def footers(self) -> tuple[Footer, ...]:
        """What made each shard, in the order of the plan."""
        return self._all[1]

    def kept(self, model: str, ids: Sequence[int]) -> dict[int, Kept]:
        """The closest fooling image of each of these images, where one was found and kept."""
        if not self.manifest.keep:
            return {}
        wrong = pl.col(self.manifest.norm).is_finite()
        of_model = (pl.col("model") == model) & wrong & (pl.col("attack") != CLEAN)
        table, footers, jobs = self._all
        closest = (
            table.with_columns(pl.Series("job", jobs))
            .filter(of_model & pl.col("image").is_in(list(ids)))
            .sort(self.manifest.norm, maintain_order=True)
            .unique("image", keep="first", maintain_order=True)
        )
        found: dict[int, Kept] = {}
        for (job,), made in closest.group_by("job", maintain_order=True):
            footer, here = footers[job], set(made["image"])
            rows, _ = unpack(self.folder.read(_images_of(footer.job)), _images_of(footer.job), IMAGES)
            for row in rows.to_pylist():
                if row["image"] in here:
                    images = self._image(row["original"]), self._image(row["proposal"])
                    found[row["image"]] = Kept(*images, row["clean_confidence"], row["confidence"])
        return found

    def _image(self, content: bytes) -> Image:
        shape = self.manifest.data.shape
        if len(content) != 4 * math.prod(shape):
            raise CorruptShardError(f"{self.folder.place} holds an image that is not of shape {shape}.")
        return np.frombuffer(content, np.dtype("<f4")).reshape(shape)

    def _missing(self) -> int:
        there = set(self.folder.names("jobs"))
        return sum(_shard_of(job) not in there for job in self.manifest.jobs)

    def _missing_transfers(self) -> int:
        there = set(self.folder.names("transfers")) if self.manifest.transfers else set()
        return sum(_transfer_of(job) not in there for job in self.manifest.transfers)

    def _shard(self, job: str) -> tuple[pa.Table, Footer]:
        return self._whole(_shard_of(job), job, SCHEMA)

    def _transfer(self, job: str) -> pa.Table:
        return self._whole(_transfer_of(job), job, TRANSFERS)[0]

    def _whole(self, name: str, job: str, schema: pa.Schema) -> tuple[pa.Table, Footer]:
        rows, footer = unpack(self.folder.read(name), name, schema)
        if footer.job != job:
            raise CorruptShardError(f"{name} holds the results of another job.")
        return rows, footer

    def _frame(self, table: pa.Table) -> pl.DataFrame:
        frame = pl.from_arrow(table)
        if not isinstance(frame, pl.DataFrame):
            raise CorruptShardError(f"{self.folder.place} makes no table.")
        return frame

    def _to_be_made_again(self, error: CorruptShardError) -> CorruptShardError:
        return CorruptShardError(f"{error} {self._again('The same command computes it again')}")

    def _unfinished(self, why: str) -> RunError:
        return RunError(f"{self.folder.place} is not finished: {why}. {self._again('The same command continues it')}")

    def _again(self, what: str) -> str:
        return f"{what}: {self.manifest.command or 'atodds.evaluate with the same arguments'}"

    @cached_property
    def _all(self) -> tuple[pl.DataFrame, tuple[Footer, ...], np.ndarray]:
        """Every verdict, the footers, and for each verdict the position of its job."""
        if missing := self._missing():
            raise self._unfinished(f"{missing} of {len(self.manifest.jobs)} jobs are missing")
        try:
            shards = [self._shard(job) for job in self.manifest.jobs]
        except CorruptShardError as error:
            raise self._to_be_made_again(error) from error
        table = pa.concat_tables([SCHEMA.empty_table(), *(rows for rows, _ in shards)])
        jobs = np.repeat(np.arange(len(shards)), [len(rows) for rows, _ in shards])
        return self._frame(table), tuple(footer for _, footer in shards), jobs


def _shard_of(job: str) -> str:
    return f"jobs/{job}.parquet"


def _transfer_of(job: str) -> str:
    return f"transfers/{job}.parquet"


def _images_of(job: str) -> str:
    return f"jobs/{job}.images.parquet"
