"""What the adversary may do: a norm and a budget, written as the field does (`8/255`, `0.03`, `0:8/255:1/255`)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Real
from typing import Literal, cast, get_args

from atodds.errors import ThreatError

Norm = Literal["l1", "l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)

SLACK = 1e-6
"""Relative rounding when a distance is held against a budget: within eps means distance <= eps * (1 + SLACK)."""


@dataclass(frozen=True)
class Budget:
    """An eps: its value, and the text that it was typed as, which is how every page shows it."""

    value: float
    text: str

    def __str__(self) -> str:
        return self.text

    def __float__(self) -> float:
        return self.value


EpsLike = float | int | str | Budget
EpsSpec = EpsLike | Sequence[EpsLike]


@dataclass(frozen=True)
class Threat:
    """A ball around each image: all images within `eps` of it in `norm`, pixels in [0, 1].

    Args:
        norm: "l1", "l2" or "linf".
        eps: radius, as a number or as text ("8/255").

    Raises:
        ThreatError: unknown norm; eps negative, NaN, infinite, or larger than the box in l-inf.
    """

    norm: Norm
    eps: float

    def __init__(self, norm: str, eps: EpsLike) -> None:
        object.__setattr__(self, "norm", parse_norm(norm))
        object.__setattr__(self, "eps", parse_eps(eps, norm).value)

    def __str__(self) -> str:
        return f"{self.norm} {self.eps:.6g}"


def parse_norm(norm: str, argument: str = "norm") -> Norm:
    """The norm that a name means: l1, l2, linf (also "L2", "l-inf", "inf").

    Raises:
        ThreatError: it means none of them.
    """
    plain = str(norm).strip().lower().replace("-", "").replace("_", "").removeprefix("l")
    match plain:
        case "1":
            return "l1"
        case "2":
            return "l2"
        case "inf" | "infinity" | "∞":
            return "linf"
        case _:
            raise ThreatError(
                argument, norm, "not a norm that images can be attacked in", f"Choose one of {', '.join(NORMS)}."
            )


def parse_eps(eps: EpsLike, norm: str = "linf", argument: str = "eps") -> Budget:
    """One budget, from a number or from text such as "8/255" or "0.03".

    Raises:
        ThreatError: not a number, negative, NaN, infinite, or above 1 in l-inf, where no two images are further apart.
    """
    if isinstance(eps, Budget):
        return _checked(eps, norm, argument)
    if isinstance(eps, str):
        value = float(_fraction(eps, argument))
        return _checked(Budget(value, "".join(eps.split()) if value else "0"), norm, argument)
    number: object = eps  # NumPy's numbers and fractions come too
    if isinstance(number, bool) or not isinstance(number, Real):
        raise ThreatError(argument, eps, "not a budget", "Write a number or a fraction, such as 0.03 or '8/255'.")
    try:
        value = float(number) + 0.0  # makes -0.0 a plain 0
    except OverflowError:
        value = math.inf
    return _checked(Budget(value, str(number) if isinstance(number, Fraction) else f"{value:.6g}"), norm, argument)


def parse_eps_list(eps: EpsSpec, norm: str = "linf", argument: str = "eps") -> tuple[Budget, ...]:
    """All budgets that `eps` names, ascending and without repetition.

    Args:
        eps: a number, text, a list of these, a comma-separated text, or a range "start:stop:step": the start, and every
            step after it as far as the stop, which belongs to the range.
        norm: the norm that the budgets are in; decides what is too large.
        argument: the name to complain about.

    Raises:
        ThreatError: nothing named, a range that does not advance, or any single budget that `parse_eps` refuses.
    """
    parts: list[EpsLike] = []
    for item in _items(eps):
        parts += _range(item, argument) if isinstance(item, str) and ":" in item else [item]
    found: list[Budget] = []
    for budget in sorted((parse_eps(part, norm, argument) for part in parts), key=lambda b: (b.value, len(b.text))):
        if not found or budget.value > found[-1].value * (1 + _SAME):
            found.append(budget)
        elif len(budget.text) < len(found[-1].text):  # "8/255" says more than 0.0313725
            found[-1] = budget
    if not found:
        raise ThreatError(
            argument, eps, "no budget named", "Write one, such as '8/255', or a range, such as '0:8/255:1/255'."
        )
    return tuple(found)


_SAME = 1e-9
"""Budgets that differ relatively by less are one: 0.1 + 0.2 is 0.3."""
_NEARLY_WHOLE = 1e-3
"""A range whose number of steps is this close to whole ends at its stop: 0:0.0313725:0.00392157 has 8 steps."""
_LONGEST, _LARGEST_EXPONENT = 100, 300


def _items(eps: EpsSpec) -> Iterable[EpsLike]:
    if isinstance(eps, str):
        return [part for part in eps.split(",") if part.strip()]
    if isinstance(eps, (int, float, Budget)):
        return [eps]
    if not isinstance(eps, Iterable) or isinstance(eps, (bytes, dict)) or getattr(eps, "ndim", 1) == 0:
        return [cast(EpsLike, eps)]  # for `parse_eps` to refuse
    return [piece for item in eps for piece in _items(item)]


def _range(text: str, argument: str) -> list[EpsLike]:
    pieces = text.split(":")
    if len(pieces) != 3:
        raise ThreatError(argument, text, "not a range", "Write start:stop:step, such as '0:8/255:1/255'.")
    start, stop, step = (_fraction(piece, argument) for piece in pieces)
    if step <= 0 or stop < start:
        raise ThreatError(
            argument, text, "a range that does not advance", "Write start:stop:step with start <= stop and step > 0."
        )
    steps = (stop - start) / step
    if steps >= 1000:
        raise ThreatError(argument, text, "a range of more than 1000 budgets", "Take a larger step.")
    count = round(steps) if abs(steps - round(steps)) <= _NEARLY_WHOLE else math.floor(steps)
    below = [piece.partition("/")[2].strip() for piece in pieces]
    denominator = math.lcm(*(int(digits) for digits in below if digits.isdecimal())) if any(below) else 0
    values = [min(start + step * k, stop) for k in range(count + 1)]
    if abs(stop - values[-1]) <= step * _NEARLY_WHOLE:
        values[-1] = stop
    return [_named(value, denominator) for value in values]


def _named(value: Fraction, denominator: int) -> Budget:
    """A member of a range, written over the denominator that its range was written with."""
    if denominator == 0 or value == 0:
        return Budget(float(value), f"{float(value):.6g}")
    return Budget(float(value), f"{float(value * denominator):.6g}/{denominator}")


def _fraction(text: str, argument: str) -> Fraction:
    """The exact value of text. Lengths and exponents are bounded first: 1e999999999 is a number of 400 MB."""
    try:
        if len(text) > _LONGEST:
            raise ValueError
        numerator, slash, denominator = text.partition("/")
        parts = [Decimal(part.strip()) for part in ([numerator, denominator] if slash else [numerator])]
        if not all(part.is_finite() and (part == 0 or abs(part.adjusted()) <= _LARGEST_EXPONENT) for part in parts):
            raise ValueError
        over, *under = map(Fraction, parts)
        return over / under[0] if under else over
    except (ValueError, InvalidOperation, ZeroDivisionError):
        raise ThreatError(
            argument, text, "not a number", "Write a number or a fraction, such as 0.03 or 8/255."
        ) from None


def _checked(budget: Budget, norm: str, argument: str) -> Budget:
    value = budget.value
    if math.isnan(value) or math.isinf(value):
        raise ThreatError(
            argument, budget.text, "not a finite number", "Write a number or a fraction, such as 0.03 or 8/255."
        )
    if value < 0:
        raise ThreatError(argument, budget.text, "a negative distance", f"Did you mean {budget.text.lstrip('-')}?")
    if parse_norm(norm) == "linf" and value > 1:
        problem = "pixels lie in [0, 1], so no two images are further apart than 1 in l-inf"
        way_out = f"Did you mean {value:g}/255?" if value <= 255 else "Give at most 1, such as 8/255."
        raise ThreatError(argument, budget.text, problem, way_out)
    return budget
