"""Files larger than memory: read by jobs, piece by piece, into binary files that are mapped.

::

    count      how many rows has each part?                       -> the number of each row
    look       read a part, keep its numbers, say what they are   -> classes, means, deviations
    place      treat its rows, write each where it belongs        -> SharedRows on disk

Rule 1: a job may be run twice, also at the same time: what it writes follows from its arguments,
        byte by byte, and goes to a name or a place that is its own.
Rule 2: all room is reserved before the first row is placed: a full disk is an error in words, and
        never a SIGBUS of whoever has mapped the file.
Rule 3: a process holds the rows of one part at a time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.data.arrays import ArrayFile
from paramserver.data.labels import Column
from paramserver.data.parts import ArrayPart, Part
from paramserver.data.places import n_held_out, place_rows, sizes
from paramserver.data.sources import Source, check_count
from paramserver.data.tables import Sparse, Table
from paramserver.data.treatment import Facts, Treatment, choose
from paramserver.errors import ConfigError, DataError
from paramserver.training.partitions import SharedRows, index_dtype


@dataclass(frozen=True)
class Numbered:
    """A part whose rows have numbers.

    Attributes
    ----------
    part : Part
    first, n : int
        The number of its first row, and of how many rows.
    kept : str
        Where its parsed rows are kept, if they are.
    n_partitions, seed : int
        By which its rows are placed.
    hold_out, is_test : bool
        Whether some of its rows are held out, or all.
    n_train : int
        How many rows to train on there are in all.
    """

    part: Part
    first: int
    n: int
    kept: str
    n_partitions: int
    seed: int
    hold_out: bool
    is_test: bool
    n_train: int

    def places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the group of each row, 0 for those held out, and its position there."""
        if self.is_test:
            return np.zeros(self.n, np.int64), np.arange(self.first, self.first + self.n)
        group, position = place_rows(
            self.first,
            self.n,
            self.n_partitions,
            self.seed,
            hold_out=self.hold_out,
        )
        return group + 1, position


@dataclass(frozen=True)
class Target:
    """The files for the rows to train on, or for those held out.

    Attributes
    ----------
    rows : SharedRows
    y : ArrayFile
    X : tuple of ArrayFile
        The rows; or data, indices and indptr.
    """

    rows: SharedRows
    y: ArrayFile
    X: tuple[ArrayFile, ...]

    @classmethod
    def make(
        cls,
        folder: Path,
        n_rows: Sequence[int],
        n_entries: Sequence[int] | None,
        n_columns: int,
        dtype: np.dtype[Any],
        y_dtype: np.dtype[Any],
    ) -> Target:
        """Reserve room for partitions of so many rows and, in sparse ones, entries."""
        folder.mkdir()
        starts = tuple(accumulate(n_rows, initial=0))
        y = ArrayFile.new(folder / "y.npy", y_dtype, (starts[-1],))
        if n_entries is None:
            dense = ArrayFile.new(folder / "X.npy", dtype, (starts[-1], n_columns))
            return cls(SharedRows(str(folder), starts), y, (dense,))
        entries = tuple(accumulate(n_entries, initial=0))
        index = index_dtype(n_columns, max(n_entries))
        n_ends = starts[-1] + len(n_rows)
        X = (
            ArrayFile.new(folder / "X.data.npy", dtype, entries[-1:]),
            ArrayFile.new(folder / "X.indices.npy", index, entries[-1:]),
            ArrayFile.new(folder / "X.indptr.npy", index, (n_ends,)),
        )
        return cls(SharedRows(str(folder), starts, n_columns, entries), y, X)

    def write(
        self, k: int, position: int, X: Any, y: npt.NDArray[Any], n_entries_before: int
    ) -> None:
        """Write consecutive rows of partition k, of which there are so many entries before."""
        row = self.rows.starts[k] + position
        self.y.write(row, y)
        if not isinstance(X, Sparse):
            self.X[0].write(row, X)
            return
        data, indices, indptr = self.X
        entry = self.rows.entries[k] + n_entries_before
        data.write(entry, X.data)
        indices.write(entry, X.columns)
        indptr.write(row + k + 1, n_entries_before + np.cumsum(X.lengths))


Run: TypeAlias = Callable[..., Iterator[Any]]
"""`map`, or what does the same by jobs."""


def read_large(
    source: Source,
    test: Source | None,
    p: int,
    seed: int,
    dtype: np.dtype[Any],
    run: Run,
    base: Path,
) -> tuple[Treatment, SharedRows, SharedRows]:
    """Read files into a new folder.

    Parameters
    ----------
    source : Source
        The rows to train on, and those to hold out if there is no `test`.
    test : Source, optional
    p : int
        Number of partitions.
    seed : int
    dtype : dtype
    run : callable
        How to run jobs; all of them must see the files and the folder.
    base : Path
        Where to make the folder.

    Returns
    -------
    treatment : Treatment
    train, test : SharedRows

    Raises
    ------
    DataError
        If a file is not what it should be, or there is no room for its rows.
    ConfigError
        If there are fewer rows than partitions.
    """
    folder = Path(tempfile.mkdtemp(prefix="data-", dir=base))
    try:
        with disk_errors(folder), tempfile.TemporaryDirectory(prefix="kept-", dir=folder) as kept:
            numbered = _number(source, test, p, seed, Path(kept), run)
            looked = list(run(look_at, numbered, repeat(dtype.str)))
            facts = [each for each, _ in looked]
            n_parts = len(source.parts)
            treatment = choose(facts[:n_parts], facts[n_parts:], source.name)
            entries = np.array([each for _, each in looked], np.int64)
            targets = _make_targets(folder, numbered, entries, treatment, dtype, source)
            before = np.cumsum(entries, axis=0) - entries
            placed = run(
                place_part, numbered, repeat(treatment), repeat(targets), before, repeat(dtype.str)
            )
            for each, _ in zip(numbered, placed, strict=True):
                if each.kept:
                    os.unlink(each.kept)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    held_out, train = targets
    return treatment, train.rows, held_out.rows


