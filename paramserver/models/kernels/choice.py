"""Which kernel: numpy or numba. Decides by what is installed; imports numba only to run it.

Rule 1: what runs follows from the model, the rows and the batch size, and from nothing else: so a
        training gives the same bits whoever computes, and a machine without numba says so.
Rule 2: "auto" is numba where it pays: where it is installed when the model is made (on the master),
        and a pass has so many steps that they are worth its import, and compiling once.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from paramserver.errors import ConfigError

KERNELS: Final = ("auto", "numpy", "numba")
DENSE_WORK: Final = 16_384
"""Products in one dense batch up to which a compiled loop beats numpy: at 1 x 784 x 10 it is four
times as fast, at 32 x 64 x 10 both are even, beyond nothing beats BLAS (measured, float32)."""
LEAST_STEPS: Final = {"dense": 1_000, "sparse": 250}
"""Steps in a pass from which on "auto" is numba. To import it and to load a kernel costs half a
second, as much as 20,000 steps in numpy or 2,000 in scipy, and most trainings have some 20 passes;
to compile one costs 3 s more, once a machine (measured)."""
HOW: Final = "python -m pip install 'paramserver[fast]'"


def settle(kernel: str) -> str:
    """Return the kernel of a model: "auto" stays only where numba is installed.

    Raises
    ------
    ConfigError
        If there is no such kernel, or numba is asked for and not installed.
    """
    if kernel not in KERNELS:
        raise ConfigError(
            f"There is no kernel '{kernel}'. There are: {', '.join(KERNELS)}.",
            field="kernel",
            value=kernel,
        )
    if find_spec("numba") is not None:
        return kernel
    if kernel == "numba":
        raise _missing()
    return "numpy"


def choose(kernel: str, *, is_dense: bool, n_steps: int, work: int) -> str:
    """Return "numba" or "numpy" for passes over some rows.

    Parameters
    ----------
    kernel : str
        What `settle` has returned.
    is_dense : bool
    n_steps : int
        In a pass.
    work : int
        Products in a step, if rows are dense: batch size times coefficients.
    """
    if kernel != "auto":
        return kernel
    least = LEAST_STEPS["dense" if is_dense else "sparse"]
    pays = n_steps >= least and not (is_dense and work > DENSE_WORK)
    return "numba" if pays else "numpy"


def load() -> Any:
    """Return the module of the compiled kernels.

    Raises
    ------
    ConfigError
        If numba is not installed here.
    """
    if find_spec("numba") is None:
        raise _missing()
    return import_module("paramserver.models.kernels.compiled")


def _missing() -> ConfigError:
    return ConfigError(
        "These steps are taken by numba, and numba is not installed here. Results must not depend "
        f"on who computes them: install it on every machine ({HOW}), or make the model with "
        "kernel='numpy'.",
        field="kernel",
        value="numba",
    )
