"""Arrays in .npy files, and in .npz archives that were not compressed: mapped, never read whole.

Rule 1: nothing is unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from paramserver.data.roles import NO_ROLES, Roles
from paramserver.errors import DataError
from paramserver.training.array_file import ArrayFile

_LOCAL_HEADER_BYTES: Final = 30
"""Of a member of a zip archive, up to its name (APPNOTE.TXT 4.3.7)."""
_NUMBERS: Final = "fiub"
_LABELS: Final = "fiubUS"


@dataclass(frozen=True)
class Arrays:
    """The arrays that make a data set.

    Attributes
    ----------
    files : dict of str to ArrayFile
        ``"X"`` and ``"y"``, and ``"weight"`` and ``"key"`` if they were asked for.
    names : dict of str to str
        What each is called where it lies.
    """

    files: dict[str, ArrayFile]
    names: dict[str, str]


def find_arrays(path: Path, folder: Path, roles: Roles = NO_ROLES) -> Arrays:
    """Find the arrays of an .npz archive, or of a folder with .npy files.

    Parameters
    ----------
    path : Path
    folder : Path
        Where members that are compressed are written to, plain.
    roles : Roles
        Names of the arrays with the labels, the weights and the keys. Without a name the labels are
        ``y``, or else the only array with one axis; the rows are ``X``, or the only one with two.

    Raises
    ------
    DataError
        If they are not there, or are not the numbers that they should be.
    """
    is_folder = path.is_dir()
    try:
        shapes = _shapes(path)
        names = _choose(path, shapes, roles)
        files = {
            role: _in_npy(path / f"{name}.npy") if is_folder else _in_npz(path, name, folder)
            for role, name in names.items()
        }
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        kind = "folder with X.npy and y.npy" if is_folder else ".npz file with the arrays X and y"
        how = "them with numpy.save" if is_folder else "one with numpy.savez(path, X=X, y=y)"
        raise DataError(f"{path} is no {kind} ({error}). Write {how}.", path=str(path)) from error
    _check_shapes(path, files, names)
    return Arrays(files, names)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array there is, by name."""
    if path.is_dir():
        found = {}
        for each in sorted(path.glob("*.npy")):
            with each.open("rb") as file:
                found[each.stem] = _parse_header(file)[0]
        return found
    with zipfile.ZipFile(path) as archive:
        shapes = {}
        for name in archive.namelist():
            with archive.open(name) as member:
                shapes[name.removesuffix(".npy")] = _parse_header(member)[0]
        return shapes


def _choose(path: Path, shapes: Mapping[str, tuple[int, ...]], roles: Roles) -> dict[str, str]:
    """Return the name of the array in each role."""
    names = {"y" if role == "label" else role: name for role, name in roles.given().items()}
    for role, name in names.items():
        if name not in shapes:
            what = "label" if role == "y" else role
            raise _no_array(path, f"the {what} '{name}'", shapes)
    for role, n_axes, what in (("X", 2, "the rows"), ("y", 1, "the labels")):
        if role in names:
            continue
        left = [name for name in shapes if name not in names.values()]
        fitting = [name for name in left if len(shapes[name]) == n_axes]
        if role not in left and len(fitting) != 1:
            hint = f"{what}: it should be called {role}, or be the only one with {n_axes} axes"
            if role == "y":
                hint += ", or be named with --label"
            raise _no_array(path, hint.replace("1 axes", "1 axis"), shapes)
        names[role] = role if role in left else fitting[0]
    return names


def _no_array(path: Path, what: str, shapes: Mapping[str, tuple[int, ...]]) -> DataError:
    listed = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:20]) or "none"
    return DataError(
        f"{path} has no array for {what}. The arrays there are: {listed}.", path=str(path)
    )


def _check_shapes(path: Path, found: Mapping[str, ArrayFile], names: Mapping[str, str]) -> None:
    X, y = found["X"], found["y"]
    if (
        len(X.shape) != 2
        or y.shape != X.shape[:1]
        or np.dtype(X.dtype).kind not in _NUMBERS
        or np.dtype(y.dtype).kind not in _LABELS
    ):
        raise DataError(
            f"{path}: {names['X']} must be numbers of shape (n, features) and {names['y']} of "
            f"shape (n,); they are {X.dtype} of shape {X.shape} and {y.dtype} of shape {y.shape}.",
            path=str(path),
        )
    for role, kinds in (("weight", _NUMBERS), ("key", _LABELS)):
        array = found.get(role)
        if array is None:
            continue
        if array.shape != y.shape or np.dtype(array.dtype).kind not in kinds:
            raise DataError(
                f"{path}: the {role} {names[role]} must have one value for each of the "
                f"{y.shape[0]} rows; it is {array.dtype} of shape {array.shape}.",
                path=str(path),
            )


def _in_npy(path: Path) -> ArrayFile:
    with path.open("rb") as file:
        return _read_header(file, str(path))


def _in_npz(path: Path, name: str, folder: Path) -> ArrayFile:
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as file:
                file.seek(info.header_offset)
                head = file.read(_LOCAL_HEADER_BYTES)
                lengths = np.frombuffer(head[26:30], "<u2")  # of the name, of the extra field
                start = info.header_offset + _LOCAL_HEADER_BYTES + int(lengths.sum())
                file.seek(start)
                return _read_header(file, str(path))
        archive.extract(info, folder)
    return _in_npy(folder / f"{name}.npy")


def _read_header(file: IO[bytes], path: str) -> ArrayFile:
    shape, is_fortran, dtype = _parse_header(file)
    if dtype.hasobject:
        raise ValueError("objects are not read")
    found = ArrayFile(path, file.tell(), dtype.str, tuple(map(int, shape)), bool(is_fortran))
    size = file.seek(0, 2)
    if found.offset + found.row_bytes * (found.shape[0] if found.shape else 1) > size:
        raise ValueError("it was cut short")
    return found


def _parse_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0 if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )  # fmt: skip
    return read(file)
