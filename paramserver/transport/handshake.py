"""What a worker's end learns from ZeroMQ's events: connected anew, or why it cannot be. Pure.

Rule 1: a handshake cut short proves nothing: the master may have been stopped, or be too busy to
        answer in time. One refusal in words is a failure worth telling; so are two handshakes in a
        row that the other side ended, before any had succeeded.
Rule 2: a failure is told once, and again only after a connection that worked.
Rule 3: ZeroMQ says at once when it will dial again; when it does not, it has given up for good
        (it does after what it takes for a breach of its protocol), and somebody has to redial.
"""

from __future__ import annotations

import errno
from typing import Final

import zmq

from paramserver.transport.security import WorkerKeys

_CUT_SHORT_BEFORE_TELLING: Final = 2
_ENDED_BY_THEM: Final = (errno.EPIPE, errno.ECONNRESET)
"""Whoever is paused or busy runs into our time limit instead, which is EAGAIN."""
_GIVE_KEYS: Final = (
    "Give it the folder with worker.secret and master.public of that master (made by: paramserver "
    "keys DIR)."
)
_REDIAL_AFTER_S: Final = 1.0


class HandshakeWatch:
    """Reads the story of one connection.

    Parameters
    ----------
    address : str
        Whom we dial; for the words.
    keys : WorkerKeys or None
        What we show there; for the words.

    Attributes
    ----------
    is_up : bool
        Whether the connection stands, proven from both sides.
    redial_at_s : float or None
        When to redial, by the caller's clock; None while ZeroMQ sees to it.
    """

    EVENTS: Final = int(
        zmq.EVENT_HANDSHAKE_SUCCEEDED
        | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        | zmq.EVENT_DISCONNECTED
        | zmq.EVENT_CONNECT_RETRIED
    )
    """What the watch wants to be told."""

    def __init__(self, address: str, keys: WorkerKeys | None) -> None:
        self._address = address
        self._keys = keys
        self._has_succeeded = False
        self._n_cut_short = 0
        self._reconnected = False
        self._failure = ""
        self._told = False
        self.is_up = False
        self.redial_at_s: float | None = None

    def note(self, event: int, value: int, now_s: float) -> None:
        """Take one event of the socket's monitor in."""
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._reconnected = True
            self._has_succeeded = True
            self.is_up = True
            self._failure = ""
            self._told = False
            self.redial_at_s = None
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._fail(f"the master refused this worker's key (status {value}).", self._of_ours())
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._fail(*self._of_protocol(value))
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._note_cut_short(value)
        elif event == zmq.EVENT_DISCONNECTED:
            self.is_up = False
            self.redial_at_s = now_s + _REDIAL_AFTER_S
        elif event == zmq.EVENT_CONNECT_RETRIED:
            self.redial_at_s = None

    def note_redial(self) -> None:
        """Take in that the caller has redialled."""
        self.redial_at_s = None

    def take_reconnected(self) -> bool:
        """Say whether a connection was made since the last call."""
        answer = self._reconnected
        self._reconnected = False
        return answer

    def take_failure(self) -> str:
        """Return why no connection can be made, once; '' for none."""
        answer = self._failure
        self._failure = ""
        return answer

    def _note_cut_short(self, error: int) -> None:
        self._n_cut_short = self._n_cut_short + 1 if error in _ENDED_BY_THEM else 0
        if self._n_cut_short >= _CUT_SHORT_BEFORE_TELLING and not self._has_succeeded:
            self._fail("whoever answers there ends the handshake.", self._of_theirs())

    def _fail(self, what: str, advice: str) -> None:
        if not self._told:
            self._told = True
            self._failure = f"Cannot connect to {self._address}: {what} {advice}"

    def _of_protocol(self, code: int) -> tuple[str, str]:
        if code == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            if self._keys is None:
                return "the master asks for keys and this worker has none.", _GIVE_KEYS
            return (
                "the master uses no keys, and this worker does not talk without.",
                "Start the master with the keys, or check that the address is the master's.",
            )
        if code == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
            return "the keys do not fit.", self._of_theirs()
        return (
            f"the answer is not that of a paramserver master (code {code:#x}).",
            "Check host and port.",
        )

    def _of_ours(self) -> str:
        if self._keys is None:
            return _GIVE_KEYS
        return (
            f"{self._keys.folder}/worker.secret does not belong to the worker.public that the "
            "master knows: copy worker.secret anew from the folder of the master's keys."
        )

    def _of_theirs(self) -> str:
        if self._keys is None:
            # It may hang up before its greeting, which asks for keys, has been read.
            return (
                "Most likely that master asks for keys and this worker has none. "
                f"{_GIVE_KEYS} Otherwise check host and port."
            )
        return (
            f"Most likely {self._keys.folder}/master.public is not the key of the master that "
            "listens there (or that one uses no keys): copy master.public anew from the folder of "
            "the master's keys, and check host and port."
        )
