"""The page of a choice says what was chosen, escapes what it was given, and keeps its charts in order."""

from collections.abc import Callable

import pytest

from atodds.analysis.decision import Decision, decide
from atodds.analysis.need import parse_need
from atodds.report import colours
from atodds.report.charts.choice import best_map, cost_lines, places
from atodds.report.choice_page import render_choice
from atodds.report.choice_words import answer, situation, thousand
from atodds.report.figures import drawing
from atodds.report.words import plain

Make = Callable[..., object]
NEED = {"attacked": "0.05:0.15", "eps": "4/255=3,8/255=1"}


def decided(run: object, **more: object) -> Decision:
    return decide([run], parse_need(NEED | more), resamples=200)  # type: ignore[list-item]


def test_the_first_sentence_answers_with_the_numbers_of_the_choice(run: object) -> None:
    decision = decided(run)
    best, second = decision.choice.options
    first, *others = map(plain, answer(decision))
    assert first.startswith(f"Choose {decision.name(best.model)}: if 5 to 15 % of the inputs are attacked at 4/255")
    assert f"it gets {thousand(best.cost.value)} (" in first
    assert f"fewer than {decision.name(second.model)}, the next." in first
    assert any(
        "Over the share of attacked inputs the choice flips at 4/255 and 8/255: resnet20 up to " in s for s in others
    )


def test_a_situation_names_shares_budgets_and_norm(run: object) -> None:
    assert situation(decided(run)) == (
        "if 5 to 15 % of the inputs are attacked at 4/255 (75 % of them) and 8/255 (25 % of them) in l∞"
    )
    assert situation(decided(run, attacked=0)) == "if nothing is attacked"
    assert "at 1/255 and 2/255, equally often, in l∞" in situation(decided(run, eps="1/255,2/255"))


def test_a_close_call_says_what_would_settle_it(make: Make, model: Callable[..., object]) -> None:
    run = make((model("a", 0.8, 3.0), model("b", 0.8, 3.1)), n=100)
    decision = decided(run, attacked=1, eps="4/255")
    said = " ".join(map(plain, answer(decision)))
    assert "That is a close call: in resamples of the 100 images it is the best in " in said
    settling = decision.choice.settling[0]
    assert settling.images is not None
    assert f"takes about {settling.images:,} images in place of 100" in said
    command = f"--limit {settling.images} --out runs/cifar10-linf-{settling.images}"
    assert command in str(decision.more(settling))
    assert command in render_choice(decision, [run])  # type: ignore[list-item]


@pytest.mark.parametrize("more", [{}, {"min_clean": 0.8}, {"cost": {"cat": 5}}, {"attacked": 0}, {"attacked": 1}])
def test_every_need_has_a_page_and_figures(run: object, more: dict[str, object]) -> None:
    decision = decided(run, **more)
    page = render_choice(decision, [run], command="atodds choose <run>")  # type: ignore[list-item]
    assert "atodds choose &lt;run&gt;" in page
    for figure in (best_map(decision, colours.values(1)), cost_lines(decision, colours.values(1))):
        if figure is not None:
            assert drawing(figure, colours.values(1)).startswith("<svg")
    if "min_clean" in more:
        assert "clean accuracy 7" in page


def test_names_that_are_markup_stay_text(make: Make, model: Callable[..., object]) -> None:
    run = make((model("<b>a</b>", 0.9, 0.4), model("b|c", 0.8, 3.1)), n=50)
    page = render_choice(decided(run), [run])  # type: ignore[list-item]
    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page


def test_models_that_are_the_best_somewhere_have_the_first_colours(make: Make, model: Callable[..., object]) -> None:
    run = make(tuple(model(f"m{k}", 0.6 + 0.03 * k, 6.0 / (k + 1)) for k in range(12)), n=80)
    decision = decided(run)
    choice = decision.choice
    somewhere = {choice.models[piece.line] for column in choice.columns for piece in column.stretches}
    first = [model for model, place in places(decision).items() if place < len(somewhere)]
    assert set(first) == somewhere | {choice.best.model}
