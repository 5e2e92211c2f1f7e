"""Tables among the arguments of joblib's calls: taken apart, so that their columns can be mapped.

Rule 1: the pieces of a table lie one behind the other in one file. The first is its pickle, which
        says how the others, the memory of its columns, belong together.
Rule 2: a table is opened inside of a call that has come by a trusted connection, from a file that
        only the user's own processes can have written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.protocol import pickling
from paramserver.protocol.messages import Buffer

ALIGNMENT: Final = 64
"""Pieces begin at multiples of this: a line of the processor's cache."""

Pieces: TypeAlias = list[npt.NDArray[np.uint8]]
Spans: TypeAlias = tuple[tuple[int, int], ...]
"""Where each piece begins and ends in its file."""


def is_table(value: object) -> bool:
    """Say whether it is a table or a column (pandas, Arrow, Polars), or a sparse matrix of scipy.

    Nothing is imported for that: whoever has such a thing has imported what it belongs to.
    """
    kind: Any = type(value)
    if not kind.__weakrefoffset__:
        return False  # it could not be known again
    if hasattr(kind, "__arrow_c_stream__"):
        return True
    pandas, sparse = sys.modules.get("pandas"), sys.modules.get("scipy.sparse")
    return (pandas is not None and isinstance(value, pandas.Series)) or (
        sparse is not None and bool(sparse.issparse(value))
    )


def take_apart(table: object) -> Pieces:
    """Return the pickle of a table and the memory of its columns, which is not copied.

    Raises
    ------
    LocalProtocolError
        If it cannot be pickled.
    """
    data, buffers = pickling.dumps(table)
    return [np.frombuffer(piece, np.uint8) for piece in (data, *buffers)]


def write_pieces(path: Path, pieces: Pieces) -> None:
    """Write them to a file."""
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)  # type: ignore[arg-type]
            file.write(bytes(-piece.nbytes % ALIGNMENT))


def spans_of(pieces: Pieces) -> Spans:
    """Return where `write_pieces` puts them."""
    at, spans = 0, []
    for piece in pieces:
        spans.append((at, at + piece.nbytes))
        at += piece.nbytes + -piece.nbytes % ALIGNMENT
    return tuple(spans)


def open_table(path: Path, spans: Spans, mode: Literal["r", "c"]) -> Any:
    """Return the table whose pieces are in a file, mapped.

    Parameters
    ----------
    path : Path
    spans : tuple of (int, int)
    mode : {"r", "c"}
        Of `numpy.memmap`: its columns are read-only, or change for this process alone.
    """
    mapped: Any = np.memmap(path, np.uint8, mode)
    pieces: Sequence[Buffer] = [memoryview(mapped[start:stop]) for start, stop in spans]
    return pickling.loads(pieces[0], pieces[1:], in_place=True)