def _number(
    source: Source,
    test: Source | None,
    p: int,
    seed: int,
    kept: Path,
    run: Run,
) -> list[Numbered]:
    """Count the rows of all parts, and number them."""
    parts = [*source.parts, *(() if test is None else test.parts)]
    counts = list(run(count_part, parts))
    n_parts = len(source.parts)
    n = sum(counts[:n_parts])
    check_count(n, source, test)
    if test is not None:
        check_count(sum(counts[n_parts:]), test, test)
    n_train = n if test is not None else n - n_held_out(n, seed)
    if n_train < p:
        raise ConfigError(
            f"{n_train} examples cannot be cut into {p} partitions: use fewer partitions or "
            "workers.",
            field="n_partitions",
            value=p,
        )
    firsts = [*accumulate(counts[: n_parts - 1], initial=0)]
    firsts += [*accumulate(counts[n_parts:], initial=0)][: len(parts) - n_parts]
    return [
        Numbered(
            part,
            first,
            count,
            "" if isinstance(part, ArrayPart) else str(kept / f"{number}.npz"),
            p,
            seed,
            test is None,
            number >= n_parts,
            n_train,
        )
        for number, (part, first, count) in enumerate(zip(parts, firsts, counts, strict=True))
    ]


def _make_targets(
    folder: Path,
    numbered: Sequence[Numbered],
    entries: npt.NDArray[np.int64],
    treatment: Treatment,
    dtype: np.dtype[Any],
    source: Source,
) -> tuple[Target, Target]:
    """Make the files for the rows held out, and for those to train on."""
    one = numbered[0]
    n_train = sizes(one.n_train, one.n_partitions, one.seed)
    n_test = sum(each.n for each in numbered) - one.n_train
    total = entries.sum(axis=0).tolist() if source.n_columns is None else None
    y_dtype = treatment.y_dtype(dtype)
    made = []
    for name, n_rows, groups in (("test", [n_test], slice(1)), ("train", n_train, slice(1, None))):
        n_entries = None if total is None else total[groups]
        made.append(
            Target.make(folder / name, n_rows, n_entries, treatment.n_columns, dtype, y_dtype)
        )
    return made[0], made[1]


# --- jobs ----------------------------------------------------------------------------------------


def count_part(part: Part) -> int:
    """Count the rows of a part."""
    return part.count()


def look_at(numbered: Numbered, dtype: str) -> tuple[Facts, list[int]]:
    """Read a part, keep it, and return its facts and the entries that each group gets of it."""
    table = numbered.part.read(np.dtype(dtype))
    if len(table.y.values) != numbered.n:
        raise DataError(
            f"{numbered.part.name} changes while it is read. Run again when nobody writes to it.",
            path=numbered.part.name,
        )
    group, _ = numbered.places()
    facts = Facts.of(table, group > 0)
    n_groups = numbered.n_partitions + 1
    entries = [0] * n_groups
    if isinstance(table.X, Sparse):
        entries = np.bincount(group, table.X.lengths, n_groups).astype(np.int64).tolist()
    if numbered.kept:
        _keep(table, numbered.kept)
    return facts, entries


def place_part(
    numbered: Numbered,
    treatment: Treatment,
    targets: tuple[Target, Target],
    before: Sequence[int],
    dtype: str,
) -> None:
    """Write the rows of a part to where they belong.

    Parameters
    ----------
    numbered : Numbered
    treatment : Treatment
    targets : pair of Target
        For the rows held out, and for those to train on.
    before : sequence of int
        For each group how many entries the parts before this one have.
    dtype : str
    """
    table = _kept(numbered.kept) if numbered.kept else numbered.part.read(np.dtype(dtype))
    X, y = treatment.apply(table, numbered.part.name)
    group, position = numbered.places()
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=numbered.n_partitions + 1)
    with disk_errors(Path(targets[0].y.path).parent):
        for k, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
            if not len(rows):
                continue
            chosen = X.take(rows) if isinstance(X, Sparse) else X[rows]
            target, partition = (targets[1], k - 1) if k else (targets[0], 0)
            target.write(partition, int(position[rows[0]]), chosen, y[rows], int(before[k]))


def _keep(table: Table, path: str) -> None:
    """Write a table to a file that is there as a whole or not at all."""
    X = table.X._asdict() if isinstance(table.X, Sparse) else {"X": table.X}
    texts = () if table.y.texts is None else (table.y.texts,)
    with disk_errors(Path(path).parent):
        fd, unfinished = tempfile.mkstemp(dir=Path(path).parent)
        try:
            with open(fd, "wb") as file:
                np.savez(file, y=table.y.values, texts=np.array(texts), **X)
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise


def _kept(path: str) -> Table:
    with np.load(path) as arrays:
        texts = tuple(arrays["texts"][0].tolist()) if len(arrays["texts"]) else None
        y = Column(arrays["y"], texts)
        if "X" in arrays:
            return Table(arrays["X"], y)
        return Table(Sparse(arrays["data"], arrays["columns"], arrays["lengths"]), y)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` while writing to a folder into a `DataError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The rows cannot be written to {folder}: {error.strerror or error}. Make room there, "
            "or set TMPDIR to a folder with more.",
            path=str(folder),
        ) from error
