"""Checks of what a scorer returns, and the errors for wrong answers."""

from __future__ import annotations

import operator
import re
from typing import Any, NoReturn

from birnn_decode.backend import Array, Backend, backend_for


def whole_number(value: Any, name: str) -> int:
    """Return a value as an int.

    Raises:
        TypeError: The value is not an integer.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def explain(error: Exception, tokens: int, name: str) -> NoReturn:
    """Raise an error of a scorer again, with advice if the scorer looked up an index outside one of its tables.

    Args:
        error: Error that the scorer raised.
        tokens: Number of tokens that the scorer was reading, START included.
        name: Name of the scorer in the message.

    Raises:
        ValueError: The scorer looked up an index outside a table, such as a position after the last one.
    """
    if isinstance(error, RuntimeError) and not re.search(r"\bindex\b.* out of (range|bounds)", str(error)):
        raise error
    raise ValueError(
        f"the {name} scorer cannot read {tokens} tokens of a sentence, START included "
        f"({type(error).__name__}: {error}). If the model has too few positions, give the wrapper max_tokens=. "
        "Otherwise its ids or the rows of its state are wrong: run check_scorer"
    ) from error


def checked_pair(returned: Any, name: str) -> tuple[Array, Any]:
    """Return what a call returned, if it is a pair (scores, state).

    Raises:
        TypeError: It is not a pair.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"the {name} must return a pair (scores, state); it returned {type(returned).__name__}")
    return returned


def backend_of(scores: Array, expected: tuple[int, ...], names: str, source: str) -> Backend:
    """Return the backend for an array of scores, after a check of its type and shape.

    Args:
        scores: Scores to check.
        expected: Expected shape.
        names: Names of the axes, for the message.
        source: Name of what returned the scores, for the message.

    Raises:
        TypeError: No backend supports the array.
        ValueError: The shape is wrong.
    """
    backend = backend_for(scores, source)
    if tuple(scores.shape) != expected:
        raise ValueError(f"{source} returned scores of shape {tuple(scores.shape)}; expected {expected}, [{names}]")
    return backend


def bad_scores(name: str, where: str, normalized: bool) -> ValueError:
    """Return the error for scores that are NaN or too large."""
    wrong = "NaN, +inf or a log-probability above 0" if normalized else "NaN or +inf"
    hint = ". The scorer says normalized=True: are they logits?" if normalized else ""
    return ValueError(
        f"the {name} scorer returned {wrong} {where}. Scores must be finite, or -inf for an impossible token{hint}"
    )


def faulty_scores(item: int, words: tuple[int, ...], normalized: bool, name: str) -> ValueError:
    """Return the error for bad scores of the token after ``words``."""
    return bad_scores(
        name, f"for item {item} at position {len(words)} of its reading order, after the words {words}", normalized
    )
