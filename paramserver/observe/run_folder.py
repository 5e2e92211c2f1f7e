"""The folder of a run: what is kept of it, and who may write there.

Rule 1: one process writes to a folder at a time; the lock ends with the process.
Rule 2: a file is written whole or not at all; ``events.jsonl`` alone grows, by lines.
Rule 3: a folder that holds something else is refused before anything is written to it.

::

    runs/20261126-101500-avg/
    ├── config.toml         all settings; `--config` repeats the run, `--resume` continues it
    ├── events.jsonl        what happened; see `observe.events`
    ├── history.csv         the convergence, as a table
    ├── timeline.csv        which worker had which job and when: the latest 10,000
    ├── checkpoints/
    ├── model.safetensors   the weights, by name; see `observe.model_files`
    ├── model.json          what they mean
    ├── model.skops         the stock estimator, where skops is installed
    ├── summary.json        the figures
    └── report.html         all of it on one page; see `observe.report`
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from paramserver.config import write_settings
from paramserver.errors import ConfigError, DataError
from paramserver.observe.events import Event, RunStarted, plain, to_line
from paramserver.training.timeline import JobSpan

if TYPE_CHECKING:
    from paramserver.training.result import History

CONFIG: Final = "config.toml"
EVENTS: Final = "events.jsonl"
HISTORY: Final = "history.csv"
TIMELINE: Final = "timeline.csv"
SUMMARY: Final = "summary.json"
CHECKPOINTS: Final = "checkpoints"


class RunFolder:
    """A folder that this process may write a run to; `close` gives it back.

    See `make`, `choose` and `reopen`.

    Attributes
    ----------
    path : Path
    has_begun : bool
        Whether a `RunStarted` was noted by this object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.has_begun = False
        self._lock = _lock(path)
        try:
            self._events = os.open(path / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            self._is_torn = _ends_torn(path / EVENTS)  # as a killed master leaves it
        except OSError as error:
            os.close(self._lock)
            raise _cannot_write(path, error) from error

    # --- ways to one ------------------------------------------------------------------------------

    @classmethod
    def make(cls, path: Path) -> Self:
        """Take a folder that is new or empty.

        Raises
        ------
        ConfigError
            If it holds something, or cannot be written.
        """
        check_is_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(path, error) from error
        return cls(path)

    @classmethod
    def choose(cls, mode: str) -> Self:
        """Make ``runs/<time>-<mode>`` below the working folder."""
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{mode}"
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            path = Path("runs") / f"{name}{suffix}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if Path("runs").is_dir():
                    continue
                raise _cannot_write(path, NotADirectoryError(20, "runs is no folder")) from None
            except OSError as error:
                raise _cannot_write(path, error) from error
            return cls(path)
        raise ConfigError(f"There is no free name like runs/{name}.", field="out", value=name)

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Take the folder of a run that was broken off.

        Raises
        ------
        ConfigError
            If it is none, or a process writes to it now.
        """
        check_is_run(path)
        return cls(path)

    # --- what is written --------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / CHECKPOINTS

    def note(self, event: Event) -> None:
        """Append an event to ``events.jsonl``.

        One write of the system, and no lock: the handler of a signal may do so amid another one.

        Raises
        ------
        OSError
            If it cannot be written. What is noted next begins a line of its own.
        """
        line = to_line(event, time.time()).encode()
        if self._is_torn:
            line = b"\n" + line
        self._is_torn = os.write(self._events, line) < len(line)
        if self._is_torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if isinstance(event, RunStarted):
            self.has_begun = True

    def write_config(self, settings: Mapping[str, Any], comments: tuple[str, ...]) -> None:
        """Write ``config.toml``."""
        self.write(CONFIG, write_settings(settings, comments).encode())

    def write_history(self, history: History) -> None:
        """Write ``history.csv``: a row for each evaluation, those before a resumption included."""
        self._write_table(HISTORY, history.columns, history.to_rows())

    def write_timeline(self, spans: Iterable[JobSpan]) -> None:
        """Write ``timeline.csv``: a row for each job; see `paramserver.training.timeline`."""
        self._write_table(TIMELINE, JobSpan._fields, spans)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        text = json.dumps(plain(dict(summary)), indent=2, allow_nan=False)
        self.write(SUMMARY, f"{text}\n".encode())

    def _write_table(
        self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
        self.write(name, text.getvalue().encode())

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all.

        Raises
        ------
        DataError
            If it cannot be written; what was there before is untouched.
        """
        try:
            write_whole(self.path / name, content)
        except OSError as error:
            raise DataError(
                f"{self.path / name} cannot be written: {error.strerror or error}. What was there "
                "before is untouched.",
                path=str(self.path / name),
            ) from error

    def close(self) -> None:
        """Give the folder back."""
        os.close(self._events)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_is_free(path: Path) -> None:
    """Refuse a folder that holds something.

    Raises
    ------
    ConfigError
    """
    try:
        is_run = (path / CONFIG).exists()
        is_empty = not path.exists() or next(path.iterdir(), None) is None
        nearest = next(each for each in (path, *path.absolute().parents) if each.exists())
    except OSError as error:
        raise _cannot_write(path, error) from error
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _cannot_write(path, PermissionError(errno.EACCES, f"{nearest} cannot be written"))
    if is_run:
        raise ConfigError(
            f"{path} holds a run already. Continue it with  --resume {path}  or name another "
            "folder with --out; nothing was changed.",
            field="out",
            value=str(path),
        )
    if not is_empty:
        raise ConfigError(
            f"{path} is not empty, and what it holds is no run of paramserver. Name a new or "
            "an empty folder with --out; nothing was changed.",
            field="out",
            value=str(path),
        )


def check_is_run(path: Path) -> None:
    """Refuse a folder that does not hold a run.

    Raises
    ------
    ConfigError
    """
    if not (path / CONFIG).is_file():
        raise ConfigError(
            f"{path} is not the folder of a run: it has no {CONFIG}. Runs lie in runs/ unless "
            "--out said otherwise.",
            field="resume",
            value=str(path),
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that whoever looks, also after a crash, sees all of it or what was before."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with new.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lock(path: Path) -> int:
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        raise ConfigError(
            f"Another process is writing to {path} now. Wait for its end, or name another folder "
            "with --out.",
            field="out",
            value=str(path),
        ) from error
    return folder


def _ends_torn(path: Path) -> bool:
    """Say whether the last line of a file has no end."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"The run cannot be kept in {path}: {error.strerror or error}. Name a folder that can be "
        "written with --out, or keep nothing with --no-out.",
        field="out",
        value=str(path),
    )
