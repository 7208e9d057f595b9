"""`atodds check` ends with the status that it promises, and writes what a pipeline reads."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import atodds
from atodds import cli
from atodds.analysis.gate_runs import check
from atodds.errors import ArgumentError, NeedError, UnknownNameError
from atodds.evaluation.store import Store
from atodds.run import Models

Say = Callable[..., str]


def net(seed: float) -> nn.Module:
    """A linear model whose weights are a function of a number."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((torch.arange(float(parameter.numel())) * seed).sin().reshape(parameter.shape))
    return model


def digits() -> nn.Module:
    """A linear model that knows the digits: its weights are the classes' mean images."""
    images = atodds.data.load("digits", split="train")
    pixels, labels = images.images(range(len(images))).flatten(1), torch.tensor(images.labels)
    means = torch.stack([pixels[labels == label].mean(0) for label in range(10)])
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(means)
        layer.bias.copy_(-means.square().sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a good model, one of a bad one under the same name, and one of the good one in l2."""
    place = tmp_path_factory.mktemp("runs")
    images = atodds.data.load("digits", limit=60)

    def made(out: str, models: Models, norm: str = "linf", eps: str = "0.01,0.05") -> None:
        command = f"atodds bench nets.py:make --eps {eps} --norm {norm} --out {out}"
        atodds.evaluate(
            models, images, norm=norm, eps=eps, attacks="fgsm", out=place / out, batch_size=64, command=command
        )

    made("good", {"m": digits()})
    made("bad", {"m": net(1.1)})
    made("two", {"m": digits(), "other": net(2.3)})
    made("l2", {"m": digits()}, "l2", "0.2")
    return place


@pytest.fixture
def say(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """What `atodds check` says, on one line."""
    monkeypatch.chdir(runs)

    def run(*words: str, status: int) -> str:
        monkeypatch.setattr("sys.argv", ["atodds", "check", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        heard = capsys.readouterr()
        assert (ended.value.code or 0) == status, heard.out + heard.err
        return re.sub(r"\s+", " ", heard.out + heard.err)

    return run


def test_statuses(say: Say) -> None:
    assert say("good", "--min-clean", "0.5", status=0).startswith("Met: clean accuracy ")
    assert say("bad", "--min-robust", "50%@linf:0.01", status=1).startswith("Not met: m, robust accuracy at linf:0.01")
    assert "more images needed" in say("good", "--min-clean", "0.9", status=3)
    assert say("good", "--baseline", "good", status=0).startswith("Met: all 3 checks hold")
    assert "clearly worse" in say("bad", "--baseline", "good", status=1)
    assert "nothing to check" in say("good", status=2)
    assert "is not a run" in say("nowhere", "--min-clean", "0.5", status=2)


def test_a_pipeline_finds_its_files(say: Say, runs: Path) -> None:
    say(
        "bad",
        "--min-clean",
        "0.5",
        "--baseline",
        "good",
        "--markdown",
        "out/summary.md",
        "--junit",
        "out/check.xml",
        status=1,
    )
    text = (runs / "out" / "summary.md").read_text()
    assert text.startswith("### atodds check: ✕ not met")
    assert "atodds check bad --min-clean 0.5 --baseline good" in text
    root = ElementTree.parse(runs / "out" / "check.xml").getroot()
    assert root.get("failures") == str(len(root.findall(".//failure")))
    assert "cannot be written" in say("bad", "--min-clean", "0.5", "--junit", "good/run.json/x.xml", status=2)


def test_what_was_not_measured_is_an_error_with_the_command(say: Say, runs: Path) -> None:
    assert "Measure it: atodds bench nets.py:make --norm linf --out good --eps 0.01,0.05,0.2" in say(
        "good", "--min-robust", "0.5@linf:0.2", status=2
    )
    assert "--norm l2 --eps 0.3 --out good-l2" in say("good", "--min-robust", "0.5@l2:0.3", status=2)
    good, l2 = Store.open(runs / "good"), Store.open(runs / "l2")
    with pytest.raises(NeedError, match="it was attacked in l2, the run in linf"):
        check(good, baseline=l2)
    other = Store("nowhere", replace(good.manifest, data=replace(good.manifest.data, name="photos")))
    with pytest.raises(ArgumentError, match="another name than 'digits'"):
        check(good, baseline=other)


def test_models_are_paired_by_name(runs: Path) -> None:
    two, good = Store.open(runs / "two"), Store.open(runs / "good")
    assert {one.model for one in check(two, baseline=two).checks} == {"m", "other"}
    assert {one.model for one in check(two, baseline=good, models=["m"]).checks} == {"m"}
    assert check(two, baseline=good, models=["other=m"]).verdict == "not met"
    with pytest.raises(UnknownNameError, match="Pair them: --model other=OLD"):
        check(two, baseline=good)
    with pytest.raises(UnknownNameError, match="Did you mean other"):
        check(two, baseline=two, models=["othr"])
