"""A run in the formats of others says the run's numbers, and no name in it is anything but text."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from atodds import analysis
from atodds.errors import ArgumentError, MissingExtraError, RunError, ThreatError, UnknownNameError
from atodds.report import exports
from atodds.report.exports.measured import file_name
from atodds.report.exports.model_card import marked, quoted

if TYPE_CHECKING:
    from tests.report.conftest import MadeRun


def written(run: MadeRun, form: str, place: Path, **more: Any) -> list[str]:
    return [Path(file).read_text(encoding="utf-8") for file in exports.export(run, form, place, **more)]


def test_a_robustbench_entry_has_the_leaderboards_fields_and_the_runs_numbers(
    standard: MadeRun, tmp_path: Path
) -> None:
    fields = {"authors": 'A. "B" <c>', "additional_data": "false", "venue": "arXiv", "architecture": "ResNet-20"}
    first, _ = map(json.loads, written(standard, "robustbench", tmp_path, fields=fields))
    model = standard.manifest.models[0].id
    table = standard.table()
    assert first == {
        "link": None,
        "name": "plain",
        "authors": 'A. "B" <c>',
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "venue": "arXiv",
        "architecture": "ResNet-20",
        "eps": "8/255",
        "clean_acc": f"{100 * analysis.accuracy(table, model).value:.2f}",
        "reported": None,
        "autoattack_acc": f"{100 * analysis.robust_accuracy(table, model, 'linf', '8/255').value:.2f}",
        "unreliable": False,
        "footnote": first["footnote"],
    }
    assert "n = 100, 95 % interval" in first["footnote"]
    (at,) = map(json.loads, written(standard, "robustbench", tmp_path, models=["plain"], eps="1/255"))
    assert at["eps"] == "1/255"


def test_only_the_standard_ensemble_is_an_entry_of_robustbench(run: MadeRun, standard: MadeRun, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="--attacks standard"):
        exports.export(run, "robustbench", tmp_path / "none")
    with pytest.raises(ArgumentError, match="no budget above 0"):
        exports.export(standard, "robustbench", tmp_path / "none", eps="0")
    assert not (tmp_path / "none").exists()
    for key, value in (("additional_data", "perhaps"), ("number_forward_passes", "0")):
        with pytest.raises(ArgumentError, match=key):
            exports.export(standard, "robustbench", tmp_path, fields={key: value})


def metadata(text: str) -> dict[str, Any]:
    start, told, rest = text.split("---\n", 2)
    assert start == ""
    assert rest
    held = yaml.safe_load(told)
    assert isinstance(held, dict)
    return held


def test_a_card_holds_a_model_index_with_n_and_intervals(standard: MadeRun, tmp_path: Path) -> None:
    fields = {"license": "apache-2.0", "dataset": "uoft-cs/cifar10", "url": "https://example.org/run"}
    first, second = map(metadata, written(standard, "model-card", tmp_path, fields=fields))
    assert first["license"] == "apache-2.0"
    (index,) = first["model-index"]
    (result,) = index["results"]
    assert index["name"] == "plain"
    assert result["source"]["url"] == "https://example.org/run"
    assert result["task"] == {"type": "image-classification", "name": "Image classification"}
    assert result["dataset"]["type"] == "uoft-cs/cifar10"
    assert [metric["type"] for metric in result["metrics"]] == ["accuracy", "robust_accuracy", "robust_accuracy"]
    model, table = standard.manifest.models[0].id, standard.table()
    for metric, eps in zip(result["metrics"], ("0", "1/255", "8/255"), strict=True):
        rate = analysis.robust_accuracy(table, model, "linf", eps)
        assert metric["value"] == pytest.approx(rate.value, abs=1e-6)
        assert isinstance(metric["value"], float)
        told = {key: metric["args"][key] for key in ("n", "low", "high", "confidence")}
        assert told == pytest.approx({"n": 100, "low": rate.low, "high": rate.high, "confidence": 0.95}, abs=1e-6)
    assert result["metrics"][2]["args"]["eps"] == "8/255"
    assert second["model-index"][0]["name"] == standard.manifest.models[1].name


def test_a_card_is_one_that_the_hub_reads(standard: MadeRun, tmp_path: Path) -> None:
    card = pytest.importorskip("huggingface_hub", reason="huggingface_hub, which is no dependency, is not installed")
    for text in written(standard, "model-card", tmp_path):
        told = card.ModelCard(text).data
        assert [one.metric_type for one in told.eval_results] == ["accuracy", "robust_accuracy", "robust_accuracy"]


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_comes_back_from_yaml_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"key: {quoted(text)}\nother: 1\n") == {"key": text, "other": 1}
    assert quoted(text).isprintable()


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_a_name_in_a_table_stays_one_cell_of_one_line(text: str) -> None:
    told = marked(text)
    assert told.isprintable()
    assert "|" not in told.replace("\\|", "").replace("\\\\", "")


@given(st.text(max_size=200))
def test_a_file_is_never_a_path_never_hidden_and_never_long(text: str) -> None:
    name = file_name(text)
    assert name == Path(name).name
    assert not name.startswith(".")
    assert 1 <= len(name) <= 100


def test_names_become_files_inside_the_folder_no_two_the_same(standard: MadeRun, tmp_path: Path) -> None:
    files = exports.export(standard, "model-card", tmp_path / "cards")
    assert [Path(file).parent for file in files] == [tmp_path / "cards"] * 2
    assert exports.file_names(["a/b", "A_b", "a b", "..", "."], ".md") == [
        "a_b.md", "A_b-2.md", "a_b-3.md", "model.md", "model-2.md",
    ]  # fmt: skip


def test_what_is_not_there_is_told(standard: MadeRun, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean robustbench"):
        exports.export(standard, "robustbanch", tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean plain"):
        exports.export(standard, "model-card", tmp_path, models=["plane"])
    with pytest.raises(UnknownNameError, match="field"):
        exports.export(standard, "model-card", tmp_path, fields={"autors": "x"})
    with pytest.raises(ThreatError, match="no attack of this run went beyond"):
        exports.export(standard, "model-card", tmp_path, eps="16/255")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written to"):
        exports.export(standard, "model-card", tmp_path / "file")


class Client:
    """The few methods of MLflow's client that are used, with its manners."""

    stores: Mapping[str, list[SimpleNamespace]] = {}

    def __init__(self, tracking_uri: str | None = None) -> None:
        if tracking_uri == "bad://":
            raise ValueError("unsupported\nURI")
        self.runs = self.stores[tracking_uri or "default"]

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id="7") if self.runs and name else None

    def create_experiment(self, name: str) -> str:
        assert name == "atodds"
        return "7"

    def search_runs(self, experiments: list[str], filter_string: str, max_results: int) -> list[SimpleNamespace]:
        assert experiments == ["7"]
        mark = filter_string.partition("= '")[2].rstrip("'")
        assert len(mark) == 64
        return [run for run in self.runs if run.tags["atodds.export"] == mark][:max_results]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> SimpleNamespace:
        info = SimpleNamespace(run_id=f"run{len(self.runs)}")
        run = SimpleNamespace(info=info, name=run_name, tags=tags, params={}, metrics={}, done=False)
        assert experiment == "7"
        self.runs.append(run)
        return run

    def log_param(self, run: str, key: str, value: str) -> None:
        self.runs[int(run[3:])].params[key] = value

    def log_metric(self, run: str, key: str, value: float) -> None:
        assert all(sign.isalnum() or sign in "_-. /" for sign in key)
        self.runs[int(run[3:])].metrics[key] = value

    def set_terminated(self, run: str) -> None:
        self.runs[int(run[3:])].done = True


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """A stand-in for MLflow, and the runs in its store."""
    runs: list[SimpleNamespace] = []
    monkeypatch.setattr(Client, "stores", {"default": runs, "sqlite:///a.db": runs})
    module = ModuleType("mlflow")
    vars(module).update(MlflowClient=Client, exceptions=SimpleNamespace(MlflowException=RuntimeError))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return runs


