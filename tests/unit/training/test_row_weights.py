"""Weights of rows in files: written beside them, once, and the same as those of rows in memory."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError, DataError, ShapeMismatch
from paramserver.training import row_weights as module
from paramserver.training.learner import Batch
from paramserver.training.partitions import SharedRows
from paramserver.training.row_weights import row_weights, weigh_stored

Y = np.array([0, 1, 2, 2, 2, 1, 2])
OWN = np.array([0.5, 1, 2, 0, 1, 3, 1], "float32")
FLOAT32 = np.dtype("float32")


def stored(folder: Path, weight: Any = None) -> SharedRows:
    folder.mkdir(exist_ok=True)
    X = np.arange(14, dtype="float32").reshape(7, 2)
    return SharedRows.write(folder, Batch(X, Y, weight), [np.arange(4), np.arange(4, 7)])


@pytest.mark.parametrize("block_rows", [2, 100])
@pytest.mark.parametrize("own", [None, OWN])
@pytest.mark.parametrize("given", [None, [1, 2, 3, 4, 5, 6, 7.5]])
@pytest.mark.parametrize("classes", [None, "balanced", {0: 3.0, 2: 0.5}])
def test_weights_in_files_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int, own: Any, given: Any,
    classes: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "BLOCK_ROWS", block_rows)
    rows = stored(tmp_path / "rows", own)
    sample = given if own is None else own * (1 if given is None else np.array(given))
    expected = row_weights(Y, sample, classes, FLOAT32, "data")
    found = weigh_stored(rows, given, classes, FLOAT32, "data")
    assert np.array_equal(found.weight(), np.ones(7) if expected is None else expected)
    assert found.weight().dtype == FLOAT32
    assert np.array_equal(found.open(1).weight, found.weight()[4:])
    assert replace(found, weights=rows.weights) == rows
    written = sorted(os.listdir(tmp_path / "rows"))
    assert weigh_stored(rows, given, classes, FLOAT32, "data") == found
    assert sorted(os.listdir(tmp_path / "rows")) == written


@pytest.mark.parametrize(
    ("given", "classes", "error", "words"),
    [
        ([1] * 6, None, ShapeMismatch, "one number for each of the 7 rows"),
        ([1, 1, 1, 1, 1, -2, 1], None, DataError, "Row 5 of data has the weight -2"),
        ([1, 1, 1, 1, 1, np.nan, 1], None, DataError, "Row 5 of data has the weight nan"),
        ([0] * 7, None, DataError, "All rows of data have the weight 0"),
        (None, {7: 2.0}, ConfigError, "a factor for the label 7, which no row has"),
        (
            None,
            {"spam": 2.0, 7: 2.0},
            ConfigError,
            "a factor for the label 'spam', which no row has",
        ),
        (None, "even", ConfigError, "'balanced' or a dict of label and factor, not 'even'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, classes: Any, error: Any,
    words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "BLOCK_ROWS", 2)
    rows = stored(tmp_path / "rows")
    before = sorted(os.listdir(tmp_path / "rows"))
    with pytest.raises(error, match=words):
        weigh_stored(rows, given, classes, FLOAT32, "data")
    with pytest.raises(error, match=words):
        row_weights(Y, given, classes, FLOAT32, "data")
    assert sorted(os.listdir(tmp_path / "rows")) == before


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rows = stored(tmp_path / "rows")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"cannot be written to .*: No space left on device"):
        weigh_stored(rows, None, "balanced", FLOAT32, "data")


def test_class_weights_of_numbers_to_predict_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="y holds numbers to predict"):
        row_weights(np.array([0.5, 1]), None, "balanced", FLOAT32, "data")
