"""The study of classes from one end to the other: a run, tables, a page, and the same again without work."""

import re
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from atodds import data
from atodds.cli import app
from atodds.errors import ArgumentError
from atodds.evaluation.conduct import Settings
from atodds.report.classes_page import answer, render_classes
from atodds.studies.class_curves import ClassStudy, carry_out, tables, write_tables


def near(shift: float) -> nn.Module:
    """The nearest class mean as a linear model, from training images that are moved a little."""
    images = data.load("digits", split="train")
    pixels, labels = images.images(range(len(images))).flatten(1) + shift, torch.tensor(images.labels)
    means = torch.stack([pixels[labels == label].mean(0) for label in range(10)])
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(means)
        layer.bias.copy_(-means.square().sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def carried_out(place: Path) -> ClassStudy:
    models = {"means": near(0.0), "<b>moved</b>": near(0.1)}
    return carry_out(
        models,
        data.load("digits", limit=60),
        place,
        Settings(batch_size=64),
        eps="0.05,0.1",
        attacks="fgsm,pgd(steps=2)",
    )


@pytest.fixture(scope="module")
def study(place: Path) -> ClassStudy:
    return carried_out(place)


def test_tables_say_what_the_verdicts_say(study: ClassStudy) -> None:
    found = tables(study)
    verdicts = study.store.table()
    one = found["accuracy"].filter((pl.col("model") == "means") & (pl.col("eps") == "0.1"))
    mine = verdicts.filter(pl.col("model").str.starts_with("means@"))
    for row in one.iter_rows(named=True):
        images = mine.filter(pl.col("label") == study.curves.classes.index(row["class"]))
        fell = images.filter(pl.col("linf") <= 0.1 * (1 + 1e-6))["image"].n_unique()
        assert row["share"] == pytest.approx(1 - fell / images["image"].n_unique())
        assert row["low"] <= row["share"] <= row["high"]
    steps = found["drops"].filter(pl.col("step") != "total").group_by("model", "class").agg(pl.col("share").sum())
    total = found["drops"].filter(pl.col("step") == "total").select("model", "class", "share")
    both = steps.join(total, on=["model", "class"])
    assert both["share"].to_list() == pytest.approx(both["share_right"].to_list())
    assert set(found["attacks"]["attack"]) == {"fgsm", "pgd(steps=2)"}
    assert (found["attacks"]["minutes"] >= 0).all()


def test_the_page_and_the_files_have_everything(study: ClassStudy, tmp_path: Path) -> None:
    page = render_classes(study)
    for text in ("classes", "drops", "gaps", "mistakes", "differences", "models", "attacks", "audit", "provenance"):
        assert f'id="{text}"' in page
    assert "<b>moved</b>" not in page
    first = answer(study)[0]
    drops = sorted(study.curves.mean_drops, key=lambda drop: -drop.value)
    assert f"the class {study.curves.classes[drops[0].label]} loses most" in first
    assert "60 images" in first
    assert "a class has only 6 images, and its rates are known to ±" in answer(study)[1]
    written = write_tables(study, tmp_path / "tables")
    assert {path.stem for path in written} == set(tables(study))
    assert pl.read_csv(tmp_path / "tables" / "mean_drops.csv").height == 10


def test_the_same_again_makes_no_pass_and_says_the_same(study: ClassStudy, place: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in place.rglob("*.parquet")}
    again = carried_out(place)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.parquet")} == files
    assert answer(again) == answer(study)


def test_a_study_of_one_class_or_of_no_eps_is_refused(tmp_path: Path) -> None:
    images = data.load("digits", limit=20)
    one = images.take([k for k in range(len(images)) if images.labels[k] == 3])
    with pytest.raises(ArgumentError, match="a single class"):
        carry_out({"means": near(0)}, one, tmp_path, Settings())
    with pytest.raises(ArgumentError, match="nothing changes within it"):
        carry_out({"means": near(0)}, images, tmp_path, Settings(), eps="0")


def test_mistakes_on_the_command_line_are_found_before_anything_is_read(tmp_path: Path) -> None:
    for arguments, problem in (
        (["--data", "cifar10"], "nothing to attack on cifar10"),
        (["--norm", "l2"], "nothing is usual in l2"),
        (["--attacks", "magic"], "magic"),
        (["--eps", "8"], "8/255"),
    ):
        result = CliRunner().invoke(app, ["study", "classes", "--out", str(tmp_path / "run"), *arguments])
        assert re.search(problem, str(result.exception) + result.output)
        assert not (tmp_path / "run").exists()
