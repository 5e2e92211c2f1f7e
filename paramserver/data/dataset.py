"""What a training is given: rows to train on and rows held out, and what was done to them. Values.

Rule 1: whoever reads data, wherever they come from, returns one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.data.scaling import Scaling
from paramserver.training.learner import Matrix
from paramserver.training.partitions import SharedRows


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, and rows held out.

    Attributes
    ----------
    name : str
    X_train, X_test : ndarray or csr_array of shape (n, n_features)
    y_train, y_test : ndarray of shape (n,)
        Class numbers from 0, or (for regression) the numbers to predict.
    n_classes : int
        0 for regression.
    notes : tuple of str
        What was done to the data, in words.
    scaling : Scaling, optional
        How the columns of X were made from those of the source; None if they are as they were.
    y_scaling : Scaling, optional
        The same for the numbers to predict.
    classes : tuple, optional
        What the class numbers stand for, where they do not stand for themselves.
    rows : SharedRows, optional
        The rows to train on, cut into partitions on disk; the arrays above are mapped then.
    weight_train, weight_test : ndarray of shape (n,), optional
        How much each row counts.
    keys : ndarray of shape (n,), int64, optional
        Numbers of the keys of the rows to train on, where ``fit(partition="by-key")`` is to deal
        them out.
    partition : str
        How `rows` were dealt out.
    """

    name: str
    X_train: Matrix
    y_train: npt.NDArray[Any]
    X_test: Matrix
    y_test: npt.NDArray[Any]
    n_classes: int
    notes: tuple[str, ...] = ()
    scaling: Scaling | None = None
    y_scaling: Scaling | None = None
    classes: tuple[Any, ...] | None = None
    rows: SharedRows | None = None
    weight_train: npt.NDArray[Any] | None = None
    weight_test: npt.NDArray[Any] | None = None
    keys: npt.NDArray[np.int64] | None = None
    partition: str = "shuffled"

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return int(self.X_train.shape[1])

    @property
    def metric(self) -> str:
        """What a score of it is called."""
        return "accuracy" if self.n_classes else "R2"
