"""Rows that are written, however they are cut, are the rows that are opened."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from paramserver.training.learner import Batch
from paramserver.training.partitions import SharedRows

entries = st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0])


@st.composite
def rows_in_parts(draw: Any) -> tuple[Batch, list[np.ndarray]]:
    n, d = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    X = np.array(draw(st.lists(entries, min_size=n * d, max_size=n * d)), np.float32)
    order = np.array(draw(st.permutations(range(n))), np.intp)
    cuts = draw(st.lists(st.integers(0, n), max_size=3))
    weight = np.arange(n, dtype=np.float32) if draw(st.booleans()) else None
    return Batch(X.reshape(n, d), np.arange(n), weight), np.split(order, sorted(cuts))


def lists(rows: Batch) -> list[Any]:
    X = rows.X if isinstance(rows.X, np.ndarray) else rows.X.toarray()
    return [X.tolist(), rows.y.tolist(), None if rows.weight is None else rows.weight.tolist()]


@given(rows_in_parts(), st.booleans())
def test_each_partition_and_the_whole_come_back(
    given_rows: tuple[Batch, list[np.ndarray]], is_sparse: bool
) -> None:
    dense, parts = given_rows
    rows = dense._replace(X=csr_array(dense.X)) if is_sparse else dense
    with tempfile.TemporaryDirectory() as folder:
        shared = SharedRows.write(Path(folder), rows, parts)
        opened = [shared.open(k) for k in range(len(parts))]
        assert [lists(each) for each in opened] == [lists(dense.take(part)) for part in parts]
        whole = shared.whole()
        assert lists(whole) == lists(dense.take(np.concatenate(parts)))
        if is_sparse:
            for X in (whole.X, *(each.X for each in opened)):
                anew = csr_array((X.data, X.indices, X.indptr), shape=X.shape)
                assert anew.has_canonical_format  # as it says of itself without having looked
                anew.check_format(full_check=True)
