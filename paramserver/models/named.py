"""Models by the names of the command line."""

from __future__ import annotations

from typing import Any

from paramserver.errors import ConfigError
from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Learner

LOSSES = {"logistic": "log_loss", "hinge": "hinge", "ridge": "squared_error"}
"""Linear models."""
NAMES = ("softmax", *LOSSES, "mlp")


def make_model(
    name: str,
    n_features: int,
    n_classes: int,
    l2: float,
    dtype_name: str = "float32",
    *,
    l1: float = 0.0,
    kernel: str = "auto",
    hidden: tuple[int, ...] = (128,),
    activation: str = "relu",
) -> tuple[Learner, str]:
    """Return a learner for data of this form, and its name.

    Parameters
    ----------
    name : str
        One of `NAMES`, or "auto": softmax for classes, ridge for numbers.
    n_features : int
    n_classes : int
        0 for numbers.
    l2, l1 : float
    dtype_name : {"float32", "float64"}
    kernel : {"auto", "numpy", "numba"}
    hidden, activation
        Of mlp.

    Raises
    ------
    ConfigError
        If there is no such model, or it does not fit the labels.
    """
    if name == "auto":
        name = "softmax" if n_classes else "ridge"
    if name not in NAMES:
        raise ConfigError(
            f"There is no model '{name}'. There are: {', '.join(NAMES)}.", field="model", value=name
        )
    if name != "mlp" and (name == "ridge") == bool(n_classes):
        labels = f"{n_classes} classes" if n_classes else "numbers"
        raise ConfigError(
            f"The model '{name}' does not fit the labels, which are {labels}. For classes there "
            "are softmax, logistic, hinge and mlp; for numbers there are ridge and mlp.",
            field="model",
            value=name,
        )
    n_outputs = n_classes if n_classes > 2 else 1
    settings: Any = {"l2": l2, "l1": l1, "dtype_name": dtype_name, "kernel": kernel}
    match name:
        case "softmax":
            return Softmax(n_features, n_classes, **settings), name
        case "mlp":
            return MLP(n_features, n_classes, hidden, activation, **settings), name
        case _:
            return Linear(n_features, n_outputs, LOSSES[name], **settings), name
