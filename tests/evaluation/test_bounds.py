"""A run's lower bounds: kept whole, made once, the same however they were made."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from torch import nn

import atodds
from atodds.bounds.registry import METHODS, parse
from atodds.bounds.schema import SCHEMA
from atodds.data import ImageSet
from atodds.errors import ArgumentError, RunError
from atodds.evaluation import bounds, kept_bounds
from atodds.evaluation.manifest import Manifest
from atodds.evaluation.store import Store

Greys = Callable[..., ImageSet]
CLEVER = "clever(radius=1,batches=10,samples=2)"
BOTH = f"{CLEVER},smoothing(sigma=0.05,n=200)"
LEVELS = [(128, 0), (140, 0), (200, 0), (100, 1), (30, 1), (90, 0)]


def table(store: Store) -> pl.DataFrame:
    return kept_bounds.table(store.folder, "atodds bench --bounds clever")


@pytest.fixture
def images(greys: Greys) -> ImageSet:
    return greys([level for level, _ in LEVELS], [label for _, label in LEVELS], [5, 9, 2, 7, 11, 3])


@pytest.fixture
def store(brightness: nn.Module, images: ImageSet, tmp_path: Path) -> Store:
    """A finished run in which FAB looked for the closest fooling images."""
    run = atodds.evaluate({"brightness": brightness}, images, eps="1/255", attacks="fab(steps=5)", out=tmp_path / "run")
    return run.store


@pytest.fixture
def made(store: Store, brightness: nn.Module, images: ImageSet) -> pl.DataFrame:
    bounds.bound(store, {"brightness": brightness}, images, parse(BOTH))
    return table(store)


def test_each_image_has_a_row_for_each_method_with_the_known_distance(made: pl.DataFrame) -> None:
    assert made.columns == SCHEMA.names
    clever = made.filter(pl.col("method").str.starts_with("clever"))
    away = {image: abs(level - 127.5) / 255 for image, (level, _) in zip([5, 9, 2, 7, 11, 3], LEVELS, strict=True)}
    away[3] = 0.0  # its label is another
    found = dict(clever.select("image", "lower").iter_rows())
    assert found == pytest.approx(away, rel=1e-4)
    assert clever["norm"].unique().to_list() == ["linf"]
    smoothing = made.filter(pl.col("method").str.starts_with("smoothing"))
    assert len(smoothing) == 6
    assert smoothing["certified"].all()
    assert all(
        lower <= 9 / 5 * away[image] * (1 + 1e-9)  # in l2, where weights are 5 long and add up to 9
        for image, lower in smoothing.select("image", "lower").iter_rows()
    )


def test_a_run_without_bounds_has_an_empty_table(store: Store) -> None:
    assert table(store).is_empty()
    assert table(store).columns == SCHEMA.names


class Counting(nn.Module):
    """A model that counts the images that it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._shown = 0

    def forward(self, images: object) -> object:
        self._shown += len(images)  # type: ignore[arg-type]
        return self.network(images)


def test_what_is_there_is_not_made_again_and_what_is_missing_is(
    store: Store, brightness: nn.Module, images: ImageSet, made: pl.DataFrame
) -> None:
    counting = Counting(brightness)
    bounds.bound(store, {"brightness": counting}, images, parse(BOTH))
    assert counting._shown == 0
    first = sorted(name for name in store.folder.names("bounds") if name.endswith("parquet"))[0]
    store.folder.remove(first)
    with pytest.raises(RunError, match="not finished its lower bounds"):
        table(store)
    bounds.bound(store, {"brightness": counting}, images, parse(BOTH))
    assert counting._shown > 0
    assert table(store).equals(made)


