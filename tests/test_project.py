"""What the project says of itself holds: its documentation, its dependencies, its surface."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import atodds
from atodds.attacks.registry import ATTACKS, PRESETS, parse
from atodds.threat import NORMS, Norm

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
HEAVY = ("altair", "fastapi", "jinja2", "lightning_fabric", "ray", "sklearn", "typer", "vl_convert")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def plain(requirement: str) -> str:
    """The name of a package in a requirement or in a file, in its normal form."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def rows(page: str) -> list[list[str]]:
    """The cells of all rows of all tables of a page, without the lines that separate their heads."""
    lines = [line.strip() for line in page.splitlines() if line.strip().startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


def first_code(page: str) -> list[str]:
    """What stands in backticks in the first cell of each row."""
    return [found for row in rows(page) for found in re.findall(r"`([^`]+)`", row[0])]


# ---- documentation -------------------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    named = re.findall(r"([\w/-]+\.md)$", read("mkdocs.yml").partition("\nnav:")[2], re.MULTILINE)
    pages = [str(path.relative_to(DOCS).as_posix()) for path in DOCS.rglob("*.md")]
    assert sorted(named) == sorted(pages)


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_picture_leads_to_a_file(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    gone = [target for target in targets if target and "://" not in target and not (path.parent / target).exists()]
    assert not gone


def test_the_surface_page_lists_what_the_package_exports() -> None:
    listed = [name.removeprefix("atodds.") for name in first_code(read("docs/python.md")) if name.startswith("atodds.")]
    assert sorted(listed) == sorted(atodds.__all__)


def test_everything_that_the_package_exports_is_there() -> None:
    assert all(hasattr(atodds, name) for name in atodds.__all__)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack_has_a_page_that_tells_its_settings_and_their_defaults(name: str) -> None:
    table = read(f"docs/attacks/{name}.md").partition("| argument | default |")[2].partition("\n\n")[0]
    told = {row[0].strip("`"): row[1].strip("`") for row in rows(table) if row[0].startswith("`")}
    defaults = ATTACKS[name].defaults
    assert told.keys() == defaults.keys()
    assert {key: told[key] for key, value in defaults.items() if value is not None} == {
        key: str(value) for key, value in defaults.items() if value is not None
    }


def test_the_index_of_attacks_names_every_attack_and_preset() -> None:
    page = read("docs/attacks/index.md")
    assert set(ATTACKS) <= set(first_code(page))
    assert all(f"`{preset}`" in page for preset in PRESETS)


@pytest.mark.parametrize("norm", NORMS)
def test_the_page_of_ensembles_tells_what_presets_run_and_how_many_passes_that_takes(norm: Norm) -> None:
    told = [tuple(row) for row in rows(read("docs/attacks/ensemble.md"))]
    for preset in PRESETS:
        specs = parse(preset, norm)
        passes = sum(spec.passes for spec in specs)
        assert (f"`{preset}`", f"`{','.join(spec.name for spec in specs)}`", f"{passes:,}") in told


def test_the_page_of_the_audit_names_every_check() -> None:
    trees = [ast.parse(read(f"src/atodds/evaluation/{room}.py")) for room in ("audit", "masking", "battery", "conduct")]
    checks = {check for tree in trees for check in named_checks(tree)}
    assert len(checks) >= 18
    told = {row[0] for row in rows(read("docs/concepts/audit.md"))}
    assert checks <= told


def named_checks(tree: ast.Module) -> Iterator[str]:
    """The first argument of every call that makes a finding, where it is text or the name of one."""
    constants: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names, values = (
                part.elts if isinstance(part, ast.Tuple) else [part] for part in (node.targets[0], node.value)
            )
            for name, value in zip(names, values, strict=True):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    constants[name.id] = value.value
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        match call.args[0]:
            case ast.Constant(value=str(check)) if called in ("Finding", "finding", "beats"):
                yield check
            case ast.Name(id=constant) if called in ("Finding", "finding", "beats") and constant in constants:
                yield constants[constant]


# ---- dependencies --------------------------------------------------------------------------------------------------


def required() -> dict[str, list[str]]:
    """Packages by extra; "" for those that are always installed."""
    project = pyproject()["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [plain(requirement) for requirement in wanted] for extra, wanted in groups.items()}


def test_every_dependency_has_a_reason_and_every_reason_a_dependency() -> None:
    page = read("docs/dependencies.md")
    built_with = [plain(requirement) for requirement in pyproject()["build-system"]["requires"]]
    wanted = [package for group in required().values() for package in group] + built_with
    reasons = {plain(row[0].strip("`")): row[1] for row in rows(page) if row[0].startswith("`")}
    assert sorted(reasons) == sorted(set(wanted))
    assert all(len(reason) > 10 for reason in reasons.values())


def test_every_dependency_stands_under_the_extra_that_installs_it() -> None:
    sections = re.split(r"^## ", read("docs/dependencies.md"), flags=re.MULTILINE)[1:]
    told = {section.splitlines()[0].strip("` "): [plain(name) for name in first_code(section)] for section in sections}
    for extra, packages in required().items():
        assert sorted(told[extra or "Always installed"]) == sorted(packages), extra


def test_the_pins_are_exact_and_cover_what_the_tests_install() -> None:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!]+", line) for line in lines)
    pinned = {plain(line) for line in lines}
    extras = required()
    wanted = {*extras[""], *extras["dev"], *extras["docs"], *extras["bench"], "hatchling"}
    assert wanted <= pinned
    assert "torchvision" not in pinned


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = f"import sys, atodds; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []


# ---- the commands of the readme ------------------------------------------------------------------------------------


def test_the_readme_gives_two_commands_and_ci_runs_the_second() -> None:
    readme, makefile, ci = read("README.md"), read("Makefile"), read(".ci/run")
    for target in ("bench", "test"):
        assert f"make {target} " in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "\nmake test " in ci


def test_the_version_in_the_changelog_is_the_version_of_the_package() -> None:
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == atodds.__version__


# ---- the files under version control -------------------------------------------------------------------------------


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a clone under version control")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    somewhere = re.compile("(?<![\\w.~])/(?:" + "|".join(("work", "root", "home", "Users")) + b")/".decode())
    named = []
    for path in tracked():
        if path.suffix in (".png", ".svg", ".safetensors", ".parquet") or not path.is_file():
            continue
        if somewhere.search(path.read_text(encoding="utf-8")):
            named.append(str(path.relative_to(ROOT)))
    assert not named


def test_no_large_file_is_kept() -> None:
    large = [str(path.relative_to(ROOT)) for path in tracked() if path.is_file() and path.stat().st_size > 1_000_000]
    assert not large


def test_no_room_is_longer_than_400_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "src").rglob("*.py")}
    assert lengths
    assert not {str(path): length for path, length in lengths.items() if length > 400}
