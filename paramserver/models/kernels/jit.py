"""How functions are compiled: strictly by IEEE 754, without the interpreter lock, kept on disk.

Rule 1: no `fastmath`: sums are taken in the order in which they are written.
Rule 2: what is kept is used only for the very sources that it was compiled from. Numba looks at the
        file of a function alone, not at those of the functions and constants that it uses; so each
        state of all of them (`SOURCES`) has a folder of its own.
Rule 3: the folder is the user's (``~/.cache/paramserver``, or where `XDG_CACHE_HOME` or
        `NUMBA_CACHE_DIR` say), never that of the package, which may be read-only.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba

HERE: Final = Path(__file__).parent
SOURCES: Final = (
    *sorted(HERE.glob("*.py")),
    *(HERE.parent / f"{name}.py" for name in ("lazy", "losses", "outputs")),
)
"""All files that a compiled function may have code or constants from."""
OPTIONS: Final = {"nogil": True, "error_model": "numpy", "fastmath": False}


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function that is compiled for each kind of arguments when it first sees them."""
    compile_it: Any = numba.njit
    folder = cache_folder()
    if folder is None:
        return compile_it(**OPTIONS)(function)
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        return compile_it(cache=True, **OPTIONS)(function)
    finally:
        config.CACHE_DIR = before


@cache
def cache_folder() -> Path | None:
    """Return where what was compiled from the present sources is kept; None if it cannot be."""
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in SOURCES)).hexdigest()[:16]
    try:
        given = os.environ.get("NUMBA_CACHE_DIR")
        base = Path(given or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "paramserver" / f"kernels-{state}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written to")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        warnings.warn(
            f"Compiled kernels cannot be kept ({error}), so every process compiles them anew, for "
            "seconds: set NUMBA_CACHE_DIR to a folder that can be written to.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return folder
