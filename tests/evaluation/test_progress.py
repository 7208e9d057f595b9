"""The bar ends where it should, and says what is going on."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from atodds.attacks import registry
from atodds.data import ImageSet
from atodds.evaluation import progress
from atodds.evaluation.manifest import ModelInfo
from atodds.evaluation.plan import Lane, Question, plan
from atodds.evaluation.runner import Progress
from atodds.threat import parse_eps_list


@pytest.fixture
def lanes(greys: Callable[..., ImageSet]) -> tuple[Lane, ...]:
    """Two lanes of two images: clean, and two attacks at two budgets each."""
    question = Question("linf", seed=0, precision="full", eot=1, alone=False)
    model = ModelInfo("m@00000000", "m", "", "0" * 64, 1)
    images = greys((1, 2, 3, 4), (0, 1, 0, 1))
    return plan([model], images, parse_eps_list("0.1,0.2"), registry.parse("fgsm,pgd", "linf"), question, chunk=2)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal that remembers."""
    written = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=written, force_terminal=True, width=160, color_system=None)
    )
    return written


def test_the_bar_is_full_when_every_job_is_done(lanes: tuple[Lane, ...], screen: io.StringIO) -> None:
    jobs = [job for lane in lanes for job in lane.jobs]
    assert len(jobs) == 10
    with progress.bar(lanes, shown=True) as told:
        for job in jobs:
            told.passes(100, 50)
            told.job(job, False)
    assert "100%" in screen.getvalue()
    assert "job 10 of 10" in screen.getvalue()
    assert "pgd at 0.2" in screen.getvalue()


def test_the_bar_is_not_full_before(lanes: tuple[Lane, ...], screen: io.StringIO) -> None:
    with progress.bar(lanes, shown=True) as told:
        for lane in lanes:
            for job in lane.jobs[:-1]:
                told.job(job, False)
    assert "100%" not in screen.getvalue()
    assert "job 9 of 10" in screen.getvalue()


def test_jobs_that_were_there_are_told_apart(lanes: tuple[Lane, ...], screen: io.StringIO) -> None:
    with progress.bar(lanes, shown=True) as told:
        for job in lanes[0].jobs:
            told.job(job, True)
    assert "5 kept" in screen.getvalue()


def test_no_bar_where_nobody_looks(lanes: tuple[Lane, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (None, False):
        with progress.bar(lanes, shown=shown) as told:
            assert isinstance(told, Progress)
            told.passes(1, 1)
            told.job(lanes[0].jobs[0], False)
    assert capsys.readouterr() == ("", "")
