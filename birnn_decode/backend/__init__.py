"""The array operations that a search needs, for NumPy and for PyTorch.

The search keeps its records (prefixes, parents, sums) in NumPy arrays of integers and float64. Only arrays with a
vocabulary axis go to a backend. The backend follows the first scores that a scorer returns: their library, their device
and their dtype. Half precision is computed in float32.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np

from birnn_decode.backend.base import HIGHEST_LOG_PROB, Array, Backend, overflow_to_inf

__all__ = ["HIGHEST_LOG_PROB", "Array", "Backend", "backend_for", "no_graph", "overflow_to_inf"]


def backend_for(scores: Array, source: str = "step") -> Backend:
    """Return the backend for a scorer's scores. PyTorch is not imported if it was not imported before.

    Args:
        scores: An array of either library.
        source: Name of the function that returned the scores, for the message.

    Raises:
        TypeError: The scores are neither a NumPy array nor a PyTorch tensor of floating-point numbers.
    """
    if isinstance(scores, np.ndarray) and np.issubdtype(scores.dtype, np.floating):
        from birnn_decode.backend.numpy import NumpyBackend

        return NumpyBackend(np.float32 if scores.dtype.itemsize < 4 else scores.dtype)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(scores, torch.Tensor) and scores.is_floating_point():
        from birnn_decode.backend.torch import TorchBackend

        return TorchBackend(scores.dtype if scores.dtype.itemsize >= 4 else torch.float32, scores.device)
    dtype = getattr(scores, "dtype", None)
    raise TypeError(
        f"{source} returned scores of type {type(scores).__module__}.{type(scores).__qualname__}"
        f"{'' if dtype is None else f' ({dtype})'}; they must be a NumPy array or a PyTorch tensor of floating-point "
        "numbers."
    )


def no_graph() -> contextlib.AbstractContextManager[Any]:
    """Return a context that records no autograd graph, if PyTorch is in use.

    It is ``torch.no_grad`` and not ``torch.inference_mode``: a model that builds a buffer in its first call (a mask, a
    table of positions) would keep an inference tensor and could not be trained afterwards.
    """
    torch = sys.modules.get("torch")
    return contextlib.nullcontext() if torch is None else torch.no_grad()
