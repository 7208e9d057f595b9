"""How a model is named in one line of text: SOURCE[@WEIGHTS].

SOURCE is FILE.py:FACTORY, package.module:FACTORY, a model of a library (timm:NAME, torchvision:NAME, hf:REPO,
robustbench:ID), or the name of a network of ours, which needs WEIGHTS. A checkpoint of ours is a source by itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atodds.errors import ArgumentError, UnknownNameError
from atodds.models.classifier import printable
from atodds.models.networks import NETWORKS
from atodds.models.weights import expanded

GRAMMAR = (
    "Write FILE.py:FACTORY, package.module:FACTORY, timm:NAME, torchvision:NAME, hf:REPO, robustbench:ID, "
    "NETWORK@WEIGHTS, or the path of a checkpoint; FACTORY@WEIGHTS puts a state dict into what the factory returns."
)
_FILE = re.compile(r"(?P<file>.+?\.py):(?P<factory>[^@:/\\]*)(@(?P<weights>.+))?")
_MODULE = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<factory>[^@:/\\]*)(@(?P<weights>.+))?")
_NETWORK = re.compile(r"(?P<network>[\w-]+)(@(?P<weights>.+))?")
_CHECKPOINT = re.compile(r".+\.(safetensors|pt|pth|bin|ckpt|pkl)")


@dataclass(frozen=True)
class Library:
    """A library that models come from by name.

    Attributes:
        package: what must be installed.
        names: how its models are called, the text after the colon. Letters, digits and few signs, so that no name is a
            path, an address or an option; the groups are name, and variant or file where there are such.
        way_out: how to write one.
    """

    package: str
    names: re.Pattern[str]
    way_out: str


LIBRARIES: Mapping[str, Library] = {
    "timm": Library(
        "timm",
        re.compile(r"(?P<name>[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?)(@(?P<file>.+))?"),
        "Write timm:NAME, such as timm:resnet50.a1_in1k, or timm:NAME@FILE with weights of your own.",
    ),
    "torchvision": Library(
        "torchvision",
        re.compile(r"(?P<name>[a-z0-9_]+)(@((?P<variant>[A-Z][A-Z0-9_]*)|(?P<file>.+)))?"),
        "Write torchvision:NAME, torchvision:NAME@WEIGHTS, such as torchvision:resnet50@IMAGENET1K_V2, or "
        "torchvision:NAME@FILE with weights of your own.",
    ),
    "robustbench": Library(
        "robustbench",
        re.compile(r"(?P<name>([a-z0-9]+/([A-Za-z0-9_]+/)?)?[A-Za-z0-9][\w-]*)(@(?P<file>.+))?", re.ASCII),
        "Write robustbench:ID@FILE or robustbench:DATA/THREAT/ID@FILE, such as "
        "robustbench:Wang2023Better_WRN-28-10@FILE; without a file the package robustbench fetches one.",
    ),
    "hf": Library(
        "transformers",
        re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?)(@(?P<variant>[A-Za-z0-9][\w./-]*))?", re.ASCII),
        "Write hf:OWNER/REPO, hf:OWNER/REPO@REVISION, or hf:./FOLDER for a repository that lies here.",
    ),
}


@dataclass(frozen=True)
class Spec:
    """A spec, taken apart: the factory of a file or module, a model of a library, or a network, and the file of
    weights; of a checkpoint only the latter. A model of a library may have a variant: which of its weights, or which
    revision of its repository. A repository that lies in a folder here has the folder in place of the name.
    """

    text: str
    file: Path | None = None
    module: str = ""
    factory: str = ""
    library: str = ""
    member: str = ""
    variant: str = ""
    folder: Path | None = None
    network: str = ""
    weights: Path | None = None

    @property
    def name(self) -> str:
        """What to call the model, where nobody says: factory, network or member, and variant or stem of the weights."""
        stem = "" if self.weights is None else self.weights.stem
        folder = "" if self.folder is None else self.folder.name or "model"
        title = self.factory or self.network or self.member.rpartition("/")[2] or folder
        return printable("-".join(dict.fromkeys(part for part in (title, self.variant, stem) if part)))


def parse(spec: str) -> Spec:
    """Take a spec apart. Nothing is opened, except that a path to a file that exists is taken for one.

    Raises:
        ArgumentError: it follows no rule of the grammar.
        UnknownNameError: it looks like the name of a network, and is none.
    """
    if not isinstance(spec, str) or not spec.strip():
        raise ArgumentError("model", spec, "not a model", GRAMMAR)
    text = spec.strip()
    if "://" in text:
        raise ArgumentError("model", text, "an address, not a file", f"Fetch it first. {GRAMMAR}")
    if text.partition(":")[0] in LIBRARIES and ":" in text:
        return _member(text)
    if found := _FILE.fullmatch(text):
        return Spec(text, file=Path(found["file"]), factory=_factory(found, text), weights=_path(found))
    prefix = text.partition(":")[0]
    if ":" in text and prefix == "suite":
        raise ArgumentError("model", text, "several models, not one", f"Give it to atodds bench, or expand({text!r}).")
    if found := _MODULE.fullmatch(text):
        return Spec(text, module=found["module"], factory=_factory(found, text), weights=_path(found))
    if (found := _NETWORK.fullmatch(text)) and not _is_file(text):
        if found["network"] not in NETWORKS:
            raise _unknown(found["network"])
        if found["weights"] is None:
            way_out = f"Give its weights: {text}@FILE.safetensors."
            raise ArgumentError("model", text, "a network without weights", way_out)
        return Spec(text, network=found["network"], weights=_path(found))
    if _CHECKPOINT.fullmatch(text):
        return Spec(text, weights=Path(text))
    if text.endswith(".py"):
        way_out = f"Write {text}:FACTORY, the name of a function in it that returns the model."
        raise ArgumentError("model", text, "a file without a factory", way_out)
    raise ArgumentError("model", text, "not a model", GRAMMAR)


def _member(text: str) -> Spec:
    """A model of a library."""
    library, _, rest = text.partition(":")
    if library == "hf" and rest.startswith((".", "/", "~")):
        return Spec(text, library=library, folder=Path(rest))
    found = LIBRARIES[library].names.fullmatch(rest)
    held = found.groupdict() if found else {}
    file = held.get("file")
    if not held or ".." in (rest if file is None else held["name"]):
        raise ArgumentError("model", text, f"no name of a model after {library}:", LIBRARIES[library].way_out)
    return Spec(
        text,
        library=library,
        member=held["name"],
        variant=held.get("variant") or "",
        weights=None if file is None else Path(file),
    )


def _is_file(text: str) -> bool:
    try:
        return expanded(Path(text)).is_file()
    except OSError:  # longer than a path can be, or in a folder that nobody may look into
        return False


def _factory(found: re.Match[str], text: str) -> str:
    name = found["factory"]
    if not all(part.isidentifier() for part in name.split(".")):
        raise ArgumentError("model", text, "no name of a function after the colon", GRAMMAR)
    return name


def _path(found: re.Match[str]) -> Path | None:
    return None if found["weights"] is None else Path(found["weights"])


def _unknown(name: str) -> UnknownNameError:
    near = UnknownNameError.among("model", name, NETWORKS)
    return UnknownNameError("model", name, "no network of ours", f"{near.way_out} Your own: FILE.py:FACTORY.")
