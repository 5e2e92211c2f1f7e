"""Many short byte strings as two columns of integers, so that numpy hashes, sorts and groups them.

A word here is a byte string of at most 16 bytes with no zero byte, or a text whose UTF-8 is one.
Its first 8 bytes are one big-endian integer, the next 8 another, both padded with zeros: integers
compare as the strings do, and equal pairs are equal strings.

Rule 1: whether a key is a word is decided by the key alone, never by those it comes with.
Rule 2: a column holds bytes only or text only.

What it is for: counting words is bound by the handling of millions of small Python objects, at 60
to 300 ns a piece when they fall out of the cache. As columns a word costs 20 ns to pack, 5 to hash
and some 20 to group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.mapreduce.keys import WORD_BYTES, mix_arrays

UInts: TypeAlias = npt.NDArray[np.uint64]
Indices: TypeAlias = npt.NDArray[np.intp]

_KEEP: Final = np.array(
    [0] + [((1 << 8 * n) - 1) << (64 - 8 * n) for n in range(1, 9)], dtype=np.uint64
)
"""`_KEEP[n]` keeps the first n bytes of a big-endian integer."""
_LAST_BYTE: Final = np.uint64(0xFF)


class Words(NamedTuple):
    """A column of words.

    Attributes
    ----------
    head : ndarray of uint64
        The first 8 bytes of each.
    tail : ndarray of uint64
        The next 8; zero for words of up to 8 bytes.
    is_text : bool
        They are str, not bytes.
    """

    head: UInts
    tail: UInts
    is_text: bool

    def take(self, indices: Indices) -> Words:
        """Return the words at these positions."""
        return Words(self.head.take(indices), self.tail.take(indices), self.is_text)

    def hashes(self) -> UInts:
        """Return `keys.stable_hash` of each."""
        mixed: UInts = mix_arrays(self.head, self.tail)
        return mixed

    def to_list(self) -> list[Any]:
        """Return them as Python objects."""
        pairs = np.empty((len(self.head), 2), dtype=">u8")
        pairs[:, 0] = self.head
        pairs[:, 1] = self.tail
        found: list[Any] = pairs.view(f"S{WORD_BYTES}").ravel().tolist()  # drops the zeros
        if not self.is_text:
            return found
        return b"\0".join(found).decode("utf-8", "surrogatepass").split("\0") if found else []

    @staticmethod
    def concatenated(columns: Sequence[Words]) -> Words:
        """Return the columns as one; all are bytes or all are text."""
        if len(columns) == 1:
            return columns[0]
        return Words(
            np.concatenate([each.head for each in columns]),
            np.concatenate([each.tail for each in columns]),
            columns[0].is_text,
        )

    # --- as bytes ---------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Write the column: all heads, then the tails of those whose head is full."""
        tails = self.tail[(self.head & _LAST_BYTE) != 0]
        return b"".join((self.head.tobytes(), tails.tobytes()))

    @staticmethod
    def load(data: memoryview, n: int, *, is_text: bool) -> Words:
        """Read what `dump` wrote."""
        head = np.frombuffer(data, np.uint64, n)
        tail = np.zeros(n, np.uint64)
        tail[(head & _LAST_BYTE) != 0] = np.frombuffer(data, np.uint64, offset=8 * n)
        return Words(head, tail, is_text)


class Packed(NamedTuple):
    """What `pack` makes of a list of keys.

    Attributes
    ----------
    words : Words
    places : ndarray of int, or None
        Where in the list the words were; None if the whole list is words.
    """

    words: Words
    places: Indices | None


def pack(keys: list[Any]) -> Packed | None:
    """Pack those keys of a list that are words.

    Returns
    -------
    Packed or None
        None unless all are exactly bytes, or all are exactly str; then they are to be sorted by
        type first.
    """
    kinds = set(map(type, keys))  # not left to `join`: it takes a numpy integer for its bytes
    if kinds == {bytes}:
        text = False
        joined = b"\0".join(keys)
    elif kinds == {str}:
        text = True
        joined = "\0".join(keys).encode("utf-8", "surrogatepass")
    else:
        return None
    data = joined + bytes(1 + WORD_BYTES)  # so that 16 bytes can be read from any start
    ends = np.flatnonzero(np.frombuffer(data, np.uint8, len(joined) + 1) == 0)
    if len(ends) != len(keys):  # zero bytes within keys
        return _pack_one_by_one(keys, text)
    starts = np.empty_like(ends)
    starts[:1] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    is_word = (ends - starts) <= WORD_BYTES
    places = None
    if not is_word.all():
        places = np.flatnonzero(is_word)
        starts, ends = starts.take(places), ends.take(places)
    return Packed(Words(*columns_at(data, starts, ends - starts), text), places)


