"""A run grows, refuses another question, repairs what is damaged, and leaves everything else as it was."""

import logging
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import atodds
from atodds.batching import BatchSizes
from atodds.data import ImageSet
from atodds.errors import ArgumentError, NewerRunError, NotARunError, OlderRunError, OtherPlanError, RunError
from atodds.evaluation.conduct import Settings, conduct
from atodds.evaluation.manifest import Manifest
from atodds.evaluation.store import Store

ATTACKS = "fgsm,pgd(steps=3)"
Evaluated = Callable[..., atodds.Run]


class Counted(nn.Module):
    """Another model, which counts the images that go through it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self._images = 0

    def forward(self, images: Tensor) -> Tensor:
        self._images += len(images)
        logits: Tensor = self.inner(images)
        return logits

    def taken(self) -> int:
        """Images since the last call."""
        count, self._images = self._images, 0
        return count


@pytest.fixture
def counted(trained: nn.Module) -> Counted:
    return Counted(trained)


@pytest.fixture
def few(digits: ImageSet) -> ImageSet:
    return digits.take(range(0, 100, 3))


@pytest.fixture
def evaluated(counted: Counted, few: ImageSet, tmp_path: Path) -> Evaluated:
    def run(model: object = counted, images: ImageSet = few, **settings: object) -> atodds.Run:
        usual: dict[str, object] = {
            "eps": "0.04,0.08", "attacks": ATTACKS, "batch_size": 16, "chunk": 12, "out": tmp_path / "run",
        }  # fmt: skip
        return atodds.evaluate(model, images, **(usual | settings))  # type: ignore[arg-type]

    return run


def shards(run: atodds.Run) -> dict[str, int]:
    """Each file of results, and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(run.place).glob("jobs/*.parquet")}


def kept(before: dict[str, int], run: atodds.Run) -> int:
    """Files of results that were not written again."""
    after = shards(run)
    assert set(before) <= set(after)
    return sum(after[name] == moment for name, moment in before.items())


def test_the_same_call_again_makes_no_pass(evaluated: Evaluated, counted: Counted) -> None:
    first = evaluated()
    before, _ = shards(first), counted.taken()
    second = evaluated()
    assert counted.taken() == 0
    assert kept(before, second) == len(before)
    assert second.table.equals(first.table)
    assert second.audit == first.audit
    assert second.store.manifest.created == first.store.manifest.created


GROWN: dict[str, dict[str, object]] = {
    "a larger eps": {"eps": "0.04,0.08,0.12"},
    "0": {"eps": "0,0.04,0.08"},
    "an attack alone": {"attacks": f"random_noise(queries=3),{ATTACKS}", "alone": True},
    "no pictures": {"keep": False},
}


@pytest.mark.parametrize("what", GROWN)
def test_a_run_that_grows_keeps_all_that_is_finished(evaluated: Evaluated, what: str) -> None:
    change = GROWN[what]
    first = evaluated(alone="alone" in change)
    before = shards(first)
    grown = evaluated(**change)
    assert kept(before, grown) == len(before)
    fresh = evaluated(**change, out=None)
    assert grown.table.equals(fresh.table)
    assert grown.audit == fresh.audit


def test_a_second_model_leaves_the_first_alone(evaluated: Evaluated, counted: Counted, few: ImageSet) -> None:
    first = evaluated({"one": counted})
    before, _ = shards(first), counted.taken()
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 12).double())
    both = evaluated({"two": other, "one": counted}, few)
    assert counted.taken() == 0
    assert kept(before, both) == len(before)
    mine = pl.col("model") == first.models[0].info.id
    assert both.table.filter(mine).sort("image", "eps", "attack").equals(first.table.sort("image", "eps", "attack"))
    assert [result.info.name for result in both.models] == ["two", "one"]
    assert {finding.model for finding in both.audit} <= {result.info.id for result in both.models}


@pytest.mark.parametrize("change", [{"eps": "0.04,0.06,0.08"}, {"attacks": f"{ATTACKS},random_noise(queries=3)"}])
def test_a_run_that_grows_in_the_middle_is_as_if_it_had_been_asked_at_once(
    evaluated: Evaluated, change: dict[str, object]
) -> None:
    first = evaluated()
    before = shards(first)
    grown, fresh = evaluated(**change), evaluated(**change, out=None)
    assert kept(before, grown) == len(before)
    assert grown.table.equals(fresh.table)
    assert grown.audit == fresh.audit
    assert grown.curve("0.04,0.08").rates == first.curve().rates


