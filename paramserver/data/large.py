"""Files larger than memory: read by jobs, piece by piece, into binary files that are mapped.

::

    count      how many rows has each part?                       -> the number of each row
    look       read a part, keep its rows, say what they are      -> classes, means, labels or keys
    deal out   to which partition does each of its rows go?       -> how many rows there are before
    place      treat its rows, write each where it belongs        -> SharedRows on disk

Rule 1: a job may be run twice, also at the same time: what it writes follows from its arguments,
        byte by byte, and goes to a name or a place that is its own.
Rule 2: a process holds the rows of one part at a time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.data.dealing import Deal, Tally, check_scheme, decide_deals, tally
from paramserver.data.kept import keep, read_kept, read_sketch
from paramserver.data.labels import Column
from paramserver.data.parts import ArrayPart, Part
from paramserver.data.places import Split, n_held_out, split_rows
from paramserver.data.sources import Source, check_count
from paramserver.data.tables import Table
from paramserver.data.targets import Target, disk_errors
from paramserver.data.treatment import Facts, Treatment, choose
from paramserver.errors import ConfigError, DataError
from paramserver.training.partitions import SharedRows

Run: TypeAlias = Callable[..., Iterator[Any]]
"""`map`, or what does the same by jobs."""


@dataclass(frozen=True)
class Cutting:
    """How the rows of large files are to be cut.

    Attributes
    ----------
    scheme : {"shuffled", "contiguous", "stratified", "by-key"}
    p : int
        Number of partitions.
    seed : int
        Of what is held out, and of the partitions.
    """

    scheme: str
    p: int
    seed: int

    def __post_init__(self) -> None:
        check_scheme(self.scheme)
        if self.p < 1:
            raise ConfigError(
                f"n_partitions must be 1 or more, not {self.p}.",
                field="n_partitions",
                value=self.p,
            )

    @property
    def column(self) -> str:
        """The column of a `Table` by which rows are dealt out; '' if it is none."""
        return {"stratified": "y", "by-key": "key"}.get(self.scheme, "")


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
    cutting : Cutting
    hold_out, is_test : bool
        Whether some of its rows are held out, or all.
    """

    part: Part
    first: int
    n: int
    kept: str
    cutting: Cutting
    hold_out: bool
    is_test: bool

    def split(self) -> Split:
        """Return which of its rows are held out."""
        if self.is_test:
            return Split(np.zeros(self.n, bool), np.zeros(0, np.int64))
        return split_rows(self.first, self.n, self.cutting.seed, hold_out=self.hold_out)

    def groups(self, column: Column | None, deal: Deal | None) -> npt.NDArray[np.int64]:
        """Return the group of each row: 0 for those held out, k + 1 for partition k."""
        group = np.zeros(self.n, np.int64)
        if deal is not None:
            is_train, number = self.split()
            codes = None if column is None else tally(column.take(np.flatnonzero(is_train)))[1]
            group[is_train] = deal.partition_of(number, codes) + 1
        return group

    def column(self, table: Table) -> Column | None:
        """Return the labels or keys by which rows are dealt out, if they are."""
        match self.cutting.column:
            case "y":
                return table.y
            case "key":
                return table.key
        return None

    def sketch(self) -> tuple[npt.NDArray[np.int64] | None, Column | None]:
        """Return the lengths of its sparse rows, and that column; the rows are not read again."""
        if isinstance(self.part, ArrayPart):
            return None, self.part.column(self.cutting.column)
        return read_sketch(self.kept, self.cutting.column)

    def read(self, dtype: np.dtype[Any]) -> Table:
        """Return its rows; they were kept, or are read from where they lie."""
        return read_kept(self.kept) if self.kept else self.part.read(dtype)


