"""The images that are shown are chosen, and are shown as they are."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from PIL import Image

from atodds.report.facts import gather, nearest
from atodds.report.gallery import Gallery, Probabilities, choose, gallery, magnification, png

if TYPE_CHECKING:
    import numpy.typing as npt
    from tests.report.conftest import MadeRun, Make


def pixels(uri: str) -> npt.NDArray[np.uint8]:
    """What a data URI shows."""
    kind, _, content = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def closest(labels: list[int]) -> pl.DataFrame:
    """Fooled images 0, 1, 2, ... with these labels, each farther than the one before it."""
    n = len(labels)
    return pl.DataFrame(
        {"image": range(n), "label": labels, "prediction": [9] * n, "attack": ["pgd"] * n}
        | {"distance": [0.01 * (k + 1) for k in range(n)]}
    )


def of(run: MadeRun, place: int = 0, **options: int) -> Gallery:
    facts = gather(run)
    return gallery(run, facts, facts.models[place], **options)  # type: ignore[arg-type]


def test_closest_median_furthest_and_one_a_class_are_chosen() -> None:
    picks = choose(closest([0, 1, 1, 1, 2, 2, 2]))
    assert [(pick.why, pick.image) for pick in picks] == [
        ("closest", 0),
        ("median", 3),
        ("furthest", 6),
        ("class", 2),
        ("class", 5),
    ]


def test_no_image_is_chosen_twice() -> None:
    assert [(pick.why, pick.image) for pick in choose(closest([0]))] == [("closest", 0)]
    assert [(pick.why, pick.image) for pick in choose(closest([0, 0]))] == [("closest", 0), ("furthest", 1)]
    assert choose(closest([])) == ()


def test_many_classes_are_thinned_evenly_by_distance() -> None:
    picks = choose(closest(list(range(100))), classes=5)
    assert [pick.image for pick in picks if pick.why == "class"] == [25, 50, 74]
    assert len(picks) == 6


def test_the_nearest_verdict_is_that_of_the_closest_fooling_image(run: MadeRun) -> None:
    model = "resnet20@00000000"
    rows = nearest(run.table(), model, "linf")
    expected = run.table().filter(model=model, fooled=True).filter(pl.col("attack") != "clean")
    assert rows["image"].is_unique().all()
    assert rows["distance"].is_sorted()
    assert dict(rows.select("image", "distance").iter_rows()) == dict(
        expected.group_by("image").agg(pl.col("linf").min()).iter_rows()
    )


def test_pictures_show_every_pixel_and_the_signed_difference(run: MadeRun) -> None:
    shown = of(run, place=1)
    for shot in shown.shots:
        kept = run.kept(shown.model.info.id, [shot.image])[shot.image]
        image, fooling, difference = (pixels(picture.uri) for picture in shot.pictures)
        times = float(shot.magnification)
        signed = 0.5 + times * (kept.proposal - kept.original)
        for seen, meant in ((image, kept.original), (fooling, kept.proposal), (difference, signed)):
            assert seen.shape == (32, 32, 3)
            assert np.abs(seen / 255 - meant.transpose(1, 2, 0)).max() <= 0.5 / 255 + 1e-6
        assert difference.min() < 127 < difference.max()


def test_every_picture_says_what_it_shows(run: MadeRun) -> None:
    shot = of(run).shots[0]
    before, after, difference = (picture.alternative for picture in shot.pictures)
    assert before.startswith(f"Image {shot.image}, ")
    assert f"l∞ distance {shot.distance}" in after
    assert f"{shot.magnification} times magnified" in difference
    assert shot.before.endswith(" 93 %")
    assert shot.after.endswith(" 51 %")


def test_probabilities_may_be_given_or_missing(run: MadeRun) -> None:
    facts = gather(run)
    image = gallery(run, facts, facts.models[0]).shots[0].image
    given = gallery(run, facts, facts.models[0], {image: Probabilities(0.8, 0.4)}).shots[0]
    unknown = gallery(run, facts, facts.models[0], {image: Probabilities(0.0, 0.0)}).shots[0]
    assert (given.before[-4:], given.after[-4:]) == ("80 %", "40 %")
    assert "%" not in unknown.before + unknown.after


@pytest.mark.parametrize(
    ("largest", "times"),
    [(1.0, 0.5), (0.5, 1), (0.26, 1), (0.25, 2), (1 / 255, 100), (8 / 255, 10), (0.0, 1), (1e-5, 50_000)],
)
def test_a_difference_is_magnified_as_far_as_it_fits(largest: float, times: float) -> None:
    difference = np.array([[[-largest, largest / 2]]], dtype=np.float32)
    assert magnification(difference) == pytest.approx(times)


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 6)), (3, (4, 6, 3)), (2, (4, 6))])
def test_grey_and_coloured_images_are_both_shown(channels: int, shape: tuple[int, ...]) -> None:
    image = np.full((channels, 4, 6), 0.2, dtype=np.float32)
    assert pixels(png(image)).shape == shape
    assert (pixels(png(image)) == 51).all()


def test_large_images_are_thinned_and_those_that_do_not_fit_are_counted(make: Make) -> None:
    run = make(n=60, shape=(3, 224, 224))
    shown = of(run, budget=300_000)
    assert shown.thinned == 2
    assert pixels(shown.shots[0].pictures[0].uri).shape == (112, 112, 3)
    assert sum(len(picture.uri) for shot in shown.shots for picture in shot.pictures) <= 300_000
    assert len(shown.shots) + shown.left_out == len(of(run).shots)


def test_small_images_are_shown_at_a_whole_multiple_of_their_pixels(make: Make) -> None:
    assert {side: of(make(n=40, shape=(1, side, side))).width for side in (8, 28, 32, 64)} == {
        8: 80,
        28: 56,
        32: 64,
        64: 64,
    }


def test_a_run_that_kept_no_images_shows_none(run: MadeRun) -> None:
    bare = replace(run, manifest=replace(run.manifest, keep=False))
    assert of(bare).shots == ()
    assert of(bare).fooled > 0
