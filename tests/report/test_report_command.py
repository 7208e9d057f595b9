"""atodds report: from the folder of a real run to a page."""

from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner

from atodds import run as surface
from atodds.cli.report import report
from atodds.data import ImageSet
from atodds.errors import NotARunError, RunError

app = typer.Typer()
app.command()(report)


class Brightness(nn.Module):
    """Class 1 where an image is brighter than middle grey."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        brightness = images.mean((1, 2, 3)) - self.middle
        return torch.stack([-brightness, brightness, brightness - 9, brightness - 9], 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on ten greys, at 8/255 and more from the boundary."""
    greys = torch.tensor([20, 40, 60, 80, 119, 136, 150, 180, 200, 240], dtype=torch.uint8)
    images = ImageSet.from_arrays(greys.reshape(10, 1, 1, 1).expand(10, 1, 8, 8), (greys > 127).long(), name="greys")
    out = tmp_path_factory.mktemp("runs") / "greys"
    surface.evaluate(Brightness(), images, eps="4/255,16/255,64/255", attacks="fgsm", out=out, progress=False)
    return out


def test_a_run_becomes_a_page_and_figures(place: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, [str(place), "--out", str(tmp_path / "page.html"), "--figures", str(tmp_path / "figures")]
    )
    assert done.exit_code == 0, done.output
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "greys" in html
    assert (tmp_path / "page.html").resolve().as_uri() in done.output.replace("\n", "")
    assert len(list((tmp_path / "figures").iterdir())) == 6
    assert (
        html.count('class="shot"') == 4
    )  # closest, median, furthest, and the class of which none of these is the median


def test_the_page_lies_in_the_run_where_no_file_is_given(place: Path) -> None:
    assert CliRunner().invoke(app, [str(place)]).exit_code == 0
    assert (place / "report.html").is_file()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(done.exception, NotARunError)
    assert str(tmp_path) in str(done.exception)


def test_a_run_that_is_not_finished_has_no_page(place: Path) -> None:
    shard = sorted((place / "jobs").glob("*[0-9a-f].parquet"))[0]
    content = shard.read_bytes()
    shard.unlink()
    try:
        done = CliRunner().invoke(app, [str(place)])
    finally:
        shard.write_bytes(content)
    assert isinstance(done.exception, RunError)
    assert "not finished" in str(done.exception)
