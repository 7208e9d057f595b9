"""How numbers are written, in one place: percentages, distances, counts."""

import math


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage, without its sign: 0 and 100 only when exact.

    A share that is not 0 but would be written so becomes "< 0.1", and one that is not 1 becomes "> 99.9".

    >>> percent(0.58), percent(0.0), percent(0.0002), percent(0.9999), percent(1.0)
    ('58.0', '0', '< 0.1', '> 99.9', '100')
    """
    smallest = 10.0**-digits / 100
    if share == 0:
        return "0"
    if share == 1:
        return "100"
    if 0 < share < smallest:
        return f"< {100 * smallest:.{digits}f}"
    if 1 - smallest < share < 1:
        return f"> {100 * (1 - smallest):.{digits}f}"
    return f"{100 * share:.{digits}f}"


def points(difference: float, digits: int = 1) -> str:
    """A difference of shares, in percentage points, with its sign: 0 only when exact.

    >>> points(0.032), points(-0.0004), points(0.0)
    ('+3.2', '> −0.1', '0')
    """
    if difference == 0:
        return "0"
    sign = "+" if difference > 0 else "−"
    size = 100 * abs(difference)
    if size < 10.0**-digits:
        return f"{'<' if difference > 0 else '>'} {sign}{10.0**-digits:.{digits}f}"
    return f"{sign}{size:.{digits}f}"


def significant(value: float, digits: int = 3) -> str:
    """A distance with three significant digits, never in exponents between 1e-4 and 1e6; "∞" if infinite.

    >>> significant(0.0312456), significant(0.1), significant(12.0), significant(1234.5)
    ('0.0312', '0.100', '12.0', '1230')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    text = f"{value:.{digits - 1}e}"
    exponent = int(text.partition("e")[2])
    if exponent < -4 or exponent >= 6:
        return text
    return f"{float(text):.{max(0, digits - 1 - exponent)}f}"


def count(number: float) -> str:
    """A count that is read at a glance: exact below 10,000, then in thousands (k), millions (M), billions (G).

    >>> count(9999), count(12345), count(269722), count(1.5e6)
    ('9,999', '12.3 k', '270 k', '1.50 M')
    """
    if abs(number) < 10_000:
        return f"{number:,.0f}"
    for power, unit in ((3, "k"), (6, "M")):
        scaled = significant(number / 10**power)
        if abs(float(scaled)) < 1000:
            return f"{scaled} {unit}"
    return f"{significant(number / 1e9)} G"
