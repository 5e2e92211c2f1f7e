"""Calls of jobs whose answers take long (a disk is read), answered by a thread of their own.

Rule 1: the master's I/O thread hands a call over and never waits; calls are answered in order.
Rule 2: what an answer raises belongs to the job that asked, and is sent to it.
Rule 3: what waits is bounded, for each worker by itself: beyond `WAITING_BYTES` its calls are
        refused at once. A job waits for its answer, so it has one call here and never meets that.
Rule 4: the thread begins with the first call. After `close` nothing is answered any more, and
        nothing of whoever answered is held; nor of the calls of a worker that is gone.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import RemoteProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload

WAITING_BYTES: Final = 8 * 1024 * 1024
"""Of all calls of one worker that wait. The largest there are: a piece of a file (1 MiB), and the
names of a thousand files (5 MB, were each as long as a name can be)."""
_CALL_BYTES: Final = 1024
"""Of a call beside its body."""


class CallThread:
    """Answers calls aside.

    Parameters
    ----------
    name : str
        Of the thread.
    answer : callable
        Returns what a call is answered with; on the thread.
    post : callable
        Takes the answers, from any thread; the master's `post`.
    clock : callable
        The master's.
    trusted : bool
        Whether errors may be pickled.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[CallService], Payload],
        post: Callable[[ServiceReplied], None],
        clock: Callable[[], float],
        *,
        trusted: bool,
    ) -> None:
        self._name = name
        self._answer: Callable[[CallService], Payload] | None = answer
        self._post = post
        self._clock = clock
        self._trusted = trusted
        self._waiting: deque[CallService] = deque()
        self._waiting_bytes: Counter[int] = Counter()
        """Of each worker's life that has calls here."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ask(self, command: CallService) -> None:
        """Have a call answered; from the I/O thread."""
        life, n_bytes = command.incarnation, _size_bytes(command)
        with self._changed:
            if self._answer is None:
                return
            if self._waiting_bytes[life] + n_bytes > WAITING_BYTES:
                self._refuse(command)
                return
            self._waiting_bytes[life] += n_bytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(command)
            self._changed.notify()

    def forget(self, incarnation: int) -> None:
        """Drop what waits of a worker's life that is over; from the I/O thread."""
        with self._changed:
            if self._waiting_bytes.pop(incarnation, 0):
                others = [each for each in self._waiting if each.incarnation != incarnation]
                self._waiting = deque(others)

    def close(self) -> None:
        """End the thread; who still waits is not answered any more. May be called twice."""
        with self._changed:
            self._answer = None
            self._waiting.clear()
            self._waiting_bytes.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _discharge(self, command: CallService) -> None:
        """Note that a call does not wait any more."""
        left = self._waiting_bytes[command.incarnation] - _size_bytes(command)
        if left:
            self._waiting_bytes[command.incarnation] = left
        else:
            del self._waiting_bytes[command.incarnation]

    def _refuse(self, command: CallService) -> None:
        error = RemoteProtocolError(
            f"calls of more than {WAITING_BYTES} bytes at once are too much: "
            f"{command.method!r:.40} is not answered",
            peer="",
        )
        body = calls.encode_error(error, trusted=self._trusted)
        self._post(ServiceReplied(self._clock(), command.incarnation, command.call, False, body))

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._answer is None)
                answer = self._answer
                if answer is None:
                    return
                command = self._waiting.popleft()
                self._discharge(command)
            try:
                ok, body = True, answer(command)
            except Exception as error:  # noqa: BLE001 - it belongs to the job that asked
                ok, body = False, calls.encode_error(error, trusted=self._trusted)
            self._post(ServiceReplied(self._clock(), command.incarnation, command.call, ok, body))


def _size_bytes(command: CallService) -> int:
    return command.body.n_bytes + _CALL_BYTES
