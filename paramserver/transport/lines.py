"""Lines: short messages of one length between processes of one machine, question and answer.

A line is for a dialogue in which every microsecond shows (a gradient lies in shared memory, the
line says so): a stream socket of the kernel, with no thread, no queue and no framing in between.

Rule 1: a line carries no authority. Who may say what is decided by what is said (a ticket).
Rule 2: the socket lies in a private folder, so who can dial is the same user.
Rule 3: one question at a time: who asked waits for the answer, so nothing is ever queued.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from paramserver.errors import PeerLost

BACKLOG = 1024


class Line:
    """The end that asks. Used by one thread.

    Parameters
    ----------
    path : Path
        Of the listening socket.
    answer_bytes : int
        Length of an answer.

    Raises
    ------
    PeerLost
        If nobody listens there any more.
    """

    def __init__(self, path: Path, answer_bytes: int) -> None:
        self._answer_bytes = answer_bytes
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise PeerLost(f"Nobody listens at {path}: {error.strerror}.", peer="master") from error

    def ask(self, question: bytes) -> bytes:
        """Send a question and wait for its answer.

        Raises
        ------
        PeerLost
            If the other end has hung up.
        """
        try:
            self._socket.sendall(question)
            answer = self._socket.recv(self._answer_bytes, socket.MSG_WAITALL)
        except OSError as error:
            raise PeerLost(f"The line broke: {error.strerror}.", peer="master") from error
        if len(answer) < self._answer_bytes:
            raise PeerLost(
                "The master has hung up: this job is not wanted any more.", peer="master"
            )
        return answer

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __del__(self) -> None:  # at the end of its process nobody else does, and Python complains
        with suppress(AttributeError):  # there was no socket to be had
            self.close()


class Exchange:
    """The end that answers, for many lines. All on one thread, whose poll watches descriptors.

    Parameters
    ----------
    path : Path
        Where to listen; in a private folder.
    question_bytes : int
        Length of a question.
    on_question : callable
        Called with the number of the line and the question. It answers now, later (`answer`) or
        hangs up, and must not raise.
    watch, unwatch : callables
        As `MasterTransport` has them.
    """

    def __init__(
        self,
        path: Path,
        question_bytes: int,
        on_question: Callable[[int, bytes], None],
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
    ) -> None:
        self._question_bytes = question_bytes
        self._on_question = on_question
        self._watch = watch
        self._unwatch = unwatch
        self._lines: dict[int, socket.socket] = {}
        """By their numbers, which (unlike descriptors) are never used again."""
        self._n_accepted = 0
        self._parts: dict[int, bytes] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.bind(str(path))
            self._listener.listen(BACKLOG)
        except BaseException:
            self._listener.close()
            raise
        watch(self._listener.fileno(), self._accept)

    def answer(self, line: int, answer: bytes) -> None:
        """Answer the question of a line; who has hung up gets nothing."""
        end = self._lines.get(line)
        if end is not None:
            try:
                end.send(answer)  # the only thing on its way there, so there is room for it
            except OSError:
                self.hang_up(line)

    def hang_up(self, line: int) -> None:
        """Close a line."""
        end = self._lines.pop(line, None)
        if end is not None:
            self._unwatch(end.fileno())
            self._parts.pop(line, None)
            end.close()

    def close(self) -> None:
        """Close all lines, and listen no more. May be called twice."""
        for line in list(self._lines):
            self.hang_up(line)
        if self._listener.fileno() >= 0:
            self._unwatch(self._listener.fileno())
            self._listener.close()

    def __len__(self) -> int:
        return len(self._lines)

    def _accept(self) -> None:
        with suppress(OSError):  # who dialled may have gone again
            end, _ = self._listener.accept()
            end.setblocking(False)
            self._n_accepted += 1
            line = self._n_accepted
            self._lines[line] = end
            self._watch(end.fileno(), lambda: self._read(line))

    def _read(self, line: int) -> None:
        end = self._lines.get(line)
        if end is None:
            return
        known = self._parts.pop(line, b"")
        try:
            data = end.recv(self._question_bytes - len(known))
        except BlockingIOError:  # nothing there after all; it is watched on
            self._parts[line] = known
            return
        except OSError:
            data = b""
        if not data:
            self.hang_up(line)
        elif len(known) + len(data) < self._question_bytes:
            self._parts[line] = known + data
        else:
            self._on_question(line, known + data)
