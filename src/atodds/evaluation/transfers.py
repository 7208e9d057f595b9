"""Transfer: every model is shown the images that fooled every other one. No attack is made: one forward pass an image.

The images are those that the run kept, so each is shown once to each other model, whatever eps it was found at: an
image found at one eps serves all larger ones. The rows have a table of their own, which robust accuracy does not read.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from atodds.evaluation.plan import Job, Lane
from atodds.evaluation.schema import CLEAN, DISTANCES

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("data", pa.string(), nullable=False),
    pa.field("image", pa.int64(), nullable=False),
    pa.field("label", pa.int32(), nullable=False),
    pa.field("clean", pa.int32(), nullable=False),
    pa.field("attack", pa.string(), nullable=False),
    pa.field("norm", pa.string(), nullable=False),
    pa.field("eps", pa.float64()),
    pa.field("target", pa.int32()),
    pa.field("source_prediction", pa.int32(), nullable=False),
    pa.field("source_fooled", pa.bool_(), nullable=False),
    pa.field("prediction", pa.int32(), nullable=False),
    pa.field("rank", pa.int32()),
    pa.field("fooled", pa.bool_(), nullable=False),
    *(pa.field(name, pa.float64(), nullable=False) for name in DISTANCES),
    pa.field("seed", pa.int64(), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)
"""The transfer table: `model` was shown the image that an attack on `source` found. One row an image that made the
source answer wrongly, and other model.

`clean` is the prediction of `model` on the image itself: where it is not the label, the row says nothing of transfer.
`source_prediction` and `source_fooled` are what the source says of the proposed image, `prediction`, `rank` and
`fooled` what `model` says; `rank` is that of the target, or of the label where there is none. The distances are those
of the proposed image, all of them finite.
"""

VERSION = 1
"""Raised by one when a change makes other rows, so that old ones are not taken for new."""

TRANSFER = "transfer"
"""What the progress bar and the footers call such a job."""

_VALUES = 1 << 24
"""Values of the images that one job is about, at most: 64 MB, 21,000 images of MNIST or 5,000 of CIFAR-10."""


@dataclass(frozen=True)
class Show:
    """What was found on one model, shown to another.

    Attributes:
        model: whom it is shown to.
        clean: keys of the jobs that say what that model makes of the images themselves.
        job: its name, for the store and the progress bar.
    """

    model: str
    clean: tuple[str, ...]
    job: Job


@dataclass(frozen=True)
class Transfer:
    """What was found on one model for the images of some lanes, shown to all others.

    Attributes:
        source: the model that was attacked.
        sources: keys of the jobs whose proposals are shown.
        images: how many images the lanes have.
        shows: one for each other model.
    """

    source: str
    sources: tuple[str, ...]
    images: int
    shows: tuple[Show, ...]


def plan_transfers(lanes: Sequence[Lane], values: int) -> tuple[Transfer, ...]:
    """All ordered pairs of models, for a few thousand images at a time.

    Args:
        lanes: of the run; those of all models are cut alike.
        values: of one image.
    """
    of: dict[str, list[Lane]] = {}
    for lane in lanes:
        of.setdefault(lane.model, []).append(lane)
    groups = list(_groups(next(iter(of.values())), values))
    return tuple(_transfer(source, {model: of[model][group] for model in of}) for group in groups for source in of)


def _groups(lanes: Sequence[Lane], values: int) -> Iterator[slice]:
    """Consecutive lanes that are about few enough images, one at least."""
    start = 0
    while start < len(lanes):
        stop, count = start + 1, len(lanes[start].positions)
        while stop < len(lanes) and (count + len(lanes[stop].positions)) * values <= _VALUES:
            count += len(lanes[stop].positions)
            stop += 1
        yield slice(start, stop)
        start = stop


def _transfer(source: str, lanes: Mapping[str, Sequence[Lane]]) -> Transfer:
    """The keys cover all that decides the rows: both models, the images, the attacks, and how verdicts are made."""
    sources = tuple(job.key for lane in lanes[source] for job in lane.jobs if job.attack != CLEAN)
    images = sum(len(lane.positions) for lane in lanes[source])
    shows = []
    for model in lanes:
        if model != source:
            clean = tuple(job.key for lane in lanes[model] for job in lane.jobs if job.attack == CLEAN)
            key = hashlib.sha256(json.dumps([TRANSFER, VERSION, sources, clean]).encode()).hexdigest()[:32]
            shows.append(Show(model, clean, Job(key, TRANSFER, (), (*sources, *clean), images)))
    return Transfer(source, sources, images, tuple(shows))
