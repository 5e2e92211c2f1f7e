"""Files of the master's machine, for jobs on machines that do not have them.

The master's side is a service (`FileRelay`), the job's side are three functions: `is_here`,
`read_file` and `send_file`. Every byte goes over the job's own connection to the master.

Rule 1: only files directly in a folder that is shared at the moment are reached, by plain names:
        no links are followed, nothing is overwritten, nothing is removed.
Rule 2: a file is written by one job from its start to its end, in order.
Rule 3: disks are slow: reading and writing is done by a thread of the relay's own, so the master's
        I/O thread never waits for one, nor for a queue of calls that is full (`call_thread`).
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import DataError, RemoteProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.runtime.call_thread import CallThread
from paramserver.runtime.context import current

SERVICE: Final = "relay"
PIECE_BYTES: Final = 1 << 20
"""What is asked for or sent at once: some milliseconds of an encrypted connection."""
MANY: Final = 1024
"""Spans of files in one question."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")


class FileRelay:
    """The service. See `runtime.master.Service` and the rules of the module.

    Parameters
    ----------
    post : callable
        Takes the answers, from any thread; the master's `post`.
    clock : callable
        The master's.
    trusted : bool
        Whether the workers are inside the local trust domain.
    """

    def __init__(
        self,
        post: Callable[[ServiceReplied], None],
        clock: Callable[[], float],
        *,
        trusted: bool,
    ) -> None:
        self._trusted = trusted
        self._shared: Counter[str] = Counter()
        self._shared_lock = threading.Lock()
        self._calls = CallThread("paramserver-relay", self._answer, post, clock, trusted=trusted)

    # --- for the master's own threads ------------------------------------------------------------

    @contextmanager
    def share(self, folder: str | os.PathLike[str]) -> Iterator[None]:
        """Let jobs reach the files of a folder, for the time of a with block."""
        path = os.path.abspath(folder)
        with self._shared_lock:
            self._shared[path] += 1
        try:
            yield
        finally:
            with self._shared_lock:
                self._shared[path] -= 1
                if not self._shared[path]:
                    del self._shared[path]

    def close(self) -> None:
        """End the thread; calls that wait are not answered any more. May be called twice."""
        self._calls.close()

    # --- for the master's I/O thread -------------------------------------------------------------

    def call(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Take in a call; it is answered from the relay's thread."""
        self._calls.ask(command)
        return ()

    def worker_gone(self, incarnation: int, now: float) -> Iterable[ServiceReplied]:
        """Forget what it has asked; an answer that is on its way is dropped by the master."""
        self._calls.forget(incarnation)
        return ()

    # --- the relay's thread ----------------------------------------------------------------------

    def _answer(self, command: CallService) -> Payload:
        asked = calls.decode_value(command.body, trusted=self._trusted)
        return calls.encode_value(self._do(command.method, asked), trusted=self._trusted)

    def _do(self, method: str, asked: object) -> bytes | list[bytes | None] | None:
        match method, asked:
            case "read", (str(path), int(offset), int(n_bytes)) if 0 <= n_bytes <= PIECE_BYTES:
                return _read(self._checked(path), offset, n_bytes)
            case "read_many", (list(wanted) | tuple(wanted),):
                return self._read_many(wanted)
            case "write", (str(path), int(offset), bytes(data)):
                _write(self._checked(path), offset, data)
                return None
        raise RemoteProtocolError(f"the relay does not know the call {method!r:.40}", peer="")

    def _read_many(self, wanted: Sequence[Any]) -> list[bytes | None]:
        if len(wanted) > MANY:
            raise RemoteProtocolError(f"{len(wanted)} files at once are too many", peer="")
        answers: list[bytes | None] = []
        left = PIECE_BYTES
        for each in wanted:
            match each:
                case (str(path), int(offset), int(n_bytes)) if 0 <= n_bytes <= left:
                    left -= n_bytes
                    answers.append(_read(self._checked(path), offset, n_bytes))
                case _:
                    raise RemoteProtocolError("what is wanted is too much, or no span", peer="")
        return answers

    def _checked(self, path: str) -> str:
        folder, name = os.path.split(path)
        with self._shared_lock:
            is_shared = folder in self._shared
        if not is_shared or not _NAME.fullmatch(name):
            raise DataError(f"{path!r:.300} is not in a folder that is shared now.", path=path)
        return path


def _read(path: str, offset: int, n_bytes: int) -> bytes | None:
    """Return the bytes there, or None if there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.pread(fd, n_bytes, offset)
    finally:
        os.close(fd)


def _write(path: str, offset: int, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags if offset else flags | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if os.fstat(fd).st_size != offset:
                raise DataError(f"{path} is being written by somebody else.", path=path)
            view = memoryview(data)
            while view:
                n = os.pwrite(fd, view, offset)
                view, offset = view[n:], offset + n
        finally:
            os.close(fd)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written on the master's machine: {error.strerror}.", path=path
        ) from error


# --- the job's side ------------------------------------------------------------------------------


def is_here(folder: str) -> bool:
    """Say whether a folder of the master's machine is, or was, on this one.

    What is looked for is the folder around it, the cluster's own, whose name has random parts: it
    outlives the other, so that a late job does not take itself for one of another machine.
    """
    return os.path.isdir(os.path.dirname(folder))


def read_file(path: str, offset: int, n_bytes: int) -> bytes:
    """Read a part of a file of the master's machine, from within a job.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it ends before.
    """
    pieces = []
    while n_bytes:
        piece = _ask("read", (path, offset, min(n_bytes, PIECE_BYTES)))
        if piece is None:
            raise FileNotFoundError(f"There is no file {path} on the master's machine.")
        if not piece:
            raise ValueError("it is cut off")
        pieces.append(piece)
        offset += len(piece)
        n_bytes -= len(piece)
    return b"".join(pieces)


def read_many(wanted: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """Read several parts of files of the master's machine in one round trip, from within a job.

    Parameters
    ----------
    wanted : sequence of (path, offset, n_bytes)
        At most `MANY`, of `PIECE_BYTES` together; a single one may be of any size.

    Returns
    -------
    list of bytes or None
        None for a file that is not there; fewer bytes for one that ends before.
    """
    if len(wanted) == 1:
        try:
            return [read_file(*wanted[0])]
        except FileNotFoundError:
            return [None]
        except ValueError:
            return [b""]
    answers: list[bytes | None] = _ask("read_many", (tuple(wanted),))
    return answers


def send_file(source: str, path: str) -> None:
    """Copy a file of this machine to a new one on the master's, from within a job.

    Raises
    ------
    JobFailed
        If it cannot be written there; in words.
    """
    offset = 0
    with open(source, "rb") as file:
        while True:
            piece = file.read(PIECE_BYTES)
            if piece or not offset:
                _ask("write", (path, offset, piece))
            if len(piece) < PIECE_BYTES:
                return
            offset += len(piece)


def _ask(method: str, body: tuple[object, ...]) -> Any:
    context = current()
    sent = calls.encode_value(body, trusted=context.trusted)
    return calls.decode_value(context.call(SERVICE, method, sent), trusted=context.trusted)
