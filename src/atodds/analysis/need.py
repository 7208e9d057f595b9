"""What a model is needed for: how often it will be attacked, how strongly, and what its errors cost.

A need is typed as options, answered in questions, or kept in a TOML file; all three come here as a mapping of the same
words, and a word that is none of them is an error.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atodds.errors import ArgumentError, NeedError, UnknownNameError
from atodds.threat import Budget, EpsLike, Norm, parse_eps, parse_eps_list, parse_norm

_SHARES = "Write a share from 0 to 1, such as 0.1, or 10%."


@dataclass(frozen=True)
class Need:
    """Where and how a model is to be used.

    Attributes:
        attacked: least and largest share of inputs that will be attacked; equal where one share was given. Every share
            between them counts as likely as any other.
        norm: of the attacks; None takes that of the run.
        weights: the budgets of the attacks, ascending, and the share of attacks that have each; they sum to 1.
        min_clean: least accuracy on images that are not attacked; None for any.
        costs: what an error on an image of a class costs, by the name of the true class; 1 for those not named.
        latency_ms: largest time for one image, in milliseconds; None for any.
        size_mb: largest size of the parameters, in millions of bytes; None for any.
        parameters: largest number of parameters; None for any.
    """

    attacked: tuple[float, float]
    norm: Norm | None = None
    weights: tuple[tuple[Budget, float], ...] = ()
    min_clean: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    size_mb: float | None = None
    parameters: int | None = None

    @property
    def share(self) -> float:
        """The middle of the attacked shares: costs are linear in the share, so it stands for the whole range."""
        return (self.attacked[0] + self.attacked[1]) / 2

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets of the attacks, ascending."""
        return tuple(budget for budget, _ in self.weights)


KEYS = ("attacked", "eps", "norm", "min_clean", "cost", "latency_ms", "size_mb", "parameters")
"""The words of a need, in the order of the questions."""


def parse_need(said: Mapping[str, object], where: str = "need") -> Need:
    """The need that a mapping describes.

    Args:
        said: `attacked` (0.1, "10%", or the ends of a range: [0.05, 0.2] or "0.05:0.2"), `eps` ("4/255", a list, or
            weights: {"2/255": 3, "8/255": 1} or "2/255=3,8/255=1"), `norm`, `min_clean`, `cost` ({"cat": 5} or
            "cat=5"), `latency_ms`, `size_mb`, `parameters`. Only `attacked` must be there, and `eps` unless nothing is
            attacked. None stands for a word that is not there.
        where: what to call the mapping in an error.

    Raises:
        UnknownNameError: a word that is none of these, with the nearest.
        NeedError: a word that is missing, or words that contradict each other.
        ThreatError: a norm or a budget that means nothing.
        ArgumentError: a value that cannot be.
    """
    for key in said:
        if key not in KEYS:
            raise UnknownNameError.among(where, str(key), KEYS)
    given: Mapping[str, Any] = {key: value for key, value in said.items() if value is not None}
    if "attacked" not in given:
        raise NeedError("attacked", "nothing", "a need begins with the share of inputs that are attacked", _SHARES)
    attacked = _range(given["attacked"])
    norm = parse_norm(given["norm"]) if "norm" in given else None
    weights = _weights(given.get("eps"), norm or "l1")
    if not weights and attacked[1] > 0:
        way_out = "Say at which eps, such as 4/255, or 2/255=3,8/255=1 where some are more likely than others."
        raise NeedError("eps", "nothing", f"up to {attacked[1]:g} of the inputs are attacked, but not how", way_out)
    return Need(
        attacked=attacked,
        norm=norm,
        weights=weights,
        min_clean=_share("min_clean", given["min_clean"]) if "min_clean" in given else None,
        costs=_costs(given.get("cost", {})),
        latency_ms=_limit("latency_ms", given.get("latency_ms")),
        size_mb=_limit("size_mb", given.get("size_mb")),
        parameters=_whole(given.get("parameters")),
    )


