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
from paramserver.data.tables import Sparse, Table, Treated
from paramserver.errors import DataError
from paramserver.training.csr import index_dtype

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
    counts : bool or None
        Whether any row to train on has a weight above 0; None where there are no weights.
    """

    n: int
    labels: tuple[bool, tuple[Any, ...] | None]
    moments: Moments | None
    columns: tuple[int, int] = (NO_COLUMN, -1)
    counts: bool | None = None

    @classmethod
    def of(cls, table: Table, is_train: npt.NDArray[np.bool_]) -> Facts:
        """Look at a part."""
        n, labels = len(is_train), table.y.kinds()
        counts = None if table.weight is None else bool(table.weight[is_train].any())
        if isinstance(table.X, Sparse):
            used = table.X.columns
            least = int(used.min(initial=NO_COLUMN))
            return cls(n, labels, None, (least, int(used.max(initial=-1))), counts)
        X = table.X if is_train.all() else table.X[is_train]
        return cls(n, labels, Moments.of(X), counts=counts)


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
    is_weighted : bool
    """

    meaning: Meaning
    scaling: Scaling | None
    first_column: int
    n_columns: int
    is_weighted: bool = False

    def y_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of class numbers, or of numbers to predict."""
        return np.dtype(np.int64) if self.meaning.classes is not None else dtype

    def apply(self, table: Table, path: str) -> Treated:
        """Return the rows, dense ones scaled in place, sparse ones with columns from 0.

        Raises
        ------
        DataError
            If a label is none of the classes.
        """
        y = self.meaning.encode(table.y, path)
        if isinstance(table.X, Sparse):
            dtype = index_dtype(self.n_columns, 0)
            columns = (table.X.columns - self.first_column).astype(dtype)
            return Treated(table.X._replace(columns=columns), y, table.weight)
        if self.scaling is not None:
            self.scaling.apply(table.X)
        return Treated(table.X, y, table.weight)


def choose(train: Sequence[Facts], test: Sequence[Facts], path: str) -> Treatment:
    """Decide from all parts of the rows to train on, and of those in a file held out.

    Raises
    ------
    DataError
        If there is one class only, all rows have the weight 0, or none of the columns is ever
        used.
    """
    meaning = decide([facts.labels for facts in train], path)
    if meaning.classes is not None and len(meaning.classes) < 2:
        raise DataError(
            f"All rows of {path} have the label '{meaning.classes[0]}': there is nothing to tell "
            "apart. Name the column of the label with --label.",
            path=path,
        )
    counts = [facts.counts for facts in train if facts.counts is not None]
    if counts and not any(counts):
        raise DataError(
            f"All rows of {path} have the weight 0: nothing is to learn. Name another column with "
            "--weight.",
            path=path,
        )
    moments = [facts.moments for facts in train if facts.moments is not None]
    if moments:
        scaling = reduce(add, moments).scaling()
        return Treatment(meaning, scaling, 0, len(scaling.mean), bool(counts))
    both = [*train, *test]
    least = min(facts.columns[0] for facts in both)
    if least == NO_COLUMN:
        raise DataError(f"No row of {path} has any feature.", path=path)
    first = min(least, 1)
    n_columns = max(facts.columns[1] for facts in both) + 1 - first
    return Treatment(meaning, None, first, n_columns, bool(counts))
