"""What a path of the user's stands for: the parts of a data set.

Rule 1: the name of a file says what it holds; its first line says the rest. Nothing else is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from paramserver.data.arrays import find_arrays
from paramserver.data.header import detect
from paramserver.data.lines import cut, first_lines, unpack
from paramserver.data.parts import ArrayPart, Part, TextPart
from paramserver.data.roles import Roles
from paramserver.data.svmlight import QUERY, SvmlightForm
from paramserver.errors import ConfigError, DataError

TABLES: Final = (".csv", ".tsv")
SVMLIGHT: Final = (".svm", ".svmlight", ".libsvm")
READABLE: Final = (
    ".csv, .tsv, .svm, .svmlight, .libsvm (each also .gz), .npz, or a folder with X.npy, y.npy"
)
MIN_ROWS: Final = 5
"""One of them is held out."""
SHOWN: Final = 20
"""Names of columns that a message lists at most."""
PART_BYTES: Final = 1 << 24
"""In one part: some tens of thousands of rows, a fraction of a second of work."""


@dataclass(frozen=True)
class Source:
    """A file, or a pair of them.

    Attributes
    ----------
    name : str
        What the user calls it.
    parts : sequence of Part
    n_columns : int or None
        None for sparse rows.
    notes : tuple of str
    column_names : tuple of str, optional
        Of the features, in a table with a header.
    """

    name: str
    parts: Sequence[Part]
    n_columns: int | None
    notes: tuple[str, ...] = ()
    column_names: tuple[str, ...] | None = None

    @property
    def n_bytes(self) -> int:
        """Size of what is read."""
        return sum(part.n_bytes for part in self.parts)


def find(name: str, roles: Roles, folder: Path, like: Source | None = None) -> Source:
    """Look at a file.

    Parameters
    ----------
    name : str
    roles : Roles
        Names of the columns or arrays that are no features.
    folder : Path
        Exists; for what is packed.
    like : Source, optional
        The rows to train on; these have to be of the same kind.

    Raises
    ------
    DataError
        If it is not there, or is not what its name says.
    ConfigError
        If a column is named and columns have no names.
    """
    path = Path(name)
    if not path.exists():
        if "://" in name:
            raise DataError(
                f"{name} is no file, and nothing is loaded from the network: fetch it first, then "
                "name the file.",
                path=name,
            )
        raise DataError(
            f"There is no file {path} (looked from {Path.cwd()}).{_close_to(path)}", path=name
        )
    plain_name = path.name.removesuffix(".gz")
    kind = Path(plain_name).suffix.lower()
    if path.is_dir() or path.suffix.lower() == ".npz":
        source = _arrays(path, folder, roles)
    elif kind in (*TABLES, *SVMLIGHT):
        if kind in SVMLIGHT:
            _check_roles(path, roles)
        plain = path
        if plain_name != path.name:
            plain = folder / plain_name
            unpack(name, str(plain))
        source = _text(name, plain, roles, is_table=kind in TABLES)
    else:
        raise DataError(f"{path} is neither {READABLE}; other files cannot be read.", path=name)
    if like is not None:
        _check_alike(source, like)
    return source


def _close_to(path: Path) -> str:
    """Return a sentence on a file beside the one that is not there, with nearly its name."""
    try:
        beside = [other.name for other in path.parent.iterdir()]
    except OSError:
        return ""
    close = get_close_matches(path.name, beside, n=1)
    return f" Did you mean {path.with_name(close[0])}?" if close else ""


def _check_roles(path: Path, roles: Roles) -> None:
    """Refuse to look for named columns where the only name is that of the query."""
    for role, name in roles.given().items():
        if role != "key" or name != QUERY:
            hint = f"; --key {QUERY} deals out rows by their queries" if role == "key" else ""
            raise ConfigError(
                f"The columns of {path} have no names, so none is the {role} '{name}': use a CSV "
                f"file, or leave --{role} out{hint}.",
                field=role,
                value=name,
            )


def _check_alike(source: Source, like: Source) -> None:
    """Refuse rows to hold out that have other columns than those to train on.

    Raises
    ------
    DataError
        Where both have a header, it names the columns that differ.
    """
    here, there = source.column_names, like.column_names
    if here and there and here != there:
        missing = [each for each in there if each not in here][:SHOWN]
        further = [each for each in here if each not in there][:SHOWN]
        differ = "; ".join(
            f"{words} {', '.join(map(repr, names))}"
            for words, names in (("it has no", missing), ("it has also", further))
            if names
        )
        raise DataError(
            f"The columns of {source.name} are not those of {like.name}: "
            f"{differ or 'they stand in another order'}. Give it the columns "
            f"{', '.join(there[:SHOWN])}{', ...' * (len(there) > SHOWN)}, in this order.",
            path=source.name,
        )
    if source.n_columns != like.n_columns:
        raise DataError(
            f"{source.name} has {_width(source)}, {like.name} has {_width(like)}. Held-out rows "
            "need the columns of the rows to train on, in their order.",
            path=source.name,
        )


def _width(source: Source) -> str:
    if source.n_columns is None:
        return "sparse rows"
    return f"{source.n_columns} {'feature' if source.n_columns == 1 else 'features'}"


def _arrays(path: Path, folder: Path, roles: Roles) -> Source:
    found = find_arrays(path, folder, roles)
    X, y, weight, key = (found.files.get(role) for role in ("X", "y", "weight", "key"))
    assert X is not None
    assert y is not None
    step = max(1, PART_BYTES // max(1, X.row_bytes))
    n = X.shape[0]
    parts = [
        ArrayPart(str(path), X, y, at, min(at + step, n), weight, key) for at in range(0, n, step)
    ]
    names = found.names
    notes = []
    if (names["X"], names["y"]) != ("X", "y"):
        notes.append(f"the rows are the array {names['X']}, the labels {names['y']}")
    if weight is not None:
        notes.append(f"the weight of a row is in the array {names['weight']}")
    if key is not None:
        notes.append(f"rows are dealt out by the array {names['key']}")
    return Source(str(path), parts, X.shape[1], tuple(notes))


def _text(name: str, plain: Path, roles: Roles, *, is_table: bool) -> Source:
    pieces = cut(str(plain), PART_BYTES)
    if not is_table:
        form = SvmlightForm(roles.key is not None)
        return Source(name, [TextPart(name, piece, form) for piece in pieces], None, form.notes)
    first, second = first_lines(pieces[0], name) if pieces else ("", "")
    table = detect(first, roles, name, second)
    n_skipped = int(table.names is not None)
    parts = [TextPart(name, piece, table, n_skipped * (piece.start == 0)) for piece in pieces]
    return Source(name, parts, table.n_features, table.notes, table.feature_names)


def check_count(n: int, source: Source, test: Source | None) -> None:
    """Refuse files that hold too little."""
    if n == 0:
        raise DataError(f"{source.name} holds no rows.", path=source.name)
    if test is None and n < MIN_ROWS:
        raise DataError(
            f"{source.name} has {n} {'row' if n == 1 else 'rows'}; at least {MIN_ROWS} are needed.",
            path=source.name,
        )
