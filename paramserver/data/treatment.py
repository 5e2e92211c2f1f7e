"""What is done to the rows of files before they are trained on, decided from all of them.

Rule 1: facts of parts are put together in the order of the parts, so the decision is the same
        whoever has looked at which part.
Rule 2: what depends on values (means, deviations) is taken from the rows to train on alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.data.labels import Meaning, decide
from paramserver.data.scaling import Moments, Scaling
from paramserver.data.tables import Sparse, Table
from paramserver.errors import DataError
from paramserver.training.partitions import index_dtype

NO_COLUMN: Final = 2**62


@dataclass(frozen=True)
class Facts:
    """What has to be known about one part.

    Attributes
    ----------
    n : int
        Rows.
    labels : tuple
        `Column.kinds` of the labels.
    moments : Moments or None
        Of the dense rows to train on.
    columns : tuple of int
        The least and the largest column that a sparse part uses.
    """

    n: int
    labels: tuple[bool, tuple[Any, ...] | None]
    moments: Moments | None
    columns: tuple[int, int] = (NO_COLUMN, -1)

    @classmethod
    def of(cls, table: Table, is_train: npt.NDArray[np.bool_]) -> Facts:
        """Look at a part."""
        n, labels = len(is_train), table.y.kinds()
        if isinstance(table.X, Sparse):
            used = table.X.columns
            least = int(used.min(initial=NO_COLUMN))
            return cls(n, labels, None, (least, int(used.max(initial=-1))))
        X = table.X if is_train.all() else table.X[is_train]
        return cls(n, labels, Moments.of(X))


@dataclass(frozen=True)
class Treatment:
    """How rows become what is trained on.

    Attributes
    ----------
    meaning : Meaning
    scaling : Scaling or None
        Of dense rows.
    first_column : int
        Number of the first column in a sparse file.
    n_columns : int
    """

    meaning: Meaning
    scaling: Scaling | None
    first_column: int
    n_columns: int

    def y_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of class numbers, or of numbers to predict."""
        return np.dtype(np.int64) if self.meaning.classes is not None else dtype

    def apply(self, table: Table, path: str) -> tuple[Any, npt.NDArray[Any]]:
        """Return X (scaled in place, or with columns from 0) and y.

        Raises
        ------
        DataError
            If a label is none of the classes.
        """
        y = self.meaning.encode(table.y, path)
        if isinstance(table.X, Sparse):
            dtype = index_dtype(self.n_columns, 0)
            columns = (table.X.columns - self.first_column).astype(dtype)
            return table.X._replace(columns=columns), y
        if self.scaling is not None:
            self.scaling.apply(table.X)
        return table.X, y


def choose(train: Sequence[Facts], test: Sequence[Facts], path: str) -> Treatment:
    """Decide from all parts of the rows to train on, and of those in a file held out.

    Raises
    ------
    DataError
        If there is one class only, or none of the columns is ever used.
    """
    meaning = decide([facts.labels for facts in train], path)
    if meaning.classes is not None and len(meaning.classes) < 2:
        raise DataError(
            f"All rows of {path} have the label '{meaning.classes[0]}': there is nothing to tell "
            "apart. Name the column of the label with --label.",
            path=path,
        )
    moments = [facts.moments for facts in train if facts.moments is not None]
    if moments:
        scaling = reduce(add, moments).scaling()
        return Treatment(meaning, scaling, 0, len(scaling.mean))
    both = [*train, *test]
    least = min(facts.columns[0] for facts in both)
    if least == NO_COLUMN:
        raise DataError(f"No row of {path} has any feature.", path=path)
    first = min(least, 1)
    return Treatment(meaning, None, first, max(facts.columns[1] for facts in both) + 1 - first)
