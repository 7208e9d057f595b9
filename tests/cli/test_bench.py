"""`atodds bench` from typed words to a page, and again without work."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atodds import cli
from atodds.cli import bench
from atodds.evaluation.store import Store
from atodds.models import Classifier
from atodds.run import Run

NETS = """
from pathlib import Path
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, seed):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        with torch.no_grad():
            self.layer.weight.copy_((torch.arange(640.0) * seed).sin().reshape(10, 64))
            self.layer.bias.zero_()

    def forward(self, images):
        with Path(__file__).with_name("passes.txt").open("a") as file:
            file.write(f"{len(images)}\\n")
        return self.layer(images.flatten(1))

def make():
    return Net(1.1)

def other():
    return Net(2.3)
"""

Bench = Callable[..., str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with two models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


@pytest.fixture
def benched(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """What `atodds bench` says, on one line."""
    assert place.is_dir()

    def run(*words: str, status: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["atodds", "bench", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        heard = capsys.readouterr()
        assert (ended.value.code or 0) == status, heard.err
        return re.sub(r"\s+", " ", heard.out + heard.err)

    return run


SHORT = ("--limit", "30", "--eps", "0,0.02,0.1", "--attacks", "fgsm,pgd(steps=3)", "--batch-size", "16")


def passes(place: Path) -> int:
    return sum(map(int, (place / "passes.txt").read_text().split()))


def test_a_model_is_attacked_and_a_page_written(benched: Bench, place: Path) -> None:
    said = benched("nets.py:make", *SHORT, "--out", "first")
    run = Run(Store.open("first"))
    assert run.store.complete
    assert "Attacking make on cpu: 30 images of digits (balanced 30)" in said
    assert f"The page: {(place / 'first' / 'report.html').as_uri()}" in said
    assert (place / "first" / "report.html").is_file()
    for budget, rate in zip(run.curve().budgets, run.curve().rates, strict=True):
        assert f" {budget} {rate}" in said
    assert f"The audit raises {sum(f.severity != 'note' for f in run.audit)} warnings" in said
    command = run.store.manifest.command
    assert command.startswith("atodds bench nets.py:make --limit 30 --eps 0,0.02,0.1 --attacks 'fgsm,pgd(steps=3)'")
    assert command.endswith("--out first")


def test_the_same_command_again_makes_no_pass(benched: Bench, place: Path) -> None:
    benched("nets.py:make", *SHORT, "--out", "first")
    before, table = passes(place), Store.open("first").table()
    benched("nets.py:make", *SHORT, "--out", "first")
    assert passes(place) == before
    assert Store.open("first").table().equals(table)


def test_a_run_grows_by_a_model(benched: Bench) -> None:
    benched("nets.py:make", *SHORT, "--out", "first")
    said = benched("nets.py:make", "nets.py:other", *SHORT, "--out", "first")
    assert "eps make other" in said
    assert [model.name for model in Store.open("first").manifest.models] == ["make", "other"]


def test_another_question_in_the_same_folder_is_refused(benched: Bench, place: Path) -> None:
    benched("nets.py:make", *SHORT, "--out", "first")
    before = passes(place)
    said = benched("nets.py:make", *SHORT, "--seed", "1", "--out", "first", status=2)
    assert "Error: first holds a run that was asked something else: seed was 0, now 1." in said
    assert passes(place) == before


def test_models_are_named_as_they_are_told(benched: Bench) -> None:
    said = benched("[red]=nets.py:make", "b=nets.py:other", *SHORT, "--out", "first")
    assert "Attacking [red], b on cpu" in said
    assert "eps [red] b" in said
    assert [model.name for model in Store.open("first").manifest.models] == ["[red]", "b"]


@pytest.mark.parametrize("words", [("nets.py:make", "nets.py:make"), ("a=nets.py:make", "a=nets.py:other")])
def test_two_models_of_one_name_are_refused(benched: Bench, words: tuple[str, str]) -> None:
    assert re.search("MODEL=.*a second model called.*Name it", benched(*words, *SHORT, status=2))


def test_one_model_under_two_names_is_refused(benched: Bench) -> None:
    assert "the same model as a" in benched("a=nets.py:make", "b=nets.py:make", *SHORT, status=2)


def test_options_reach_the_run(benched: Bench) -> None:
    benched(
        "nets.py:make", *SHORT, "--norm", "l2", "--seed", "7", "--alone", "--no-keep", "--eot", "2", "--how", "first",
        "--precision", "bfloat16", "--mean", "0.5", "--std", "0.25",
    )  # fmt: skip
    said = Store.open("runs/digits-l2").manifest
    assert (said.norm, said.seed, said.alone, said.keep, said.eot) == ("l2", 7, True, False, 2)
    assert (said.precision, said.data.selection) == ("bfloat16", "first 30")
    assert said.batch_sizes == {said.models[0].id: (16, 16)}


@pytest.mark.parametrize(
    ("norm", "last", "count"), [("linf", "0.3", 7), ("l2", "2", 9), ("l1", "12", 7)]
)  # fmt: skip
def test_budgets_have_a_default_for_each_norm(benched: Bench, norm: str, last: str, count: int) -> None:
    benched("nets.py:make", "--limit", "10", "--norm", norm, "--attacks", "fgsm", "--batch-size", "10")
    budgets = Store.open(f"runs/digits-{norm}").manifest.budgets
    assert (budgets[0].text, budgets[-1].text, len(budgets)) == ("0", last, count)


def test_without_a_model_the_two_networks_are_attacked(
    benched: Bench, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(place))
    try:
        import nets  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(place))
    pair = Classifier(nets.make(), name="standard"), Classifier(nets.other(), name="robust")
    folders = []

    def made(folder: Path, on_progress: object) -> tuple[Classifier, Classifier]:
        folders.append(folder)
        assert callable(on_progress)
        return pair

    monkeypatch.setattr(bench, "digits_pair", made)
    said = benched(*SHORT)
    assert "eps standard robust" in said
    assert folders == [Path("runs/digits-linf/models")]
    del sys.modules["nets"]


def test_without_a_model_other_images_are_refused(benched: Bench, place: Path) -> None:
    import numpy as np

    np.savez(place / "mine.npz", images=np.zeros((2, 8, 8), np.uint8), labels=[0, 1])
    assert "MODEL='none': nothing to attack on mine.npz. Name a model" in benched("--data", "mine.npz", status=2)


def test_an_interruption_says_that_the_same_command_continues(benched: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "evaluate", interrupted)
    assert "the same command continues where it stopped" in benched("nets.py:make", *SHORT, status=130)


LONG = ["--eps", "0:0.5:0.001", "--attacks", "pgd", "--batch-size", "8", "--out", "first", "--no-keep"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_is_interrupted_at_the_keyboard_ends_at_once_and_can_continue(place: Path, workers: str) -> None:
    words = [sys.executable, "-m", "atodds", "bench", "nets.py:make", *LONG, "--workers", workers]
    with subprocess.Popen(words, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(place.glob("first/jobs/*.parquet")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not Store.open(place / "first").complete


@pytest.mark.slow
def test_bench_without_arguments_shows_the_trade_off(benched: Bench) -> None:
    """The promise of the first minute: a standard and a robust network, and a page that tells them apart."""
    said = benched()
    run = Run(Store.open("runs/digits-linf"))
    standard, robust = run["digits_standard"], run["digits_robust"]
    assert standard.accuracy.value > 0.95
    assert robust.robust_accuracy("0.15").value > standard.robust_accuracy("0.15").value + 0.2
    assert "The audit raises 0 warnings" in said
    before = json.loads(Path("runs/digits-linf/run.json").read_text())["jobs"]
    benched()
    assert json.loads(Path("runs/digits-linf/run.json").read_text())["jobs"] == before


def test_what_fools_one_model_is_shown_to_the_others(benched: Bench) -> None:
    words = ("nets.py:make", "nets.py:other", *SHORT, "--out", "first")
    said = benched(*words, "--transfer")
    run = Run.open("first")
    assert f"Transfer: {run.transfer.height:,} answers of 2 ordered pairs of models" in said
    assert run.transfer.height > 0
    said = benched("nets.py:make", *SHORT, "--out", "second", "--transfer", status=2)
    assert "Error: transfer=True: one model, and none to show its images to. Bring two or more." in said
    said = benched(*words[:-1], "third", "--transfer", "--no-keep", status=2)
    assert "Leave --no-keep out." in said


def test_attacks_that_run_on_every_image_are_told_by_success_and_distance(benched: Bench) -> None:
    attacks = "fgsm,ifgsm_search(steps=5,runs=3),pgd(steps=3,target=random)"
    said = benched("nets.py:make", *SHORT[:-4], "--attacks", attacks, "--out", "first")
    for found in Run.open("first").distances():
        told = f"{found.attack} make {found.success} {found.linf}" in said
        assert told == (found.attack != "fgsm")
        assert found.on_all


def test_mixtures_stand_between_the_two_models_that_they_are_made_of(benched: Bench, place: Path) -> None:
    said = benched("nets.py:make", "--mix", "make", "nets.py:other", "--alphas", "0:1:0.5", *SHORT, "--out", "mixed")
    found = Run.open(place / "mixed")
    assert [result.info.name for result in found.models] == ["make", "mix(make,other,0.5)", "other"]
    ((*lines,),) = found.mixtures()
    assert [(line.by, len(line.points)) for line in lines] == [("outputs", 3)] * len(lines)
    assert any(line.said in said for line in lines)
    page = (place / "mixed" / "report.html").read_text(encoding="utf-8")
    assert "straight line between" in page
    assert "mix(make,other,0.5)" in page


def test_weights_are_interpolated_where_that_is_asked_for(benched: Bench, place: Path) -> None:
    words = ("--mix", "a=nets.py:make", "b=nets.py:other", "--mix-by", "weights", "--alphas", "0.5", *SHORT)
    benched(*words, "--out", "mixed")
    found = Run.open(place / "mixed")
    assert [result.info.name for result in found.models] == ["a", "mix-weights(a,b,0.5)", "b"]
    assert {line.by for line in found.mixtures()[0]} == {"weights"}


def test_a_mix_that_cannot_be_made_is_told_before_any_attack(benched: Bench, place: Path) -> None:
    assert "not shares from 0 to 1" in benched("--mix", "a", "b", "--alphas", "0:2:1", *SHORT, status=2)
    two = ("nets.py:make", "--mix", "make", "make=nets.py:other")
    assert "another model of this name" in benched(*two, *SHORT, "--out", "mixed", status=2)
    assert not (place / "mixed").exists()
