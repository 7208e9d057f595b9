"""atodds models: the networks that come along, and a look at any model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from atodds.cli.models import app
from atodds.errors import UnknownNameError
from atodds.models import NETWORKS, Card, Classifier, build, fingerprint, load, save

DOCS = Path(__file__).resolve().parents[2] / "docs"


def shown(*arguments: str) -> str:
    """What a command prints, its lines unwrapped."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_list_has_every_network_with_its_counts() -> None:
    lines = {line.split()[0]: line for line in shown("list").splitlines() if line.strip()}
    assert set(NETWORKS) <= set(lines)
    assert "3,157,002" in lines["mlp"]
    assert "1,147,978" in lines["cnn7"]
    assert "too small" in lines["cnn7"]
    assert "467,946" in lines["resnet32"]


def test_the_documentation_has_every_network_with_the_same_counts() -> None:
    listed = {line.split()[0]: line for line in shown("list").splitlines() if line.strip()}
    rows = [
        line.strip("| ").split("|") for line in (DOCS / "models.md").read_text().splitlines() if line.startswith("| `")
    ]
    told = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows if row[0].strip(" `") in NETWORKS}
    assert set(told) == set(NETWORKS)
    for name, cells in told.items():
        assert all(cell in listed[name] for cell in cells[:4]), name


def test_show_tells_what_a_checkpoint_is(tmp_path: Path) -> None:
    card = Card("mlp", {"width": 2}, (1, 8, 8), ("[bold]a", "b"), data="digits", recipe={"lr": 0.1, "eps": None})
    made = Classifier(build("mlp", (1, 8, 8), 2, settings={"width": 2}), card=card)
    file = save(made, tmp_path / "tiny.safetensors")
    output = shown("show", str(file))
    for part in ("tiny", "Perceptron", "136", fingerprint(made), "mlp width=2", "1x8x8", "[bold]a, b", "digits", "lr"):
        assert part in output, part
    assert "eps" not in output


def test_show_folds_normalisation_in(tmp_path: Path) -> None:
    (tmp_path / "zoo.py").write_text("from torch import nn\ndef make():\n    return nn.Flatten()\n")
    output = shown("show", f"{tmp_path / 'zoo.py'}:make", "--mean", "0.5", "--std", "0.25")
    assert "0.25" in output
    assert fingerprint(load(f"{tmp_path / 'zoo.py'}:make", mean=0.5, std=0.25)) in output


def test_show_leaves_errors_to_the_one_place_that_prints_them() -> None:
    with pytest.raises(UnknownNameError):
        shown("show", "resnet21")
