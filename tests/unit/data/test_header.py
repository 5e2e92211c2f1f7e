"""What the first lines of a table are taken for."""

from __future__ import annotations

from typing import Any

import pytest

from paramserver.data.header import detect
from paramserver.data.roles import Roles
from paramserver.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("line", "second", "expected"),
    [
        ("a,b,kind", "1,2,x", (3, 2, ("a", "b", "kind"), [0, 1])),
        ("1,2,x", "1,2,y", (3, 2, None, [0, 1])),
        ("a;b;kind", "1;2;x", (3, 2, ("a", "b", "kind"), [0, 1])),
        ("1,5;2,5;0", "", (3, 2, None, [0, 1])),
        ('"a, or so",b', "", (2, 1, ("a, or so", "b"), [0])),
        # as pandas writes what has no names, and what it calls the index
        ("0,1,label", "5,6,1", (3, 2, ("0", "1", "label"), [0, 1])),
        ("0,1,label", "5,6,red", (3, 2, None, [0, 1])),
        ("5,6,label", "5,6,1", (3, 2, None, [0, 1])),
        (",a,b,kind", "0,1,2,x", (4, 3, ("", "a", "b", "kind"), [1, 2])),
        ("a,b,kind,", "1,2,x,", (4, 2, ("a", "b", "kind", ""), [0, 1])),
        (",0,1,kind", "0,1,2,1", (4, 3, ("", "0", "1", "kind"), [1, 2])),
    ],
)
def test_a_header_is_told_from_numbers(line: str, second: str, expected: Any) -> None:
    form = detect(line, path="a.csv", second=second)
    assert (form.n_cells, form.label, form.names, form.features) == expected


@pytest.mark.parametrize(
    ("line", "roles", "expected"),
    [
        ("a,b,c,d", Roles("b"), (1, None, None, [0, 2, 3])),
        ("a,b,c,d", Roles(weight="d"), (2, 3, None, [0, 1])),
        ("a,b,c,d", Roles("a", "c", "d"), (0, 2, 3, [1])),
        ("x,2,3,site", Roles("1", None, "4"), (0, None, 3, [1, 2])),
        ("1,2,3,4", Roles("1"), (0, None, None, [1, 2, 3])),
        ("a,b,c,d", Roles("2"), (1, None, None, [0, 2, 3])),
        ("2019,2020,price,2", Roles("price"), (2, None, None, [0, 1, 3])),
        ("b,2,a,c", Roles("a", "2"), (2, 1, None, [0, 3])),
    ],
)
def test_columns_are_found_by_name_or_by_number(line: str, roles: Roles, expected: Any) -> None:
    form = detect(line, roles)
    assert (form.label, form.weight, form.key, form.features) == expected


@pytest.mark.parametrize(
    ("line", "roles", "words"),
    [
        ("1,2,3", Roles("age"), "line 1 holds numbers; name one by its number, 1 to 3"),
        ("1,2,3", Roles("4"), "no column '4'. Its columns are: none by name"),
        ("u,v,w", Roles("age"), "no column 'age'. Its columns are: u, v, w"),
        ("u,v,u", Roles("u"), "2 columns 'u': name it by its number instead, 1 or 3"),
        ("u,v", Roles("u", "v"), "at least one feature are needed beside u, v"),
        ("u,v,w", Roles("u", "1"), "columns of their own"),
        ("u", Roles(), "line 1 has 1 column"),
    ],
)
def test_columns_that_are_not_there_are_refused(line: str, roles: Roles, words: str) -> None:
    with pytest.raises(DataError, match=words):
        detect(line, roles, "a.csv")


def test_one_column_cannot_have_two_roles() -> None:
    with pytest.raises(ConfigError, match="the same name is given twice: a, a"):
        Roles("a", "a")
