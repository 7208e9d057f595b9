"""`atodds choose` from typed words, a file or answers to a page, and what it says where it cannot choose."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from torch import nn

import atodds
from atodds import cli
from atodds.analysis.decision import decide
from atodds.analysis.need import parse_need
from atodds.cli import ask, choose
from atodds.data import ImageSet
from atodds.errors import ArgumentError, EmptyDataError, NeedError
from atodds.evaluation.manifest import Manifest
from atodds.evaluation.store import Store
from atodds.run import Models, Run

NETS = """
import torch
from torch import nn

def make(seed=1.1, blur=0.0):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        net[1].weight.copy_((torch.arange(640.0) * seed).sin().reshape(10, 64) * (1 - blur))
        net[1].bias.zero_()
    return net.eval()

def other():
    return make(2.3)
"""

Say = Callable[..., str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in l-inf and l2 of two models, and one of the first model alone on fewer images."""
    place = tmp_path_factory.mktemp("runs")
    (place / "nets.py").write_text(NETS)
    two = {name: atodds.models.load(f"{place}/nets.py:{name}", name=name) for name in ("make", "other")}
    images, few = (atodds.data.load("digits", limit=limit) for limit in (60, 20))
    command = "atodds bench nets.py:make nets.py:other --limit 60 --eps 0.02,0.1 --out first"

    def made(out: str, models: Models, on: ImageSet, norm: str, eps: str, attacks: str = "fgsm") -> None:
        atodds.evaluate(
            models, on, norm=norm, eps=eps, attacks=attacks, out=place / out, batch_size=64, command=command
        )

    made("first", two, images, "linf", "0.02,0.1")
    made("second", two, images, "l2", "0.5")
    made("few", {"small": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}, few, "linf", "0.02")
    made("closest", two, few, "l2", "0.5", "minimum_norm(gradients=4)")
    return place


