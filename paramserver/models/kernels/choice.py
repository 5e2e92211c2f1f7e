"""Which kernel: numpy or numba. Decides by what is installed; imports numba only to run it.

Rule 1: "auto" is settled where a model is made, and the answer travels with the model; so all
        workers of a training run the same kernel, or fail.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from paramserver.errors import ConfigError

KERNELS: Final = ("auto", "numpy", "numba")
DENSE_WORK: Final = 16_384
"""Products in one dense batch up to which a compiled loop beats numpy. Measured, float32: at
32 x 64 x 10 both are even; at 1 x 784 x 10 the loop is four times as fast; beyond, BLAS wins."""
HOW: Final = "python -m pip install 'paramserver[fast]'"


def settle(kernel: str) -> str:
    """Return "numpy" or "numba"; for "auto" the latter where it is installed.

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
    if kernel == "auto":
        return "numba" if find_spec("numba") is not None else "numpy"
    if kernel == "numba" and find_spec("numba") is None:
        raise _missing()
    return kernel


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
        "The kernel of this model is 'numba', and numba is not installed here. Results must not "
        f"depend on who computes them: install it on every machine ({HOW}), or make the model "
        "with kernel='numpy'.",
        field="kernel",
        value="numba",
    )