def columns_at(
    data: bytes, starts: Indices, lengths: Indices, *, with_tails: bool = True
) -> tuple[UInts, UInts]:
    """Return the heads and the tails of words that lie in one byte string.

    Parameters
    ----------
    data : bytes
        At least 16 bytes longer than the last word.
    starts, lengths : ndarray of int
        Of each word; lengths are 1 to 16.
    with_tails : bool, default True
        Without, no word is longer than 8, and the second array is empty.
    """
    # One unaligned integer for every byte of the data; only those at the starts are read. (`take`
    # would copy all of them first.)
    windows = np.ndarray((len(data) - 7,), ">u8", data, 0, (1,))
    head = windows[starts].astype(np.uint64)
    if not with_tails:
        head &= _KEEP.take(lengths)
        return head, np.zeros(0, np.uint64)
    head &= _KEEP.take(np.minimum(lengths, 8))
    tail = np.zeros(len(head), np.uint64)
    longer = np.flatnonzero(lengths > 8)
    if len(longer):
        rest = windows[starts.take(longer) + 8].astype(np.uint64)
        rest &= _KEEP.take(lengths.take(longer) - 8)
        tail[longer] = rest
    return head, tail


def _pack_one_by_one(keys: list[Any], is_text: bool) -> Packed:
    encoded = [key.encode("utf-8", "surrogatepass") for key in keys] if is_text else keys
    places = np.array(
        [i for i, key in enumerate(encoded) if len(key) <= WORD_BYTES and b"\0" not in key], np.intp
    )
    padded = b"".join([encoded[i].ljust(WORD_BYTES, b"\0") for i in places.tolist()])
    columns = np.frombuffer(padded, ">u8").astype(np.uint64).reshape(-1, 2)
    words = Words(columns[:, 0].copy(), columns[:, 1].copy(), is_text)
    return Packed(words, None if len(places) == len(keys) else places)


def sort_order(words: Words) -> Indices:
    """Return the positions of the words in sorted order; equal ones in any order.

    Notes
    -----
    By the heads first: numpy's sort of integers takes 10 ns an element with vector instructions.
    Then only where heads are equal and tails differ, both are sorted in those places.
    """
    order = np.argsort(words.head)
    head, tail = words.head.take(order), words.tail.take(order)
    same_head = head[1:] == head[:-1]
    differs = np.flatnonzero(same_head & (tail[1:] != tail[:-1]))
    if not len(differs):
        return order
    run = np.zeros(len(head), np.intp)  # number of the run of equal heads
    np.cumsum(~same_head, out=run[1:])
    is_mixed = np.zeros(int(run[-1]) + 1, bool)
    is_mixed[run.take(differs)] = True
    places = np.flatnonzero(is_mixed.take(run))
    # Such runs are in order among themselves, so sorting all of them at once leaves each in place.
    within = np.lexsort((tail.take(places), head.take(places)))
    order[places] = order.take(places).take(within)
    return order


def first_of_each(words: Words) -> Indices:
    """Return where, in a sorted column, each different word begins."""
    if not len(words.head):
        return np.zeros(0, np.intp)
    changes = words.head[1:] != words.head[:-1]
    changes |= words.tail[1:] != words.tail[:-1]
    return np.concatenate([np.zeros(1, np.intp), np.flatnonzero(changes) + 1])


def in_input_order(order: Indices, starts: Indices) -> Indices:
    """Put the positions of equal words into ascending order.

    Parameters
    ----------
    order : ndarray
        Of `sort_order`.
    starts : ndarray
        Where the different words begin in that order.
    """
    n = len(order)
    group = np.zeros(n, np.int64)
    group[starts[1:]] = 1
    np.cumsum(group, out=group)
    group *= n
    group += order
    group.sort()  # of plain integers: faster than any stable sort of positions
    group %= n
    return group
