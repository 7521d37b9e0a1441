"""Checks of arguments. Each message says what was given and what would be right."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from numbers import Real
from typing import Any


def check_count(name: str, value: Any, least: int | None = 0, what: str = "") -> int:
    """Return an argument as an int if it is a whole number, at least ``least``. True and False are no numbers here.

    Args:
        name: What the argument is called in the message.
        value: Argument to check.
        least: Smallest value allowed. None: any whole number (default: 0).
        what: What would be right, for the message (default: a whole number with its bound).

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is too small.
    """
    if not what:
        what = "a positive integer" if least == 1 else f"a whole number, {least} or larger"
    message = f"{name} must be {what}, got {value!r}."
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(message) from None
    if isinstance(value, bool):
        raise TypeError(message)
    if least is not None and count < least:
        raise ValueError(message)
    return count


def check_number(name: str, value: Any, what: str = "a finite number", least: float = -math.inf) -> None:
    """Check that an argument is a finite number, at least ``least``. True and False are no numbers here.

    Args:
        name: What the argument is called in the message.
        value: Argument to check.
        what: What would be right, for the message.
        least: Smallest value allowed (default: none).

    Raises:
        TypeError: It is not a number.
        ValueError: It is NaN, infinite, or too small.
    """
    message = f"{name} must be {what}, got {value!r}."
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(message)
    if not (math.isfinite(value) and float(value) >= least):
        raise ValueError(message)


def check_flag(name: str, value: Any) -> None:
    """Check that an argument is True or False.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Check that an argument is one of some strings.

    Raises:
        TypeError: It is not a string.
        ValueError: It is another string.
    """
    if not isinstance(value, str) or value not in choices:
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}.")


def check_type(name: str, value: Any, kind: type, example: str) -> None:
    """Check that an argument is of a class.

    Raises:
        TypeError: It is of another class.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, for example {example}, got {value!r}.")


def type_name(value: object) -> str:
    """Return the name of a value's type, with its article and module, for messages."""
    return "None" if value is None else f"a {type(value).__module__}.{type(value).__qualname__}"
