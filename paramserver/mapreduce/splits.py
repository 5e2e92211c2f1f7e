"""What the user named as input, cut into one share for each map job.

Rule 1: everything that can be known to be wrong is found here, before a job runs.
Rule 2: shares of files are equal in bytes over all files together; shares of a sequence are equal
        in items. There are always as many shares as asked for; some may be empty.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from paramserver.data.blocks import FileRange
from paramserver.errors import ConfigError, DataError

Unit: TypeAlias = Literal["lines", "line", "words", "item"]
"""What a mapper is called with: a block of whole lines; one line, without its newline; a block of
whole words (cut at any white space); an item of a sequence."""
UNITS: Final = get_args(Unit)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The shares of the map jobs.

    Attributes
    ----------
    unit : Unit
    shares : list
        For each map job its list of `FileRange`, or its slice of the sequence.
    n_bytes : int
        Of all files; 0 for a sequence.
    """

    unit: Unit
    shares: list[Any]
    n_bytes: int


def plan_inputs(inputs: Any, unit: Unit, n_map: int) -> Inputs:
    """Cut the inputs into `n_map` shares.

    Parameters
    ----------
    inputs : str, path, sequence of them, or any iterable
        File names and glob patterns (a file of just that name comes first). Anything else is a
        collection of items; so is any collection, also of strings, with ``unit="item"``.
    unit : Unit
    n_map : int

    Raises
    ------
    DataError
        For a file that is missing, unreadable or no regular file, a pattern that matches nothing.
    ConfigError
        For files with ``unit="item"``, or anything that cannot be iterated over.
    """
    names = _names(inputs, unit)
    if names is not None:
        files = [file for name in names for file in _files(name)]
        return Inputs(unit, _file_shares(files, n_map), sum(size for _, size in files))
    items = _as_sequence(inputs)
    n = len(items)
    cuts = [n * k // n_map for k in range(n_map + 1)]
    shares = [items[cuts[k] : cuts[k + 1]] for k in range(n_map)]
    return Inputs("item", shares, 0)


def _names(inputs: Any, unit: Unit) -> list[str] | None:
    """Return the names of files, or None if the inputs are items."""
    if isinstance(inputs, (str, os.PathLike)):
        if unit == "item":
            raise ConfigError(
                'unit="item" maps over the items of a sequence; a single file name was given. '
                'Leave out the unit, or pass a list.', field="inputs", value=inputs,
            )  # fmt: skip
        return [os.fspath(inputs)]
    if unit == "item" or isinstance(inputs, (bytes, bytearray)):
        return None
    if not isinstance(inputs, (list, tuple)) or not inputs:
        return None
    if all(isinstance(each, (str, os.PathLike)) for each in inputs):
        return [os.fspath(each) for each in inputs]
    return None


def _files(name: str) -> list[tuple[str, int]]:
    """Return (absolute path, size) of the file, or of every file that the pattern matches."""
    if os.path.lexists(name) or not glob.has_magic(name):
        return [_checked(name)]
    found = [path for path in sorted(glob.glob(name, recursive=True)) if not os.path.isdir(path)]
    if not found:
        raise DataError(
            f"No file matches the pattern {name!r} (looked from {os.getcwd()}).", path=name
        )
    return [_checked(path) for path in found]


def _checked(name: str) -> tuple[str, int]:
    if not name:
        raise DataError("An empty name is no file.", path=name)
    path = os.path.abspath(name)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise DataError(
                f"{name} is a directory. Name the files in it, for example {name.rstrip('/')}/*.",
                path=path,
            )
        if not stat.S_ISREG(status.st_mode):
            raise DataError(
                f"{name} is no regular file, so it cannot be cut into byte ranges. "
                "Copy its contents to a file first.", path=path,
            )  # fmt: skip
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError as error:
        hint = ' To map over the strings themselves, use unit="item".' if " " in name else ""
        raise DataError(f"There is no file {name} (looked from {os.getcwd()}).{hint}", path=path) \
            from error  # fmt: skip
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{name} cannot be read: {reason}.", path=path) from error
    return path, status.st_size


def _file_shares(files: Sequence[tuple[str, int]], n_map: int) -> list[list[FileRange]]:
    """Lay all files end to end and cut the whole at equal distances."""
    total = sum(size for _, size in files)
    shares: list[list[FileRange]] = [[] for _ in range(n_map)]
    offset = 0  # of the file, in the whole
    k = 0
    for path, size in files:
        position = 0
        while position < size:
            cut = total * (k + 1) // n_map - offset  # where share k ends, in this file
            stop = min(size, cut)
            if stop > position:
                shares[k].append(FileRange(path, position, stop, size))
                position = stop
            if cut <= size and k < n_map - 1:
                k += 1
        offset += size
    return shares


def _as_sequence(inputs: Any) -> Any:
    if isinstance(inputs, (bytes, bytearray)):
        raise ConfigError(
            "The input is bytes; give file names, or a sequence such as a list of lines.",
            field="inputs", value=type(inputs).__name__,
        )  # fmt: skip
    if isinstance(inputs, (list, tuple, range)) or hasattr(inputs, "__array__"):
        return inputs
    if isinstance(inputs, Iterable):
        return list(inputs)
    raise ConfigError(
        f"The input is of type {type(inputs).__name__}; give file names, glob patterns, or a "
        "sequence of items.", field="inputs", value=type(inputs).__name__,
    )  # fmt: skip