@pytest.fixture
def say(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """What `atodds choose` says, on one line."""
    monkeypatch.chdir(runs)

    def run(*words: str, status: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["atodds", "choose", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        heard = capsys.readouterr()
        assert (ended.value.code or 0) == status, heard.err
        return re.sub(r"\s+", " ", heard.out + heard.err)

    return run


def test_the_cheapest_model_is_named_and_a_page_written(say: Say, runs: Path) -> None:
    said = say("first", "--attacked", "0.2", "--eps", "0.02", "--out", "page.html")
    run = Run.open(runs / "first")
    cost = {
        one.info.name: 0.8 * (1 - one.accuracy.value) + 0.2 * (1 - one.robust_accuracy("0.02").value)
        for one in run.models
    }
    best = min(cost, key=lambda name: cost[name])
    assert f"Choose {best}: if 20 % of the inputs are attacked at 0.02 in l∞" in said
    page = (runs / "page.html").read_text()
    assert f"<code>{best}</code>" in page
    assert "The model to choose if 20" in page
    assert run.choose({"attacked": 0.2, "eps": "0.02"}).choice.best.cost.value == pytest.approx(cost[best])


def test_a_file_says_the_same_as_options(say: Say, runs: Path) -> None:
    (runs / "need.toml").write_text('attacked = [0.1, 0.3]\neps = "0.02"\n[cost]\n3 = 5\n')
    first = say("first", "--need", "need.toml", "--out", "a.html")
    assert first.replace("a.html", "") == say(
        "first", "--attacked", "0.1:0.3", "--eps", "0.02", "--cost", "3=5", "--out", "b.html"
    ).replace("b.html", "")
    assert "cost of errors" in first
    assert "a need that --eps says too" in say("first", "--need", "need.toml", "--eps", "0.1", status=2)


def test_a_latency_is_measured_here_on_the_model_of_the_run(say: Say, runs: Path) -> None:
    said = say("first", "--attacked", "0", "--latency-ms", "10000", "--out", "c.html")
    assert "Choose" in said
    assert "ms an image" in (runs / "c.html").read_text()
    assert re.search(r"no model meets 1e-07 ms: the least is 0\.\d+", say(
        "first", "--attacked", "0", "--latency-ms", "1e-7", status=2))  # fmt: skip
    wrong = {"make": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}
    with pytest.raises(NeedError, match="is not the model that the run measured"):
        decide([Store.open(runs / "first")], parse_need({"attacked": 0, "latency_ms": 1}), brought=wrong)
    with pytest.raises(NeedError, match=r"cannot load.*--model small=MODEL"):
        decide([Store.open(runs / "few")], parse_need({"attacked": 0, "latency_ms": 1}))


def test_what_was_not_measured_is_an_error_with_the_command_that_measures_it(say: Say) -> None:
    far = say("first", "--attacked", "0.2", "--eps", "0.3", status=2)
    assert "make was attacked at 0.02, 0.1 only. Measure it: " in far
    assert "atodds bench nets.py:make nets.py:other --limit 60 --out first --eps 0.02,0.1,0.3" in far
    norm = say("first", "--attacked", "0.2", "--norm", "l2", "--eps", "0.5", status=2)
    assert "no run was attacked in l2, only in linf. Measure it: atodds bench nets.py:make nets.py:other" in norm
    assert "--norm l2 --eps 0.5 --out first-l2" in norm


def test_without_a_need_and_without_a_terminal_it_says_how_to_give_one(say: Say) -> None:
    assert "--attacked 0.1 --eps 4/255, or --need FILE" in say("first", status=2)


def test_on_a_terminal_it_asks_and_asks_again_where_an_answer_cannot_be(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["often", "20%", "", "0.5.5", "", "", "", ""])
    monkeypatch.setattr(choose, "_terminal", lambda: True)
    monkeypatch.setattr("rich.console.Console.input", lambda *_: next(answers))
    said = say("first", "--out", "d.html")
    assert "attacked='often': not a number" in said
    assert "min_clean='0.5.5': not a number" in said
    assert "without questions: atodds choose first --out d.html --attacked 20% --eps 0.1" in said
    assert list(answers) == []


def test_questions_name_what_was_measured(runs: Path) -> None:
    manifests = [Store.open(runs / name).manifest for name in ("first", "second")]
    asked = {question.word: question for question in ask.questions(manifests)}
    assert "l2, linf" in asked["norm"].text
    assert "0.02, 0.1" in asked["eps"].text
    assert "norm" not in {question.word for question in ask.questions(manifests[:1])}


def test_runs_are_joined_over_the_images_that_they_share(runs: Path) -> None:
    stores = [Store.open(runs / name) for name in ("first", "few")]
    decision = decide(stores, parse_need({"attacked": 0.5, "eps": "0.02"}))
    few = set(atodds.data.load("digits", limit=20).ids.tolist())
    assert set(decision.candidates.seen.image.tolist()) <= few
    assert {decision.name(option.model) for option in decision.choice.options} == {"make", "other", "small"}
    assert [budget.text for budget in decision.candidates.measured] == ["0.02"]
    both = [Store.open(runs / name) for name in ("first", "second")]
    with pytest.raises(NeedError, match="the runs are in l2 and linf"):
        decide(both, parse_need({"attacked": 0.5, "eps": "0.02"}))
    l2 = decide(both, parse_need({"attacked": 0.5, "eps": "0.5", "norm": "l2"}))
    assert [manifest.norm for manifest in l2.candidates.manifests] == ["l2"]


def test_a_run_of_searches_knows_every_eps(runs: Path) -> None:
    decision = decide([Store.open(runs / "closest")], parse_need({"attacked": 0.5, "eps": "0.123"}))
    assert decision.candidates.anywhere
    assert len(decision.choice.columns) > 3


@dataclass(frozen=True, eq=False)
class Other:
    """A run as it is, but for its manifest or table."""

    manifest: Manifest
    rows: pl.DataFrame

    def table(self) -> pl.DataFrame:
        return self.rows


def test_runs_that_share_no_image_or_no_data_set_are_refused(runs: Path) -> None:
    first, need = Store.open(runs / "first"), parse_need({"attacked": 0.5, "eps": "0.02"})
    table, manifest = first.table(), first.manifest
    info = replace(manifest.models[0], id="x@0", name="x")
    mine = table.filter(pl.col("model") == manifest.models[0].id).with_columns(model=pl.lit("x@0"))
    apart = Other(replace(manifest, models=(info,)), mine.with_columns(image=pl.col("image") + 10_000))
    with pytest.raises(EmptyDataError, match="No image is common to"):
        decide([first, apart], need)
    elsewhere = Other(replace(manifest, models=(info,), data=replace(manifest.data, name="photos")), mine)
    with pytest.raises(ArgumentError, match="another name than 'digits'"):
        decide([first, elsewhere], need)
    moved = Other(replace(manifest, models=(info,)), mine.with_columns(label=(pl.col("label") + 1) % 10))
    with pytest.raises(ArgumentError, match="60 of 60 shared ids have another true class"):
        decide([first, moved], need)
