"""Large arrays among the arguments of joblib's calls: written once, mapped by the workers.

As joblib's own processes have it: arrays of `max_nbytes` and more arrive mapped, read-only by
default; a `numpy.memmap` of the caller's is mapped from its own file, and can be written to (one of
mode "c", whose changes are in no file, is an array like others). Tables
and sparse matrices are mapped column by column, array by array.

Rule 1: what a call sees is what the array held when it was handed in: an array that was changed
        since the last call is written anew.
Rule 2: an array is written when it comes for the second time, so that a stream of arrays, each used
        once, fills no disk.
Rule 3: where there is no room, arrays travel with their calls, as small ones do.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.joblib_tables import (
    Pieces,
    is_table,
    open_table,
    spans_of,
    take_apart,
    write_pieces,
)

Array: TypeAlias = npt.NDArray[Any]
Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""As joblib has it: a function, its positional arguments, its keyword arguments."""

BLOCK: Final = 1 << 17
"""Words (of 8 bytes) that are compared at a time: small enough for the cache."""


@dataclass(frozen=True)
class Mapped:
    """Stands for an array in a call, and is the array where the call arrives.

    Attributes
    ----------
    open : callable
    args : tuple
    """

    open: Callable[..., Any]
    args: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.open, self.args


@dataclass
class _Known:
    """An array, or a table, that has come before; written if it has come twice.

    What is written is mapped here as well: an array as itself, of a table each piece.
    """

    source: weakref.ref[Any]
    path: Path | None = None
    written: list[Array] = field(default_factory=list)

    def is_of(self, value: object) -> bool:
        """Say whether it is that very array, and not one that has its number by now."""
        return self.source() is value


class SharedArrays:
    """The arrays of one call of `Parallel`. Used by one thread at a time.

    Parameters
    ----------
    folders : sequence of Path
        Where to write, the first one that has room.
    max_nbytes : int or None
        Arrays of this size and larger are mapped; None maps none.
    mmap_mode : {"r", "c"} or another
        How. With others arrays travel with their calls, so that each has its own to write to.
    """

    def __init__(
        self, folders: Sequence[Path], max_nbytes: int | None, mmap_mode: str | None
    ) -> None:
        self._is_off = max_nbytes is None or mmap_mode not in ("r", "c")
        self._max_nbytes = max_nbytes or 0
        self._mode = mmap_mode
        self._bases = list(folders)
        self._folders: list[Path] = []
        self._known: dict[int, _Known] = {}
        self._n_written = 0

    def replace(self, calls: Iterable[Call]) -> list[Call]:
        """Return the calls, with something small in place of large arrays."""
        return [
            (fn, tuple(map(self._stand_in, args)), {k: self._stand_in(v) for k, v in kw.items()})
            for fn, args, kw in calls
        ]

    def close(self) -> None:
        """Remove the files; who has mapped one keeps it."""
        self._known.clear()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _stand_in(self, value: Any) -> Any:
        if _is_own_file(value):
            return _map_own(value)
        if self._is_off:
            return value
        if is_table(value):
            return self._stand_in_of_table(value)
        if not self._is_large(value) or (known := self._known_as(value)) is None:
            return value
        if not (known.written and is_same(known.written[0], value)):
            known.path = self._write(lambda path: np.save(path, value), value.nbytes)
            if known.path is None:
                return value
            known.written = [np.load(known.path, mmap_mode="r")]
        return Mapped(np.load, (known.path, self._mode))

    def _stand_in_of_table(self, table: Any) -> Any:
        known = self._known_as(table)
        if known is None:
            return table
        pieces = take_apart(table)
        n_bytes = sum(piece.nbytes for piece in pieces)
        if n_bytes < self._max_nbytes:
            return table
        spans = spans_of(pieces)
        if not _are_same(known.written, pieces):
            known.path = self._write(lambda path: write_pieces(path, pieces), n_bytes)
            if known.path is None:
                return table
            whole = np.memmap(known.path, np.uint8, "r")
            known.written = [whole[start:stop] for start, stop in spans]
        return Mapped(open_table, (known.path, spans, self._mode))

    def _known_as(self, value: Any) -> _Known | None:
        """Return what is known of it; None if it has come for the first time."""
        known = self._known.get(id(value))
        if known is not None and known.is_of(value):
            return known
        self._known[id(value)] = _Known(weakref.ref(value))
        return None

    def _is_large(self, value: Any) -> bool:
        return (
            type(value) in (np.ndarray, np.memmap)
            and value.nbytes >= self._max_nbytes
            and (value.flags.c_contiguous or value.flags.f_contiguous)
            and not value.dtype.hasobject
        )

    def _write(self, write: Callable[[Path], None], n_bytes: int) -> Path | None:
        """Write a file where there is room; None where there is none."""
        self._n_written += 1
        for base in self._bases:
            with suppress(OSError):
                if shutil.disk_usage(base).free < 2 * n_bytes:
                    continue
                folder = next((each for each in self._folders if each.parent == base), None)
                if folder is None:
                    folder = Path(tempfile.mkdtemp(prefix="joblib-", dir=base))
                    self._folders.append(folder)
                path = folder / f"{self._n_written}.npy"
                try:
                    write(path)
                except OSError:
                    path.unlink(missing_ok=True)
                    raise
                return path
        return None


def is_same(one: Array, other: Array) -> bool:
    """Say whether two arrays hold the same bytes in the same shape; some 10 ms for 100 MB."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    a, b = one.ravel(order=(order := _order(other))), other.ravel(order=order)
    a, b = a.view(np.uint8), b.view(np.uint8)
    whole = len(a) - len(a) % 8
    words = a[:whole].view(np.uint64), b[:whole].view(np.uint64)
    return bool(np.array_equal(a[whole:], b[whole:])) and all(
        np.array_equal(words[0][at : at + BLOCK], words[1][at : at + BLOCK])
        for at in range(0, len(words[0]), BLOCK)
    )


def _are_same(ones: list[Array], others: Pieces) -> bool:
    return len(ones) == len(others) and all(map(is_same, ones, others))


def _is_own_file(value: object) -> bool:
    """Say whether it is a whole file that the caller has mapped, and holds what the file holds."""
    return (
        type(value) is np.memmap
        and isinstance(value.base, mmap.mmap)
        and bool(value.filename)
        and value.mode != "c"  # what was changed there is in no file
    )


def _map_own(array: np.memmap[Any, Any]) -> Mapped:
    """Let workers map the caller's own file as the caller does."""
    array.flush()
    mode = "r+" if array.mode == "w+" else array.mode
    path = os.fspath(array.filename or "")
    return Mapped(np.memmap, (path, array.dtype, mode, array.offset, array.shape, _order(array)))


def _order(array: Array) -> Literal["C", "F"]:
    return "C" if array.flags.c_contiguous else "F"
