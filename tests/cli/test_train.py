"""`atodds train` from typed words to checkpoints, and again without work."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atodds import cli
from atodds.models import load_checkpoint

Train = Callable[..., str]
SHORT = ("--limit", "100", "--epochs", "2", "--batch-size", "32", "--lr", "0.05", "--device", "cpu")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """What `atodds train` says, on one line."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, status: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["atodds", "train", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        heard = capsys.readouterr()
        assert (ended.value.code or 0) == status, heard.err
        return re.sub(r"\s+", " ", heard.out + heard.err)

    return run


def test_a_network_is_trained_measured_and_kept(trained: Train, tmp_path: Path) -> None:
    said = trained("mlp", *SHORT, "--set", "width=16")
    assert "Training mlp on 100 images of digits (balanced 100), in runs/mlp-digits" in said
    assert "accuracy on 355 test images" in said
    assert "atodds bench runs/mlp-digits/last.safetensors --data digits" in said
    folder = tmp_path / "runs" / "mlp-digits"
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors", "epochs.csv", "last.safetensors", "state.safetensors",
    }  # fmt: skip
    card = load_checkpoint(folder / "last.safetensors").card
    assert card is not None
    assert (card.network, card.settings, card.recipe["epochs"]) == ("mlp", {"width": 16}, 2)


def test_the_same_command_again_trains_nothing_and_says_the_same(trained: Train, tmp_path: Path) -> None:
    first = trained("linear", *SHORT)
    before = (tmp_path / "runs" / "linear-digits" / "epochs.csv").read_bytes()
    assert trained("linear", *SHORT) == first
    assert (tmp_path / "runs" / "linear-digits" / "epochs.csv").read_bytes() == before


def test_a_training_that_is_no_better_than_guessing_is_told_apart(trained: Train) -> None:
    still = trained("linear", *SHORT, "--lr", "1e-9", "--seed", "3")
    assert "It learned nothing yet" in still
    assert "a smaller --lr or more --epochs" in still
    swamped = trained("linear", *SHORT, "--objective", "fast", "--eps", "0.9", "--out", "swamped")
    assert "It learned nothing yet" in swamped
    assert "--eps-ramp 0.5" in swamped
    assert "learned nothing" not in trained("linear", *SHORT, "--epochs", "20", "--out", "learned")


@pytest.mark.parametrize("objective", ["adversarial", "trades", "fast", "free"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", "8/255"), ("l2", "0.5"), ("l1", "2")])
def test_every_objective_and_norm_can_be_typed(
    trained: Train, tmp_path: Path, objective: str, norm: str, eps: str
) -> None:
    said = trained("linear", *SHORT, "--objective", objective, "--norm", norm, "--eps", eps)
    assert f"--data digits --norm {norm} --eps {eps}" in said
    card = load_checkpoint(tmp_path / "runs" / f"linear-digits-{objective}" / "last.safetensors").card
    assert card is not None
    assert (card.recipe["objective"], card.recipe["norm"]) == (objective, norm)


def test_every_option_reaches_the_recipe(trained: Train) -> None:
    words = (
        "--objective adversarial --eps 0.1 --attack-steps 2 --attack-step-size 0.06 --eps-ramp 0.5 --beta 3 --momentum "
        "0.8 --weight-decay 0.001 --schedule step --shift 0.1 --flip --rotation 10 --precision bfloat16 --seed 7"
    )
    trained("linear", *SHORT, *words.split(), "--threads", "1", "--validation", "20", "--out", "here")
    card = load_checkpoint("here/last.safetensors").card
    assert card is not None
    assert dict(card.recipe) == {
        "objective": "adversarial", "epochs": 2, "batch_size": 32, "lr": 0.05, "momentum": 0.8, "weight_decay": 0.001,
        "schedule": "step", "norm": "linf", "eps": 0.1, "attack_steps": 2, "attack_step_size": 0.06, "eps_ramp": 0.5,
        "beta": 3.0, "shift": 0.1, "flip": True, "rotation": 10.0, "precision": "bfloat16", "seed": 7,
        "training_code": card.recipe["training_code"],
    }  # fmt: skip


def test_validation_images_are_held_out(trained: Train) -> None:
    said = trained("mlp", *SHORT, "--set", "width=16", "--validation", "20", "--test", "")
    assert "80 images" in said
    assert "355" not in said
    rows = Path("runs/mlp-digits/epochs.csv").read_text().splitlines()
    assert rows[0] == "epoch,loss,accuracy,validation,seconds"
    assert all(row.split(",")[3] for row in rows[1:])
    better = "best" if float(rows[1].split(",")[3]) >= float(rows[2].split(",")[3]) else "last"
    assert f"atodds bench runs/mlp-digits/{better}.safetensors --data digits" in said  # the one that is worth attacking


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resnet21",), "Did you mean resnet"),
        (("cnn7",), "at least 16x16"),
        (("mlp", "--set", "widht=8"), "Did you mean width"),
        (("mlp", "--set", "width"), "--set width=8"),
        (("mlp", "--objective", "adverserial"), "Did you mean adversarial"),
        (("mlp", "--objective", "adversarial"), "no budget to train against"),
        (("mlp", "--objective", "adversarial", "--eps", "8"), "Did you mean 8/255"),
        (("mlp", "--eps", "8/255"), "standard training has no use for it"),
        (("mlp", "--precision", "half"), "bfloat16"),
        (("mlp", "--limit", "5000"), "has 1442 images"),
        (("mlp", "--validation", "1440"), "has only"),
        (("mlp", "--validation", "-1"), "0 or more"),
        (("mlp", "--threads", "0"), "1 or more"),
        (("mlp", "--device", "gpu"), "cpu, cuda, mps"),
        (("mlp", "--test", "tset"), "test"),
        (("mlp", "--data", "mnsit"), "mnist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_trained_is_refused_before_work_starts(
    trained: Train, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in trained(*words, status=2)
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_another_training_is_refused(trained: Train) -> None:
    trained("linear", *SHORT, "--out", "here")
    said = trained("mlp", *SHORT, "--out", "here", status=2)
    assert "here holds another training: network 'linear', not 'mlp'" in said


def test_an_interruption_ends_with_status_130_and_loses_no_epoch(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "atodds", "train", "linear", *SHORT, "--epochs", "100000", "--out", "here"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not (tmp_path / "here" / "epochs.csv").exists():
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, heard = child.communicate(timeout=120)
    assert child.returncode == 130, heard
    assert "the same command continues" in re.sub(r"\s+", " ", heard)
    assert load_checkpoint(tmp_path / "here" / "last.safetensors").card is not None