@pytest.mark.parametrize(
    "change",
    [
        {"eps": "0.04"},
        {"eps": "0.04,0.09"},
        {"attacks": "fgsm"},
        {"attacks": "fgsm,pgd(steps=4)"},
        {"norm": "l2"},
        {"seed": 1},
        {"alone": True},
        {"eot": 2},
        {"precision": "bfloat16"},
        {"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10).double())},
        {"model": {"another name": nn.Flatten()}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_in_the_same_folder_is_refused_before_any_work(
    evaluated: Evaluated, counted: Counted, change: dict[str, object]
) -> None:
    first = evaluated()
    before, _, said = shards(first), counted.taken(), first.store.folder.read("run.json")
    with pytest.raises(OtherPlanError, match="Give another folder"):
        evaluated(**change)
    assert counted.taken() == 0
    assert first.store.folder.read("run.json") == said
    assert shards(first) == before
    assert evaluated().table.equals(first.table)


def test_other_images_in_the_same_folder_are_refused_before_any_work(
    evaluated: Evaluated, counted: Counted, few: ImageSet
) -> None:
    evaluated()
    counted.taken()
    for images in (few.take(range(10)), few.take(range(len(few) - 1, -1, -1))):
        with pytest.raises(OtherPlanError, match="images were"):
            evaluated(counted, images)
    assert counted.taken() == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"format": 99}', NewerRunError),
        ('{"format": 1}', OlderRunError),
        ("{}", NotARunError),
        ("not json", NotARunError),
    ],
)
def test_a_folder_with_something_else_in_it_is_left_alone(
    evaluated: Evaluated, counted: Counted, tmp_path: Path, text: str, error: type[RunError]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(error):
        evaluated()
    assert counted.taken() == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
    assert (tmp_path / "run" / "run.json").read_text() == text


def test_a_place_that_cannot_be_used_is_found_before_any_long_work(
    evaluated: Evaluated, counted: Counted, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="nowhere://bucket/run cannot be reached"):
        evaluated(out="nowhere://bucket/run")
    assert counted.taken() == 0
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"run\.json cannot be written in"):
        evaluated(out=tmp_path / "file")
    assert counted.taken() < 1000  # what the audit looks at


@pytest.mark.parametrize("images", [False, True], ids=["verdicts", "pictures"])
def test_damaged_shards_are_reported_and_computed_again(
    evaluated: Evaluated, counted: Counted, caplog: pytest.LogCaptureFixture, images: bool
) -> None:
    first = evaluated()
    before, _ = shards(first), counted.taken()
    names = [name for name in sorted(before) if name.endswith(".images.parquet") == images]
    harmed = random.Random(0).sample(names, 3)
    truncated, altered, gone = (Path(first.place) / "jobs" / name for name in harmed)
    truncated.write_bytes(truncated.read_bytes()[:-20])
    altered.write_bytes(altered.read_bytes().replace(b"PAR1", b"PAR2"))
    gone.unlink()
    with caplog.at_level(logging.WARNING, "atodds"):
        again = evaluated()
    assert again.table.equals(first.table)
    assert counted.taken() > 0
    assert kept({name: before[name] for name in before if name not in harmed}, again) >= len(before) - 6
    for name in harmed[:2]:
        assert f"jobs/{name} is not a whole result file" in caplog.text
    caplog.clear()
    evaluated()
    assert caplog.text == ""
    assert counted.taken() == 0


def test_lost_and_damaged_findings_are_found_again(evaluated: Evaluated, counted: Counted) -> None:
    first = evaluated()
    files = sorted(Path(first.place).glob("audit/*.json"))
    assert len(files) == 3
    for harm in (Path.unlink, lambda file: file.write_text("{}"), lambda file: file.write_text("[")):
        for file in files:
            harm(file)
        counted.taken()
        again = evaluated()
        assert again.audit == first.audit
        assert again.store.complete
        assert counted.taken() > 0


def test_a_run_lies_in_a_bucket(evaluated: Evaluated) -> None:
    here, there = evaluated(), evaluated(out="memory://a-bucket/runs/first")
    assert there.table.equals(here.table)
    assert there.audit == here.audit
    assert evaluated(out="memory://a-bucket/runs/first").table.equals(here.table)
    assert Store.open("memory://a-bucket/runs/first").complete
    model = there.models[0].info.id
    ids = there.table["image"].unique().to_list()
    assert there.store.kept(model, ids).keys() == here.store.kept(model, ids).keys() != set()


@pytest.mark.parametrize("training", [True, False])
def test_models_come_back_as_they_came(evaluated: Evaluated, training: bool) -> None:
    parts = [nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 10)]
    model = nn.Sequential(*parts).double().train(training)
    parts[1].eval()
    next(parts[3].parameters()).requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluated(model)
    assert [part.training for part in parts] == [training, False, training, training]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_no_global_state_is_touched(evaluated: Evaluated) -> None:
    states = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002 - is looked at
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    evaluated()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert repr(np.random.get_state()) == states[1]  # noqa: NPY002 - is looked at
    assert random.getstate() == states[2]
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()) == (dtype, grad, threads)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(evaluated: Evaluated, context: Callable[[], object]) -> None:
    expected = evaluated()
    with context():  # type: ignore[attr-defined]
        assert evaluated(out=None).table.equals(expected.table)