def test_a_damaged_shard_is_reported_and_made_again(
    store: Store, brightness: nn.Module, images: ImageSet, made: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    first = sorted(name for name in store.folder.names("bounds") if name.endswith("parquet"))[0]
    store.folder.write(first, store.folder.read(first)[:-20])
    with caplog.at_level(logging.WARNING, "atodds"):
        bounds.bound(store, {"brightness": brightness}, images, parse(BOTH))
    assert "computed again" in caplog.text
    assert table(store).equals(made)


def test_a_damaged_index_is_reported_and_written_again(
    store: Store, brightness: nn.Module, images: ImageSet, made: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    store.folder.write(kept_bounds.INDEX, b'{"format": 1, "jobs": ["../../etc"]}')
    with caplog.at_level(logging.WARNING, "atodds"):
        assert table(store).is_empty()
    assert "damaged" in caplog.text
    bounds.bound(store, {"brightness": brightness}, images, parse(BOTH))
    assert table(store).equals(made)


def test_bounds_do_not_depend_on_how_the_images_are_cut(
    brightness: nn.Module, images: ImageSet, made: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bounds, "CHUNK", 2)
    other = atodds.evaluate(
        {"brightness": brightness}, images, eps="1/255", attacks="fab(steps=5)", out=tmp_path / "other"
    ).store  # fmt: skip
    bounds.bound(other, {"brightness": brightness}, images, parse(BOTH))
    order = ["method", "image"]
    ours, theirs = table(other).sort(order), made.sort(order)
    for column in ("lower", "low", "high"):
        assert ours[column].to_list() == pytest.approx(theirs[column].to_list(), rel=1e-9)


def test_a_run_may_grow_by_a_method_and_keeps_those_that_it_has(
    store: Store, brightness: nn.Module, images: ImageSet
) -> None:
    bounds.bound(store, {"brightness": brightness}, images, parse(CLEVER))
    before = table(store)
    bounds.bound(store, {"brightness": brightness}, images, parse("smoothing(sigma=0.1,n=50)"))
    after = table(store)
    assert after.filter(pl.col("method") == before["method"][0]).equals(before)
    assert after["method"].n_unique() == 2


def keys(manifest: Manifest, images: ImageSet, text: str) -> set[str]:
    return {job.key for lane in bounds.plan(manifest, images, parse(text)) for job in lane.jobs}


def test_a_job_is_named_by_all_that_decides_its_result(
    store: Store, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = keys(store.manifest, images, CLEVER)
    changed = [
        keys(store.manifest, images, "clever(radius=1,batches=10,samples=3)"),
        keys(replace(store.manifest, seed=1), images, CLEVER),
        keys(replace(store.manifest, norm="l2"), images, CLEVER),
        keys(replace(store.manifest, eot=2), images, CLEVER),
        keys(store.manifest, images.take([0, 1]), CLEVER),
    ]
    info = replace(store.manifest.models[0], fingerprint="f" * 64)
    changed.append(keys(replace(store.manifest, models=(info,)), images, CLEVER))
    monkeypatch.setitem(METHODS, "clever", replace(METHODS["clever"], version=99))
    changed.append(keys(store.manifest, images, CLEVER))
    assert len(set.union(base, *changed)) == 1 + len(changed)


def test_the_index_names_the_jobs_of_the_run(store: Store, images: ImageSet, made: pl.DataFrame) -> None:
    said = json.loads(store.folder.read(kept_bounds.INDEX))
    assert set(said["jobs"]) == keys(store.manifest, images, BOTH)
    assert len(said["jobs"]) == made["method"].n_unique()


def test_a_run_that_is_asked_for_bounds_holds_them_against_what_its_attacks_found(
    brightness: nn.Module, images: ImageSet, tmp_path: Path
) -> None:
    asked = {"eps": "60/255", "attacks": "fab(steps=5)", "out": tmp_path / "asked"}
    run = atodds.evaluate({"brightness": brightness}, images, bounds=CLEVER, **asked)  # type: ignore[arg-type]
    (found,) = run.lower_upper()
    assert found.method == CLEVER
    assert found.beside.holds
    assert (found.beside.n, found.beside.unknown) == (3, 2)  # two images are further away than 60/255
    again = atodds.evaluate({"brightness": brightness}, images, **asked)  # type: ignore[arg-type]
    assert again.bounds.equals(run.bounds)


def test_words_that_mean_nothing_are_found_before_anything_is_made(
    brightness: nn.Module, images: ImageSet, tmp_path: Path
) -> None:
    for words in ("cleverer", "smoothing", "clever(batches=3)"):
        with pytest.raises(ArgumentError):
            atodds.evaluate({"brightness": brightness}, images, out=tmp_path / "none", bounds=words)
    assert not (tmp_path / "none").exists()
