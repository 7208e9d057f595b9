"""The study of many models from one end to the other: runs, claims, page, and the same command again."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from atodds import data
from atodds.cli import app
from atodds.errors import ArgumentError
from atodds.evaluation.conduct import Settings
from atodds.report.study_page import render_study
from atodds.studies import compare_models
from atodds.studies.claims import VERDICTS, claims
from atodds.studies.compare_models import ModelsStudy, Part, compare, trained
from atodds.training.recipe import Recipe
from atodds.training.suites import Entry

ENTRIES = tuple(
    Entry(f"{network}-{width}", network, {"width": width}, Recipe(epochs=3, lr=0.05))
    for network, width in (("mlp", 8), ("mlp", 32), ("cnn4", 4))
)
SHORT = (
    Part(
        "l2",
        "carlini_wagner(searches=2,steps=20,initial=10),fab,carlini_wagner(searches=2,steps=9,target=least-likely)",
    ),
    Part("linf", "fgsm,ifgsm(steps=5,stop=False),ifgsm_search(steps=5,runs=4)"),
    Part("l1", "elastic_net(searches=3,steps=20,initial=1)"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(place: Path) -> ModelsStudy:
    return carried_out(place)


def carried_out(place: Path) -> ModelsStudy:
    ready: list[str] = []
    models = trained(
        ENTRIES, data.load("digits", split="train"), place / "networks", workers=1,
        told=lambda name, done, of: ready.append(f"{name} {done}/{of}"),
    )  # fmt: skip
    assert [text.rpartition(" ")[2] for text in ready] == ["1/3", "2/3", "3/3"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(compare_models.PRESETS, "short", SHORT)
        every, some = data.load("digits"), data.load("digits", limit=20)
        return compare(models, some, place, Settings(), every=every, preset="short", data="digits")


def test_every_norm_has_a_run_with_transfer_between_all_pairs(study: ModelsStudy) -> None:
    assert set(study.stores) == {"l1", "l2", "linf"}
    for store in study.stores.values():
        pairs = store.transfers().select("source", "model").unique()
        assert pairs.height == 6


def test_accuracy_is_that_on_every_test_image(study: ModelsStudy) -> None:
    assert len(study.accuracy) == 3
    for model, rate in study.accuracy.items():
        assert rate.n == len(data.load("digits")) > 20
        assert study.errors[model].value == pytest.approx(1 - rate.value)


def test_families_and_sizes_are_known_from_the_cards(study: ModelsStudy) -> None:
    assert {name: traits.family for name, traits in study.traits.items()} == {
        "mlp-8": "perceptron",
        "mlp-32": "perceptron",
        "cnn4-4": "cnn",
    }


def test_claims_and_page_say_what_was_measured(study: ModelsStudy) -> None:
    said = claims(study)
    assert len(said) >= 8
    assert {claim.verdict for claim in said} <= set(VERDICTS)
    page = render_study(study)
    for text in ("3 networks", "mlp-32", "perceptron", 'id="linf"', 'id="l2"', 'id="l1"', "Can it be believed"):
        assert text in page
    for claim in said:
        assert claim.claim.split("(")[0] in page.replace("&#39;", "'")


def test_the_same_again_makes_no_pass_and_says_the_same(study: ModelsStudy, place: Path) -> None:
    before = {norm: store.table() for norm, store in study.stores.items()}
    files = {path: path.stat().st_mtime_ns for path in place.rglob("*.parquet")}
    again = carried_out(place)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.parquet")} == files
    for norm, store in again.stores.items():
        assert store.table().equals(before[norm])
    assert claims(again) == claims(study)


def test_mistakes_on_the_command_line_are_found_before_anything_is_trained(tmp_path: Path) -> None:
    for arguments, problem in (
        (["--preset", "huge"], "preset"),
        (["--norms", "l2,l7"], "norms"),
        (["--family", "wide"], "FAMILY=MODEL"),
        (["--data", str(tmp_path)], "no networks are ready"),
    ):
        result = CliRunner().invoke(app, ["study", "models", "--out", str(tmp_path / "run"), *arguments])
        assert isinstance(result.exception, Exception)
        assert problem in str(result.exception) + result.output
        assert not (tmp_path / "run").exists()


def test_a_data_set_without_a_suite_says_which_have_one() -> None:
    with pytest.raises(ArgumentError, match="digits"):
        compare_models.suite("imagenet")
