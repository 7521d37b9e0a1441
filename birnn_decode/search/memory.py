"""How much a search keeps in memory."""

from __future__ import annotations


class OverLimitError(Exception):
    """A search would keep more than it may."""


class Memory:
    """What the prefixes of a search hold, in bytes: scores and states.

    Args:
        limit: of what is held at a time; None: there is none.
    """

    def __init__(self, limit: int | None):
        self._limit = limit
        self._used = 0

    def take(self, size: int) -> None:
        """So many bytes more are held.

        Raises:
            OverLimitError: they are too many.
        """
        self._used += size
        if self._limit is not None and self._used > self._limit:
            raise OverLimitError

    def give_back(self, size: int) -> None:
        """So many bytes are held no more."""
        self._used -= size
