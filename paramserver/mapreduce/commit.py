"""The folder of results: all of them, or none.

::

    out_dir/_temporary/part-00007-4711-9f3a...    written by an attempt of a reduce job
    out_dir/part-00007                            renamed by the driver, which knows the attempt
    out_dir/_SUCCESS                              written last: a list of the parts, with checksums

Rule 1: nothing of the user's is ever overwritten: a folder with anything in it is refused.
Rule 2: only the driver moves files to their final names, once for each part, when all are there.
Rule 3: after an error the folder is as it was before. A driver that was killed leaves a folder
        without ``_SUCCESS``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce.files import NewFile, disk_errors, unique_name
from paramserver.mapreduce.output import PartOutput

_TEMPORARY: Final = "_temporary"
_SUCCESS: Final = "_SUCCESS"


class OutputFolder:
    """A folder that is about to get the results of a run.

    Parameters
    ----------
    path : str or path
        Must not exist, or be empty.

    Raises
    ------
    ConfigError
        If there is something in it, or it is no folder.
    DataError
        If it cannot be made or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = absolute(path)
        self._made: list[Path] = []
        self._parts: list[Path] = []
        missing = [each for each in (self.path, *self.path.parents) if not os.path.lexists(each)]
        try:
            with disk_errors(str(self.path)):
                for folder in reversed(missing):
                    os.mkdir(folder)
                    self._made.append(folder)
            refuse_contents(self.path)
            self._make_temporary()
        except BaseException:
            self._remove_made()
            raise

    @property
    def temporary(self) -> str:
        """Where attempts write."""
        return str(self.path / _TEMPORARY)

    def _make_temporary(self) -> None:
        try:
            os.mkdir(self.temporary)
        except FileExistsError as error:
            raise ConfigError(
                f"Another run has just begun to write to out_dir {self.path}. Choose another one.",
                field="out_dir", value=str(self.path),
            ) from error  # fmt: skip
        except OSError as error:
            raise DataError(
                f"out_dir {self.path} cannot be written: {error.strerror}.", path=str(self.path)
            ) from error

    def commit(self, parts: Sequence[PartOutput]) -> list[Path]:
        """Give the files their final names; return these, in the order of the parts.

        Raises
        ------
        DataError
            If a file is not as long as it was when its job ended, or somebody else has put another
            one in its place meanwhile.
        """
        for number, part in enumerate(parts):
            final = self.path / f"part-{number:05d}"
            with disk_errors(str(final)):
                n_bytes = os.stat(part.path).st_size
                if n_bytes != part.n_bytes:
                    raise DataError(
                        f"{part.path} has {n_bytes} bytes; its job had written {part.n_bytes}. "
                        "Somebody else writes to this folder.", path=part.path,
                    )  # fmt: skip
                _refuse_to_overwrite(final)
                self._parts.append(final)
                os.rename(part.path, final)
        listed = [
            {"name": path.name, "bytes": part.n_bytes, "crc32": part.crc, "pairs": part.n_pairs}
            for path, part in zip(self._parts, parts, strict=True)
        ]
        self._remove_temporary()
        unfinished = self.path / unique_name(_SUCCESS)
        with NewFile(str(unfinished)) as file:
            file.write(json.dumps({"parts": listed}, indent=1).encode() + b"\n")
            _refuse_to_overwrite(self.path / _SUCCESS)
            os.rename(unfinished, self.path / _SUCCESS)
        return self._parts

    def abandon(self) -> None:
        """Make the folder what it was before."""
        for path in self._parts:
            path.unlink(missing_ok=True)
        self._remove_temporary()
        self._remove_made()

    def _remove_temporary(self) -> None:
        remove_folder(self.temporary)

    def _remove_made(self) -> None:
        for folder in reversed(self._made):
            try:
                os.rmdir(folder)
            except FileNotFoundError:  # somebody else has removed it
                continue
            except OSError:  # somebody else has put something there
                return


def absolute(out_dir: str | os.PathLike[str]) -> Path:
    """Return the path of a folder of results.

    Raises
    ------
    ConfigError
        If the name is empty: that would be the working folder.
    """
    if not os.fspath(out_dir):
        raise ConfigError("out_dir is an empty name; name a folder.", field="out_dir", value="")
    return Path(os.path.abspath(out_dir))


def refuse_contents(path: Path) -> None:
    """Refuse what cannot become a folder of results, because it is none or holds something.

    Raises
    ------
    ConfigError
        In words, with what to do.
    DataError
        If it cannot be read.
    """
    if not path.is_dir():
        raise ConfigError(
            f"out_dir {path} is a file, not a folder. Choose another name.",
            field="out_dir", value=str(path),
        )  # fmt: skip
    with disk_errors(str(path)):
        there = sorted(os.listdir(path))
    if not there:
        return
    what = f"{there[0]} and {len(there) - 1} more" if len(there) > 1 else there[0]
    why = (
        " They are what an interrupted run has left, or a run that is going on."
        if _TEMPORARY in there and _SUCCESS not in there
        else ""
    )
    raise ConfigError(
        f"out_dir {path} is not empty ({what}).{why} Choose another folder, or empty it first.",
        field="out_dir", value=str(path),
    )  # fmt: skip


def _refuse_to_overwrite(path: Path) -> None:
    if os.path.lexists(path):
        raise DataError(
            f"{path} was put there by somebody else while the results were made; it is left alone.",
            path=str(path),
        )


def remove_folder(path: str) -> None:
    """Remove a folder into which late attempts may still be writing.

    It gets another name first: attempts open files by its old name, so none appears while the
    folder is being emptied.
    """
    doomed = f"{path}.{unique_name('removed')}"
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed)
