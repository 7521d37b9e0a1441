"""A count of the memory that a search keeps."""

from __future__ import annotations


class OverLimitError(Exception):
    """A search keeps more memory than it may."""


class Memory:
    """The bytes of all scores and states that a search keeps.

    Args:
        limit: the most bytes that may be kept at a time; None for no limit.

    Attributes:
        limit: the same.
        used: the bytes kept now.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Count ``size`` bytes more.

        Raises:
            OverLimitError: more than ``limit`` bytes are kept now.
        """
        self.used += size
        if self.limit is not None and self.used > self.limit:
            raise OverLimitError

    def give_back(self, size: int) -> None:
        """Count ``size`` bytes less."""
        self.used -= size
