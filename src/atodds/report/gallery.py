"""Images that are chosen, not drawn by chance: the closest fooled, the median, the furthest, and one a class."""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from atodds.analysis.numbers import percent
from atodds.evaluation.store import Kept
from atodds.report.facts import Facts, ModelFacts, nearest
from atodds.report.source import Source

MOST_CLASSES = 24
SIDE = 80
"""The longest side of an image in a row, in CSS pixels; small images are shown at a whole multiple of their pixels."""
LARGEST = 128
"""Images with a longer side are thinned to every second, third, ... pixel."""
BUDGET = 2_500_000
"""Characters that the images of a page may take, all models together, so that the page stays below 5 MB."""

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Probabilities:
    """The softmax probability of the prediction on an image, and of that on its fooling image."""

    clean: float
    fooling: float


@dataclass(frozen=True)
class Pick:
    """An image that was chosen, and why: "closest", "median", "furthest", or its class."""

    why: str
    image: int
    label: int
    prediction: int
    attack: str
    distance: float


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI, and its text alternative."""

    uri: str
    alternative: str


@dataclass(frozen=True)
class Shot:
    """One image of a gallery: the image, its fooling image and their difference, with what the model says of them.

    `before` and `after` are the predictions, with their probabilities where they are known.
    """

    why: str
    image: int
    distance: str
    attack: str
    before: str
    after: str
    magnification: str
    pictures: tuple[Picture, Picture, Picture]


@dataclass(frozen=True)
class Gallery:
    """The images of one model.

    `width` is that of a picture in CSS pixels; `fooled` how many images there were to choose from; `left_out` how many
    of those that were chosen did not fit or were not kept.
    """

    model: ModelFacts
    shots: tuple[Shot, ...]
    width: int
    fooled: int
    left_out: int
    thinned: int


def choose(closest: pl.DataFrame, classes: int = MOST_CLASSES) -> tuple[Pick, ...]:
    """The images to show: closest, median and furthest, then the median image of each class (evenly spread over the
    classes by distance where there are more than `classes`), none of them twice.

    Args:
        closest: `facts.nearest`: one row an image, closest first.
        classes: how many classes at most.
    """
    if closest.is_empty():
        return ()
    rows = list(closest.iter_rows(named=True))
    by_rank = {"closest": 0, "median": (len(rows) - 1) // 2, "furthest": len(rows) - 1}
    chosen = {rank: why for why, rank in reversed(by_rank.items())}
    members: dict[int, list[int]] = {}
    for rank, row in enumerate(rows):
        members.setdefault(row["label"], []).append(rank)
    medians = sorted(ranks[(len(ranks) - 1) // 2] for ranks in members.values())
    if len(medians) > classes:
        medians = [medians[place] for place in np.linspace(0, len(medians) - 1, classes).round().astype(int)]
    of_class = sorted((rank for rank in medians if rank not in chosen), key=lambda rank: int(rows[rank]["label"]))
    order = [*sorted(chosen), *of_class]
    return tuple(Pick(chosen.get(rank, "class"), **rows[rank]) for rank in order)


def gallery(
    run: Source,
    facts: Facts,
    model: ModelFacts,
    probabilities: Mapping[int, Probabilities] | None = None,
    *,
    budget: int = BUDGET,
) -> Gallery:
    """The gallery of one model, with as many of the chosen images as fit into `budget` characters.

    Args:
        run: keeps the images.
        facts: of the run.
        model: whose gallery.
        probabilities: by image; without them, those that were kept with the images.
        budget: characters of data URIs.
    """
    closest = nearest(run.table(), model.info.id, facts.unit.norm)
    picks = choose(closest)
    kept = run.kept(model.info.id, [pick.image for pick in picks])
    shots: list[Shot] = []
    for pick in picks:
        found = kept.get(pick.image)
        if found is None:
            continue
        said = (probabilities or {}).get(pick.image, Probabilities(found.clean_confidence, found.confidence))
        shot = _shot(pick, found, said, facts)
        budget -= sum(len(picture.uri) for picture in shot.pictures)
        if budget < 0:
            break
        shots.append(shot)
    height, width = facts.manifest.data.shape[1:]
    longest = math.ceil(max(height, width) / _step(height, width))
    shown = width / max(height, width) * (longest * (SIDE // longest) if longest <= SIDE else SIDE)
    return Gallery(model, tuple(shots), round(shown), closest.height, len(picks) - len(shots), _step(height, width))


def magnification(difference: Pixels) -> float:
    """How often a signed difference fits between grey and black or white, as 1, 2 or 5 times a power of ten.

    Args:
        difference: (C, H, W) in [-1, 1].
    """
    largest = float(np.abs(difference).max(initial=0.0))
    if largest == 0:
        return 1.0
    fits = 0.5 / largest * (1 + 1e-6)
    power = 10.0 ** math.floor(math.log10(fits))
    return max(step * power for step in (1, 2, 5) if step * power <= fits)


def png(pixels: Pixels) -> str:
    """An image as a PNG in a data URI, pixel for pixel.

    Args:
        pixels: (C, H, W) in [0, 1]; one channel is grey, three are RGB, any other number is averaged to grey.
    """
    channels = pixels if pixels.shape[0] in (1, 3) else pixels.mean(axis=0, keepdims=True)
    bytes_ = np.rint(np.clip(channels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(bytes_.squeeze(2) if bytes_.shape[2] == 1 else bytes_).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _shot(pick: Pick, kept: Kept, said: Probabilities, facts: Facts) -> Shot:
    label, prediction = facts.class_name(pick.label), facts.class_name(pick.prediction)
    distance = facts.unit.distance(pick.distance)
    step = _step(*kept.original.shape[1:])
    original, proposal = (picture[:, ::step, ::step] for picture in (kept.original, kept.proposal))
    times = magnification(proposal - original)
    return Shot(
        why=label if pick.why == "class" else pick.why,
        image=pick.image,
        distance=distance,
        attack=pick.attack,
        before=_said(label, said.clean),
        after=_said(prediction, said.fooling),
        magnification=f"{times:g}",
        pictures=(
            Picture(png(original), f"Image {pick.image}, {label}"),
            Picture(
                png(proposal),
                f"The same image at {facts.unit.symbol} distance {distance}, which the model takes for {prediction}",
            ),
            Picture(
                png(0.5 + times * (proposal - original)),
                f"The difference of the two, {times:g} times magnified, grey where there is none",
            ),
        ),
    )


def _said(name: str, probability: float) -> str:
    return f"{name} {percent(probability, 0)} %" if 0 < probability <= 1 else name


def _step(height: int, width: int) -> int:
    return math.ceil(max(height, width) / LARGEST)
