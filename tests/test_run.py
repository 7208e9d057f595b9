"""The surface: what a script asks of a run."""

import tempfile
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor, nn

import atodds
from atodds.data import ImageSet
from atodds.errors import ArgumentError, EmptyDataError, ThreatError, UnknownNameError
from atodds.evaluation.store import Store
from atodds.run import Run
from atodds.threat import EpsSpec


class Darker(nn.Module):
    """Class k for a uniform grey image of the k-th quarter of the range; its nearest border in l-inf is known."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1, keepdim=True)
        return -(mean - torch.tensor([1, 3, 5, 7], device=images.device) / 8).abs()


LEVELS = torch.tensor([0.125, 0.24, 0.3, 0.375, 0.49, 0.9])
LABELS = torch.tensor([0, 0, 1, 1, 1, 0])  # the last one is misclassified
FAR = [0.125, 0.01, 0.05, 0.125, 0.01, 0.0]  # from the nearest border, in l-inf
EPS = ["0", "0.02", "0.1", "0.2"]
STANDING = [5 / 6, 3 / 6, 2 / 6, 0.0]


@pytest.fixture(autouse=True)
def temporary_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def pixels() -> Tensor:
    return LEVELS[:, None, None, None].expand(-1, 1, 4, 4).contiguous()


@pytest.fixture
def run(pixels: Tensor) -> Run:
    return atodds.evaluate(Darker(), (pixels, LABELS), eps=EPS, attacks="fgsm(loss=margin),pgd(loss=margin)")


def test_accuracy_and_robust_accuracy_are_the_closed_form(run: Run) -> None:
    assert run.accuracy.value == 5 / 6
    assert run.accuracy.n == 6
    assert [run.robust_accuracy(eps).value for eps in EPS] == STANDING
    assert [rate.value for rate in run.curve().rates] == STANDING
    assert [budget.text for budget in run.curve().budgets] == EPS
    assert [rate.value for rate in run.curve("0.02:0.2:0.09").rates] == [3 / 6, 2 / 6, 0.0]


def test_budgets_may_be_numbers_text_or_ranges(pixels: Tensor, run: Run) -> None:
    ways: list[EpsSpec] = [[0, 0.02, 0.1, 0.2], "0,0.02,0.1,0.2", ["0:0.02:0.02", 0.1, "1/5"]]
    for eps in ways:
        again = atodds.evaluate(Darker(), (pixels, LABELS), eps=eps, attacks="fgsm(loss=margin),pgd(loss=margin)")
        assert again.curve().rates == run.curve().rates
    single = atodds.evaluate(Darker(), (pixels, LABELS), eps=0.1, attacks=["fgsm(loss=margin)", "pgd(loss=margin)"])
    assert [rate.value for rate in single.curve().rates] == [2 / 6]


def test_classes_are_told_apart(run: Run) -> None:
    found = run.per_class(["0.02"])
    assert found.classes == ("0", "1")
    assert [curve.rates[0].value for curve in found.curves] == [1 / 3, 2 / 3]


def test_the_median_distance_is_that_of_the_closed_form(run: Run) -> None:
    assert run.models[0].median_distance.value <= 0.1 * (1 + 1e-6)  # the budget that fooled the third of five


def test_attack_shares_add_up(run: Run) -> None:
    shares = run.attack_shares()
    for place in range(len(EPS)):
        parts = [shares.misclassified, *(attack.added[place] for attack in shares.attacks), shares.standing[place]]
        assert sum(part.value for part in parts) == pytest.approx(1)
        assert shares.standing[place].value == STANDING[place]


def test_the_table_holds_a_clean_row_an_image_and_only_what_was_attacked(run: Run) -> None:
    clean = run.table.filter(pl.col("attack") == "clean")
    assert clean["image"].to_list() == list(range(6))
    assert clean["fooled"].to_list() == [False] * 5 + [True]
    assert 5 not in run.table.filter(pl.col("attack") != "clean")["image"]
    nearest = run.table.filter(pl.col("fooled")).group_by("image").agg(pl.col("linf").min()).sort("image")
    assert all(found >= far * (1 - 1e-6) for found, far in zip(nearest["linf"], FAR, strict=True))


def test_a_run_without_a_folder_lies_in_a_new_one(run: Run, tmp_path: Path) -> None:
    assert Path(run.place).parent == tmp_path
    assert Store.open(run.place).complete


def test_a_run_is_opened_from_its_folder(run: Run) -> None:
    again = Run(Store.open(run.place))
    assert again.table.equals(run.table)
    assert again.accuracy == run.accuracy
    assert again.audit == run.audit


def test_several_models_are_asked_by_name(pixels: Tensor) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    run = atodds.evaluate({"first": Darker(), "second": other}, (pixels, LABELS), eps=0.02)
    assert [result.info.name for result in run.models] == ["first", "second"]
    assert run["first"].accuracy.value == 5 / 6
    assert run[run.models[1].info.id].info.name == "second"
    for ask in (lambda: run.accuracy, lambda: run.robust_accuracy(0.02), run.curve, run.per_class, run.attack_shares):
        with pytest.raises(ArgumentError, match=r"several models.*'first', 'second'"):
            ask()
    with pytest.raises(UnknownNameError, match=r"model='frist'.*Did you mean first"):
        _ = run["frist"]


def test_models_without_names_are_numbered(pixels: Tensor) -> None:
    made = [nn.Sequential(nn.Flatten(), nn.Linear(16, 4)) for _ in range(3)]
    named = atodds.models.Classifier(made[2], name="Sequential-2")
    run = atodds.evaluate([named, *made[:2]], (pixels, LABELS), eps=0.02, attacks="fgsm")
    assert [result.info.name for result in run.models] == ["Sequential-2", "Sequential", "Sequential-3"]


def test_models_may_come_as_text_or_from_a_generator(pixels: Tensor, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("from torch.nn import *\ndef make(): return Sequential(Flatten(), Linear(16, 4))")
    text = f"{tmp_path / 'nets.py'}:make"
    images = ImageSet.from_arrays(pixels, LABELS)
    assert atodds.evaluate(text, images, eps=0, attacks="fgsm").models[0].info.source == text
    several = atodds.evaluate((model for model in (text, Darker())), images, eps=0)  # type: ignore[arg-type]
    assert [result.info.name for result in several.models] == ["make", "Darker"]


def test_a_question_about_no_budget_is_refused(run: Run) -> None:
    with pytest.raises(ThreatError, match="eps='8'"):
        run.robust_accuracy("8")
    with pytest.raises(ThreatError, match="eps"):
        run.curve([])


def test_the_page_lies_in_the_runs_folder_or_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    assert run.report() == Path(run.place) / "report.html"
    assert run.report(tmp_path / "pages" / "first.html").read_text().startswith("<!doctype html>")


def test_the_page_of_a_run_in_a_bucket_lies_here(
    pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = atodds.evaluate(Darker(), (pixels, LABELS), eps=0.02, attacks="fgsm", out="memory://bucket/first")
    assert run.report() == Path("report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_run_is_shown_in_one_line(run: Run) -> None:
    assert repr(run) == f"<Run of Darker on arrays in {run.place}>"


def test_nothing_is_said_of_budgets_that_no_attack_was_given(tmp_path: Path) -> None:
    pixels, labels = torch.full((4, 1, 2, 2), 0.25), torch.zeros(4, dtype=torch.int64)
    run = atodds.evaluate(nn.Flatten(), (pixels, labels), eps=[0.1], attacks="fgsm", out=tmp_path / "run")
    assert run.robust_accuracy(0.1).n == 4
    for ask in (lambda: run.robust_accuracy(0.2), lambda: run.curve([0.05, 0.2]), lambda: run.per_class(0.2)):
        with pytest.raises(ThreatError, match=r"eps='0\.2': no attack of this run went beyond 0\.1"):
            ask()


def test_distances_are_told_attack_by_attack_over_the_images_that_count(run: Run) -> None:
    found = run.distances()
    assert [one.attack for one in found] == list(run.store.manifest.attacks)
    assert found[0].on_all
    assert found[0].success.n == 5
    fooled = run.table.filter(pl.col("fooled"), pl.col("attack") == found[0].attack)
    nearest = fooled.group_by("image").agg(pl.col("linf").min())["linf"]
    assert found[0].linf is not None
    assert found[0].linf.mean == pytest.approx(nearest.mean())
    few = run.distances(images=[1])  # which only the first attack was made on
    assert [(one.attack, one.success.n) for one in few] == [("fgsm(loss=margin)", 1)]
    with pytest.raises(EmptyDataError):
        run.distances(images=[5])
    with pytest.raises(ThreatError):
        run.distances(eps="8")


def test_images_that_all_models_have_right_are_named_by_model(pixels: Tensor) -> None:
    class Turned(Darker):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).flip(1)

    run = atodds.evaluate({"first": Darker(), "second": Turned()}, (pixels, LABELS), eps=0.02, attacks="fgsm")
    assert run.common_images(["first"]).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(EmptyDataError, match="classified rightly by all of first"):
        run.common_images()
    with pytest.raises(UnknownNameError):
        run.common_images(["third"])
