"""Counting the words of a block as columns, without a Python object for each word.

``Counter(block.lower().split())`` makes an object of every word and looks each up in a dict. Here
the words of a block become 64-bit integers (see `words`), which numpy puts into a hash table all at
once (see `counted`). On an AMD EPYC core: 150 MB/s where the Counter counts 40.

Rule 1: it counts what the Counter counts, for any bytes.
Rule 2: what is no word in the sense of `words` (longer than 16 bytes, or with a zero byte) is
        counted by a Counter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.mapreduce.keys import MIX_1, WORD_BYTES
from paramserver.mapreduce.pairs import Batch, Ints, into_lanes
from paramserver.mapreduce.words import (
    Indices,
    UInts,
    Words,
    columns_at,
    first_of_each,
    sort_order,
)

Bytes: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]

_HEAD_BYTES: Final = 8
_SLOT_BITS: Final = 16
"""2**16 slots of 8 bytes and their counts fit into the L2 cache of most cores."""
_LETTER_RUN: Final = re.compile(rb"[a-z]+")


def count_words(block: bytes) -> Mapping[bytes, int]:
    """Count the words of a block: a mapper for `MapReduce`, faster than a Counter.

    Parameters
    ----------
    block : bytes
        Whole words (``unit="words"``).

    Returns
    -------
    Mapping of bytes to int
        Equal to ``Counter(block.lower().split())``: words are runs without ASCII white space, with
        ASCII letters made small.

    Examples
    --------
    >>> import paramserver as ps
    >>> sorted(ps.count_words(b"To be, or not to be,").items())
    [(b'be,', 2), (b'not', 1), (b'or', 1), (b'to', 2)]
    """
    return _count(block.lower(), _is_in_word, bytes.split)


def count_letters(block: bytes) -> Mapping[bytes, int]:
    """Count the runs of ASCII letters of a block, made small; else as `count_words`.

    Parameters
    ----------
    block : bytes

    Returns
    -------
    Mapping of bytes to int
        Equal to ``Counter(re.findall(rb"[a-z]+", block.lower()))``.
    """
    return _count(block.lower(), _is_letter, _LETTER_RUN.findall)


class WordCounts(Mapping[bytes, int]):
    """Different words and how often each occurs. `PairSink` takes the columns as they are.

    Attributes
    ----------
    batches : list of Batch
        With different keys.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self._counts: dict[bytes, int] | None = None

    def _as_dict(self) -> dict[bytes, int]:
        if self._counts is None:
            self._counts = {}
            for batch in self.batches:
                self._counts.update(zip(batch.key_list(), batch.value_list(), strict=True))
        return self._counts

    def __getitem__(self, word: bytes) -> int:
        return self._as_dict()[word]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._as_dict())

    def __len__(self) -> int:
        return sum(len(batch.values) for batch in self.batches)

    def __repr__(self) -> str:
        return f"WordCounts({self._as_dict()!r})"


def _is_in_word(text: Bytes) -> Mask:
    # White space is 9 to 13 and 32; what is below 9 wraps round to large numbers.
    is_space = (text - np.uint8(9)) < 5
    is_space |= text == 32
    return ~is_space


def _is_letter(text: Bytes) -> Mask:
    is_letter: Mask = (text - np.uint8(ord("a"))) < 26
    return is_letter


def _count(
    text: bytes, is_in_word: Callable[[Bytes], Mask], cut: Callable[[bytes], list[bytes]]
) -> Mapping[bytes, int]:
    if b"\0" in text:
        return Counter(cut(text))
    data = text + bytes(WORD_BYTES)  # so that 16 bytes can be read from any start
    inside = np.zeros(len(text) + 2, np.bool_)
    inside[1:-1] = is_in_word(np.frombuffer(text, np.uint8))
    edges = np.flatnonzero(inside[1:] != inside[:-1])  # starts and ends, in turn
    starts, ends = edges[0::2], edges[1::2]
    lengths = ends - starts
    batches = []
    is_short = lengths <= _HEAD_BYTES
    if not is_short.all():
        longer = np.flatnonzero(~is_short)
        fits = lengths.take(longer) <= WORD_BYTES
        chosen = longer[fits]
        batches.append(_count_longer(data, starts.take(chosen), lengths.take(chosen)))
        rest = longer[~fits]
        places = zip(starts.take(rest).tolist(), ends.take(rest).tolist(), strict=True)
        counts = Counter([data[start:end] for start, end in places])
        batches += into_lanes(list(counts), list(counts.values()))
        chosen = np.flatnonzero(is_short)
        starts, lengths = starts.take(chosen), lengths.take(chosen)
    batches.append(_count_short(data, starts, lengths))
    return WordCounts([batch for batch in batches if len(batch.values)])


def _count_short(data: bytes, starts: Indices, lengths: Indices) -> Batch:
    """Count words of up to 8 bytes: one integer each."""
    different, counts = counted(columns_at(data, starts, lengths, with_tails=False)[0])
    return Batch(Words(different, np.zeros_like(different), False), counts)


def counted(numbers: UInts) -> tuple[UInts, Ints]:
    """Return the different integers of an array, in any order, and how often each is there.

    Notes
    -----
    By a hash table that numpy fills at once: of the numbers that meet in a slot one stays, and all
    that are equal to it are counted there. The others, some percent, are sorted. 10 ns an integer,
    where sorting all of them takes 35.
    """
    if not len(numbers):
        return numbers, np.zeros(0, np.int64)
    bits = min(_SLOT_BITS, len(numbers).bit_length())
    slots = ((numbers * np.uint64(MIX_1)) >> np.uint64(64 - bits)).view(np.int64)
    table = np.empty(1 << bits, np.uint64)
    table[slots] = numbers
    stayed = table.take(slots) == numbers
    counts = np.bincount(slots[stayed], minlength=1 << bits)
    used = np.flatnonzero(counts)
    rest = numbers[~stayed]
    rest.sort()
    ends = np.flatnonzero(np.append(rest[1:] != rest[:-1], True)[: len(rest)])
    return (
        np.concatenate([table.take(used), rest.take(ends)]),
        np.concatenate([counts.take(used), np.diff(ends, prepend=-1)]),
    )


def _count_longer(data: bytes, starts: Indices, lengths: Indices) -> Batch:
    """Count words of 9 to 16 bytes."""
    words = Words(*columns_at(data, starts, lengths), False)
    words = words.take(sort_order(words))
    firsts = first_of_each(words)
    return Batch(words.take(firsts), np.diff(firsts, append=len(words.head)))
