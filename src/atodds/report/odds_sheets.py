"""The picture sheets of the study of accuracy against robustness."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from atodds.analysis.numbers import percent
from atodds.report.sheets import Cell, Pixels, Row, Sheet
from atodds.report.words import Name, Sentence
from atodds.studies.odds_pictures import Pictures, Seen
from atodds.threat import Threat


def sheets(seen: Pictures) -> tuple[Sheet, ...]:
    """Gradients, far images, one image on its way to every class, interpolation, and synthesis by each network."""
    return (gradients(seen), far(seen), classes(seen), paths(seen), *(made(seen, one) for one in seen.models))


def gradients(seen: Pictures) -> Sheet:
    """The loss gradients of every network on the same images."""
    rows = [_originals(seen)]
    for one in seen.models:
        cells = tuple(
            Cell(_pixels(shown), "", f"Loss gradient of {one.name} on image {number}")
            for shown, number in zip(one.gradients, seen.ids, strict=True)
        )
        rows.append(Row(one.name, cells))
    colour = seen.images.shape[1] > 1
    how = (
        "clipped at three standard deviations around the mean and stretched"
        if colour
        else "white where it is 0, blue where more light raises the loss, red where it lowers it"
    )
    return Sheet(
        "gradients",
        _gradients_title(seen),
        f"Gradient of the loss in the image, on each image's own scale: {how}. Nothing else is done to it.",
        tuple(rows),
    )


def far(seen: Pictures) -> Sheet:
    """Where raising the loss leads in a ball much larger than those of training."""
    rows = [_originals(seen)]
    for one in seen.models:
        cells = tuple(
            Cell(_pixels(image), f"{seen.names[said]} {_sure(sure)}", f"{one.name} takes this for {seen.names[said]}")
            for image, said, sure in zip(one.far, one.said, one.sure, strict=True)
        )
        rows.append(Row(one.name, cells))
    title: Sentence = ("What raises the loss most in ", _ball(seen.far))
    subtitle = "PGD from the image, never stopped. Below each: what the network takes it for, and how surely."
    return Sheet("far", title, subtitle, tuple(rows))


def classes(seen: Pictures) -> Sheet:
    """One image on its way to every class."""
    rows = [
        Row(
            one.name,
            tuple(
                Cell(_pixels(image), _sure(sure), f"Image {seen.ids[0]} as {one.name} sees {name}")
                for image, name, sure in zip(one.classes, seen.names, one.reached, strict=True)
            ),
        )
        for one in seen.models
    ]
    title: Sentence = (f"One image, a {seen.names[seen.labels[0]]}, on its way to each class in ", _ball(seen.far))
    return Sheet(
        "classes", title, "PGD towards each class. Below each: the probability of the class.", tuple(rows),
        tuple(name[:9] for name in seen.names),
    )  # fmt: skip


def paths(seen: Pictures) -> Sheet:
    """Straight lines from images to their far ones."""
    rows = []
    for one in seen.models:
        for k, end in enumerate(one.away):
            start = seen.labels[k]
            cells = []
            for image, said in zip(one.paths.images[k], one.paths.probabilities[k], strict=True):
                both = [percent(float(said[place]), 0).replace(" ", "") for place in dict.fromkeys((start, end))]
                alternative = f"{one.name} on the way from {seen.names[start]}: {' and '.join(both)} %"
                cells.append(Cell(_pixels(image), " / ".join(both), alternative))
            way = f"stays {seen.names[start]}" if start == end else f"{seen.names[start]} to {seen.names[end]}"
            rows.append(Row(f"{one.name}: {way}", tuple(cells)))
    count = rows[0].cells
    return Sheet(
        "interpolation",
        ("From an image to its far one in a straight line",),
        f"{len(count)} images in equal steps. Below each: the probabilities of the first and of the last class, in %.",
        tuple(rows),
    )


def made(seen: Pictures, one: Seen) -> Sheet:
    """Images that a network makes, one class a row."""
    rows = []
    for k, name in enumerate(seen.names):
        draw = Cell(_pixels(one.made.seeds[k, 0]), "", f"A draw for {name}")
        climbed = zip(one.made.images[k], one.made.confidence[k].tolist(), strict=True)
        rows.append(Row(name, (draw, *(Cell(_pixels(i), _sure(c), f"{name} made by {one.name}") for i, c in climbed))))
    agreed: tuple[str, ...] = ()
    if one.agreed is not None:
        agreed = ("; ", Name(seen.models[0].name), f" takes {one.agreed} of them for the class")
    title: Sentence = ("Images made by ", Name(one.name), *agreed)
    subtitle = (
        f"PGD towards the class in {_ball(seen.wide)} of draws from a normal distribution fitted to each class's "
        "training images. Left: the draw that the first image began at. Below each: the probability of the class."
    )
    return Sheet(f"made-{one.name}", title, subtitle, tuple(rows), ("draw",))


def _originals(seen: Pictures) -> Row:
    cells = tuple(
        Cell(_pixels(image), seen.names[label], f"Image {number}, {seen.names[label]}")
        for image, label, number in zip(seen.images, seen.labels, seen.ids, strict=True)
    )
    return Row("image", cells)


def _gradients_title(seen: Pictures) -> Sentence:
    first = seen.models[0]
    pieces: list[str] = []
    for one in _clear(seen.models):
        measured = one.share if one.share is not None else one.correlation
        if measured is None:
            continue
        what = "share of energy on the object" if one.share is not None else "correlation with the image"
        pieces += ["; " if pieces else "", Name(one.name), f" {measured.value:+.3f} in {what}"]
    return (*pieces, " beside ", Name(first.name)) if pieces else ("Gradients of the loss, as they are",)


def _clear(models: Sequence[Seen]) -> Iterator[Seen]:
    for one in models:
        measured = one.share if one.share is not None else one.correlation
        if measured is not None and measured.clear:
            yield one


def _ball(threat: Threat) -> str:
    return f"an {threat.norm} ball of {threat.eps:.3g}"


def _sure(value: float) -> str:
    return f"{percent(value, 0)} %"


def _pixels(image: Tensor) -> Pixels:
    found: Pixels = image.float().numpy()
    return found
