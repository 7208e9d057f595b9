"""Every command explains itself, at the prompt and in the documentation."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from atodds.attacks.registry import ATTACKS, PRESETS
from atodds.cli import app

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Every command that can be typed, with its path: "bench", "data list"."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        elif isinstance(command, TyperCommand):
            yield f"{path}{name}", command


def _commands() -> dict[str, TyperCommand]:
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    return dict(commands(root))


COMMANDS = _commands()
EVERY = pytest.mark.parametrize("name", sorted(COMMANDS))


def test_the_commands_are_found() -> None:
    assert {"bench", "report", "data list", "data fetch", "data show"} <= set(COMMANDS)


@EVERY
def test_every_command_says_what_it_does_in_its_first_line(name: str) -> None:
    first = (COMMANDS[name].help or "").strip().splitlines()
    assert first, f"atodds {name} has no docstring"
    assert len(first[0]) > 10


@EVERY
def test_every_command_shows_an_example_of_itself(name: str) -> None:
    examples = (COMMANDS[name].help or "").partition("Examples")[2]
    assert f"atodds {name}" in examples, f"the help of atodds {name} shows no example"


@EVERY
def test_every_option_has_help(name: str) -> None:
    silent = [parameter.name for parameter in COMMANDS[name].params if not getattr(parameter, "help", None)]
    assert not silent, f"atodds {name}: no help for {silent}"


@EVERY
def test_every_help_can_be_shown(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    assert "Examples" in shown.output


@EVERY
def test_every_command_and_option_is_in_the_documentation(name: str) -> None:
    sections = re.split(r"^## ", (DOCS / "commands.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    mine = [section for section in sections if section.splitlines()[0].strip("` ") == f"atodds {name}"]
    assert len(mine) == 1, f"docs/commands.md needs one section '## `atodds {name}`'"
    typed = [option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")]
    missing = [option for option in typed if option != "--help" and f"`{option}" not in mine[0]]
    assert not missing, f"docs/commands.md, atodds {name}: {missing} are not explained"


def test_the_documentation_names_no_command_that_is_gone() -> None:
    sections = re.findall(r"^## `atodds (.+)`$", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(sections) == set(COMMANDS)


def test_bench_names_every_attack_and_preset_in_its_help() -> None:
    said = next(getattr(parameter, "help", "") for parameter in COMMANDS["bench"].params if parameter.name == "attacks")
    assert all(name in said for name in (*ATTACKS, *PRESETS))
