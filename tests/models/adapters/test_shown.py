"""Models of libraries at the command line: what `show` tells, and what `--resize` changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import atodds
from atodds.cli import app as whole
from atodds.cli.models import app
from atodds.data import ImageSet
from atodds.errors import ModelError
from atodds.models import Suite, arguments, fingerprint, load
from atodds.models.suites import Member
from atodds.run import Run


def a_suite(specs: tuple[str, ...]) -> Suite:
    members = (Member(spec, "family", 50.0, spec, "same weights", 8, None, "") for spec in specs)
    return Suite("two", "two models", (*members, Member("lost", "family", 50.0, "", "none", 0, None, "")))


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


@pytest.mark.usefixtures("timm")
def test_show_tells_how_the_library_uses_the_model() -> None:
    lines = {line[:16].strip(): line[16:].strip() for line in shown("show", "timm:tiny.a_in1k").splitlines()}
    assert lines["class"] == "Linear"
    assert lines["mean"] == "0.1, 0.2, 0.3"
    assert lines["weights"] == "tiny.a_in1k of timm, with timm 1.0.0"
    assert lines["images"] == "3x8x8 (channels x height x width); load them with --size 8"
    assert lines["its own loading"] == "keeps 95% of the shorter side, bicubic; --size keeps 87.5%, bilinear"
    assert lines["classes"] == "4: tench, goldfish, shark, ray"


@pytest.mark.usefixtures("transformers")
def test_show_names_the_network_inside_of_what_is_around_it() -> None:
    assert "class            Hub" in shown("show", "hf:owner/repo")


@pytest.mark.usefixtures("timm")
def test_a_model_that_resizes_answers_for_images_of_any_size() -> None:
    model = load("timm:tiny.b_in1k", resize=True)
    plain = load("timm:tiny.b_in1k")
    plain.load_state_dict(
        {key.replace("network.network.", "network."): held for key, held in model.state_dict().items()}
    )
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(model(images), plain(images))
    assert model(torch.rand(2, 3, 20, 13)).shape == (2, 4)
    with pytest.raises(ModelError, match="--resize"):
        plain(torch.rand(2, 3, 20, 13))


@pytest.mark.usefixtures("timm", "torchvision", "transformers")
@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_model_can_be_loaded_again_from_what_it_tells(tmp_path: Path, resize: bool, normalised: bool) -> None:
    """As each worker process does with a model that cannot be sent."""
    own: dict[str, Any] = {"mean": 0.4, "std": 0.2} if normalised else {}
    save_file({"fc.weight": torch.rand(4, 192), "fc.bias": torch.rand(4)}, tmp_path / "w.safetensors")
    for library in ("timm", "torchvision"):
        spec = f"{library}:tiny@{tmp_path / 'w.safetensors'}"
        model = load(spec, resize=resize, name="mine", **own)
        again = load(**arguments(model))
        assert (fingerprint(again), again.name, again.usage) == (fingerprint(model), "mine", model.usage)
    for spec in ("timm:tiny.b_in1k", "torchvision:tiny", "hf:owner/repo"):
        model = load(spec, resize=resize)
        again = load(**arguments(model))
        assert (again.name, again.usage) == (model.name, model.usage)
        assert again.mean is not None
        assert model.mean is not None
        assert torch.equal(again.mean, model.mean)


def test_models_of_several_libraries_and_sizes_run_side_by_side(timm: Any, torchvision: Any, tmp_path: Path) -> None:
    images = ImageSet.from_arrays(torch.rand(6, 3, 10, 10), [0, 1, 2, 3, 0, 1], classes=["a", "b", "c", "d"])
    brought = [load(spec, resize=True) for spec in ("timm:tiny.b_in1k", "torchvision:tiny")]
    run = atodds.evaluate(brought, images, eps=["0", "0.3"], attacks="fgsm", out=tmp_path / "run")
    assert [result.info.name for result in run.models] == ["tiny.b_in1k", "tiny"]
    assert timm.asked
    assert torchvision.asked


def test_bench_takes_them_and_a_whole_suite(timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("photos.npz", images=np.zeros((4, 10, 10, 3), np.uint8), labels=[0, 1, 2, 3], classes=list("abcd"))
    specs = ("timm:tiny.a_in1k", "timm:tiny.b_in1k")
    monkeypatch.setattr(atodds.models.suites, "SUITES", {"two": a_suite(specs)})
    words = ["bench", "suite:two", "--data", "photos.npz", "--eps", "0", "--out", "run"]
    with pytest.raises(ModelError, match=r"tiny\.a_in1k takes images of 3x8x8, not 3x10x10\. Load them with --size 8"):
        CliRunner().invoke(whole, words, catch_exceptions=False)
    CliRunner().invoke(whole, [*words, "--resize"], catch_exceptions=False)
    assert [result.info.name for result in Run.open("run").models] == ["tiny.a_in1k", "tiny.b_in1k"]
    assert {asked["name"] for asked in timm.asked} == {"tiny.a_in1k", "tiny.b_in1k"}
