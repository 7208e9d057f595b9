"""The questions of atodds choose: few, each checked as soon as it is answered, each with a way to leave it out."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from atodds.analysis.need import parse_need
from atodds.errors import ArgumentError
from atodds.evaluation.manifest import Manifest


@dataclass(frozen=True)
class Question:
    """A word of the need, what is asked, an example, and the answer that an empty line means ("" leaves it out)."""

    word: str
    text: str
    example: str
    usual: str = ""


_STANDING_IN = {"attacked": "0", "eps": "1/255"}
"""Answers that go with any other, for those that were not given yet."""


def questions(manifests: Sequence[Manifest]) -> list[Question]:
    """What is asked of somebody who has these runs."""
    budgets = [budget.text for budget in manifests[0].budgets if budget.value > 0]
    norms = sorted({manifest.norm for manifest in manifests})
    classes = ", ".join(manifests[0].data.classes[:10])
    asks = [Question("norm", f"In which norm are inputs attacked ({', '.join(norms)})?", norms[0], norms[0])]
    return [
        *(asks if len(norms) > 1 else []),
        Question("attacked", "Which share of the inputs will be attacked?", "0.1, 10%, or a range 0.05:0.2"),
        Question(
            "eps", f"How strongly (measured: {', '.join(budgets)})?", "one of them, several, or 2/255=3,8/255=1",
            budgets[len(budgets) // 2] if budgets else "",
        ),
        Question("min_clean", "Least accuracy on inputs that are not attacked?", "0.9; empty: any"),
        Question("cost", f"Do errors on some classes cost more ({classes})?", "CLASS=5; empty: all the same"),
        Question("parameters", "At most how many parameters?", "1000000; empty: any"),
        Question("latency_ms", "At most how many milliseconds for one image, on this machine?", "5; empty: any"),
    ]  # fmt: skip


def asked(manifests: Sequence[Manifest], console: Console) -> dict[str, str]:
    """The answers, by the words of a need; those that were left empty are not there.

    An answer that cannot be is said to be so, and asked for again.
    """
    answers: dict[str, str] = {}
    for question in questions(manifests):
        while True:
            usual = f" [default: {question.usual}]" if question.usual else ""
            console.print(escape(f"{question.text} ({question.example}){usual}"), highlight=False)
            answer = console.input("> ").strip() or question.usual
            if not answer and question.word != "attacked":
                break
            try:
                parse_need(_STANDING_IN | answers | {question.word: answer})
            except ArgumentError as error:
                console.print(escape(str(error)), style="red", highlight=False)
                continue
            answers[question.word] = answer
            break
    return answers
