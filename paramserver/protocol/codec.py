"""Messages to frames and back: the one place that knows how a message is written (see wire.md).

Rule 1: what `encode` lets out, `decode` lets in, and gives the same message.
Rule 2: `decode` believes nothing: sizes, counts, types and ranges are checked with Python integers
        before anything of their size is allocated, and whatever the bytes, it returns a message or
        raises a `ProtocolError` or `TransportError`.
Rule 3: large data is never copied, neither on the way out nor (when it came in one frame) in.
Rule 4: no pickle, no reflection; a payload is carried, never looked into.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, get_args

import msgpack

from paramserver.errors import LocalProtocolError, RemoteProtocolError, VersionMismatch
from paramserver.protocol import messages as m
from paramserver.protocol.forms import FORMS_BY_NUMBER, FORMS_BY_TYPE
from paramserver.protocol.limits import DEFAULT_LIMITS, Limits, MalformedError, too_large
from paramserver.protocol.messages import Buffer, Envelope, Message
from paramserver.protocol.pieces import NO_FRAMES, Incoming, Outgoing, Source
from paramserver.protocol.text import bounded_text
from paramserver.protocol.unpacking import unpack_header

__all__ = [
    "DEFAULT_LIMITS",
    "FROM_MASTER",
    "FROM_WORKERS",
    "MAGIC",
    "PROTOCOL_VERSION",
    "Limits",
    "bounded_text",
    "decode",
    "encode",
]

PROTOCOL_VERSION: Final = 1
MAGIC: Final = b"\xc1PS"
"""0xc1 is the one byte that msgpack never writes: no msgpack text is mistaken for a message."""

_PREFIX: Final = MAGIC + bytes([PROTOCOL_VERSION])

FROM_WORKERS: Final[frozenset[type]] = frozenset(get_args(m.WorkerMessage))
"""What a master accepts."""
FROM_MASTER: Final[frozenset[type]] = frozenset(get_args(m.MasterMessage))
"""What a worker or an agent accepts."""


# --- the way out ---------------------------------------------------------------------------------


class _PerThread(threading.local):
    """A packer for each thread: making one costs more than packing, and none is thread-safe."""

    def __init__(self) -> None:
        self.pack: Callable[[object], bytes] = msgpack.Packer().pack


_PACKERS: Final = _PerThread()


def encode(envelope: Envelope, message: Message, limits: Limits = DEFAULT_LIMITS) -> list[Buffer]:
    """Write a message as frames.

    Parameters
    ----------
    envelope : Envelope
    message : Message
    limits : Limits, optional

    Returns
    -------
    list of bytes or memoryview
        The header, then the raw frames. Memoryviews look into the caller's data: it must not
        change until the frames are sent.

    Raises
    ------
    LocalProtocolError
        If a field has a value that its type does not allow.
    MessageTooLarge
        If the message passes the limits. In both cases nothing is to be sent.

    Notes
    -----
    Any thread may call it. About 2 us for a small message.
    """
    header, frames = _write(envelope, message, limits, limits.inline_bytes)
    if len(header) > limits.header_bytes:
        header, frames = _write(envelope, message, limits, 0)
        if len(header) > limits.header_bytes:
            raise too_large("header", len(header), limits.header_bytes, "bytes")
    return [header, *frames] if frames else [header]


def _write(
    envelope: Envelope, message: Message, limits: Limits, inline_bytes: int
) -> tuple[bytes, Sequence[Buffer]]:
    form = FORMS_BY_TYPE.get(type(message))
    if form is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a message of the protocol")
    run, epoch, worker_id, incarnation, seq, ack = envelope
    out = Outgoing(limits, inline_bytes)
    try:
        if (epoch | incarnation | seq | ack) >> 63:
            raise MalformedError(f"a number of {envelope} is not within 0 and 2**63 - 1")
        fields = form.write(message, out)
        header = _PREFIX + _PACKERS.pack(
            (form.number, run, epoch, worker_id, incarnation, seq, ack, *fields)
        )
    except (MalformedError, TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(
            f"{type(message).__name__} for {worker_id!r} cannot be written: {error}"
        ) from error
    frames = out.close() if out.frames or out.gathered else ()
    return header, frames


# --- the way in ----------------------------------------------------------------------------------


def decode(
    frames: Sequence[Buffer],
    accept: frozenset[type],
    limits: Limits = DEFAULT_LIMITS,
    peer: str = "",
) -> tuple[Envelope, Message]:
    """Read a message.

    Parameters
    ----------
    frames : sequence of bytes-like
        As they came from the transport.
    accept : frozenset of type
        The messages this end may receive: `FROM_WORKERS` or `FROM_MASTER`.
    limits : Limits, optional
    peer : str, optional
        Who sent them, for the error.

    Returns
    -------
    envelope : Envelope
    message : Message
        Its large payloads are views of `frames`.

    Raises
    ------
    VersionMismatch
        If the peer speaks another version.
    RemoteProtocolError
        If the frames are anything else than a message that `accept` allows.

    Notes
    -----
    Any thread may call it. About 2 us for a small message.
    """
    try:
        return _read(frames, accept, limits)
    except (MalformedError, TypeError, ValueError, msgpack.UnpackException) as error:
        reason = bounded_text(str(error) or type(error).__name__, 512)
        raise RemoteProtocolError(
            f"{peer or 'a peer'} sent what is not a valid message: {reason}. "
            "It was dropped; if this peer is yours, check that both sides run the same release",
            peer=peer,
        ) from error


def _read(
    frames: Sequence[Buffer], accept: frozenset[type], limits: Limits
) -> tuple[Envelope, Message]:
    n_frames = len(frames)
    if not 0 < n_frames <= limits.n_frames + 1:
        raise MalformedError(f"{n_frames} frames, allowed are 1 to {limits.n_frames + 1}")
    header = frames[0]
    if len(header) > limits.header_bytes:
        raise MalformedError(f"a header of {len(header)} bytes, allowed {limits.header_bytes}")
    if type(header) is not bytes:
        header = bytes(header)
    if not header.startswith(_PREFIX):
        raise _wrong_prefix(header)
    values = unpack_header(header[4:], limits)
    if type(values) is not tuple or len(values) < 7:
        raise MalformedError("the header is not a list of an envelope and fields")
    number, run, epoch, worker_id, incarnation, seq, ack = values[:7]
    form = FORMS_BY_NUMBER.get(number) if type(number) is int else None
    if form is None:
        raise MalformedError(f"there is no message type {number!r:.80}")
    if form.type not in accept:
        raise MalformedError(f"{form.type.__name__} may not be sent in this direction")
    if type(run) is not str or type(worker_id) is not str:
        raise MalformedError("run and worker_id must be strings")
    if (
        type(epoch) is not int
        or type(incarnation) is not int
        or type(seq) is not int
        or type(ack) is not int
        or (epoch | incarnation | seq | ack) >> 63
    ):
        raise MalformedError("epoch, incarnation, seq, ack must be integers from 0 to 2**63 - 1")
    source: Source = NO_FRAMES if n_frames == 1 else Incoming(frames[1:], limits)
    message = form.read(values, source)
    if source.rest:
        raise MalformedError(f"{source.rest} bytes of raw frames belong to nothing")
    return tuple.__new__(Envelope, values[1:7]), message


def _wrong_prefix(header: bytes) -> Exception:
    if header[:3] != MAGIC or len(header) < 4:
        return MalformedError("it does not begin with the magic bytes")
    theirs = header[3]
    return VersionMismatch(
        f"a peer speaks version {theirs} of the protocol, this side speaks {PROTOCOL_VERSION}: "
        "install the same release of paramserver on both sides",
        ours=str(PROTOCOL_VERSION),
        theirs=str(theirs),
    )
