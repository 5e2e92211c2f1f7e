"""Checkpoints of a training in a folder: written whole or not at all, the newest good one read.

::

    checkpoints/00000007.checkpoint    see `checkpoint_file`
    checkpoints/lock                   held by the one master that writes here

Rule 1: a file gets its name when all of it has reached the disk: whatever ends the process, what
        has a name is whole, and the one before it is still there.
Rule 2: what is damaged all the same is passed over, counted and named; the one before it is read.
Rule 3: a disk that is full or broken costs the checkpoint, never the training.
Rule 4: weights that are not finite are never written.
Rule 5: files are numbered: no clock says which is the newest.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import warnings
from collections import Counter
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, DataError
from paramserver.training.checkpoint_file import TrainingState, pieces, read_score, read_state
from paramserver.training.vector import Workspace

__all__ = ["CheckpointWarning", "Checkpoints", "Disk", "TrainingState"]

_NAME: Final = re.compile(r"(\d{8,})\.checkpoint")
_UNFINISHED: Final = ".unfinished"


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written or read; training goes on."""


class Disk:
    """What writing a checkpoint asks of a disk, step by step: tests make each of them fail."""

    def create(self, path: Path) -> int:
        """Open a new file; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, piece: memoryview) -> int:
        """Write some of a piece; return how many bytes."""
        return os.write(fd, piece)

    def sync(self, fd: int) -> None:
        """Wait until what was written has reached the disk."""
        os.fsync(fd)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file its name."""
        os.rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        """Wait until the names in a folder have reached the disk."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, path: Path) -> None:
        """Remove a file that is not needed any more."""
        path.unlink(missing_ok=True)


class Checkpoints:
    """The checkpoints of one training; `paramserver.fit` writes them and goes on from them.

    Parameters
    ----------
    folder : str or path
        For the checkpoints of this training alone; made when it is first written to.
    every_s : float, default=10
        Seconds between two checkpoints; more where one takes longer than a ninth of it to write.
        One more is written at the end, and when training is interrupted.
    keep : int, default=3
        How many of the newest stay; the one with the best score stays besides.
    disk : Disk, optional
        For tests.

    Attributes
    ----------
    counters : Counter
        `saved`, `failed` (the disk did not take it), `nonfinite` (not written), `damaged` (passed
        over when reading), `unremoved` (a file that was to go is there still).

    Notes
    -----
    While it is used in a ``with`` block, as `fit` does, the folder is locked: a second master that
    tries is refused at once. The lock goes with the process that holds it, however that ends.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from paramserver.training.checkpoint import Checkpoints, TrainingState
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     path = checkpoints.save(TrainingState({"unit": 7}, {"w": np.ones(3)}))
    ...     path.name, checkpoints.newest().meta, checkpoints.newest().arrays["w"]
    ('00000001.checkpoint', {'unit': 7}, array([1., 1., 1.]))
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_s: float = 10.0,
        keep: int = 3,
        disk: Disk | None = None,
    ) -> None:
        if not every_s > 0:
            raise ConfigError(
                f"every_s must be above 0 seconds, not {every_s}.", field="every_s", value=every_s
            )
        if keep < 1:
            raise ConfigError(f"keep must be 1 or more, not {keep}.", field="keep", value=keep)
        self.folder = Path(os.path.abspath(folder))
        self.every_s = every_s
        self.keep = keep
        self.counters: Counter[str] = Counter()
        self._disk = disk or Disk()
        self._lock: int | None = None
        self._n_holders = 0
        self._scores: dict[Path, float | None] = {}
        self._has_warned = False

    # --- reading ----------------------------------------------------------------------------------

    def paths(self) -> list[Path]:
        """Return the files, oldest first; whether they are good is not looked at."""
        try:
            found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        return sorted(found, key=_number)

    def newest(self) -> TrainingState | None:
        """Read the newest checkpoint that is whole; None if there is none.

        Those that are damaged are passed over with a `CheckpointWarning` that names them.
        """
        looked_at: set[Path] = set()
        # Listed again each time: a master that is at work may have written and removed some.
        while paths := [path for path in self.paths() if path not in looked_at]:
            looked_at.add(paths[-1])
            try:
                return read_state(paths[-1])
            except FileNotFoundError:
                continue
            except (DataError, OSError) as error:
                self.counters["damaged"] += 1
                warnings.warn(
                    f"A checkpoint is passed over for the one before it: {error}",
                    CheckpointWarning,
                    stacklevel=2,
                )
        return None

    # --- writing ----------------------------------------------------------------------------------

    def save(self, state: TrainingState, score: float | None = None) -> Path | None:
        """Write a checkpoint, and remove those that are not to be kept.

        Parameters
        ----------
        state : TrainingState
        score : float, optional
            How good its weights are; more is better.

        Returns
        -------
        Path or None
            None if it was not written: `counters` say why, and what was there before still is.

        Raises
        ------
        ConfigError
            If another process trains here, or the folder cannot be made.
        """
        if not _all_finite(state.arrays.values()):
            self.counters["nonfinite"] += 1
            return None
        with self:
            last = self.paths()[-1:]
            path = self.folder / f"{_number(last[0]) + 1 if last else 1:08d}.checkpoint"
            score = score if score is not None and isfinite(score) else None
            try:
                self._write(path, state, score)
            except OSError as error:
                self._complain(error)
                return None
            self.counters["saved"] += 1
            self._scores[path] = score
            self._prune()
            return path

    def __enter__(self) -> Self:
        if self._n_holders == 0:
            self._lock = self._take_lock()
        self._n_holders += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._n_holders -= 1
        if self._n_holders == 0 and self._lock is not None:
            # Said, not left to `close`: a child that is being started has the descriptor, too,
            # until it runs its own program.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    # --- inside -----------------------------------------------------------------------------------

    def _take_lock(self) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"No checkpoints can be written to {self.folder}: {error.strerror}. Choose another "
                "folder.",
                field="checkpoints",
                value=str(self.folder),
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._own(fd)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise ConfigError(
                f"Process {holder or '(unknown)'} is training in {self.folder}. Wait for its end "
                "or stop it, or choose another folder.",
                field="checkpoints",
                value=str(self.folder),
            ) from error
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _own(self, fd: int) -> None:
        """Take in what is there, and leave a note for those who come while we hold the lock."""
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
            for path in self.folder.iterdir():
                if path.name.endswith(_UNFINISHED):  # of a process that was killed
                    path.unlink(missing_ok=True)
        except OSError as error:  # a full disk: the lock itself holds
            self._complain(error)
        self._scores = {path: _score_of(path) for path in self.paths()}

    def _write(self, path: Path, state: TrainingState, score: float | None) -> None:
        disk = self._disk
        unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{_UNFINISHED}")
        try:
            fd = disk.create(unfinished)
            try:
                for piece in pieces(state, score):
                    left = memoryview(piece)
                    while left:
                        left = left[disk.write(fd, left) :]
                disk.sync(fd)
            finally:
                os.close(fd)
            disk.rename(unfinished, path)
        except BaseException:
            try:
                disk.remove(unfinished)
            except OSError:
                self.counters["unremoved"] += 1  # it goes when the folder is next locked
            raise
        disk.sync_folder(self.folder)

    def _prune(self) -> None:
        paths = self.paths()
        kept = set(paths[-self.keep :])
        scored = [(score, path) for path in paths if (score := self._scores.get(path)) is not None]
        if scored:
            kept.add(max(scored)[1])
        for path in paths:
            if path not in kept:
                try:
                    self._disk.remove(path)
                    self._scores.pop(path, None)
                except OSError:
                    self.counters["unremoved"] += 1

    def _complain(self, error: OSError) -> None:
        self.counters["failed"] += 1
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"A checkpoint could not be written to {self.folder}: {error.strerror or error}. "
                "Training goes on, and so do attempts to write; if it is stopped now, it can be "
                "resumed from the last one that was written.",
                CheckpointWarning,
                stacklevel=4,
            )


def _number(path: Path) -> int:
    return int(path.stem)


def _score_of(path: Path) -> float | None:
    try:
        return read_score(path)
    except (DataError, OSError):  # it is looked at again, and complained of, when it is read
        return None


def _all_finite(arrays: Iterable[npt.NDArray[Any]]) -> bool:
    floats = (array.reshape(-1) for array in arrays if np.issubdtype(array.dtype, np.floating))
    return all(Workspace(array.size, array.dtype).all_finite(array) for array in floats)
