"""How ε and distances are written: as they were typed, in /255 where that is how it was asked."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from atodds.analysis.intervals import Median
from atodds.analysis.numbers import significant
from atodds.threat import Budget, Norm

SYMBOLS: dict[Norm, str] = {"linf": "l∞", "l2": "l2", "l1": "l1"}
MEANINGS: dict[Norm, str] = {
    "linf": "largest change of any pixel",
    "l2": "Euclidean length of the change",
    "l1": "sum of the changes of all pixels",
}


@dataclass(frozen=True)
class Unit:
    """The norm that a page speaks of, and the denominator that all its budgets were typed over (None without one)."""

    norm: Norm
    denominator: int | None

    @property
    def symbol(self) -> str:
        """The norm as it is read: "l∞"."""
        return SYMBOLS[self.norm]

    @property
    def axis(self) -> str:
        """The title of an ε axis, with its unit."""
        return f"ε in {self.symbol} ({f'1/{self.denominator}' if self.denominator else 'pixels in [0, 1]'})"

    @property
    def meaning(self) -> str:
        """What a distance in this norm is."""
        return MEANINGS[self.norm]

    def number(self, value: float) -> float:
        """A distance as a number on the ε axis."""
        return value * self.denominator if self.denominator else value

    def tick(self, budget: Budget) -> str:
        """A budget as the label of a place on the ε axis."""
        return budget.text.partition("/")[0] if self.denominator else budget.text

    def distance(self, value: float) -> str:
        """A distance with three significant digits."""
        text = significant(self.number(value))
        return f"{text}/{self.denominator}" if self.denominator and value and not math.isinf(value) else text

    def median(self, median: Median, largest: Budget) -> tuple[str, str]:
        """A median distance and its interval; beyond the largest budget where that is all one knows."""
        beyond = f"> {largest.text}"
        value, low, high = (
            self.distance(number) if math.isfinite(number) else beyond
            for number in (median.value, median.low, median.high)
        )
        return value, "" if median.low == math.inf else f"({low.partition('/')[0]}–{high})"


def unit_of(norm: Norm, budgets: Iterable[Budget]) -> Unit:
    """The unit in which all of these budgets were typed; a plain 0 goes with any."""
    typed = [re.fullmatch(r"[0-9.]+/([0-9]+)", budget.text) for budget in budgets if budget.value]
    denominators = {int(match.group(1)) if match else None for match in typed}
    return Unit(norm, denominators.pop() if len(denominators) == 1 else None)
