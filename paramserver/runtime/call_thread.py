"""Calls of jobs whose answers take long (a disk is read), answered by a thread of their own.

Rule 1: the master's I/O thread hands a call over and never waits; calls are answered in order.
Rule 2: what an answer raises belongs to the job that asked, and is sent to it.
Rule 3: the thread begins with the first call. After `close` nothing is answered any more, and
        nothing of whoever answered is held.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload


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
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ask(self, command: CallService) -> None:
        """Have a call answered; from the I/O thread."""
        with self._changed:
            if self._answer is None:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(command)
            self._changed.notify()

    def close(self) -> None:
        """End the thread; who still waits is not answered any more. May be called twice."""
        with self._changed:
            self._answer = None
            self._waiting.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._answer is None)
                answer = self._answer
                if answer is None:
                    return
                command = self._waiting.popleft()
            try:
                ok, body = True, answer(command)
            except Exception as error:  # noqa: BLE001 - it belongs to the job that asked
                ok, body = False, calls.encode_error(error, trusted=self._trusted)
            self._post(ServiceReplied(self._clock(), command.incarnation, command.call, ok, body))
