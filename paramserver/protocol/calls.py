"""A call, its value and its failure as payloads, for both kinds of connection.

Rule 1: inside the local trust domain (same user, same machine) anything that can be pickled goes.
Rule 2: across it functions (also those that are arguments themselves) go by name and values as
        plain data; a pickle that arrives by such a connection is refused before anything of it is
        read.
Rule 3: code crosses only from master to worker, and only where both were told so.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, TypeAlias

from paramserver.errors import LocalProtocolError, RemoteProtocolError
from paramserver.protocol import pickling
from paramserver.protocol.arrays import pack_plain, unpack_plain
from paramserver.protocol.failures import RemoteTraceback, decode_error, encode_error
from paramserver.protocol.functions import find_function, name_of, refusal
from paramserver.protocol.limits import check_size
from paramserver.protocol.messages import Buffer, Payload, PayloadKind
from paramserver.protocol.pickling import keep_in_main
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
    "keep_in_main",
]

_PICKLE: Final = PayloadKind.PICKLE
_FUNCTIONS = (FunctionType, BuiltinFunctionType, type)

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function, its positional arguments, its keyword arguments."""


def encode_call(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    trusted: bool,
    ship_code: bool = False,
    wants_inputs: bool = False,
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
        name all the same, so that a worker which accepts no code can train, unless there is code
        among their arguments.
    wants_inputs : bool, default False
        The function's first argument is what the phase before has given; its worker adds it.

    Returns
    -------
    Payload
        Large arrays in it are views of the caller's memory: who keeps the payload beyond this call
        sees later changes.

    Raises
    ------
    LocalProtocolError
        If the call cannot be written; the error says what to do.
    MessageTooLarge
        If no message can carry it.
    TypeError
        If `fn` cannot be called.
    """
    if not callable(fn):
        raise TypeError(
            f"{fn!r:.80} cannot be called. Give the function and then its arguments: submit(f, x), "
            "not submit(f(x))."
        )
    payload = _encode_call(fn, tuple(args), kwargs or {}, trusted, ship_code, wants_inputs)
    check_size(payload, "call")
    return payload


def _encode_call(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    trusted: bool,
    ship_code: bool,
    wants_inputs: bool,
) -> Payload:
    call = (fn, args, kwargs, True) if wants_inputs else (fn, args, kwargs)
    if trusted:
        return Payload(_PICKLE, *pickling.dumps(call, what="a call"))
    named = tuple(at for at, arg in enumerate(args) if isinstance(arg, _FUNCTIONS))
    if not ship_code or all(_is_ours(each) for each in (fn, *(args[at] for at in named))):
        buffers: list[Buffer] = []
        try:
            data = pack_plain(_by_name(fn, args, kwargs, wants_inputs, named), buffers)
        except LocalProtocolError:
            if not ship_code:
                raise
        else:
            return Payload(PayloadKind.PLAIN, data, tuple(buffers))
    return Payload(PayloadKind.CODE, *pickling.dumps(call, what="a call"))


def decode_call(
    payload: Payload,
    *,
    trusted: bool,
    accept_code: bool = False,
    allowed: Sequence[str] = (),
    with_inputs: Callable[..., Any] | None = None,
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
    with_inputs : callable, optional
        Called as ``with_inputs(fn, *args, **kwargs)`` for a call that wants inputs; without it such
        a call is refused.

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
    if payload.kind is _PICKLE and trusted:
        call = _check_call(_unpickle(payload, "the call"))
    elif payload.kind is PayloadKind.PLAIN:
        value = unpack_plain(payload.data, payload.buffers, writable=True)
        call = _find_functions(value, allowed)
    elif payload.kind is PayloadKind.CODE:
        _require_consent(accept_code)
        call = _check_call(_unpickle(payload, "the call"))
    else:
        raise _not_allowed("a call", payload)
    fn, args, kwargs, wants_inputs = call
    if not wants_inputs:
        return fn, args, kwargs
    if with_inputs is None:
        raise RemoteProtocolError("a call wants inputs, and there are none to give", peer="")
    return with_inputs, (fn, *args), kwargs


def encode_initializer(fn: Callable[..., Any], args: Sequence[Any]) -> bytes:
    """Write what the workers of this machine call before they take jobs.

    Raises
    ------
    LocalProtocolError
        If it cannot be pickled; the error says what to do.
    """
    return pickling.dumps((fn, tuple(args), {}), what="the initializer", aside=False)[0]


def decode_initializer(data: Buffer, *, trusted: bool) -> tuple[Call, list[dict[str, Any]]]:
    """Read what `encode_initializer` wrote.

    Parameters
    ----------
    data : bytes-like
        From a file that is this user's alone.
    trusted : bool
        Whether this worker is inside the local trust domain.

    Returns
    -------
    call : tuple
        Function, arguments, keywords.
    namespaces : list of dict
        The globals of its functions of ``__main__``, if it has any.

    Raises
    ------
    RemoteProtocolError
        If it is outside of the trust domain; nothing has been unpickled then.
    Exception
        Whatever the classes inside raise, or where this process does not have them.
    """
    if not trusted:
        raise _not_allowed("an initializer", Payload(_PICKLE, data))
    call, namespaces = pickling.loads_with_main(data)
    return _check_call(call)[:3], namespaces


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
        return Payload(_PICKLE, *pickling.dumps(value))
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
    if payload.kind is _PICKLE and trusted:
        return pickling.loads(payload.data, payload.buffers)
    if payload.kind is PayloadKind.PLAIN:
        return unpack_plain(payload.data, payload.buffers, writable=True)
    raise _not_allowed("a value", payload)


def encode_code(value: object, what: str) -> Payload:
    """Write a value with the code that it needs, for workers that accept code.

    Raises
    ------
    LocalProtocolError
        If it cannot be pickled; the error says what to do.
    """
    return Payload(PayloadKind.CODE, *pickling.dumps(value, what=what))


def decode_code(payload: Payload, *, trusted: bool, accept_code: bool) -> Any:
    """Read a value that may have come with code.

    Parameters
    ----------
    payload : Payload
    trusted : bool
        Whether the connection it came by is inside the local trust domain.
    accept_code : bool
        Whether the operator of this worker accepts code.

    Raises
    ------
    JobFailed
        If this worker accepts no code, or cannot read it: a refusal in words.
    RemoteProtocolError
        If it may not come by this connection; nothing has been unpickled then.
    """
    if payload.kind is not PayloadKind.CODE:
        return decode_value(payload, trusted=trusted)
    _require_consent(accept_code)
    return _unpickle(payload, "the code")


def _require_consent(accept_code: bool) -> None:
    if not accept_code:
        raise refusal(
            "it does not accept code from its master. Start it with --accept-code, or put "
            "the function or class into a module and start it with --allow PACKAGE"
        )


def _is_ours(fn: Callable[..., Any]) -> bool:
    return str(getattr(fn, "__module__", "")).startswith("paramserver.")


def _by_name(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    wants_inputs: bool,
    named: tuple[int, ...],
) -> tuple[Any, ...]:
    """Return a call as plain values: functions by their names, and which arguments are such."""
    plain = (name_of(fn), tuple(args), kwargs)
    if not named:
        return (*plain, True) if wants_inputs else plain
    names = tuple(name_of(arg) if at in named else arg for at, arg in enumerate(args))
    return plain[0], names, kwargs, wants_inputs, named


def _find_functions(
    value: Any, allowed: Sequence[str]
) -> tuple[Any, tuple[Any, ...], dict[str, Any], bool]:
    """Undo `_by_name`, under the rules of this worker; nothing is imported for a malformed call."""
    named: Any = ()
    if type(value) is tuple and len(value) == 5:
        *value, named = value
        if value[3] is False:
            del value[3]
        value = tuple(value)
    fn, args, kwargs, wants_inputs = _check_call(value, head=str)
    if type(named) is not tuple or not all(
        type(at) is int and 0 <= at < len(args) and type(args[at]) is str for at in named
    ):
        raise RemoteProtocolError("a call names functions among its arguments wrongly", peer="")
    found = list(args)
    for at in named:
        found[at] = find_function(args[at], allowed)
    return find_function(fn, allowed), tuple(found), kwargs, wants_inputs


def _check_call(
    call: Any, head: type | None = None
) -> tuple[Any, tuple[Any, ...], dict[str, Any], bool]:
    """Return function (or an instance of `head`), arguments, keywords, whether it wants inputs."""
    if type(call) is tuple and len(call) in (3, 4):
        fn, args, kwargs = call[:3]
        wants_inputs = len(call) == 4
        if (
            (callable(fn) if head is None else type(fn) is head)
            and type(args) is tuple
            and type(kwargs) is dict
            and (not kwargs or all(type(key) is str for key in kwargs))
            and (not wants_inputs or call[3] is True)
        ):
            return fn, args, kwargs, wants_inputs
    raise RemoteProtocolError("a payload is not a call: function, arguments, keywords", peer="")


def _unpickle(payload: Payload, what: str) -> Any:
    try:
        return pickling.loads(payload.data, payload.buffers)
    except (Exception, SystemExit) as error:
        reason = refusal(
            f"it cannot read {what} ({type(error).__name__}: {bounded_text(str(error), 1024)}). "
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
