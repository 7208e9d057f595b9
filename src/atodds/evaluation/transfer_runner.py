"""Running a transfer: read what was kept, show it to the other models, keep their answers."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from atodds.errors import CorruptShardError
from atodds.evaluation.provenance import versions
from atodds.evaluation.runner import Progress, Site, judge_of
from atodds.evaluation.schema import answers, ranks
from atodds.evaluation.shards import Footer
from atodds.evaluation.transfers import SCHEMA, TRANSFER, Show, Transfer
from atodds.oracle import Oracle

_AT_ONCE = 1024
"""Proposals that are decoded at once, about."""


def run_transfer(transfer: Transfer, site: Site, progress: Progress) -> None:
    """Show each other model the proposals of one, unless its answers are there.

    Args:
        transfer: whose sources are all finished.
        site: models, images and store.
        progress: who is told.

    Raises:
        CorruptShardError: a result of the run that is not whole.
        LogitsError: from a model.
        StoreFullError: no room for results.
    """
    asked = []
    for show in transfer.shows:
        if site.store.get_transfer(show.job.key) is None:
            asked.append(_Asked(show, judge_of(site, show.model, progress), _clean(site, show)))
        else:
            progress.job(show.job, True)
    for rows, proposals in _found(site, transfer) if asked else ():
        for one in asked:
            one.ask(transfer.source, rows, proposals)
    for one in asked:
        site.store.put_transfer(pa.concat_tables(one.tables), one.footer(transfer.source, site))
        progress.job(one.show.job, False)


@dataclass
class _Asked:
    """A model that is asked, what it makes of the images themselves, and the rows so far."""

    show: Show
    oracle: Oracle
    clean: Mapping[int, int]
    tables: list[pa.Table] = field(default_factory=lambda: [SCHEMA.empty_table()])
    seconds: float = 0.0

    def ask(self, source: str, rows: pa.Table, proposals: Tensor) -> None:
        """Show the model the proposals (N, C, H, W) that the rows of the verdict table are about."""
        began = time.perf_counter()
        goals = pc.coalesce(rows["target"], rows["label"])
        ids, classes = (_integers(column).to(self.oracle.device) for column in (rows["image"], goals))
        said = answers(self.oracle.logits(proposals, ids), classes)
        aimed, wanted = rows["target"].is_valid().to_numpy(), goals.to_numpy()
        prediction = said.prediction.cpu().numpy()
        changed: dict[str, Any] = {
            "source": [source] * len(rows),
            "model": [self.show.model] * len(rows),
            "clean": [self.clean[image] for image in ids.tolist()],
            "source_prediction": rows["prediction"],
            "source_fooled": rows["fooled"],
            "prediction": prediction,
            "rank": ranks(said),
            "fooled": np.where(aimed, prediction == wanted, prediction != wanted),
        }
        columns = {name: changed[name] if name in changed else rows[name] for name in SCHEMA.names}
        self.tables.append(pa.Table.from_pydict(columns, schema=SCHEMA))
        self.seconds += time.perf_counter() - began

    def footer(self, source: str, site: Site) -> Footer:
        """What made the rows."""
        manifest = site.store.manifest
        info = next(info for info in manifest.models if info.id == self.show.model)
        return Footer(
            job=self.show.job.key,
            attack=f"{TRANSFER} from {source}",
            model=info.id,
            weights=info.fingerprint,
            data=manifest.data.fingerprint,
            versions=versions(),
            device=str(self.oracle.device),
            precision="full",
            seconds=self.seconds,
        )


def _clean(site: Site, show: Show) -> dict[int, int]:
    """What the model says of the images themselves."""
    found: dict[int, int] = {}
    for key in show.clean:
        rows = site.store.verdicts(key)
        found |= dict(zip(_integers(rows["image"]).tolist(), _integers(rows["clean"]).tolist(), strict=True))
    return found


def _found(site: Site, transfer: Transfer) -> Iterator[tuple[pa.Table, Tensor]]:
    """Verdicts on the source, and the proposals that they are about, a thousand or so at a time."""
    tables: list[pa.Table] = []
    images: list[Any] = []
    for key in transfer.sources:
        rows = site.store.verdicts(key)
        rows = rows.filter(pc.is_finite(rows["l2"]))
        if not len(rows):
            continue
        kept = site.store.proposals(key)
        if not kept["image"].equals(rows["image"]):
            raise CorruptShardError(f"{site.store.folder.place}: the images of job {key} are not those of its rows.")
        tables.append(rows)
        images += kept["proposal"].to_pylist()
        if len(images) >= _AT_ONCE:
            yield pa.concat_tables(tables), _decoded(images, site)
            tables, images = [], []
    if images:
        yield pa.concat_tables(tables), _decoded(images, site)


def _decoded(images: list[Any], site: Site) -> Tensor:
    """Raw images as a tensor of their shape."""
    values = np.frombuffer(bytearray().join(images), np.dtype("<f4"))
    return torch.from_numpy(values.astype(np.float32, copy=False)).view(len(images), *site.store.manifest.data.shape)


def _integers(column: Any) -> Tensor:
    return torch.from_numpy(column.to_numpy().astype(np.int64))
