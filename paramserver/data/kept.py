"""Tables that were parsed once, kept in files until they are placed.

Rule 1: a file is there as a whole or not at all; whoever writes it, it is the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.data.labels import Column
from paramserver.data.tables import Sparse, Table
from paramserver.data.targets import disk_errors


def keep(table: Table, path: str) -> None:
    """Write a table to a file."""
    arrays: dict[str, Any] = table.X._asdict() if isinstance(table.X, Sparse) else {"X": table.X}
    for name, column in (("y", table.y), ("key", table.key)):
        if column is not None:
            arrays[name] = column.values
            if column.texts is not None:
                arrays[f"{name}.texts"] = np.array(column.texts)
    if table.weight is not None:
        arrays["weight"] = table.weight
    with disk_errors(Path(path).parent):
        fd, unfinished = tempfile.mkstemp(dir=Path(path).parent)
        try:
            with open(fd, "wb") as file:
                np.savez(file, **arrays)
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise


def read_kept(path: str) -> Table:
    """Read it back."""
    with np.load(path) as arrays:
        found = dict(arrays)
    X = found.get("X")
    if X is None:
        X = Sparse(found["data"], found["columns"], found["lengths"])
    key = _column(found, "key") if "key" in found else None
    return Table(X, _column(found, "y"), found.get("weight"), key)


def read_sketch(path: str, column: str) -> tuple[npt.NDArray[np.int64] | None, Column | None]:
    """Read back the lengths of sparse rows, and a column by its name; nothing else is read."""
    with np.load(path) as arrays:
        names = ("lengths", column, f"{column}.texts")
        found = {name: arrays[name] for name in names if name in arrays}
    return found.get("lengths"), _column(found, column) if column in found else None


def _column(arrays: dict[str, Any], name: str) -> Column:
    texts = arrays.get(f"{name}.texts")
    return Column(arrays[name], None if texts is None else tuple(texts.tolist()))