def test_mlflow_gets_a_run_a_model_once(standard: MadeRun, mlflow: list[SimpleNamespace]) -> None:
    assert exports.export(standard, "mlflow", "sqlite:///a.db") == ("run0", "run1")
    assert exports.export(standard, "mlflow", "sqlite:///a.db") == ("run0", "run1")
    assert exports.export(standard, "mlflow", eps="1/255", models=["plain"]) == ("run2",)
    first = mlflow[0]
    rate = analysis.robust_accuracy(standard.table(), standard.manifest.models[0].id, "linf", "8/255")
    assert (first.name, first.done) == ("plain", True)
    assert first.metrics["robust_accuracy_linf_8_255"] == rate.value
    assert first.metrics["robust_accuracy_linf_8_255_low"] == rate.low
    assert first.params["n"] == "100"
    assert all(len(value) <= 500 for value in first.params.values())
    assert mlflow[1].name == standard.manifest.models[1].name


def test_mlflow_that_is_missing_or_refuses_is_told(
    standard: MadeRun, mlflow: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="bad:// did not take the run: unsupported URI"):
        exports.export(standard, "mlflow", "bad://")
    with pytest.raises(ArgumentError, match="told no fields"):
        exports.export(standard, "mlflow", fields={"authors": "me"})
    assert mlflow == []
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"atodds\[mlflow\]"):
        exports.export(standard, "mlflow")


def test_what_the_audit_doubts_is_marked_as_unreliable(standard: MadeRun, tmp_path: Path) -> None:
    from atodds.evaluation.manifest import Finding

    doubt = Finding("masking", "warning", standard.manifest.models[0].id, "m", "m", "a")
    first, second = map(json.loads, written(replace(standard, said=(doubt,)), "robustbench", tmp_path))
    assert (first["unreliable"], second["unreliable"]) == (True, False)
