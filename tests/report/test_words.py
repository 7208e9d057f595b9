"""The answer is made from the numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest

from atodds.analysis import robust_accuracy
from atodds.evaluation.manifest import Finding
from atodds.report.facts import gather
from atodds.report.words import Name, answer, attacks_title, classes_title, conjunction, counted, curve_title, plain

if TYPE_CHECKING:
    from tests.report.conftest import MadeModel, MadeRun, Make

    from atodds.evaluation.manifest import Severity
    from atodds.report.source import Source

FINDING = Finding("check", "warning", "resnet20@00000000", "measured", "meaning", "advice")


def said(run: Source) -> str:
    return " ".join(plain(sentence) for sentence in answer(gather(run)))


def test_the_answer_says_who_keeps_what_and_where_the_order_flips(run: MadeRun) -> None:
    robust = robust_accuracy(run.table(), "smallresnet_robust@00000001", "linf", "1/255")
    standard = robust_accuracy(run.table(), "resnet20@00000000", "linf", "1/255")
    assert said(run) == (
        f"smallresnet_robust keeps {robust} of 500 images when every pixel may change by up to 1/255, where resnet20 "
        f"keeps {standard}. resnet20 leads without an attack; smallresnet_robust leads from 1/255 to 8/255: the order "
        "flips between no attack and 1/255. The evaluation can be believed: 0 warnings."
    )


def test_names_are_set_apart(run: MadeRun) -> None:
    names = {str(part) for sentence in answer(gather(run)) for part in sentence if isinstance(part, Name)}
    assert names == {"resnet20", "smallresnet_robust"}


def test_a_single_model_is_described_by_itself(make: Make, model: type[MadeModel]) -> None:
    run = make([model("a", 0.9, 0.8)], eps="1/255,4/255,64/255")
    facts = gather(run)
    (first, *_), at = answer(facts), facts.models[0].at
    assert plain(first) == (
        f"a classifies {facts.models[0].accuracy} of 500 images rightly, and {at(facts.budgets[1])} when every pixel "
        "may change by up to 1/255; from 64/255 on it keeps none."
    )


def test_models_that_do_not_differ_are_not_ranked(make: Make, model: type[MadeModel]) -> None:
    run = make([model("a", 1.0, 2.0), model("b", 1.0, 2.0)], n=40)
    first = run.rows.filter(pl.col("model") == "a@00000000")
    same = replace(run, rows=pl.concat([first, first.with_columns(model=pl.lit("b@00000001"))]))
    assert "No model is clearly ahead of the others at any ε, nor without an attack." in said(same)
    assert plain(curve_title(gather(same))).startswith("All 2 models keep ")


def test_one_model_can_lead_everywhere(make: Make, model: type[MadeModel]) -> None:
    assert "strong leads at every ε, and without an attack too." in said(
        make([model("weak", 0.6, 0.5), model("strong", 0.95, 9.0)], eps="1/255,2/255")
    )


def test_many_models_are_summed_up(make: Make, model: type[MadeModel]) -> None:
    text = said(make([model(name, 0.9, 1.0 + k) for k, name in enumerate("abcde")], n=200))
    assert "the most of 5 models" in text
    assert "the least" in text


def test_nothing_attacked_is_not_called_robust(make: Make, model: type[MadeModel]) -> None:
    models = [model("a", 0.9, 1.0), model("b", 0.8, 1.0)]
    for run in (make(models, n=50, eps="0"), make(models, n=50, attacks=())):
        facts = gather(run)
        rates = [f"{m.name} {m.accuracy}" for m in facts.models]
        assert said(run).startswith(
            f"Nothing was attacked: {rates[0]} and {rates[1]} of 50 images classified rightly. "
        )
        assert plain(curve_title(facts)) == "Nothing was attacked: these are accuracies"
        assert plain(attacks_title(facts)) == "Nothing was attacked"


def test_nothing_fooled_is_said(make: Make, model: type[MadeModel]) -> None:
    run = make([model("a", 0.9, 1e6)], n=100)
    assert "keeps" in said(run)
    assert plain(attacks_title(gather(run))) == "3 attacks fooled no image within 8/255"


@pytest.mark.parametrize(
    ("severities", "text"),
    [
        (["note"], "The evaluation can be believed: 0 warnings."),
        (["warning", "note"], "Read the audit before you use these numbers: it found 1 warning."),
        (["warning", "error", "warning"], "Do not use these numbers yet: the audit found 1 error and 2 warnings."),
    ],
)
def test_the_audit_decides_whether_the_numbers_can_be_believed(
    run: MadeRun, severities: list[Severity], text: str
) -> None:
    findings = tuple(replace(FINDING, severity=severity, check=str(k)) for k, severity in enumerate(severities))
    assert said(replace(run, said=findings)).endswith(text)


def test_titles_state_the_finding(run: MadeRun) -> None:
    facts = gather(run)
    best, worst = facts.models
    at = f"{100 * best.at(facts.key).value:.1f} %", f"{100 * worst.at(facts.key).value:.1f} %"
    assert plain(curve_title(facts)) == f"At 1/255 smallresnet_robust keeps {at[0]}, resnet20 {at[1]}"
    assert plain(classes_title(facts)).startswith("smallresnet_robust is weakest on ")
    assert plain(attacks_title(facts)).startswith("apgd-ce found ")
    assert "the 2 attacks after it took" in plain(attacks_title(facts))


def test_classes_that_cannot_be_told_apart_are_not_ranked(make: Make, model: type[MadeModel]) -> None:
    title = plain(classes_title(gather(make([model("a", 0.9, 2.0)], n=30))))
    assert title == "The intervals of the worst and the best class of a overlap at every ε"


def test_words_are_joined_and_counted_as_people_do() -> None:
    assert [conjunction(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [counted(number, "warning") for number in (0, 1, 2000)] == ["0 warnings", "1 warning", "2,000 warnings"]
