"""However a large file was cut into parts, its rows come to the partitions that they should."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from paramserver.data.dealing import SCHEMES, decide_deals, numbers_of, tally
from paramserver.data.labels import Column
from paramserver.training.partitioning import cut

labels = st.lists(st.integers(0, 4), min_size=1, max_size=120)
cuts = st.lists(st.integers(0, 120), max_size=6)


def pieces_of(values: list[int], bounds: list[int], *, as_text: bool) -> list[Column]:
    """Cut a column; texts are numbered anew in each piece, and 1 is also written 1.0."""
    ends = sorted({0, len(values), *(min(at, len(values)) for at in bounds)})
    columns = []
    for i, (start, stop) in enumerate(pairwise(ends)):
        part = values[start:stop]
        if as_text:
            columns.append(Column.of_texts(b"%d" % v + b".0" * (i % 2) for v in part))
        else:
            columns.append(Column(np.array(part, float)))
    return columns


def dealt(scheme: str, p: int, seed: int, columns: list[Column]) -> np.ndarray:
    """Deal out the rows of all pieces."""
    n = sum(len(column.values) for column in columns)
    tallies, codes = zip(*map(tally, columns), strict=True)
    deals = decide_deals(scheme, p, seed, n, tallies)
    first, found = 0, []
    for deal, code in zip(deals, codes, strict=True):
        found.append(deal.partition_of(np.arange(first, first + len(code)), code))
        first += len(code)
    return np.concatenate(found)


@given(labels, cuts, st.integers(1, 6), st.integers(0, 99), st.sampled_from(SCHEMES), st.booleans())
def test_it_does_not_matter_how_the_file_is_cut(
    values: list[int], bounds: list[int], p: int, seed: int, scheme: str, as_text: bool
) -> None:
    p = min(p, len(set(values)))
    one, many = (
        dealt(scheme, p, seed, pieces_of(values, where, as_text=as_text)) for where in ([], bounds)
    )
    assert np.array_equal(one, many)
    counts = np.bincount(many, minlength=p)
    assert counts.min() > 0
    if scheme != "by-key":
        assert counts.max() - counts.min() <= 1


@given(labels, cuts, st.integers(1, 6), st.integers(0, 99), st.booleans())
def test_each_label_gives_all_partitions_the_same_share(
    values: list[int], bounds: list[int], p: int, seed: int, as_text: bool
) -> None:
    assume(len(values) >= p)
    found = dealt("stratified", p, seed, pieces_of(values, bounds, as_text=as_text))
    for label in set(values):
        shares = np.bincount(found[np.array(values) == label], minlength=p)
        assert shares.max() - shares.min() <= 1


@given(labels, cuts, st.integers(1, 6), st.booleans())
def test_rows_in_a_row_and_by_key_come_to_where_they_come_in_memory(
    values: list[int], bounds: list[int], p: int, as_text: bool
) -> None:
    p = min(p, len(set(values)))
    columns = pieces_of(values, bounds, as_text=as_text)
    keys = numbers_of(columns)
    assert np.array_equal(keys, np.unique(values, return_inverse=True)[1])
    for scheme, how in (("contiguous", "contiguous"), ("by-key", keys)):
        expected = cut(np.zeros(len(values)), p, how, 0)
        found = dealt(scheme, p, 0, columns)
        assert [np.flatnonzero(found == k).tolist() for k in range(p)] == [
            part.tolist() for part in expected
        ]


def test_chance_deals_out_the_rows_of_a_label() -> None:
    """Not every p-th row of it: a file may have a rhythm."""
    one, other = (
        dealt("stratified", 4, seed, [Column(np.zeros(4_000))]).reshape(-1, 4) for seed in (1, 2)
    )
    for at in range(4):
        assert np.bincount(one[:, at]).min() > 150  # of 250, with deviation 14
    assert np.count_nonzero(one == other) < 2_000
