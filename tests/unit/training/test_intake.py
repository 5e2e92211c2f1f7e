"""What of a user's data is taken, and what is said about what is not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from paramserver.errors import ConfigError, DataError, ParamServerError, ShapeMismatch
from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.training import checked, intake
from paramserver.training.intake import (
    as_rows,
    check_rows,
    choose_lr,
    mean_loss,
    sample_rows,
)
from paramserver.training.learner import Batch
from paramserver.training.row_weights import row_weights
from tests.numerics.learners import LeastSquares


class Single(LeastSquares):
    """The same in float32."""

    dtype = np.dtype("float32")


WIDE, NARROW = LeastSquares(2), Single(2)
X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
Y = np.array([0, 1, 1])


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.tolist(),
        np.asfortranarray(X),
        X.astype(np.int8),
        pd.DataFrame(X, columns=["a", "b"]),
        pd.DataFrame({"a": [1, 3, 5], "b": pd.array([2, 4, 6], dtype="Int64")}),
    ],
)
@pytest.mark.parametrize("y", [Y, Y.tolist(), pd.Series(Y), pd.Series([0, 1, 1], dtype="Int64")])
def test_arrays_lists_and_tables_are_the_same_rows(given: Any, y: Any) -> None:
    rows = as_rows(NARROW, (given, y), "data")
    assert rows.X.dtype == np.float32
    assert rows.X.flags.c_contiguous
    assert rows.X.tolist() == X.tolist()
    assert rows.y.tolist() == Y.tolist()
    assert rows.weight is None


def test_an_array_that_fits_is_not_copied() -> None:
    rows = as_rows(WIDE, (X, Y), "data")
    assert np.shares_memory(rows.X, X)
    assert np.shares_memory(rows.y, Y)


@pytest.mark.parametrize("name", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_every_sparse_format_becomes_the_same_rows(name: str, kind: str) -> None:
    given = getattr(sparse, f"{name}_{kind}")(X)
    rows = as_rows(NARROW, (given, Y), "data")
    assert isinstance(rows.X, sparse.csr_array)
    assert rows.X.dtype == np.float32
    assert rows.X.indices.dtype == rows.X.indptr.dtype == np.int32
    assert rows.X.todense().tolist() == X.tolist()


def test_unsorted_and_doubled_entries_are_put_in_order_in_a_copy() -> None:
    given = sparse.csr_array(
        (np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1]), np.array([0, 3])), shape=(1, 2)
    )
    rows = as_rows(WIDE, (given, [0]), "data")
    assert rows.X.indices.tolist() == [0, 1]
    assert rows.X.data.tolist() == [2.0, 4.0]
    assert given.data.tolist() == [1.0, 2.0, 3.0]
    assert given.indices.tolist() == [1, 0, 1]


def test_a_sparse_matrix_that_fits_is_not_copied() -> None:
    given = sparse.csr_array(X)
    assert np.shares_memory(as_rows(WIDE, (given, Y), "data").X.data, given.data)


def test_wide_indices_become_narrow_and_those_of_the_user_stay() -> None:
    given = sparse.csr_array(X)
    given.indices, given.indptr = given.indices.astype(np.int64), given.indptr.astype(np.int64)
    rows = as_rows(WIDE, (given, Y), "data")
    assert rows.X.indices.dtype == rows.X.indptr.dtype == np.int32
    assert given.indices.dtype == np.int64


BAD_X = np.where(X == 4.0, np.nan, X)
TABLE = pd.DataFrame(BAD_X, columns=["height", "age"])
HUGE = np.where(X == 4.0, 1e300, X)
MIXED = pd.DataFrame({"height": [1.0, 2.0, 3.0], "town": ["Bonn", "Ulm", "Jena"]})


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ((BAD_X, Y), DataError, r"X of data has nan in row 1, column 1 \(counted from 0\)"),
        ((X * -np.inf, Y), DataError, "X of data has -inf in row 0, column 0"),
        ((TABLE, Y), DataError, "X of data has nan in row 1, column 'age'"),
        ((sparse.csc_array(BAD_X), Y), DataError, "X of data has nan in row 1, column 1"),
        ((X, [0.5, np.inf, 1]), DataError, "y of data has inf in row 1 "),
        ((X, [[0, 1], [0, np.nan], [1, 1]]), DataError, "y of data has nan in row 1, column 1"),
        ((X, Y, [1, np.nan, 1]), DataError, "Row 1 of data has the weight nan"),
        ((X, Y, [1, 2, -1]), DataError, "Row 2 of data has the weight -1"),
        ((X, Y, [0, 0, 0]), DataError, "All rows of data have the weight 0"),
        ((X, Y, [1, 2]), ShapeMismatch, r"one number for each of the 3 rows; its shape is \(2,\)"),
        ((X, Y[:2]), ShapeMismatch, "as many rows in X as in y"),
        ((X[:0], Y[:0]), ShapeMismatch, "at least one"),
        ((sparse.csr_array(X), Y[:2]), ShapeMismatch, "as many rows in X as in y"),
        ((sparse.coo_array(X[0]), Y), ShapeMismatch, "A sparse X of data must have two axes"),
        ((sparse.csr_array(X.astype(complex)), Y), ShapeMismatch, "must hold numbers"),
        ((MIXED, Y), ShapeMismatch, "column 'town' of X of data must hold numbers; .* 'Bonn'"),
        (([[1, "2"], [3, 4], [5, 6]], Y), ShapeMismatch, "X of data must hold numbers, not <U"),
        (([[1, 2], [3], [5, 6]], Y), ShapeMismatch, "X of data is no array"),
        ((X, ["a", "b", "a"]), ShapeMismatch, "Number the labels: .*return_inverse"),
        ((X, pd.Series(["a", "b", "a"], dtype=object)), ShapeMismatch, "y of data must .* 'a'"),
        ((X, pd.Series([0, 1, None], dtype="Int64")), ParamServerError, "y of data .* (<NA>|nan)"),
        ((X,), ShapeMismatch, r"a pair \(X, y\) or \(X, y, sample_weight\), not tuple of 1"),
        ("a.csv", ConfigError, r"read it first, data = .*read_files\('a.csv'\)"),
        (X, ShapeMismatch, r"a pair \(X, y\) or .*, not ndarray"),
        ((7, Y), ShapeMismatch, "a single number"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_place(
    data: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        as_rows(WIDE, data, "data")


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_what_is_too_large_for_the_learner_is_refused(form: Any) -> None:
    with pytest.raises(DataError, match="in row 1, column 1"):
        as_rows(NARROW, (form(HUGE), Y), "data")
    with pytest.raises(DataError, match=r"has 1e\+300 .* too large for float32"):
        as_rows(NARROW, (HUGE, Y), "data")
    assert as_rows(WIDE, (form(HUGE), Y), "data").X.max() == 1e300


def test_large_numbers_whose_sum_is_not_finite_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "CHECKED_AT_A_TIME", 4)
    big = np.full((3, 2), 3e38, np.float32)
    assert as_rows(NARROW, (big, Y), "data").X.tolist() == big.tolist()
    big[2, 1] = np.nan
    with pytest.raises(DataError, match="row 2, column 1"):
        as_rows(NARROW, (big, Y), "data")


# --- weights --------------------------------------------------------------------------------------


def weights(y: Any, sample: Any = None, classes: Any = None) -> Any:
    found = row_weights(np.asarray(y), sample, classes, np.dtype("float32"), "data")
    return None if found is None else found.tolist()


def test_weights_are_multiplied_and_taken_as_they_are() -> None:
    assert weights([0, 1, 1]) is None
    assert weights([0, 1, 1], [2, 4, 0]) == [2, 4, 0]
    assert weights([0, 1, 1], None, {1: 3}) == [1, 3, 3]
    assert weights([0, 1, 1], [2, 4, 0], {1: 3}) == [2, 12, 0]
    assert weights([0, 1, 1, 1], None, "balanced") == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    y = np.random.default_rng(0).integers(0, 4, 50)
    assert weights(y, None, "balanced") == pytest.approx(compute_sample_weight("balanced", y))


def test_weights_may_be_the_third_part_of_the_data_or_an_argument_but_not_both() -> None:
    three = as_rows(WIDE, (X, Y, [1, 2, 3]), "data")
    named = as_rows(WIDE, (X, Y), "data", sample_weight=pd.Series([1, 2, 3]))
    assert three.weight is not None
    assert named.weight is not None
    assert three.weight.tolist() == named.weight.tolist() == [1, 2, 3]
    assert three.weight.dtype == WIDE.dtype
    with pytest.raises(ConfigError, match="given twice"):
        as_rows(WIDE, (X, Y, [1, 2, 3]), "data", sample_weight=[1, 2, 3])


@pytest.mark.parametrize(
    ("y", "classes", "words"),
    [
        ([0, 1], "fair", "'balanced' or a dict of label and factor, not 'fair'"),
        ([0, 1], {0: 1, 7: 2}, "the label 7, which no row has. The labels are: 0, 1"),
        ([0.5, 1], "balanced", "whole numbers"),
        ([[0, 1]], {0: 1}, "whole numbers"),
    ],
)
def test_class_weights_that_mean_nothing_are_refused(y: Any, classes: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        weights(y, None, classes)


def test_negative_class_weights_are_refused() -> None:
    with pytest.raises(DataError, match="Row 1 of data has the weight -2"):
        weights([0, 1, 1], None, {1: -2})


# --- labels ---------------------------------------------------------------------------------------


class Two(LeastSquares):
    """Knows the labels 0 and 1, and wants both."""

    def check_labels(self, y: Any) -> None:
        if set(y.tolist()) != {0, 1}:
            raise DataError(f"labels must be 0 and 1, both; they are {sorted(set(y.tolist()))}")


def batch(y: Any) -> Batch:
    return Batch(np.zeros((len(y), 2)), np.array(y))


def test_labels_that_the_learner_does_not_know_are_refused() -> None:
    check_rows(LeastSquares(2), batch([5, 5]), batch([7]))
    check_rows(Two(2), batch([0, 1]), None)
    check_rows(Two(2), batch([0, 1]), batch([1, 1]))  # held out: one of them is enough
    with pytest.raises(DataError, match="they are \\[1\\]"):
        check_rows(Two(2), batch([1, 1]), None)
    with pytest.raises(DataError, match="they are \\[0, 1, 2\\]"):
        check_rows(Two(2), batch([0, 1]), batch([2]))


def test_a_sample_keeps_labels_and_weights_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SAMPLE_ROWS", 5)
    n = np.arange(20)
    found = sample_rows(Batch(n[:, None] * [1.0, 1.0], n, n * 2.0), 3)
    assert found.n == 5
    assert found.weight is not None
    assert found.X[:, 0].tolist() == found.y.tolist() == (found.weight / 2).tolist()


def test_arrays_are_taken_without_importing_scipy_or_pandas() -> None:
    program = (
        "import sys; import numpy as np\n"
        "from paramserver.training.intake import as_rows\n"
        "class L: dtype = np.dtype('float32')\n"
        "as_rows(L(), (np.zeros((2, 2)), [0, 1], [1, 2]), 'data')\n"
        "print([name for name in ('scipy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_the_loss_of_blocks_is_that_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = Batch(rng.standard_normal((23, 2)), rng.standard_normal(23))
    w = np.array([1.0, -2.0])
    whole = mean_loss(WIDE, w, rows)
    assert whole == WIDE.loss(w, rows)
    monkeypatch.setattr(intake, "LOSS_ROWS", 5)
    assert mean_loss(WIDE, w, rows) == pytest.approx(whole, rel=1e-14)


def test_rows_of_another_width_are_refused_before_they_go_anywhere() -> None:
    model, fit, wide = Softmax(2, 2), batch([0, 1]), Batch(np.zeros((2, 3)), np.array([0, 1]))
    check_rows(model, fit, fit)
    with pytest.raises(ShapeMismatch, match=r"shape \(2, 3\); the model has 2 features"):
        check_rows(model, wide, None)


@pytest.mark.parametrize("learner", [Softmax(2, 2), LeastSquares(2)])
def test_rows_held_out_of_another_width_are_named(learner: Any) -> None:
    fit, wide = batch([0, 1]), Batch(np.zeros((2, 3)), np.array([0, 1]))
    words = r"held out \(test\) .* X of test has the shape \(2, 3\), X of data \(2, 2\)"
    with pytest.raises(ShapeMismatch, match=words):
        check_rows(learner, fit, wide)


def test_a_learning_rate_is_not_chosen_by_rows_that_do_not_count() -> None:
    weight = np.zeros(5000)
    weight[0] = 1.0
    rows = Batch(np.ones((5000, 2)), np.zeros(5000, int), weight)
    seed = next(seed for seed in range(9) if not np.any(sample_rows(rows, seed).weight))
    with pytest.raises(ConfigError, match=r"2,000 rows .* all have the weight 0: give one \(lr="):
        choose_lr(Linear(2), rows, seed)


def test_optimizers_that_scale_their_steps_take_what_is_usual_for_them() -> None:
    rows = Batch(X * 1000, Y)
    for learner, adam, adagrad in ((Softmax(2, 2), 0.01, 0.1), (MLP(2, 2, (4,)), 0.001, 0.01)):
        assert choose_lr(learner, rows, 0, "adam") == adam
        assert choose_lr(learner, rows, 0, "adagrad") == adagrad
        assert choose_lr(learner, rows, 0, "momentum") == choose_lr(learner, rows, 0)