def read_need(path: str | Path) -> Need:
    """The need in a TOML file: the words of `parse_need`, with weights and costs as tables.

    Raises:
        ArgumentError: a file that cannot be read or is not TOML; otherwise as for `parse_need`.
    """
    place = Path(path)
    try:
        said = tomllib.loads(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError("need", str(place), f"cannot be read ({error})", "Name a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise ArgumentError(
            "need", str(place), f"is not TOML ({error})", 'Write lines as in: eps = "4/255".'
        ) from error
    return parse_need(said, place.name)


def _range(value: object) -> tuple[float, float]:
    parts: Sequence[object]
    if isinstance(value, str):
        parts = value.split(":")
    elif isinstance(value, (list, tuple)):
        parts = value
    else:
        parts = [value]
    if not 1 <= len(parts) <= 2:
        raise ArgumentError("attacked", value, "not a share, nor the two ends of a range", "Write 0.1, or 0.05:0.2.")
    low, high = _share("attacked", parts[0]), _share("attacked", parts[-1])
    if low > high:
        raise NeedError("attacked", value, "a range that ends before it begins", f"Did you mean {high:g}:{low:g}?")
    return low, high


def _share(name: str, value: object) -> float:
    number = _number(name, value, _SHARES)
    if not 0 <= number <= 1:
        hint = f"Did you mean {number / 100:g}? " if 1 < number <= 100 else ""
        raise ArgumentError(name, value, "not a share between 0 and 1", hint + _SHARES)
    return number


def _number(name: str, value: object, way_out: str) -> float:
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            raise ArgumentError(name, value, "not a number", way_out) from None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ArgumentError(name, value, "not a number", way_out)
    if not math.isfinite(number):
        raise ArgumentError(name, value, "not a finite number", way_out)
    return number


def _weights(value: object, norm: Norm) -> tuple[tuple[Budget, float], ...]:
    if value is None:
        return ()
    if isinstance(value, str) and "=" in value:
        value = _pairs("eps", value, "Write budgets with their weights, such as 2/255=3,8/255=1.")
    if not isinstance(value, Mapping):
        spec: Any = value
        budgets = parse_eps_list(spec, norm)
        return tuple((budget, 1 / len(budgets)) for budget in budgets)
    found: dict[Budget, float] = {}
    for text, weight in value.items():
        eps: EpsLike = text
        budget, number = parse_eps(eps, norm), _number("eps", weight, "Give each eps a weight, such as 1.")
        if number < 0:
            raise ArgumentError("eps", f"{text}={weight}", "a negative weight", "Give each eps a weight of 0 or more.")
        if any(abs(budget.value - other.value) <= 1e-9 * other.value for other in found):
            raise NeedError("eps", str(budget), "the same budget twice", "Give each eps one weight.")
        found[budget] = number
    total = sum(found.values())
    if not 0 < total < math.inf:
        raise NeedError("eps", dict(value), "weights that are all 0", "Give one of them a weight above 0.")
    kept = sorted((pair for pair in found.items() if pair[1] > 0), key=lambda pair: pair[0].value)
    return tuple((budget, weight / total) for budget, weight in kept)


def _costs(value: object) -> dict[str, float]:
    if isinstance(value, str):
        value = _pairs("cost", value, "Write classes with their costs, such as cat=5,dog=2.")
    if not isinstance(value, Mapping):
        raise ArgumentError("cost", value, "not costs of classes", "Write CLASS=COST, such as cat=5.")
    found = {str(name): _number("cost", cost, "Give a class a cost of 0 or more.") for name, cost in value.items()}
    for name, cost in found.items():
        if cost < 0:
            raise ArgumentError("cost", f"{name}={cost:g}", "an error cannot earn", "Give a cost of 0 or more.")
    return found


def _pairs(argument: str, text: str, way_out: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, number = part.rpartition("=")
        if not (equals and name.strip()) or name.strip() in found:
            raise ArgumentError(argument, part, "not one name with one number", way_out)
        found[name.strip()] = number
    return found


def _limit(name: str, value: object) -> float | None:
    if value is None:
        return None
    number = _number(name, value, "Give a number above 0, or leave it out.")
    if number <= 0:
        raise ArgumentError(name, value, "nothing is as small", "Give a number above 0, or leave it out.")
    return number


def _whole(value: object) -> int | None:
    number = _limit("parameters", value)
    return None if number is None else int(number)
