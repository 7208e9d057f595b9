"""Running one user's file leaves nothing behind that another could trip over."""

import pickle
import sys
from pathlib import Path

import pytest

from atodds.errors import ModelError
from atodds.models import load

NETS = "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(2, {size})\n"
ZOO = "import helpers_of_zoo\ndef make():\n    import late_of_zoo\n    return helpers_of_zoo.Net()\n"


def folder(place: Path, size: int) -> Path:
    place.mkdir()
    (place / "helpers_of_zoo.py").write_text(NETS.format(size=size))
    (place / "late_of_zoo.py").write_text("")
    (place / "zoo.py").write_text(ZOO)
    return place / "zoo.py"


def size(spec: str) -> int:
    return len(load(spec).network.get_parameter("bias"))


def test_two_folders_may_have_files_of_the_same_name(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", 2), folder(tmp_path / "two", 3)
    before = set(sys.modules)
    assert [size(f"{one}:make"), size(f"{two}:make"), size(f"{one}:make")] == [2, 3, 2]
    left = {name for name in set(sys.modules) - before if not name.startswith("atodds_source_")}
    assert not {name for name in left if "zoo" in name}


def test_the_places_where_modules_are_found_come_back(tmp_path: Path) -> None:
    before = list(sys.path)
    load(f"{folder(tmp_path / 'one', 2)}:make")
    assert sys.path == before
    (tmp_path / "one" / "zoo.py").write_text("import nothing_there_at_all")
    with pytest.raises(ModelError):
        load(f"{tmp_path / 'one' / 'zoo.py'}:make")
    assert sys.path == before


def test_a_module_that_was_imported_before_is_hidden_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "mine", 5)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    import helpers_of_zoo  # type: ignore[import-not-found]

    assert size(f"{folder(tmp_path / 'other', 6)}:make") == 6
    assert sys.modules["helpers_of_zoo"] is helpers_of_zoo
    del sys.modules["helpers_of_zoo"]


def test_a_file_called_like_a_package_that_is_installed_leaves_it_alone(tmp_path: Path) -> None:
    import torch

    (tmp_path / "torch").mkdir()
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong json')")
    (tmp_path / "zoo.py").write_text("import json, torch\ndef make():\n    return torch.nn.Linear(2, 2)\n")
    assert load(f"{tmp_path / 'zoo.py'}:make").name == "make"
    assert sys.modules["torch"] is torch


def test_an_edit_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "zoo.py"
    for width in (2, 3, 4):
        file.write_text(f"from torch import nn\ndef make():\n    return nn.Linear(2, {width})\n")
        assert size(f"{file}:make") == width


def test_a_file_leaves_no_compiled_copy_beside_it(tmp_path: Path) -> None:
    (tmp_path / "zoo.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 2)\n")
    load(f"{tmp_path / 'zoo.py'}:make")
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.py"]


def test_a_file_that_fails_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "zoo.py").write_text("raise RuntimeError('while it is imported')")
    before = set(sys.modules)
    with pytest.raises(RuntimeError, match="while it is imported"):
        load(f"{tmp_path / 'zoo.py'}:make")
    assert not {name for name in set(sys.modules) - before if name.startswith("atodds_source_")}


def test_a_loaded_model_can_be_pickled_in_the_same_process(tmp_path: Path) -> None:
    (tmp_path / "zoo.py").write_text(NETS.format(size=2))
    model = load(f"{tmp_path / 'zoo.py'}:Net")
    assert type(pickle.loads(pickle.dumps(model)).network) is type(model.network)  # noqa: S301


def test_a_relative_path_and_a_tilde_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo.py").write_text(NETS.format(size=2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert size("zoo.py:Net") == size("./zoo.py:Net") == size("~/zoo.py:Net") == 2
