"""Methods are named as attacks are, and what cannot work is found before any long work."""

import pytest
import torch
from torch import nn

from atodds.bounds.registry import METHODS, parse
from atodds.bounds.schema import SCHEMA, rows
from atodds.errors import ArgumentError, UnknownNameError
from atodds.oracle import Oracle
from atodds.threat import NORMS


def test_a_name_says_the_settings_that_differ_and_reads_back_the_same() -> None:
    text = "clever,clever(radius=8/255,samples=20),smoothing(sigma=0.25,n=1000)"
    specs = parse(text)
    assert ",".join(spec.name for spec in specs) == text
    assert parse([spec.name for spec in specs]) == specs
    assert parse("") == ()


def test_the_passes_of_an_image_are_foreseen() -> None:
    images = torch.tensor([[[[0.25, 0.75, 0.0, 0.5]]]])
    label = zero = torch.zeros(1, dtype=torch.int64)
    for spec in parse("clever(batches=10,samples=2,classes=3),smoothing(sigma=0.1,n0=5,n=50)"):
        oracle = Oracle(nn.Flatten())
        spec.run(oracle, images, label + 1, "l2", ids=zero, seed=0)
        passes = oracle.passes()
        assert int(passes.forwards.sum() + passes.backwards.sum()) == spec.passes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clever(batches=)", "cannot be read"),
        ("clever(samples=2.5)", "wrong type"),
        ("clever(radius=1e999)", "not a finite number"),
        ("smoothing", "needs sigma"),
        ("smoothing(n=10)", "needs sigma"),
        ("clever,clever", "named twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        parse(text)


def test_names_that_nothing_answers_to_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean clever"):
        parse("cleverer")
    with pytest.raises(UnknownNameError, match="Did you mean sigma"):
        parse("smoothing(sigmas=0.25)")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("text", ["clever(batches=5)", "clever(radius=-1)", "smoothing(sigma=-1)"])
def test_settings_that_cannot_work_are_found_at_once(text: str, norm: str) -> None:
    (spec,) = parse(text)
    with pytest.raises(ArgumentError):
        spec.check(norm)  # type: ignore[arg-type]


def test_settings_that_work_pass() -> None:
    for spec in parse("clever,smoothing(sigma=0.25)"):
        spec.check("linf")
    assert set(METHODS) == {"clever", "smoothing"}


def test_a_certificate_for_another_class_bounds_nothing() -> None:
    images = torch.tensor([[[[0.0, 1.0]]], [[[0.0, 1.0]]]])
    (spec,) = parse("smoothing(sigma=0.1,n=100)")
    ids = torch.arange(2)
    found = spec.run(Oracle(nn.Flatten()), images, torch.tensor([0, 1]), "linf", ids=ids, seed=0)
    assert found.norm == "l2"
    assert found.prediction.tolist() == [1, 1]
    assert found.lower[0] == 0
    assert found.lower[1] > 0.1


def test_rows_have_the_columns_of_the_schema_and_null_where_nothing_is_known() -> None:
    images = torch.tensor([[[[0.25, 0.75]]], [[[0.25, 0.75]]]])
    (spec,) = parse("clever(batches=10,samples=2)")
    ids, labels = torch.tensor([4, 9]), torch.tensor([1, 0])
    oracle = Oracle(nn.Flatten())
    found = spec.run(oracle, images, labels, "l2", ids=ids, seed=3)
    table = rows(
        found, model="m@1", data="d@2", images=ids, labels=labels, method=spec.name,
        passes=oracle.passes().of(ids), seed=3,
    )  # fmt: skip
    assert table.schema == SCHEMA
    right, wrong = table.to_pylist()
    assert (right["image"], right["target"], right["prediction"], right["certified"]) == (4, 0, 1, False)
    assert right["lower"] == pytest.approx(0.5 / 2**0.5)
    assert (wrong["lower"], wrong["target"], wrong["p_value"]) == (0, None, None)
    assert (wrong["forwards"], wrong["backwards"]) == (1, 0)
