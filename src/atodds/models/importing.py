"""Running a file of the user's, so that nothing of it stays behind that a second file could trip over."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from atodds.errors import ModelError


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """While it lasts, modules are found in `folder` first, as in `python folder/file.py`.

    Two folders may each have their own `nets.py`: modules of the same name that came from elsewhere, and are neither
    installed nor of the standard library, are hidden while it lasts; modules that came from the folder are forgotten
    afterwards, unless they were there before.
    """
    folder = folder.resolve()
    hidden = {name: module for name, module in sys.modules.items() if _shadows(folder, name, module)}
    for name in hidden:
        del sys.modules[name]
    before = {_top(name) for name in sys.modules}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in [name for name in sys.modules if _top(name) not in before and _stands_in(folder, _top(name))]:
            if _is_from(folder, sys.modules[name]):
                del sys.modules[name]
        sys.modules.update(hidden)


def run_file(file: Path) -> ModuleType:
    """The module that a Python file defines, under a name that no other file and no other content gets.

    It stays in `sys.modules` under that name, where pickle, dataclasses and compilers look for it.

    Raises:
        ModelError: it is not Python, or it imports what is not there. Whatever else its code raises passes through.
    """
    try:
        source = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    identity = hashlib.sha256(str(file.resolve()).encode() + b"\0" + source).hexdigest()[:16]
    name = f"atodds_source_{identity}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None:
        raise ModelError(f"{file} is not a Python file. Name one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Compiled here, not by the loader: its cache takes an edit within the same second for no edit.
        exec(compile(source, str(file.resolve()), "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, (SyntaxError, ImportError)):
            raise ModelError(f"{file} cannot be imported: {error}. Mend it, or install what it needs.") from error
        raise
    return module


@contextmanager
def here() -> Iterator[None]:
    """While it lasts, modules are also found in the current folder, after all other places."""
    place = str(Path.cwd())
    sys.path.append(place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if place in sys.path:
            sys.path.reverse()
            sys.path.remove(place)
            sys.path.reverse()


def run_module(name: str) -> ModuleType:
    """An importable module.

    Raises:
        ModelError: there is none, or it cannot be imported. Whatever else its code raises passes through.
    """
    try:
        return importlib.import_module(name)
    except (SyntaxError, ImportError) as error:
        raise ModelError(
            f"{name} cannot be imported: {error}. Install it, start in the folder that holds it, or write "
            "FILE.py:FACTORY."
        ) from error


def _top(name: str) -> str:
    return name.partition(".")[0]


def _stands_in(folder: Path, top: str) -> bool:
    return (folder / f"{top}.py").is_file() or (folder / top).is_dir()


def _is_from(folder: Path, module: ModuleType) -> bool:
    """Whether a module's file lies in the folder."""
    return any(Path(place).resolve().is_relative_to(folder) for place in _places(module))


def _shadows(folder: Path, name: str, module: ModuleType) -> bool:
    """Whether a module would be found in the place of one of the folder's."""
    top = _top(name)
    if top in sys.stdlib_module_names or top in ("atodds", "__main__") or not _stands_in(folder, top):
        return False
    places = _places(module)
    installed = any("site-packages" in place or "dist-packages" in place for place in places)
    return bool(places) and not installed and not _is_from(folder, module)


def _places(module: ModuleType) -> list[str]:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [file]
    return [place for place in getattr(module, "__path__", ()) if isinstance(place, str)]
