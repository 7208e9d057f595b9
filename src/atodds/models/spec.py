"""How a model is named in one line of text: SOURCE[@WEIGHTS].

SOURCE is FILE.py:FACTORY, package.module:FACTORY, or the name of a network of ours, which needs WEIGHTS. A checkpoint
of ours is a source by itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from atodds.errors import ArgumentError, UnknownNameError
from atodds.models.classifier import printable
from atodds.models.networks import NETWORKS
from atodds.models.weights import expanded

GRAMMAR = (
    "Write FILE.py:FACTORY, package.module:FACTORY, NETWORK@WEIGHTS, or the path of a checkpoint; FACTORY@WEIGHTS puts "
    "a state dict into what the factory returns."
)
ELSEWHERE = {
    "timm": "timm.create_model(...)",
    "torchvision": "torchvision.models.get_model(...)",
    "hf": "transformers.AutoModelForImageClassification.from_pretrained(...)",
    "robustbench": "robustbench.load_model(...)",
}
_FILE = re.compile(r"(?P<file>.+?\.py):(?P<factory>[^@:/\\]*)(@(?P<weights>.+))?")
_MODULE = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<factory>[^@:/\\]*)(@(?P<weights>.+))?")
_NETWORK = re.compile(r"(?P<network>[\w-]+)(@(?P<weights>.+))?")
_CHECKPOINT = re.compile(r".+\.(safetensors|pt|pth|bin|ckpt|pkl)")


@dataclass(frozen=True)
class Spec:
    """A spec, taken apart: the factory of a file or module, or a network, and the file of weights; of a checkpoint only
    the latter.
    """

    text: str
    file: Path | None = None
    module: str = ""
    factory: str = ""
    network: str = ""
    weights: Path | None = None

    @property
    def name(self) -> str:
        """What to call the model, where nobody says: factory or network, and the stem of the weights."""
        stem = "" if self.weights is None else self.weights.stem
        return printable("-".join(part for part in (self.factory or self.network, stem) if part))


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
    if found := _FILE.fullmatch(text):
        return Spec(text, file=Path(found["file"]), factory=_factory(found, text), weights=_path(found))
    prefix = text.partition(":")[0]
    if ":" in text and prefix in ELSEWHERE:
        way_out = f"Write a FILE.py whose factory returns {ELSEWHERE[prefix]}, and give FILE.py:FACTORY."
        raise ArgumentError("model", text, f"{prefix}: is not a source yet", way_out)
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
