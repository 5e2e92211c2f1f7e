"""Files that others write are read as pandas and scikit-learn read them, however they are cut."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file

from paramserver.data import sources, tables
from paramserver.data.roles import Roles
from paramserver.data.sources import Source, find
from paramserver.data.tables import Sparse

UNPRINTED = {"a": "plain", "b": "with space", "c": "a, or b; or\tc", "d": 'said "so"', "e": "Bär"}
ON_DISK = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


def read(source: Source) -> tuple[Any, list[Any], list[Any] | None]:
    """Return X, labels and keys of all parts."""
    found = [part.read(np.dtype("float64")) for part in source.parts]
    columns = []
    for name in ("y", "key"):
        parts = [getattr(table, name) for table in found]
        columns.append(
            None if parts[0] is None else [
                value if part.texts is None else part.texts[int(value)]
                for part in parts for value in part.values.tolist()
            ]
        )  # fmt: skip
    if isinstance(found[0].X, Sparse):
        return [table.X for table in found], columns[0] or [], columns[1]
    return np.concatenate([table.X for table in found]), columns[0] or [], columns[1]


numbers = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e12, 1e12, allow_nan=False).map(repr),
    st.decimals(-(10**6), 10**6, places=3).map(str),
)


@st.composite
def csv_files(draw: st.DrawFn) -> dict[str, Any]:
    n, d = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    texts = st.sampled_from(list(UNPRINTED.values()))
    labels = draw(st.sampled_from([st.integers(-1, 3).map(str), numbers, texts]))
    rows = draw(st.lists(st.lists(numbers, min_size=d, max_size=d), min_size=n, max_size=n))
    label = draw(st.integers(0, d))
    for row in rows:
        row.insert(label, draw(labels))
    return {
        "rows": rows,
        "label": label,
        "separator": draw(st.sampled_from(",;\t")),
        "newline": draw(st.sampled_from(["\n", "\r\n"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])),
        "has_header": draw(st.booleans()),
        "has_index": draw(st.booleans()),
        "has_mark": draw(st.booleans()),
        "is_packed": draw(st.booleans()),
        "part_bytes": draw(st.sampled_from([40, 10_000])),
        "block_bytes": draw(st.sampled_from([30, 10_000])),
    }


@ON_DISK
@given(csv_files())
def test_a_table_is_read_as_pandas_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_file: dict[str, Any]
) -> None:
    made = given_file
    monkeypatch.setattr(sources, "PART_BYTES", made["part_bytes"])
    monkeypatch.setattr(tables, "BLOCK_BYTES", made["block_bytes"])
    names = [f"column {i}" for i in range(len(made["rows"][0]))]
    has_index = made["has_index"] and made["has_header"]
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig" if made["has_mark"] else "utf-8") as file:
        table = csv.writer(
            file, delimiter=made["separator"], lineterminator=made["newline"],
            quoting=made["quoting"],
        )  # fmt: skip
        if made["has_header"]:
            table.writerow([*[""] * has_index, *names])
        table.writerows([*[i] * has_index, *row] for i, row in enumerate(made["rows"]))
    label = made["label"]
    expected = pd.read_csv(
        path, sep=made["separator"], header=0 if made["has_header"] else None,
        index_col=0 if has_index else False,
    )  # fmt: skip
    y = expected.pop(expected.columns[label])
    if made["is_packed"]:
        with gzip.open(tmp_path / "a.csv.gz", "wb") as packed:
            packed.write(path.read_bytes())
        path = tmp_path / "a.csv.gz"
    folder = tmp_path / "unpacked"
    folder.mkdir(exist_ok=True)
    roles = Roles(names[label] if made["has_header"] else str(label + 1))
    X, labels, _ = read(find(str(path), roles, folder))
    for unpacked in folder.iterdir():
        unpacked.unlink()
    # pandas rounds some last bits otherwise; `test_parsing` compares all bits with `float`.
    np.testing.assert_allclose(X, expected.to_numpy(np.float64), rtol=1e-14)
    if y.dtype.kind in "if":
        np.testing.assert_allclose(labels, y.to_numpy(np.float64), rtol=1e-14)
    else:
        assert [str(each) for each in labels] == [str(each) for each in y.tolist()]


@st.composite
def svmlight_files(draw: st.DrawFn) -> tuple[str, bool]:
    first = draw(st.sampled_from([0, 1]))
    has_queries = draw(st.booleans())
    lines = []
    for i in range(draw(st.integers(1, 20))):
        columns = sorted(draw(st.sets(st.integers(first, 12), max_size=5)))
        cells = [f"{j}:{draw(numbers)}" for j in columns]
        query = [f"qid:{i // 3}"] if has_queries else []
        comment = draw(st.sampled_from(["", " # a comment", " #1:2 qid:9", "  "]))
        blank = draw(st.sampled_from([" ", "  "]))
        lines.append(blank.join([draw(st.sampled_from(["-1", "1", "+1", "0.5"])), *query, *cells]))
        lines[-1] += comment
        lines += draw(st.sampled_from([[], [""], ["# nothing but words"]]))
    return "\n".join(lines) + "\n", has_queries


@ON_DISK
@given(svmlight_files(), st.sampled_from([25, 10_000]))
def test_sparse_rows_are_read_as_scikit_learn_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: tuple[str, bool], part_bytes: int
) -> None:
    text, has_queries = made
    monkeypatch.setattr(sources, "PART_BYTES", part_bytes)
    path = tmp_path / "a.svm"
    path.write_text(text)
    X, y, *queries = load_svmlight_file(
        str(path), zero_based=True, query_id=has_queries, dtype=np.float64
    )
    assume(X.nnz)
    rows, labels, keys = read(find(str(path), Roles(key="qid" if has_queries else None), tmp_path))
    assert labels == y.tolist()
    assert keys == (queries[0].tolist() if has_queries else None)
    assert np.concatenate([each.lengths for each in rows]).tolist() == np.diff(X.indptr).tolist()
    assert np.concatenate([each.columns for each in rows]).tolist() == X.indices.tolist()
    assert np.concatenate([each.data for each in rows]).tolist() == X.data.tolist()
