"""What is expected of a scorer's answers, and what is said where they are something else."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from birnn_decode.backend import Array, Backend, backend_for


def explain(error: Exception, tokens: int, name: str) -> NoReturn:
    """Raise an error of a scorer that was reading sentences of so many tokens, START included.

    Raises:
        ValueError: it looked for what is not in one of its tables, as for a position beyond the last.
    """
    if isinstance(error, RuntimeError) and not re.search(r"\bindex\b.* out of (range|bounds)", str(error)):
        raise error
    raise ValueError(
        f"the {name} scorer cannot read {tokens} tokens of a sentence, START included "
        f"({type(error).__name__}: {error}): if the model has fewer positions, give the wrapper max_tokens=; else "
        "its ids, or the rows of its state, are others than it is said to have, which check_scorer tells apart"
    ) from error


def checked_pair(returned: Any, name: str) -> tuple[Array, Any]:
    """(scores, state).

    Raises:
        TypeError: it is no pair.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"the {name} must return a pair (scores, state); it returned {type(returned).__name__}")
    return returned


def backend_of(scores: Array, expected: tuple[int, ...], names: str, source: str) -> Backend:
    """The backend of scores that are what they should be; ``names`` are those of the axes, ``source`` returned them.

    Raises:
        TypeError: they are no array that there is a backend for.
        ValueError: they have another shape.
    """
    backend = backend_for(scores, source)
    if tuple(scores.shape) != expected:
        raise ValueError(f"{source} returned scores of shape {tuple(scores.shape)}; expected {expected}, [{names}]")
    return backend


def faulty_scores(item: int, words: tuple[int, ...], normalized: bool, name: str) -> ValueError:
    """The error for scores of the token after ``words`` that are no scores."""
    what = "NaN, +inf or a log-probability above 0" if normalized else "NaN or +inf"
    return ValueError(
        f"the {name} scorer returned {what} for item {item} at position {len(words)} of its reading order, "
        f"after the words {words}: scores must be finite, or -inf for the impossible"
        + (" (it says normalized=True: are they logits?)" if normalized else "")
    )
