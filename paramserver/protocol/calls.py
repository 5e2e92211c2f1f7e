"""A call, its value and its failure as payloads, for both kinds of connection.

Rule 1: inside the local trust domain (same user, same machine) anything that can be pickled goes.
Rule 2: across it functions go by name and values as plain data; a pickle that arrives by such a
        connection is refused before anything of it is read.
Rule 3: code crosses only from master to worker, and only where both were told so.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from paramserver.errors import RemoteProtocolError
from paramserver.protocol import pickling
from paramserver.protocol.arrays import pack_plain, unpack_plain
from paramserver.protocol.failures import RemoteTraceback, decode_error, encode_error
from paramserver.protocol.functions import find_function, name_of, refusal
from paramserver.protocol.messages import Buffer, Payload, PayloadKind
from paramserver.protocol.text import bounded_text

__all__ = [
    "Call",
    "RemoteTraceback",
    "decode_call",
    "decode_error",
    "decode_value",
    "encode_call",
    "encode_error",
    "encode_value",
]

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function, its positional arguments, its keyword arguments."""


def encode_call(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    trusted: bool,
    ship_code: bool = False,
) -> Payload:
    """Write a call as a payload.

    Parameters
    ----------
    fn : callable
    args : sequence
    kwargs : dict, optional
    trusted : bool
        Whether the workers are inside the local trust domain.
    ship_code : bool, default False
        Across it, send the function itself rather than its name. Functions of paramserver go by
        name all the same, so that a worker which accepts no code can train.

    Returns
    -------
    Payload
        Large arrays in it are views of the caller's memory: who keeps the payload beyond this call
        sees later changes.

    Raises
    ------
    LocalProtocolError
        If the call cannot be written; the error says what to do.
    """
    call = (fn, tuple(args), kwargs or {})
    if trusted:
        return Payload(PayloadKind.PICKLE, *pickling.dumps(call, what="a call"))
    if ship_code and not str(getattr(fn, "__module__", "")).startswith("paramserver."):
        return Payload(PayloadKind.CODE, *pickling.dumps(call, what="a call"))
    buffers: list[Buffer] = []
    return Payload(PayloadKind.PLAIN, pack_plain((name_of(fn), *call[1:]), buffers), tuple(buffers))


def decode_call(
    payload: Payload, *, trusted: bool, accept_code: bool = False, allowed: Sequence[str] = ()
) -> Call:
    """Read a call from a payload.

    Parameters
    ----------
    payload : Payload
    trusted : bool
        Whether the connection it came by is inside the local trust domain.
    accept_code : bool, default False
        Whether the operator of this worker accepts functions that are sent as code.
    allowed : sequence of str, optional
        Packages whose functions may be called by name; paramserver's own jobs always may.

    Returns
    -------
    fn : callable
    args : tuple
    kwargs : dict
        The arrays in them are the caller's own and writable.

    Raises
    ------
    RemoteProtocolError
        If the payload breaks the rules; nothing has been unpickled then.
    JobFailed
        If this worker is not allowed or not able to run it: a refusal in words.
    """
    if payload.kind is PayloadKind.PICKLE and trusted:
        return _check_call(_unpickle_call(payload))
    if payload.kind is PayloadKind.PLAIN:
        call = unpack_plain(payload.data, payload.buffers, writable=True)
        name, args, kwargs = _check_call(call, head=str)
        return find_function(name, allowed), args, kwargs
    if payload.kind is PayloadKind.CODE and accept_code:
        return _check_call(_unpickle_call(payload))
    if payload.kind is PayloadKind.CODE:
        raise refusal(
            "it does not accept functions that are sent as code. Start it with --accept-code, "
            "or put the function into a module and start it with --allow PACKAGE"
        )
    raise _not_allowed("a call", payload)


def encode_value(value: object, *, trusted: bool) -> Payload:
    """Write a result (or the body of a service call) as a payload.

    Parameters
    ----------
    value : object
    trusted : bool
        Whether the connection is inside the local trust domain; across it only plain values go.

    Returns
    -------
    Payload

    Raises
    ------
    LocalProtocolError
        If the value cannot be written; the error names its type and says what to do.
    """
    if trusted:
        return Payload(PayloadKind.PICKLE, *pickling.dumps(value))
    buffers: list[Buffer] = []
    return Payload(PayloadKind.PLAIN, pack_plain(value, buffers), tuple(buffers))


def decode_value(payload: Payload, *, trusted: bool) -> Any:
    """Read a result (or the body of a service call) from a payload.

    Parameters
    ----------
    payload : Payload
    trusted : bool
        Whether the connection it came by is inside the local trust domain.

    Returns
    -------
    object
        The arrays in it are the caller's own and writable.

    Raises
    ------
    RemoteProtocolError
        If the payload is an error, is code, is malformed, or is a pickle from outside of the trust
        domain; nothing has been unpickled then.
    Exception
        Whatever the classes inside of a trusted pickle raise.
    """
    if payload.kind is PayloadKind.PICKLE and trusted:
        return pickling.loads(payload.data, payload.buffers)
    if payload.kind is PayloadKind.PLAIN:
        return unpack_plain(payload.data, payload.buffers, writable=True)
    raise _not_allowed("a value", payload)


def _check_call(call: Any, head: type | None = None) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return `call` if it is function (or an instance of `head`), arguments, keywords."""
    if type(call) is tuple and len(call) == 3:
        fn, args, kwargs = call
        if (
            (callable(fn) if head is None else type(fn) is head)
            and type(args) is tuple
            and type(kwargs) is dict
            and (not kwargs or all(type(key) is str for key in kwargs))
        ):
            return fn, args, kwargs
    raise RemoteProtocolError("a payload is not a call: function, arguments, keywords", peer="")


def _unpickle_call(payload: Payload) -> Any:
    try:
        return pickling.loads(payload.data, payload.buffers)
    except (Exception, SystemExit) as error:
        reason = refusal(
            f"it cannot read the call ({type(error).__name__}: {bounded_text(str(error), 1024)}). "
            "A module that is missing has to be installed where the worker runs, or be importable "
            "from its sys.path"
        )
        reason.traceback = reason.fields["traceback"] = traceback.format_exc()
        raise reason from error


def _not_allowed(what: str, payload: Payload) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"a peer sent {what} as {payload.kind.name}, which is not allowed by this connection: it "
        "was not opened. If the peer is not yours, disconnect it and change the keys",
        peer="",
    )
