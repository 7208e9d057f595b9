"""Settings of attacks as text: read from what was typed, and written so that they read back the same."""

import ast
import keyword
import re
from types import UnionType
from typing import Literal, Union, get_args, get_origin

Setting = bool | int | float | str | None


def call(text: str) -> tuple[str, dict[str, Setting]]:
    """The name and the settings of `name` or `name(key=value,...)`.

    Raises:
        SyntaxError, ValueError, OverflowError, RecursionError, MemoryError: it is neither.
    """
    if len(text) > _LONGEST:
        raise ValueError
    tree = ast.parse(text if "(" in text else f"{text}()", mode="eval").body
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
        raise ValueError
    given = {str(item.arg): _literal(item.value) for item in tree.keywords}
    if len(given) < len(tree.keywords):
        raise ValueError
    return tree.func.id, given


_LONGEST = 500
"""Letters of one attack with its settings."""


def _literal(node: ast.expr) -> Setting:
    match node:
        case ast.Name(id=name):  # loss=margin reads as well as loss='margin'
            return name
        case ast.BinOp(left=left, op=ast.Sub(), right=right):  # loss=cross-entropy
            first, second = _literal(left), _literal(right)
            if isinstance(first, str) and isinstance(second, str):
                return f"{first}-{second}"
        case ast.BinOp(left=left, op=ast.Div(), right=right):  # step_size=2/255
            above, below = ast.literal_eval(left), ast.literal_eval(right)
            if isinstance(above, (int, float)) and isinstance(below, (int, float)) and below:
                return float(above / below)
        case _:
            value = ast.literal_eval(node)
            if value is None or isinstance(value, (bool, int, float, str)):
                return value
    raise ValueError


def fits(value: Setting, kind: object) -> bool:
    """Whether a value is of an annotated type. A word stands for any literal: the attack knows which there are."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return any(fits(value, one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def split(text: str) -> list[str]:
    """The pieces of a comma-separated text; commas inside brackets do not separate."""
    pieces: list[str] = []
    depth = start = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            pieces.append(text[start:at])
            start = at + 1
    pieces.append(text[start:])
    return [piece.strip() for piece in pieces if piece.strip()]


def written(value: Setting) -> str:
    """A value as text that reads back as the same value: 2/255, 0.03, 100, cross-entropy, 'a word'."""
    if isinstance(value, float):
        levels = value * 255
        if value.is_integer() and abs(value) < _WHOLE:
            return str(int(value))
        if 1 <= abs(levels) < _WHOLE and round(levels) / 255 == value:
            return f"{round(levels)}/255"
        return repr(value)
    if isinstance(value, str) and (keyword.iskeyword(value) or not _WORD.fullmatch(value)):
        return repr(value)
    return str(value)


_WHOLE = 1e6
_WORD = re.compile(r"[A-Za-z_]\w*(-[A-Za-z_]\w*)*", re.ASCII)
