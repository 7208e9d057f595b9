"""The page of the study of data sizes, from curves whose every number is known."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atodds import data
from atodds.analysis import wilson
from atodds.analysis.arms import arms
from atodds.analysis.turning_point import Robustness, TurningPoint, turning_point
from atodds.errors import RunError
from atodds.evaluation.manifest import DataInfo, Finding, Manifest, ModelInfo
from atodds.evaluation.store import Store
from atodds.report.data_size_page import Kept, render_data_size, write_data_size
from atodds.studies.data_selection import Selected, planned_selection
from atodds.studies.data_size import Curve, DataSizeStudy
from atodds.studies.data_size_plan import Variant, planned
from atodds.threat import Budget

SIZES = (50, 100, 400, 1400)
MEANS = {"turning": (1.0, 1.4, 1.5, 1.1), "rising": (1.0, 1.2, 1.4, 1.6), "flat": (1.2, 1.2, 1.2, 1.2)}


def found(form: str, unit: float = 1.0) -> TurningPoint:
    draw = np.random.default_rng(1)
    values = draw.gamma(9, 0.05, (80, 1)) + np.array(MEANS[form]) + 0.02 * draw.normal(size=(80, 4))
    return turning_point(unit * values / 4, SIZES, resamples=200)


def store(place: Path, name: str) -> Store:
    models = tuple(ModelInfo(f"{name}-{size}@0123abcd", f"{name}-{size}", "", f"{size:064x}", 12_345) for size in SIZES)
    info = DataInfo("digits", "test", "60 chosen", "0" * 64, 60, tuple("0123456789"), (1, 8, 8))
    manifest = Manifest(
        models=models, data=info, norm="l2", budgets=(Budget(1.0, "1"),), attacks=("carlini_wagner",), alone=False,
        seed=0, precision="full", eot=1, keep=False, jobs=(), transfers=(), looks=("f" * 32,), batch_sizes={},
        channels_last={}, in_part={}, outputs={}, random=(), commit="abc",
        command="atodds study data-size --data '<b>'", versions={"atodds": "0"}, machine={"cpu": "x"},
        created="2026-11-21T00:00:00+00:00",
    )  # fmt: skip
    made = Store.create(place / name.replace("+", ""), manifest)
    warning = Finding("masked", "warning", models[0].id, "1 of 2", "it may be", "look <i>closer</i>")
    made.put_findings("f" * 32, [warning, replace(warning, check="quiet", severity="note")])
    return made


def curve(place: Path, name: str, form: str) -> Curve:
    rates = tuple(wilson(hits, 100) for hits in (60, 70, 80, 90))
    both: dict[Any, Robustness] = {"l2": Robustness(found(form), 80, 3), "linf": Robustness(found("flat", 0.1), 80, 0)}
    stores = dict.fromkeys(("l2", "linf", "fixed"), store(place, name))
    return Curve(Variant.parse(name), rates, rates, found("rising"), both, found("flat"), stores)


@pytest.fixture
def study(tmp_path: Path) -> DataSizeStudy:
    train = data.load("digits", split="train")
    networks = ["mlp", "mlp+D", "cnn4"]
    plan = planned(train, data="digits", networks=networks, sizes=SIZES)
    forms = ("turning", "rising", "flat")
    curves = tuple(curve(tmp_path, name, form) for name, form in zip(networks, forms, strict=True))
    return DataSizeStudy(plan, curves, 355)


def drawings(page: str) -> dict[str, Any]:
    match = re.search(r'id="drawings">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    said: dict[str, Any] = json.loads(match[1])
    return said


def domain(drawing: dict[str, Any], axis: str) -> list[float]:
    found = [
        layer["encoding"][axis]["scale"]["domain"] for layer in drawing["layer"] if "scale" in layer["encoding"][axis]
    ]
    assert all(one == found[0] for one in found)
    ends: list[float] = found[0]
    return ends


def test_each_network_has_three_panels_on_the_scales_of_all(study: DataSizeStudy) -> None:
    drawn = drawings(render_data_size(study))
    assert set(drawn) == {f"sizes-{name}-{k}" for name in ("mlp", "cnn4") for k in range(3)} | {
        "standing-0",
        "standing-1",
    }
    for k in range(3):
        one, other = drawn[f"sizes-mlp-{k}"], drawn[f"sizes-cnn4-{k}"]
        assert domain(one, "x") == domain(other, "x")
        assert domain(one, "y") == domain(other, "y")
        assert one["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"
    assert domain(drawn["sizes-mlp-0"], "y") == [0, 1]


def test_the_answer_names_where_robustness_turns(study: DataSizeStudy) -> None:
    page = render_data_size(study)
    assert "Robustness has a turning point: mlp in l2 at 400." in page
    assert "accuracy rises for 3 of 3 networks" in page
    none = replace(study, curves=study.curves[1:])
    assert "No curve of robustness has a clear turning point" in render_data_size(none)


def test_a_turning_point_is_marked_where_there_is_one(study: DataSizeStudy) -> None:
    drawn = drawings(render_data_size(study))

    def rules(name: str) -> list[dict[str, Any]]:
        return [layer for layer in drawn[name]["layer"] if layer["mark"]["type"] == "rule"]

    (rule,) = rules("sizes-mlp-1")
    rows = rule["data"].get("values") or drawn["sizes-mlp-1"]["datasets"][rule["data"]["name"]]
    assert [(row["name"], row["size"]) for row in rows] == [("mlp", 400)]
    assert not rules("sizes-cnn4-1")
    assert not rules("sizes-mlp-0")


def test_every_number_is_in_a_table_and_warnings_are_shown(study: DataSizeStudy) -> None:
    page = render_data_size(study)
    for one in study.curves:
        for mean in one.robustness["l2"].curve.means:
            assert str(mean) in page
    assert page.count('<li class="finding-warning">') == 9
    assert "quiet" not in page
    assert "(3 left out)" in page
    assert all(subset.fingerprint in page for subset in study.plan.subsets)


def test_what_rules_do_to_a_network_stands_beside_its_curves(study: DataSizeStudy) -> None:
    draws = np.random.default_rng(0)
    values = draws.normal(1.0, 0.001, (60, 3, 2)) - np.array([0.0, 0.0, 0.25])[:, None]
    comparison = planned_selection(study.plan, ["herding", "k-center"], keep=100, repeats=2)
    found: Any = dict.fromkeys(("accuracy", "l2", "linf", "fixed"), arms(values, comparison.rules, resamples=200))
    counts: Any = {"accuracy": 355, "l2": 60, "linf": 59, "fixed": 60}
    one = Selected(study.curves[0].variant, found, counts, {"l2": 0, "linf": 1}, study.curves[0].stores)
    page = render_data_size(study, Kept(comparison, (one,)))
    drawn = {name for name in drawings(page) if name.startswith("select")}
    assert drawn == {f"select-mlp-{k}" for k in range(4)}
    assert "mlp: k-center accuracy −25.0 points, l2 −0.250, l∞ −0.250 and robust accuracy −25.0 points" in page
    assert "herding accuracy" not in page  # which is not clearly apart from random
    assert page.count('<li class="finding-warning">') == 12
    assert "mlp, chosen images, l2" in page
    assert "select-" not in render_data_size(study)


def test_what_users_named_is_escaped(study: DataSizeStudy) -> None:
    page = render_data_size(replace(study, plan=replace(study.plan, data="<img src=x>")))
    assert "<img src=x>" not in page
    assert "&lt;b&gt;" in page
    assert "<i>closer</i>" not in page


def test_a_page_that_cannot_be_written_is_our_error(study: DataSizeStudy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_data_size(study, tmp_path / "file" / "report.html")
    (page,) = write_data_size(study, tmp_path / "new" / "report.html")
    assert page.is_file()


def test_every_figure_is_a_file_too(study: DataSizeStudy, tmp_path: Path) -> None:
    few = replace(study, curves=study.curves[2:])
    written = write_data_size(few, tmp_path / "report.html", figures=tmp_path / "figures")
    names = {f"{name}.{kind}" for name in ("sizes-cnn4", "standing") for kind in ("svg", "png")}
    assert {path.name for path in written[1:]} == names
    assert all(path.read_bytes() for path in written)
