"""Errors form the tree that their module draws, and survive the way between processes."""

import inspect
import pickle
import re
import time

import pytest

from atodds import errors
from atodds.errors import ArgumentError, AtoddsError, MissingExtraError, ThreatError, UnknownNameError, shown


def drawn() -> dict[str, str]:
    """Error by error, the parent that the docstring's tree gives it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"((?:[│ ]   |├── |└── )*)(\w+Error)\b", line)
        if found is None:
            continue
        depth, name = len(found[1]) // 4, found[2]
        path = [*path[:depth], name]
        parents[name] = path[-2] if depth else "Exception"
    return parents


def test_the_tree_in_the_documentation_is_the_tree_of_classes() -> None:
    classes = {
        name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, AtoddsError)
    }
    assert {name: kind.__bases__[0].__name__ for name, kind in classes.items()} == drawn()
    assert all(kind.__doc__ for kind in classes.values())


def test_bad_arguments_are_value_errors_too() -> None:
    assert issubclass(ArgumentError, ValueError)


def test_an_argument_error_says_which_argument_what_came_and_what_to_do() -> None:
    error = ThreatError("--eps", "8", "too large", "Did you mean 8/255?")
    assert str(error) == "--eps='8': too large. Did you mean 8/255?"
    assert (error.argument, error.value) == ("--eps", "8")


@pytest.mark.parametrize(
    "error",
    [
        ArgumentError("eps", [1, 2], "bad", "Do better."),
        ThreatError("eps", "8", "bad", "Do better."),
        UnknownNameError.among("attacks", "pdg", ["pgd", "fgsm"]),
        MissingExtraError("ray", "ray"),
        errors.CorruptShardError("a.parquet is truncated"),
    ],
)
def test_errors_come_through_a_process_boundary_whole(error: AtoddsError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_the_nearest_names_are_offered() -> None:
    assert "Did you mean pgd? Known: fgsm, pgd." in str(UnknownNameError.among("attacks", "pdg", ["pgd", "fgsm"]))
    assert "Did you mean" not in str(UnknownNameError.among("attacks", "zzzz", ["pgd", "fgsm"]))
    assert "Known: none." in str(UnknownNameError.among("attacks", "pgd", []))


def test_a_name_of_any_length_is_compared_in_no_time() -> None:
    known = [f"attack_{k}" for k in range(200)]
    began = time.process_time()
    error = UnknownNameError.among("attacks", "attack_1" * 1_000_000, known)
    assert time.process_time() - began < 2
    assert len(str(error)) < 4000


def test_a_missing_package_comes_with_the_command_that_installs_it() -> None:
    assert "pip install 'atodds[ray]'" in str(MissingExtraError("ray", "ray"))


@pytest.mark.parametrize("value", ["x" * 10_000, list(range(10_000)), "a\nb\tc", "\x1b[31mred"])
def test_values_are_shown_on_one_short_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= 80
    assert text.isprintable()


def test_a_short_value_is_shown_whole() -> None:
    assert shown("8/255") == "'8/255'"
    assert shown("x" * 78) == repr("x" * 78)
    assert shown("x" * 79).endswith("…")
