"""How much a search keeps in memory."""

from __future__ import annotations


class OverLimitError(Exception):
    """A search would keep more than it may."""


class Memory:
    """What the prefixes of a search hold, in bytes: scores and states.

    Args:
        limit: of what is held at a time; None: there is none.

    Attributes:
        used: what is held now.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """So many bytes more are held.

        Raises:
            OverLimitError: they are too many.
        """
        self.used += size
        if self.limit is not None and self.used > self.limit:
            raise OverLimitError

    def give_back(self, size: int) -> None:
        """So many bytes are held no more."""
        self.used -= size
