"""How functions are compiled: strictly by IEEE 754, without the interpreter lock, kept on disk.

Rule 1: no `fastmath`: sums are taken in the order in which they are written.
Rule 2: the cache lies beside the source, or where that cannot be written (an installed package) in
        the user's cache folder, or where `NUMBA_CACHE_DIR` says: numba chooses in this order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function that is compiled for each kind of arguments when it first sees them."""
    compile_it: Any = njit
    options = {"nogil": True, "error_model": "numpy", "fastmath": False}
    try:
        return compile_it(cache=True, **options)(function)
    except RuntimeError as error:  # neither folder can be written
        warnings.warn(
            f"Compiled kernels cannot be kept ({error}), so every process compiles them anew, for "
            "seconds: set NUMBA_CACHE_DIR to a folder that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )
        return compile_it(**options)(function)
