"""What the first lines of a table say: what separates its cells, what they are called.

Rule 1: what was guessed is said in the notes of the data set; what cannot be guessed is asked for.
Rule 2: line 1 is a header if it holds a name that the user gave, if no cell of a feature is a
        number there, or if these are counted up, as pandas does, and the label alone has a name.
"""

from __future__ import annotations

import csv
import re

from paramserver.data.csv_table import SEPARATORS, CsvForm, is_float
from paramserver.data.roles import NO_ROLES, Roles
from paramserver.errors import DataError


def detect(line: str, roles: Roles = NO_ROLES, path: str = "", second: str = "") -> CsvForm:
    """Return the form of a table by its first line.

    Parameters
    ----------
    line : str
    roles : Roles
        Columns by name, or by number from 1.
    path : str
    second : str
        The line behind it.

    Raises
    ------
    DataError
        If there is no column of a name, two of it, or no feature.
    """
    unquoted = re.sub('"[^"]*"', "", line)
    # Of comma and semicolon as many of each: commas are in numbers then, as in 1,5;2,5;0
    separator = max(SEPARATORS, key=lambda each: (unquoted.count(each), each == ";"))
    cells = split_line(line, separator)
    n = len(cells)
    if n < 2:
        found = "line 1 has 1 column" if line else "line 1 is empty"
        raise DataError(
            f"{path}: {found}; a label and at least one feature, separated by commas, are needed.",
            path=path,
        )
    has_header, places = _place(roles, cells, split_line(second, separator), path)
    # The numbers of rows, or what follows a separator at the end of each line.
    ends = (0, n - 1) if has_header else ()
    left_out = tuple(end for end in ends if not cells[end] and end not in places.values())
    free = [place for place in range(n) if place not in (*places.values(), *left_out)]
    if "label" not in places and free:
        places["label"] = free.pop()
    if not free:
        raise DataError(
            f"{path}: line 1 has {n} columns; a label and at least one feature are needed beside "
            f"{', '.join(roles.given().values()) or 'the numbers of rows'}.",
            path=path,
        )
    return CsvForm(
        n,
        places["label"],
        separator,
        cells if has_header else None,
        places.get("weight"),
        places.get("key"),
        left_out,
    )


def split_line(line: str, separator: str) -> tuple[str, ...]:
    """Return the cells of a header."""
    (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    return tuple(cell.strip() for cell in cells or [""])


def _place(
    roles: Roles, cells: tuple[str, ...], second: tuple[str, ...], path: str
) -> tuple[bool, dict[str, int]]:
    """Return whether line 1 holds names, and the place of each column that was named, from 0."""
    n, named = len(cells), roles.given()
    # A name in line 1 proves a header; a number may be the place of a column without a name.
    has_names = any(name in cells and not is_float(name) for name in named.values())
    places = {
        role: int(name) - 1
        for role, name in named.items()
        if name.isdecimal() and 1 <= int(name) <= n and (name not in cells or not has_names)
    }
    has_header = has_names or _is_header(cells, places, second)
    for role, name in named.items():
        if has_header and (name in cells or role not in places):
            places[role] = _find(name, cells, path)
        elif role not in places:
            raise DataError(
                f"{path} has no column '{name}'. Its columns are: none by name, for line 1 holds "
                f"numbers; name one by its number, 1 to {n}.",
                path=path,
            )
    if len(set(places.values())) < len(places):
        raise DataError(
            f"{path}: the label, the weight and the key are columns of their own.", path=path
        )
    return has_header, places


def _is_header(cells: tuple[str, ...], places: dict[str, int], second: tuple[str, ...]) -> bool:
    """Say whether line 1 holds names."""
    label = places.get("label", len(cells) - 1)
    others = [cell for i, cell in enumerate(cells) if i not in (label, *places.values())]
    if not any(is_float(cell.replace(",", ".")) for cell in others):  # 1,5 is no name either
        return True
    # pandas writes numbers where columns have no names: 0,1,2,...,label
    numbers = [cell for cell in others if cell]
    counted = [str(i) for i in range(len(numbers))]
    is_named = not is_float(cells[label]) and len(second) == len(cells) and is_float(second[label])
    return is_named and numbers in (counted, [str(i + 1) for i in range(len(numbers))])


def _find(name: str, cells: tuple[str, ...], path: str) -> int:
    n = cells.count(name)
    if n == 1:
        return cells.index(name)
    listed = ", ".join(cells[:50]) + (", ..." if len(cells) > 50 else "")
    if n:
        raise DataError(
            f"{path} has {n} columns '{name}': name it by its number instead, "
            f"{' or '.join(str(i + 1) for i, cell in enumerate(cells) if cell == name)}.",
            path=path,
        )
    raise DataError(f"{path} has no column '{name}'. Its columns are: {listed}.", path=path)
