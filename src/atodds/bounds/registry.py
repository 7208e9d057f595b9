"""Lower bounds by name, with settings: `clever`, `clever(samples=20)`, `smoothing(sigma=0.25)`.

One line here makes a method known to runs, the command line and the page.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from atodds.attacks.settings import Setting, call, fits, split, written
from atodds.bounds.clever import clever
from atodds.bounds.schema import Bounds
from atodds.bounds.smoothing import certify
from atodds.errors import ArgumentError, UnknownNameError
from atodds.oracle import Oracle
from atodds.threat import Norm

_CALL = ("targets", "ids", "seed")


@dataclass(frozen=True)
class Method:
    """A known method.

    Attributes:
        name: what it is called in the table and on the command line.
        function: whose keyword arguments are its settings.
        compute: (oracle, images, labels, norm, ids, seed, settings) -> bounds.
        version: raised by one when a change makes it give other bounds, so that old results are not taken for new.
        passes: an upper bound of an image's passes, from the settings: what the progress bar counts.
    """

    name: str
    function: Callable[..., object]
    compute: Callable[[Oracle, Tensor, Tensor, Norm, Tensor, int, Mapping[str, Any]], Bounds]
    version: int
    passes: Callable[[Mapping[str, Any]], int]

    @property
    def defaults(self) -> dict[str, Setting]:
        """Its settings, and what they are unless said otherwise."""
        return {p.name: p.default for p in self._parameters if p.default is not p.empty}

    @property
    def required(self) -> tuple[str, ...]:
        """The settings that must be said."""
        return tuple(p.name for p in self._parameters if p.default is p.empty)

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        every = inspect.signature(self.function).parameters.values()
        return [p for p in every if p.kind is p.KEYWORD_ONLY and p.name not in _CALL]

    @property
    def kinds(self) -> dict[str, object]:
        """The types of its settings."""
        return dict(get_type_hints(self.function))


def _clever(
    oracle: Oracle, images: Tensor, labels: Tensor, norm: Norm, ids: Tensor, seed: int, settings: Mapping[str, Any]
) -> Bounds:
    found = clever(oracle, images, labels, norm, ids=ids, seed=seed, **settings)
    return Bounds(
        norm=norm,
        certified=False,
        prediction=found.prediction,
        lower=found.score,
        low=found.low,
        high=found.high,
        target=torch.where(found.score > 0, found.target.double(), torch.nan),
        radius=found.radius,
        p_value=found.p_value,
        endless=found.endless,
    )


def _smoothing(
    oracle: Oracle, images: Tensor, labels: Tensor, _norm: Norm, ids: Tensor, seed: int, settings: Mapping[str, Any]
) -> Bounds:
    """In l2 whatever the norm of the run: there is no other certificate."""
    found = certify(oracle, images, ids=ids, seed=seed, **settings)
    right = found.prediction == labels.cpu()
    lower, high = found.radius.where(right, 0.0), found.high.where(right, 0.0)
    return Bounds("l2", certified=True, prediction=found.prediction, lower=lower, low=lower, high=high)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "clever", clever, _clever, 1, lambda s: 1 + 2 * int(s["classes"]) * int(s["batches"]) * int(s["samples"])
        ),
        Method("smoothing", certify, _smoothing, 1, lambda s: int(s["n0"]) + int(s["n"])),
    )
}


@dataclass(frozen=True)
class Spec:
    """A method with settings.

    Attributes:
        method: the method.
        settings: all of its settings, also those at their default.
    """

    method: Method
    settings: tuple[tuple[str, Setting], ...]

    @property
    def name(self) -> str:
        """The method's name, with the settings that differ from the default: what the table says."""
        defaults = self.method.defaults
        new = [(key, value) for key, value in self.settings if key not in defaults or value != defaults[key]]
        changed = ",".join(f"{key}={written(value)}" for key, value in new)
        return f"{self.method.name}({changed})" if changed else self.method.name

    @property
    def passes(self) -> int:
        """The most passes that an image can take."""
        return self.method.passes(dict(self.settings))

    def run(self, oracle: Oracle, images: Tensor, labels: Tensor, norm: Norm, *, ids: Tensor, seed: int) -> Bounds:
        """The bounds of some images."""
        return self.method.compute(oracle, images, labels, norm, ids, seed, dict(self.settings))

    def check(self, norm: Norm) -> None:
        """Nothing, where the settings work on one misclassified image of four pixels.

        Raises:
            ArgumentError: from the method.
        """
        image, oracle = torch.tensor([[[[0.25, 0.75, 0.0, 0.5]]]]), Oracle(nn.Flatten(), batch_size=4096)
        zero = torch.zeros(1, dtype=torch.int64)
        self.run(oracle, image, zero, norm, ids=zero, seed=0)


def parse(bounds: str | Sequence[str]) -> tuple[Spec, ...]:
    """The methods that a text or a list of texts names, in order; none where it names none.

    Raises:
        UnknownNameError: no such method or setting.
        ArgumentError: not readable, one twice, or a setting that is missing or of the wrong type.
    """
    texts = [bounds] if isinstance(bounds, str) else bounds
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        way_out = "Write names: 'clever,smoothing(sigma=0.25)'."
        raise ArgumentError("bounds", bounds, "not the name of a method", way_out)
    specs = [_spec(piece) for text in texts for piece in split(text)]
    for spec in specs:
        if specs.count(spec) > 1:
            raise ArgumentError("bounds", spec.name, "named twice", "Name each method once.")
    return tuple(specs)


def _spec(text: str) -> Spec:
    try:
        name, given = call(text)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        way_out = "Write a name, or a name with settings, each once: smoothing(sigma=0.25)."
        raise ArgumentError("bounds", text, "cannot be read", way_out) from None
    method = METHODS.get(name)
    if method is None:
        raise UnknownNameError.among("bounds", name, METHODS)
    known = (*method.required, *method.defaults)
    for key, value in given.items():
        argument = f"bounds: {name}({key}=)"
        if key not in known:
            raise UnknownNameError.among(f"bounds: setting of {name}", key, known)
        if not fits(value, method.kinds[key]):
            raise ArgumentError(argument, value, "of the wrong type", f"Settings: {', '.join(known)}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ArgumentError(argument, value, "not a finite number", "Write another.")
    for key in method.required:
        if key not in given:
            raise ArgumentError("bounds", text, f"{name} needs {key}", f"Write it: {name}({key}=0.25).")
    settings = method.defaults | given
    return Spec(method, tuple((key, settings[key]) for key in known))
