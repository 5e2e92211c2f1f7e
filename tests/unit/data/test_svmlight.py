"""Files in the format of SVMlight, and what is said about those that are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file

from paramserver.data.readers import read_files
from paramserver.errors import ConfigError, DataError

GOOD = "# made by hand\n1 1:0.5 3:2 # first\n-1 qid:7 2:1e-3\t4:-4  \n\n1\n-1 2:1\n+1 1:1\n"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("first", [0, 1])
def test_it_is_read_as_scikit_learn_reads_it(tmp_path: Path, first: int) -> None:
    text = GOOD.replace(" 1:", f" {first}:")
    found = read_files(write(tmp_path / "a.svm", text), write(tmp_path / "b.svm", text))
    X, y = load_svmlight_file(str(tmp_path / "a.svm"), dtype=np.float32)
    assert found.X_train.toarray().tolist() == X.toarray().tolist()
    assert found.X_test.toarray().tolist() == X.toarray().tolist()
    assert found.classes == (-1, 1)
    assert found.y_train.tolist() == ((y + 1) / 2).tolist()
    assert found.scaling is None
    assert "sparse columns are taken as they are" in found.notes


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("one 1:2", "'one' is no label; it must be one finite number"),
        ("nan 1:2", "'nan' is no label"),
        ("1:2 3:4", "'1:2' is no label"),
        ("1 5", "'5' is not of the form column:value"),
        ("1 5:", "'5:' is not of the form"),
        ("1 a:5", "'a:5' is not of the form"),
        ("1 2:x", "'2:x' is not of the form"),
        ("1 2:inf", "'2:inf' is not of the form"),
        ("1 -2:1", "'-2:1' is not of the form"),
        ("1 1.5:1", "'1.5:1' is not of the form"),
        ("1 3:1 2:1", "column 2 comes after column 3"),
        ("1 3:1 3:1", "column 3 comes after column 3"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path / "a.svm", GOOD + line + "\n")
    with pytest.raises(DataError, match=rf"a\.svm: line 8: {words}"):
        read_files(path)


def test_a_file_without_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No row of .* has any feature"):
        read_files(write(tmp_path / "a.svm", "1\n2\n" * 5))


def test_rows_to_hold_out_must_be_of_the_same_kind(tmp_path: Path) -> None:
    sparse = write(tmp_path / "a.svm", GOOD)
    dense = write(tmp_path / "a.csv", "1,2,0\n" * 9)
    with pytest.raises(DataError, match=r"a\.csv has 2 features, .*a\.svm has sparse rows"):
        read_files(sparse, dense)


def test_rows_of_a_query_can_be_kept_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.svm", "".join(f"{i % 2} qid:{i // 3} 1:{i}\n" for i in range(20)))
    found = read_files(path, key="qid")
    assert found.X_train.toarray()[:, 0].tolist() == sorted(found.X_train.toarray()[:, 0])
    assert found.keys is not None
    assert np.array_equal(found.keys, found.X_train.toarray()[:, 0] // 3)
    assert "rows are dealt out by qid" in found.notes
    with pytest.raises(DataError, match=r"a\.svm: line 21: there are 0 qid:number, not one"):
        read_files(write(tmp_path / "a.svm", Path(path).read_text() + "1 1:3\n"), key="qid")
    two = Path(path).read_text().replace("1 qid:1 ", "1 qid:1 qid:2 ", 1)
    with pytest.raises(DataError, match=r"line 4: there are 2 qid:number"):
        read_files(write(tmp_path / "a.svm", two), key="qid")


@pytest.mark.parametrize("role", ["label", "weight", "key"])
def test_columns_without_names_cannot_be_named(tmp_path: Path, role: str) -> None:
    hint = "--key qid deals" if role == "key" else f"leave --{role} out"
    with pytest.raises(ConfigError, match=f"none is the {role} 'age': .*{hint}"):
        read_files(write(tmp_path / "a.svm", GOOD), **{role: "age"})