def read_large(
    source: Source,
    test: Source | None,
    cutting: Cutting,
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
    cutting : Cutting
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
        If there are fewer rows (or keys) than partitions, or numbers to predict are to be
        stratified.
    """
    folder = Path(tempfile.mkdtemp(prefix="data-", dir=base))
    try:
        with disk_errors(folder), tempfile.TemporaryDirectory(prefix="kept-", dir=folder) as kept:
            numbered = _number(source, test, cutting, Path(kept), run)
            looked = list(run(look_at, numbered, repeat(dtype.str)))
            facts = [each for each, _ in looked]
            n_parts = len(source.parts)
            treatment = choose(facts[:n_parts], facts[n_parts:], source.name)
            deals = _deals(numbered, cutting, treatment, [each for _, each in looked])
            dealt = list(run(deal_out, numbered, deals))
            rows, entries = (np.array(each, np.int64) for each in zip(*dealt, strict=True))
            targets = _make_targets(folder, rows, entries, treatment, dtype, source)
            placed = run(
                place_part,
                numbered,
                deals,
                repeat(treatment),
                repeat(targets),
                np.cumsum(rows, axis=0) - rows,
                np.cumsum(entries, axis=0) - entries,
                repeat(dtype.str),
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
    source: Source, test: Source | None, cutting: Cutting, kept: Path, run: Run
) -> list[Numbered]:
    """Count the rows of all parts, and number them."""
    parts = [*source.parts, *(() if test is None else test.parts)]
    counts = list(run(count_part, parts))
    n_parts = len(source.parts)
    n = sum(counts[:n_parts])
    check_count(n, source, test)
    if test is not None:
        check_count(sum(counts[n_parts:]), test, test)
    n_train = n if test is not None else n - n_held_out(n, cutting.seed)
    if n_train < cutting.p:
        raise ConfigError(
            f"{n_train} examples cannot be cut into {cutting.p} partitions: use fewer partitions "
            "or workers.",
            field="n_partitions",
            value=cutting.p,
        )
    firsts = [*accumulate(counts[: n_parts - 1], initial=0)]
    firsts += [*accumulate(counts[n_parts:], initial=0)][: len(parts) - n_parts]
    return [
        Numbered(
            part,
            first,
            count,
            "" if isinstance(part, ArrayPart) else str(kept / f"{number}.npz"),
            cutting,
            test is None,
            number >= n_parts,
        )
        for number, (part, first, count) in enumerate(zip(parts, firsts, counts, strict=True))
    ]


def _deals(
    numbered: Sequence[Numbered],
    cutting: Cutting,
    treatment: Treatment,
    tallies: Sequence[Tally | None],
) -> list[Deal | None]:
    """Return how each part is dealt out; None for parts that are held out."""
    if cutting.scheme == "stratified" and treatment.meaning.classes is None:
        raise ConfigError(
            "Stratified partitions have equal shares of each class, and these labels are numbers "
            "to predict: deal the rows out shuffled or contiguous.",
            field="partition",
            value=cutting.scheme,
        )
    n_train_parts = sum(not each.is_test for each in numbered)
    n = sum(len(each.split().number) for each in numbered[:n_train_parts])
    deals = decide_deals(cutting.scheme, cutting.p, cutting.seed, n, tallies[:n_train_parts])
    return [*deals, *([None] * (len(numbered) - n_train_parts))]


def _make_targets(
    folder: Path,
    rows: npt.NDArray[np.int64],
    entries: npt.NDArray[np.int64],
    treatment: Treatment,
    dtype: np.dtype[Any],
    source: Source,
) -> tuple[Target, Target]:
    """Make the files for the rows held out, and for those to train on."""
    n_rows = rows.sum(axis=0).tolist()
    n_entries = entries.sum(axis=0).tolist()
    made = []
    for name, groups in (("test", slice(1)), ("train", slice(1, None))):
        made.append(
            Target.make(
                folder / name,
                n_rows[groups],
                n_entries[groups] if source.n_columns is None else None,
                treatment.n_columns,
                dtype,
                treatment.y_dtype(dtype),
                is_weighted=treatment.is_weighted,
            )
        )
    return made[0], made[1]


# --- jobs ----------------------------------------------------------------------------------------


def count_part(part: Part) -> int:
    """Count the rows of a part."""
    return part.count()


def look_at(numbered: Numbered, dtype: str) -> tuple[Facts, Tally | None]:
    """Read a part, keep it, and return its facts and by what its rows are dealt out."""
    table = numbered.part.read(np.dtype(dtype))
    if table.n != numbered.n:
        raise DataError(
            f"{numbered.part.name} changes while it is read. Run again when nobody writes to it.",
            path=numbered.part.name,
        )
    is_train = numbered.split().is_train
    facts = Facts.of(table, is_train)
    column = numbered.column(table)
    if numbered.kept:
        keep(table, numbered.kept)
    if column is None or numbered.is_test:
        return facts, None
    return facts, tally(column.take(np.flatnonzero(is_train)))[0]


def deal_out(numbered: Numbered, deal: Deal | None) -> tuple[list[int], list[int]]:
    """Return how many rows each group gets of a part, and how many entries in sparse ones."""
    lengths, column = numbered.sketch()
    group = numbered.groups(column, deal)
    n_groups = numbered.cutting.p + 1
    entries = np.zeros(n_groups, np.int64)
    if lengths is not None:
        entries = np.bincount(group, lengths, n_groups).astype(np.int64)
    return np.bincount(group, minlength=n_groups).tolist(), entries.tolist()


def place_part(
    numbered: Numbered,
    deal: Deal | None,
    treatment: Treatment,
    targets: tuple[Target, Target],
    n_before: Sequence[int],
    n_entries_before: Sequence[int],
    dtype: str,
) -> None:
    """Write the rows of a part to where they belong.

    Parameters
    ----------
    numbered : Numbered
    deal : Deal or None
    treatment : Treatment
    targets : pair of Target
        For the rows held out, and for those to train on.
    n_before, n_entries_before : sequence of int
        For each group how many rows and entries the parts before this one have.
    dtype : str
    """
    table = numbered.read(np.dtype(dtype))
    group = numbered.groups(numbered.column(table), deal)
    rows = treatment.apply(table, numbered.part.name)
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=numbered.cutting.p + 1)
    with disk_errors(Path(targets[0].y.path).parent):
        for k, chosen in enumerate(np.split(order, np.cumsum(counts)[:-1])):
            if len(chosen):
                target, partition = (targets[1], k - 1) if k else (targets[0], 0)
                some = rows.take(chosen)
                target.write(partition, some, int(n_before[k]), int(n_entries_before[k]))