def test_models_of_different_kinds_share_a_run(evaluated: Evaluated, trained: nn.Module, few: ImageSet) -> None:
    """Float32 and float64, ten classes and twelve, one already brought under the same name."""
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
    run = evaluated([trained, wide])
    assert [result.info.name for result in run.models] == ["Sequential", "Sequential-2"]
    assert run.table.filter(pl.col("attack") == "clean").height == 2 * len(few)
    assert run["Sequential"].accuracy.value > 0.9
    with pytest.raises(ArgumentError, match=r"the run has several models.*'Sequential-2'"):
        _ = run.accuracy


def test_the_same_model_twice_is_refused(evaluated: Evaluated, trained: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="the same model as a"):
        evaluated({"a": trained, "b": trained})
    with pytest.raises(ArgumentError, match="the same model as Sequential"):
        evaluated([trained, trained])


def test_large_ids_and_labels_of_any_integer_type_are_kept(trained: nn.Module, digits: ImageSet) -> None:
    pixels = digits.pixels(range(6))
    ids = np.array([2**62, 2**31, 2**31 - 1, 5, 0, 2**33])
    labels = digits.labels[:6]
    expected = None
    for kind in (np.uint8, np.int16, np.int64):
        images = ImageSet.from_arrays(pixels, labels.astype(kind), ids=ids, classes=digits.classes)
        run = atodds.evaluate(trained, images, eps=0.1, attacks=ATTACKS, batch_size=4)
        assert run.table.filter(pl.col("attack") == "clean")["image"].to_list() == ids.tolist()
        assert expected is None or run.table.equals(expected)
        expected = run.table


def test_the_manifest_says_how_the_run_was_made(evaluated: Evaluated, few: ImageSet) -> None:
    said = Store.open(evaluated(command="atodds bench", seed=7).place).manifest
    assert (said.seed, said.command, said.precision, said.alone, said.eot) == (7, "atodds bench", "full", False, 1)
    assert said.attacks == ("fgsm", "pgd(steps=3)")
    assert [budget.text for budget in said.budgets] == ["0.04", "0.08"]
    assert (said.data.n, said.data.fingerprint, said.data.shape) == (len(few), few.fingerprint, (1, 8, 8))
    assert {"atodds", "python", "torch"} <= said.versions.keys()
    assert said.machine["device"] == "cpu"
    assert said.batch_sizes == {said.models[0].id: (16, 16)}


def test_runs_of_one_study_measure_batch_sizes_once(trained: nn.Module, few: ImageSet, tmp_path: Path) -> None:
    sizes: dict[str, BatchSizes] = {}

    def conducted(name: str, batch_size: int | None = None) -> Manifest:
        settings = Settings(batch_size=batch_size)
        return conduct({"net": trained}, few, "linf", "0.04", "fgsm", tmp_path / name, settings, shared=sizes).manifest

    asked = conducted("asked", 3)
    assert not sizes  # what was asked for is no measurement
    first = conducted("first")
    (model,) = asked.batch_sizes
    assert sizes == {model: first.sizes(model)}
    sizes[model] = BatchSizes(7, 5, ("forward",), in_part=False)
    assert conducted("second").sizes(model) == sizes[model]
    assert conducted("first").sizes(model) == first.sizes(model)  # a run that goes on keeps its own
