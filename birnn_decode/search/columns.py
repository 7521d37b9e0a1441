"""Columns that grow together: many values of the same kind, served by one array operation."""

from __future__ import annotations

from typing import Any

import numpy as np


class Columns:
    """Arrays of the same length, one row for each thing. A subclass creates them empty."""

    def __init__(self) -> None:
        self._rooms: dict[str, np.ndarray] = {}  # a column is the beginning of a longer array
        self._room = -1  # the length of these arrays; -1 before there are any
        self._count = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._count

    def append(self, **values: Any) -> np.ndarray:
        """Append rows to all columns and return their numbers.

        Args:
            values: the values for each column. The first is an array; a scalar stands for all rows.
        """
        begin, self._count = self._count, self._count + len(next(iter(values.values())))
        if self._count > self._room:
            self._room = 2 * self._count
            for name in values:
                column = getattr(self, name)
                self._rooms[name] = np.resize(column, (self._room, *column.shape[1:]))
        for name, new in values.items():
            self._rooms[name][begin : self._count] = new
            setattr(self, name, self._rooms[name][: self._count])
        return np.arange(begin, self._count)
