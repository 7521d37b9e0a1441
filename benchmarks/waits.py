"""Count where a decode waits for its device.

A call to a GPU is queued, and the program goes on. It waits only where a result must be known on the CPU: a tensor that
is copied there, a truth value, the number of entries that a mask selects. These places are the same on a CPU, where
nothing waits, so they can be counted there.
"""

from __future__ import annotations

import collections
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

WAITING = {
    *("cpu", "tolist", "item", "numpy", "nonzero", "masked_select", "unique", "equal", "allclose"),
    *("__bool__", "__int__", "__float__", "__index__", "__contains__", "__array__"),
}


class Waits(TorchFunctionMode):
    """While it is active, count the calls that would wait for a GPU.

    ``numpy`` after ``cpu`` does not wait again, so it counts only on a tensor that ``cpu`` has not returned.

    Attributes:
        counts: number of calls by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()
        self._fetched: Any = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        masks = name in ("__getitem__", "__setitem__") and _has_mask(args[1])
        if masks or (name in WAITING and not (name in ("numpy", "tolist") and args[0] is self._fetched)):
            self.counts["a mask as index" if masks else name] += 1
        returned = func(*args, **(kwargs or {}))
        if name in ("cpu", "detach"):
            self._fetched = returned if name == "cpu" or args[0] is self._fetched else self._fetched
        return returned

    @property
    def total(self) -> int:
        """The number of calls of all names."""
        return self.counts.total()


def _has_mask(index: Any) -> bool:
    several = index if isinstance(index, tuple) else (index,)
    return any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in several)
