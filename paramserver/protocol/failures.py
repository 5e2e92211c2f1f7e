"""Exceptions as payloads.

Rule 1: the text (type, message, traceback) always crosses, bounded; whatever the exception does
        when it is printed, pickled or rebuilt, its owner gets at least the text.
Rule 2: the exception itself crosses only inside the trust domain, when it is small and when the
        sender has seen it survive the journey.
"""

from __future__ import annotations

import re
import traceback as traceback_module
from typing import Any, Final, NamedTuple

import msgpack

from paramserver.errors import JobFailed, RemoteProtocolError
from paramserver.protocol import pickling
from paramserver.protocol.messages import Buffer, Payload, PayloadKind
from paramserver.protocol.text import bounded_text
from paramserver.protocol.unpacking import unpack

TYPE_BYTES: Final = 256
MESSAGE_BYTES: Final = 4 * 1024
TRACEBACK_BYTES: Final = 16 * 1024
PICKLED_BYTES: Final = 256 * 1024
"""A larger exception crosses as text only."""


class RemoteTraceback(Exception):
    """The traceback of an exception as it was on the worker; hangs below it as ``__cause__``.

    Parameters
    ----------
    text : str
        As `traceback.format_exception` wrote it, bounded.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class ErrorText(NamedTuple):
    """What can be read of an exception."""

    error_type: str
    """Its name; empty for a refusal, which is words alone."""
    message: str
    traceback: str


def encode_error(error: BaseException, *, trusted: bool) -> Payload:
    """Write an exception as a payload. Never raises an `Exception`, whatever `error` is.

    Parameters
    ----------
    error : BaseException
        Of the user's function, or a refusal of `decode_call`.
    trusted : bool
        Whether the connection is inside the local trust domain.

    Returns
    -------
    Payload
        Of kind PICKLE (with the text in `data` and the exception in `buffers`), else ERROR.
    """
    pickled = None
    if type(error) is JobFailed and error.fields.get("error_type") == "":
        text = ErrorText("", str(error), error.traceback)  # a refusal: words, not an exception
    else:
        text = _describe(error)
        if trusted:
            pickled = _pickled(error)
    data = msgpack.packb(
        (
            bounded_text(text.error_type, TYPE_BYTES),
            bounded_text(text.message, MESSAGE_BYTES),
            bounded_text(text.traceback, TRACEBACK_BYTES),
        )
    )
    if pickled is None:
        return Payload(PayloadKind.ERROR, data)
    return Payload(PayloadKind.PICKLE, data, pickled)


def decode_error(
    payload: Payload, *, trusted: bool, worker_id: str, attempts: int
) -> BaseException:
    """Read an exception that `encode_error` wrote.

    Parameters
    ----------
    payload : Payload
    trusted : bool
        Whether the connection it came by is inside the local trust domain.
    worker_id : str
        Where it was raised.
    attempts : int
        How many tries the job has had.

    Returns
    -------
    BaseException
        The exception itself, or a `JobFailed` that describes it. Its ``__cause__`` shows the
        traceback of the worker.

    Raises
    ------
    RemoteProtocolError
        If the payload is not an error, or is a pickle from outside of the trust domain; nothing
        has been unpickled then.
    """
    if payload.kind is PayloadKind.PICKLE and trusted:
        text = _read(payload.data)
        error = _unpickled(payload.buffers)
    elif payload.kind is PayloadKind.ERROR:
        text = _read(payload.data)
        error = None
    else:
        raise RemoteProtocolError(
            f"worker {worker_id} sent an error as {payload.kind.name}, which is not allowed here: "
            "it was not opened. Disconnect that worker if it is not yours",
            peer=worker_id,
        )
    if error is None:
        error = _job_failed(text, worker_id, attempts)
    if text.traceback:
        error.__cause__ = RemoteTraceback(text.traceback)
    return error


def error_text(payload: Payload) -> ErrorText:
    """Read the text of an exception, and nothing else of it.

    Raises
    ------
    RemoteProtocolError
        If the payload is not an error.
    """
    return _read(payload.data)


def _job_failed(text: ErrorText, worker_id: str, attempts: int) -> JobFailed:
    tries = "1 try" if attempts == 1 else f"{attempts} tries"
    where = f"(worker {worker_id}, {tries})"
    if text.error_type:
        message = (
            f"The function of a job raised {text.error_type}: {text.message} {where}. The "
            "traceback of the worker is in the attribute 'traceback' of this error."
        )
    else:
        message = f"{text.message} {where}"
    return JobFailed(
        message,
        error_type=text.error_type,
        traceback=text.traceback,
        worker_id=worker_id,
        attempts=attempts,
    )


# --- the exception as text -----------------------------------------------------------------------


def _describe(error: BaseException) -> ErrorText:
    kind = type(error)
    builtin = kind.__module__ == "builtins"
    name = kind.__qualname__ if builtin else f"{kind.__module__}.{kind.__qualname__}"
    try:
        lines = traceback_module.format_exception(error)
    except Exception as trouble:  # noqa: BLE001 - code of the exception's class; said in the text
        lines = [f"(no traceback: formatting it raised {type(trouble).__name__})"]
    return ErrorText(name, _message_of(error), "".join(lines))


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as trouble:  # noqa: BLE001 - code of the exception's class; said in the text
        return f"(no message: its __str__ raised {type(trouble).__name__})"


def _read(data: Buffer) -> ErrorText:
    limit = 2 * (TYPE_BYTES + MESSAGE_BYTES + TRACEBACK_BYTES)
    try:
        if len(data) > limit:
            raise ValueError(f"{len(data)} bytes, allowed are {limit}")
        fields = unpack(data)
        if type(fields) is not list or [type(field) for field in fields] != [str, str, str]:
            raise ValueError("it is not a list of three strings")
    except (ValueError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(
            f"a payload is not the text of an error: {str(error) or type(error).__name__}", peer=""
        ) from error
    return ErrorText(*fields)


# --- the exception itself ------------------------------------------------------------------------


def _pickled(error: BaseException) -> tuple[Buffer, ...] | None:
    """Return the pickle of an exception that is rebuilt from it unchanged, or None."""
    try:
        data, buffers = pickling.dumps(error)
        if len(data) + sum(memoryview(b).nbytes for b in buffers) > PICKLED_BYTES:
            return None
        rebuilt = pickling.loads(data, buffers)
        is_whole = type(rebuilt) is type(error) and _said_by(rebuilt) == _said_by(error)
    except Exception:  # noqa: BLE001 - code of the exception's class; the text goes instead
        return None
    return (data, *buffers) if is_whole else None


def _said_by(error: BaseException) -> str:
    """Return the message without addresses in memory, which differ in every copy."""
    return re.sub(r"\b0x[0-9a-f]+", "0x", str(error))


def _unpickled(buffers: Any) -> BaseException | None:
    try:
        data, *more = buffers
        error = pickling.loads(data, more)
    except (Exception, SystemExit):  # noqa: BLE001 - a class that is not here; the text is given
        return None
    return error if isinstance(error, BaseException) else None
