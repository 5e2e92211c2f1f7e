"""Which partition each row of a large file comes to, by any scheme. Counts in, numbers out.

Rule 1: what has to be known of all rows (how many each label or key has) is counted part by part
        and put together in the order of the parts: nobody needs a list of all rows.
Rule 2: rows keep the order of the file within a partition.
Rule 3: contiguous partitions and those by key are the ones that `training.partitioning.cut` makes
        of the same rows in memory; shuffled and stratified ones keep the same promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.data.labels import Column, name_of
from paramserver.data.places import deal
from paramserver.errors import ConfigError
from paramserver.training.partitioning import homes_of, sizes_in_a_row

SCHEMES: Final = ("shuffled", "contiguous", "stratified", "by-key")

Numbers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """The different labels or keys of the rows to train on of one part.

    Attributes
    ----------
    is_text : bool
    names : tuple
        Texts, or numbers.
    counts : tuple of int
        Rows of each.
    """

    is_text: bool
    names: tuple[Any, ...]
    counts: tuple[int, ...]


def tally(column: Column) -> tuple[Tally, Numbers]:
    """Count the values of a column; return the place of each row's value in the tally, too."""
    codes: Numbers
    found, codes, counts = np.unique(column.values, return_inverse=True, return_counts=True)
    names, texts = found.tolist(), column.texts
    if texts is not None:
        names = [texts[code] for code in names]
    return Tally(texts is not None, tuple(names), tuple(counts.tolist())), codes.reshape(-1)


class Deal(Protocol):
    """How the rows to train on of one part are dealt out. Small: travels in messages."""

    def partition_of(self, number: Numbers, codes: Numbers | None) -> Numbers:
        """Return the partition of each row.

        Parameters
        ----------
        number : ndarray of shape (n,)
            Of the rows, among all rows to train on.
        codes : ndarray of shape (n,) or None
            What `tally` has returned for their labels or keys, where they count.
        """


@dataclass(frozen=True)
class ByChance:
    """Of p rows in a row each partition gets one."""

    p: int
    seed: int

    def partition_of(self, number: Numbers, codes: Numbers | None) -> Numbers:
        """See `Deal`."""
        return deal(number, self.p, self.seed)


@dataclass(frozen=True)
class InARow:
    """Rows as they come.

    Attributes
    ----------
    stops : tuple of int
        The number of the row behind each partition.
    """

    stops: tuple[int, ...]

    def partition_of(self, number: Numbers, codes: Numbers | None) -> Numbers:
        """See `Deal`."""
        return np.searchsorted(np.array(self.stops), number, "right").astype(np.int64)


@dataclass(frozen=True)
class ByKey:
    """All rows of a key come to one partition.

    Attributes
    ----------
    homes : ndarray of int64
        The partition of each key of this part's tally.
    """

    homes: Numbers

    def partition_of(self, number: Numbers, codes: Numbers | None) -> Numbers:
        """See `Deal`."""
        assert codes is not None
        return self.homes[codes]


@dataclass(frozen=True)
class ByLabel:
    """The rows of each label are dealt out for themselves.

    All rows stand in one line, label behind label, in the order of the file. Of a block of p in
    this line each partition gets one: by chance, if all of them have the same label; else the one
    at place k goes to partition k. So neither the shares of a label nor the sizes of partitions
    differ by more than one.

    Attributes
    ----------
    p, seed : int
    line : ndarray of int64
        For each label of this part's tally which line of places it has; labels that mean the same
        have the same.
    first, stop : ndarray of int64
        Where the places of each line begin and end.
    at : ndarray of int64
        The place of this part's first row in each line.
    """

    p: int
    seed: int
    line: Numbers
    first: Numbers
    stop: Numbers
    at: Numbers

    def partition_of(self, number: Numbers, codes: Numbers | None) -> Numbers:
        """See `Deal`."""
        assert codes is not None
        lines, p = self.line[codes], self.p
        partition = np.empty(len(number), np.int64)
        for one in np.unique(lines).tolist():
            rows = np.flatnonzero(lines == one)
            place = np.arange(self.at[one], self.at[one] + len(rows))
            block = place - place % p
            is_whole = (block >= self.first[one]) & (block + p <= self.stop[one])
            partition[rows] = np.where(is_whole, deal(place, p, self.seed), place % p)
        return partition


def decide_deals(
    scheme: str, p: int, seed: int, n: int, tallies: Sequence[Tally | None]
) -> list[Deal]:
    """Return how the rows of each part are dealt out.

    Parameters
    ----------
    scheme : {"shuffled", "contiguous", "stratified", "by-key"}
    p : int
        Number of partitions.
    seed : int
    n : int
        Rows to train on, in all parts.
    tallies : sequence of Tally or None
        Of each part: its labels or keys, as the scheme asks for.

    Raises
    ------
    ConfigError
        If there are fewer keys than partitions, or there is no such scheme.
    """
    match scheme:
        case "shuffled":
            return [ByChance(p, seed)] * len(tallies)
        case "contiguous":
            return [InARow(tuple(accumulate(sizes_in_a_row(n, p))))] * len(tallies)
    found = [each for each in tallies if each is not None]
    lines, n_names = _put_together(found)
    if scheme == "by-key":
        total = np.zeros(n_names, np.int64)
        for line, each in zip(lines, found, strict=True):
            np.add.at(total, line, each.counts)
        homes = homes_of(total, p)
        return [ByKey(homes[line]) for line in lines]
    counts = np.zeros((len(found), n_names), np.int64)
    for row, line, each in zip(counts, lines, found, strict=True):
        np.add.at(row, line, each.counts)
    total = counts.sum(axis=0)
    stops = np.cumsum(total)
    firsts = stops - total
    ats = firsts + np.cumsum(counts, axis=0) - counts
    return [ByLabel(p, seed, line, firsts, stops, at) for line, at in zip(lines, ats, strict=True)]


def check_scheme(scheme: str) -> None:
    """Refuse what is no way to deal out rows of a file.

    Raises
    ------
    ConfigError
    """
    if scheme not in SCHEMES:
        raise ConfigError(
            f"There is no partitioning '{scheme}' of a file. There are: {', '.join(SCHEMES)}.",
            field="partition",
            value=scheme,
        )


def numbers_of(columns: Sequence[Column]) -> Numbers:
    """Return the number of each row's key among all keys, as `ByKey` has them."""
    tallies, codes = zip(*map(tally, columns), strict=True)
    places, _ = _put_together(tallies)
    return np.concatenate([place[code] for place, code in zip(places, codes, strict=True)])


def _put_together(tallies: Sequence[Tally]) -> tuple[list[Numbers], int]:
    """Return the place of each part's names among all of them in order, and how many these are."""
    is_text = any(each.is_text for each in tallies)
    called = [tuple(map(name_of, each.names)) if is_text else each.names for each in tallies]
    place = {name: i for i, name in enumerate(sorted(set(chain.from_iterable(called))))}
    return [np.array([place[name] for name in names], np.int64) for names in called], len(place)
