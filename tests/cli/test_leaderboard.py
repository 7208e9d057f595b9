"""atodds leaderboard prints the frontier of the published entries, and draws it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atodds.analysis import published_frontier
from atodds.analysis.numbers import percent
from atodds.cli import app
from atodds.errors import ArgumentError, EmptyDataError, UnknownNameError


def asked(*options: str) -> Result:
    return CliRunner().invoke(app, ["leaderboard", *options], env={"COLUMNS": "200", "TERM": "dumb"})


def test_the_members_of_the_frontier_are_printed_with_their_numbers_and_papers() -> None:
    shown = asked()
    assert shown.exit_code == 0
    assert "3 of 93 published entries make the frontier: CIFAR-10, l∞, 8/255" in shown.output
    for point in published_frontier("cifar10", "linf", "8/255").members:
        (line,) = [line for line in shown.output.splitlines() if line.startswith(point.model + " ")]
        assert f"{percent(point.accuracy.value, 2)} %" in line
        assert f"{percent(point.robustness.value, 2)} %" in line
        assert f"{percent(point.probability)} %" in line
        assert "https://arxiv.org/abs/" in line
    assert "Left out: 6 entries of the same board that were attacked at 0.031." in shown.output


def test_each_board_has_its_own_eps() -> None:
    assert "ImageNet, l∞, 4/255" in asked("--data", "imagenet").output
    assert "CIFAR-10, l2, 0.5" in asked("--norm", "l2").output
    corrupted = asked("--norm", "corruptions").output
    assert "1 of 23 published entries makes the frontier: CIFAR-10, common corruptions" in corrupted
    assert "AutoAttack" not in corrupted


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_figure_is_written_as_the_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "new" / f"frontier.{kind}"
    assert asked("--data", "cifar100", "--figure", str(path)).exit_code == 0
    content = path.read_bytes()
    if kind == "png":
        assert content.startswith(b"\x89PNG")
    else:
        assert "3 of 38 published entries make the frontier of CIFAR-100" in content.decode()
        assert "Bai2024MixedNUTS" in content.decode()


def test_what_is_not_there_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "frontier.pdf"
    assert isinstance(asked("--figure", str(path)).exception, ArgumentError)
    assert isinstance(asked("--data", "cifar").exception, UnknownNameError)
    assert isinstance(asked("--eps", "1/255", "--figure", str(tmp_path / "a.svg")).exception, EmptyDataError)
    assert list(tmp_path.iterdir()) == []
