"""Files of users: what is read, and what is said about what cannot be."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.data.readers import read_files
from paramserver.errors import DataError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def rows(n: int, labels: list[str]) -> str:
    return "".join(f"{i},{i * i % 7},{labels[i % len(labels)]}\n" for i in range(n))


def test_the_label_is_in_the_last_column_unless_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "height,kind,age\n" + rows(20, ["3", "5"]))
    last = read_files(path)
    assert last.n_classes == 2
    assert last.n_features == 2
    assert "the label is column 'age'" in last.notes
    named = read_files(path, label="kind")
    assert named.n_classes == len({i * i % 7 for i in range(20)})


@pytest.mark.parametrize(
    ("labels", "n_classes"),
    [(["cat", "dog", "cow"], 3), (["0", "1"], 2), (["1.0", "2.0"], 2), (["0.5", "1.25"], 0),
     ([str(i) for i in range(150)], 0)],
)  # fmt: skip
def test_labels_are_taken_for_classes_or_numbers(
    tmp_path: Path, labels: list[str], n_classes: int
) -> None:
    found = read_files(write(tmp_path / "a.csv", rows(300, labels)))
    assert found.n_classes == n_classes
    assert found.metric == ("accuracy" if n_classes else "R2")
    if n_classes:
        assert set(found.y_train.tolist()) == set(range(n_classes))
    else:
        assert set(found.y_train.tolist()) <= {float(label) for label in labels}


def test_rows_are_split_and_standardised_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows(50, ["a", "b"]))
    one, again = read_files(path, seed=1), read_files(path, seed=1)
    assert len(one.y_train) == 40
    assert len(one.y_test) == 10
    assert one.X_train.tobytes() == again.X_train.tobytes()
    np.testing.assert_allclose(one.X_train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(one.X_train.std(axis=0), 1, atol=1e-5)


def test_a_file_of_its_own_can_be_held_out(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", rows(20, ["b", "a"]))
    test = write(tmp_path / "b.csv", "4,2,a\n5,2,b\n")
    found = read_files(train, test)
    assert len(found.y_train) == 20
    assert found.y_test.tolist() == [0, 1]


def test_npz_and_packed_csv_are_the_same_data(tmp_path: Path) -> None:
    text = rows(30, ["1", "2"])
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(text)
    table = np.loadtxt(text.splitlines(), delimiter=",")
    np.savez(tmp_path / "a.npz", X=table[:, :-1], y=table[:, -1].astype(int))
    one = read_files(str(tmp_path / "a.csv.gz"))
    two = read_files(str(tmp_path / "a.npz"))
    assert one.X_train.tobytes() == two.X_train.tobytes()
    assert one.y_test.tobytes() == two.y_test.tobytes()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_in_quotes_are_read_as_other_programs_write_them(
    tmp_path: Path, separator: str
) -> None:
    kinds = [f"plain{separator} old", 'an "odd" one', " 2 ", ""]
    lines = [[i, i * i % 7 - 0.5, kinds[i % 3]] for i in range(50)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL)
        table.writerow(["a", f"the{separator} b", "kind"])
        table.writerows(lines)
    found = read_files(str(tmp_path / "a.csv"), label="kind")
    assert found.classes == ("2", 'an "odd" one', f"plain{separator} old")
    bare = "".join(f"{a},{b},{'xyz'[a % 3]}\n" for a, b, _ in lines)
    same = read_files(write(tmp_path / "b.csv", bare))
    assert found.X_train.tolist() == same.X_train.tolist()
    assert [found.classes[k] for k in found.y_train] == [
        {"x": f"plain{separator} old", "y": 'an "odd" one', "z": "2"}[same.classes[k]]
        for k in same.y_train
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('1,"2",0\n1,"two, or so",1\n', "line 2, column 2: 'two, or so' is no number"),
        ('1,2,"a\nb"\n1,2,"c"\n', "line 2: there are 1 cells, .*quotes must end in its line"),
        ("1,2,0\n1,oops,1\n" + rows(9, ["0", "1"]), "line 2, column 2: 'oops' is no number"),
        ("a,b,c\n1,2,0\n1,oops,1\n" + rows(9, ["0", "1"]), "line 3, column 2: 'oops' is no number"),
        ("1,2,0\n1\n", "line 2: there are 1 cells, not 3 as in line 1"),
        ("1,2,0\n\n \n1,,1\n", "line 4, column 2: the cell is empty"),
        ("1,2,cat\n1,2,\n", "line 2, column 3: the label is empty"),
        (rows(9, ["0", "1"]) + "1,2,NA\n", "line 10, column 3: the label is NA"),
        (rows(9, ["x", "y"]) + "1,2,?\n", r"line 10, column 3: the label is \?"),
        (rows(9, ["0.5", "1"]) + "1,NA,1\n", "line 10, column 2: the value is NA. Fill such"),
        ('1,"1,000",0\n' * 9, "'1,000' is no number; .* a point .* nothing between thousands"),
        ("kind,a\nx,1\ny,2\n", "'x' is no number; .* if it is the label, name it with --label"),
        ("1,2,0\n1,1e99,1\n", "line 2, column 2: 1e99 is too large for float32"),
        ("1,nan,0\n" + rows(9, ["0", "1"]), "line 1, column 2: the value is nan"),
        ("a,b,c\n", "holds no rows"),
        ("", "line 1 is empty; a label and at least one feature"),
        ("1\n2\n", "line 1 has 1 column"),
        (rows(3, ["0", "1"]), "has 3 rows; at least 5"),
        (rows(1, ["0"]), "has 1 row; at least 5"),
        (rows(30, ["yes"]), "All rows of .* have the label"),
        (rows(30, ["1", "inf"]), "line 2, column 3: the label is inf"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_files(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.ones((5, 2))}, r"no array for the labels: .* The arrays there are: X \(5, 2\)"),
        ({"X": np.ones(5), "y": np.ones(5)}, "shape"),
        ({"X": np.ones((5, 2)), "y": np.ones(4)}, "shape"),
        ({"X": np.array([["a"]] * 5), "y": np.ones(5)}, "must be numbers"),
        ({"X": np.array([[None]] * 5), "y": np.ones(5)}, "arrays X and y"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_files(str(tmp_path / "a.npz"))


def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", rows(20, ["a", "b"]))
    with pytest.raises(DataError, match="has the label 'c'"):
        read_files(train, write(tmp_path / "b.csv", "1,2,c\n"))
    with pytest.raises(DataError, match=r"has 1 feature, .* has 2 features"):
        read_files(train, write(tmp_path / "c.csv", "1,a\n2,b\n"))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("rooms,size,kind", "they stand in another order. Give it the columns size, rooms, in"),
        ("size,age,kind", "it has no 'rooms'; it has also 'age'. Give it the columns"),
    ],
)
def test_held_out_columns_of_other_names_are_not_taken_for_each_other(
    tmp_path: Path, header: str, words: str
) -> None:
    train = write(tmp_path / "a.csv", "size,rooms,kind\n" + rows(20, ["a", "b"]))
    with pytest.raises(DataError, match=re.escape(words)):
        read_files(train, write(tmp_path / "b.csv", header + "\n" + rows(9, ["a", "b"])))
    same = write(tmp_path / "c.csv", "size,rooms,kind\n" + rows(9, ["a", "b"]))
    assert len(read_files(train, same).y_test) == 9


def test_a_file_of_nearly_that_name_is_offered(tmp_path: Path) -> None:
    write(tmp_path / "price.csv", rows(9, ["a", "b"]))
    with pytest.raises(DataError, match=r"Did you mean .*price\.csv\?$"):
        read_files(str(tmp_path / "prize.csv"))
    with pytest.raises(DataError, match=r"no file .* \(looked from .*\)\.$"):
        read_files(str(tmp_path / "no" / "folder.csv"))


def test_a_missing_or_unknown_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*nowhere\.csv"):
        read_files(str(tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match=r"https://here/mine\.csv is no file, .* fetch it first"):
        read_files("https://here/mine.csv")
    with pytest.raises(DataError, match="neither"):
        read_files(write(tmp_path / "a.xlsx", "x"))
    with pytest.raises(DataError, match=r"no \.npz file"):
        read_files(write(tmp_path / "a.npz", "x"))
    path = write(tmp_path / "a.csv", "u,v,w\n" + rows(9, ["0", "1"]))
    with pytest.raises(DataError, match=r"no column 'age'\. Its columns are: u, v, w"):
        read_files(path, label="age")
