"""What a path of the user's stands for: the parts of a data set.

Rule 1: the name of a file says what it holds; its first line says the rest. Nothing else is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paramserver.data.arrays import find_arrays
from paramserver.data.csv_table import detect
from paramserver.data.lines import cut, first_line, unpack
from paramserver.data.parts import ArrayPart, Part, TextForm, TextPart
from paramserver.data.svmlight import SvmlightForm
from paramserver.errors import ConfigError, DataError

SVMLIGHT: Final = (".svm", ".svmlight", ".libsvm")
READABLE: Final = (
    ".csv, .svm, .svmlight, .libsvm (each also .gz), .npz, or a folder with X.npy, y.npy"
)
MIN_ROWS: Final = 5
"""One of them is held out."""
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
    """

    name: str
    parts: Sequence[Part]
    n_columns: int | None
    notes: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size of what is read."""
        return sum(part.n_bytes for part in self.parts)


def find(name: str, label: str | None, folder: Path, like: Source | None = None) -> Source:
    """Look at a file.

    Parameters
    ----------
    name : str
    label : str, optional
        Column of the labels in a table.
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
        raise DataError(f"There is no file {path}.", path=name)
    plain_name = path.name.removesuffix(".gz")
    if label is not None and not plain_name.endswith(".csv"):
        raise ConfigError(
            f"Only the columns of a CSV file have names; {path} has no column '{label}'. Leave the "
            "label out.",
            field="label",
            value=label,
        )
    if path.is_dir() or path.suffix == ".npz":
        source = _arrays(path, folder)
    elif plain_name.endswith((".csv", *SVMLIGHT)):
        plain = path
        if plain_name != path.name:
            plain = folder / plain_name
            unpack(name, str(plain))
        source = _text(name, plain, label)
    else:
        raise DataError(f"{path} is neither {READABLE}; other files cannot be read.", path=name)
    if like is not None and source.n_columns != like.n_columns:
        raise DataError(f"{name} has {_width(source)}, {like.name} has {_width(like)}.", path=name)
    return source


def _width(source: Source) -> str:
    return "sparse rows" if source.n_columns is None else f"{source.n_columns} features"


def _arrays(path: Path, folder: Path) -> Source:
    X, y = find_arrays(path, folder)
    step = max(1, PART_BYTES // max(1, X.row_bytes))
    n = X.shape[0]
    parts = [ArrayPart(str(path), X, y, at, min(at + step, n)) for at in range(0, n, step)]
    return Source(str(path), parts, X.shape[1])


def _text(name: str, plain: Path, label: str | None) -> Source:
    pieces = cut(str(plain), PART_BYTES)
    form: TextForm
    n_skipped, n_columns = 0, None
    if plain.name.endswith(".csv"):
        form = detect(first_line(pieces[0], name) if pieces else "", label, name)
        n_skipped, n_columns = int(form.names is not None), form.n_features
    else:
        form = SvmlightForm()
    parts = [TextPart(name, piece, form, n_skipped * (piece.start == 0)) for piece in pieces]
    return Source(name, parts, n_columns, (f"the label is {form.what}",))


def check_count(n: int, source: Source, test: Source | None) -> None:
    """Refuse files that hold too little."""
    if n == 0:
        raise DataError(f"{source.name} holds no rows.", path=source.name)
    if test is None and n < MIN_ROWS:
        raise DataError(
            f"{source.name} has {n} rows; at least {MIN_ROWS} are needed.", path=source.name
        )
