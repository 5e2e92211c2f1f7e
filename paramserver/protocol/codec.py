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
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeAlias, get_args

import msgpack

from paramserver.errors import (
    ConfigError,
    LocalProtocolError,
    MessageTooLarge,
    RemoteProtocolError,
    VersionMismatch,
)
from paramserver.protocol import messages as m
from paramserver.protocol.messages import (
    Buffer,
    Envelope,
    JobGrant,
    JobResult,
    Message,
    Outcome,
    Payload,
    PayloadKind,
)
from paramserver.protocol.text import bounded_text
from paramserver.protocol.unpacking import unpack

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
_KIB: Final = 1024

FROM_WORKERS: Final[frozenset[type]] = frozenset(get_args(m.WorkerMessage))
"""What a master accepts."""
FROM_MASTER: Final[frozenset[type]] = frozenset(get_args(m.MasterMessage))
"""What a worker or an agent accepts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a message and its parts may be, both out and in.

    Attributes
    ----------
    header_bytes : int
        Of the header frame, magic and version included.
    n_frames : int
        Raw frames after the header.
    frame_bytes : int
        Of one raw frame; a longer piece is split over several.
    inline_bytes : int
        A piece up to this size goes into the header, while `inline_budget_bytes` lasts.
    inline_budget_bytes : int
        Sum of all pieces in one header.
    gather_bytes : int
        Payload data below this size that is not in the header shares a raw frame with its
        neighbours, so that thousands of small payloads do not make thousands of frames; such a
        frame is at most 16 times as large, as the last of them that is kept keeps it all.
    message_bytes : int
        Of all raw frames together.
    array_items : int
        Of any list in the header: grants of a batch, inputs of a grant, buffers of a payload.
    string_bytes : int
        Of one string in the header; senders keep to it with `bounded_text`.
    """

    header_bytes: int = 64 * _KIB
    n_frames: int = 4096
    frame_bytes: int = 16 * _KIB * _KIB
    inline_bytes: int = 2048
    inline_budget_bytes: int = 48 * _KIB
    gather_bytes: int = 64 * _KIB
    message_bytes: int = 2 * _KIB * _KIB * _KIB
    array_items: int = 8192
    string_bytes: int = 32 * _KIB

    def __post_init__(self) -> None:
        if self.gather_bytes > self.frame_bytes:
            raise ConfigError(
                f"gather_bytes={self.gather_bytes} is above frame_bytes={self.frame_bytes}: "
                "what shares a frame has to fit into one",
                field="gather_bytes",
                value=self.gather_bytes,
            )


DEFAULT_LIMITS: Final = Limits()


class _MalformedError(Exception):
    """Found while decoding; becomes a `RemoteProtocolError` at the door."""


# --- the way out ---------------------------------------------------------------------------------


class _PerThread(threading.local):
    """A packer for each thread: making one costs more than packing, and none is thread-safe."""

    def __init__(self) -> None:
        self.pack: Callable[[object], bytes] = msgpack.Packer().pack


_PACKERS: Final = _PerThread()


class _Outgoing:
    """Where the pieces of one message go: into the header while the budget lasts, else to frames.

    The raw frames are one stream of bytes to the receiver, so pieces may share a frame.
    """

    __slots__ = ("budget", "frames", "gathered", "gathered_bytes", "inline_bytes", "limits")

    def __init__(self, limits: Limits, inline_bytes: int) -> None:
        self.limits = limits
        self.inline_bytes = inline_bytes
        self.budget = limits.inline_budget_bytes
        self.frames: list[Buffer] = []
        self.gathered: list[Buffer] = []
        self.gathered_bytes = 0

    def payload(self, payload: Payload) -> tuple[Any, ...]:
        """Write ``[kind, data, *buffers]``, each piece as its bytes or as its length."""
        kind, data, buffers = payload
        if type(data) is bytes and (n := len(data)) <= self.inline_bytes and n <= self.budget:
            self.budget -= n
            written: bytes | int = data
        else:
            written = self._piece(data, self.limits.gather_bytes)
        if not buffers:
            return (kind, written)
        # A buffer of its own frame keeps the alignment that arrays want, so only tiny ones gather.
        gather = min(self.inline_bytes + 1, self.limits.gather_bytes)
        self.check_items(buffers)
        return (kind, written, *[self._piece(b, gather) for b in buffers])

    def check_items(self, items: Sequence[Any]) -> None:
        if len(items) > self.limits.array_items:
            raise _too_large("list of a message", len(items), self.limits.array_items, "items")

    def _piece(self, data: Buffer, gather: int) -> bytes | int:
        view = _flat(data)
        limits = self.limits
        n = len(view)
        if not n or (n <= self.inline_bytes and n <= self.budget):
            self.budget -= n
            return bytes(view)
        if n < gather:
            if self.gathered_bytes + n > min(16 * limits.gather_bytes, limits.frame_bytes):
                self._flush()
            self.gathered.append(view)
            self.gathered_bytes += n
            return n
        self._flush()
        step = limits.frame_bytes
        if n <= step:
            self.frames.append(view)
        else:
            self.frames += [view[start : start + step] for start in range(0, n, step)]
        return n

    def _flush(self) -> None:
        if self.gathered:
            one = len(self.gathered) == 1
            self.frames.append(self.gathered[0] if one else b"".join(self.gathered))
            self.gathered = []
            self.gathered_bytes = 0

    def close(self) -> list[Buffer]:
        """Return the raw frames, after a look at the limits of the message as a whole."""
        self._flush()
        limits = self.limits
        if len(self.frames) > limits.n_frames:
            raise _too_large("message", len(self.frames), limits.n_frames, "frames")
        n_bytes = sum(map(len, self.frames))
        if n_bytes > limits.message_bytes:
            raise _too_large("message", n_bytes, limits.message_bytes, "bytes")
        return self.frames


def _flat(data: Buffer) -> memoryview:
    try:
        view = memoryview(data)
        if view.ndim == 1 and view.format == "B" and view.contiguous:
            return view
        return view.cast("B") if view.nbytes else memoryview(b"")
    except TypeError as error:
        raise LocalProtocolError(
            f"a payload holds {type(data).__name__}, which is not one contiguous run of bytes: "
            "give bytes, or a memoryview of a C-contiguous array"
        ) from error


def _too_large(what: str, size: int, limit: int, unit: str) -> MessageTooLarge:
    return MessageTooLarge(
        f"a {what} would take {size} {unit}, the wire allows {limit}: nothing was sent; "
        "send less at a time, or put large data into files or shared memory and send names",
        size_bytes=size,
        limit_bytes=limit,
    )


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
            raise _too_large("header", len(header), limits.header_bytes, "bytes")
    return [header, *frames] if frames else [header]


def _write(
    envelope: Envelope, message: Message, limits: Limits, inline_bytes: int
) -> tuple[bytes, Sequence[Buffer]]:
    form = _FORMS_BY_TYPE.get(type(message))
    if form is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a message of the protocol")
    run, epoch, worker_id, incarnation, seq, ack = envelope
    out = _Outgoing(limits, inline_bytes)
    try:
        if (epoch | incarnation | seq | ack) >> 63:
            raise _MalformedError(f"a number of {envelope} is not within 0 and 2**63 - 1")
        fields = form.write(message, out)
        header = _PREFIX + _PACKERS.pack(
            (form.number, run, epoch, worker_id, incarnation, seq, ack, *fields)
        )
    except (_MalformedError, TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(
            f"{type(message).__name__} for {worker_id!r} cannot be written: {error}"
        ) from error
    frames = out.close() if out.frames or out.gathered else ()
    return header, frames


# --- the way in ----------------------------------------------------------------------------------


class _Incoming:
    """The raw frames of a message as one stream of bytes, taken piece by piece."""

    __slots__ = ("frames", "index", "offset", "rest")

    def __init__(self, frames: Sequence[Buffer], limits: Limits) -> None:
        self.frames = [memoryview(frame) for frame in frames]
        self.index = 0
        self.offset = 0
        self.rest = 0
        for frame in self.frames:
            n = frame.nbytes
            if not 0 < n <= limits.frame_bytes:
                raise _MalformedError(
                    f"a raw frame has {n} bytes, allowed are 1 to {limits.frame_bytes}"
                )
            self.rest += n
        if self.rest > limits.message_bytes:
            raise _MalformedError(
                f"{self.rest} bytes of frames, allowed are {limits.message_bytes}"
            )

    def take(self, n: int) -> Buffer:
        """Return the next `n` bytes: a view of a frame, or a join where they span several."""
        if n > self.rest:
            raise _MalformedError(f"a piece of {n} bytes is announced, {self.rest} are there")
        self.rest -= n
        frame = self.frames[self.index]
        end = self.offset + n
        size = len(frame)
        if end <= size:
            piece = frame if n == size else frame[self.offset : end]
            self._advance(end, size)
            return piece
        joined = bytearray(n)
        done = 0
        while done < n:
            frame = self.frames[self.index]
            size = len(frame)
            end = min(size, self.offset + n - done)
            length = end - self.offset
            joined[done : done + length] = frame[self.offset : end]
            done += length
            self._advance(end, size)
        return joined

    def _advance(self, end: int, size: int) -> None:
        if end == size:
            self.index += 1
            self.offset = 0
        else:
            self.offset = end


class _NoFrames:
    """Stands for the raw frames of a message that has none."""

    rest = 0

    def take(self, n: int) -> Buffer:
        raise _MalformedError(f"a piece of {n} bytes is announced, but there is no raw frame")


_NO_FRAMES: Final = _NoFrames()
_Source: TypeAlias = _Incoming | _NoFrames


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
    except (_MalformedError, TypeError, ValueError, msgpack.UnpackException) as error:
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
        raise _MalformedError(f"{n_frames} frames, allowed are 1 to {limits.n_frames + 1}")
    header = frames[0]
    if len(header) > limits.header_bytes:
        raise _MalformedError(f"a header of {len(header)} bytes, allowed {limits.header_bytes}")
    if type(header) is not bytes:
        header = bytes(header)
    if header[:4] != _PREFIX:
        raise _wrong_prefix(header)
    values = unpack(
        header[4:],
        use_list=False,
        max_str_len=limits.string_bytes,
        max_bin_len=limits.header_bytes,
        max_array_len=limits.array_items,
        max_map_len=0,
        max_ext_len=0,
    )
    if type(values) is not tuple or len(values) < 7:
        raise _MalformedError("the header is not a list of an envelope and fields")
    number, run, epoch, worker_id, incarnation, seq, ack = values[:7]
    form = _FORMS_BY_NUMBER.get(number) if type(number) is int else None
    if form is None:
        raise _MalformedError(f"there is no message type {number!r:.80}")
    if form.type not in accept:
        raise _MalformedError(f"{form.type.__name__} may not be sent in this direction")
    if type(run) is not str or type(worker_id) is not str:
        raise _MalformedError("run and worker_id must be strings")
    if (
        type(epoch) is not int
        or type(incarnation) is not int
        or type(seq) is not int
        or type(ack) is not int
        or (epoch | incarnation | seq | ack) >> 63
    ):
        raise _MalformedError("epoch, incarnation, seq, ack must be integers from 0 to 2**63 - 1")
    source: _Source = _NO_FRAMES if n_frames == 1 else _Incoming(frames[1:], limits)
    message = form.read(values, source)
    if source.rest:
        raise _MalformedError(f"{source.rest} bytes of raw frames belong to nothing")
    return _new(Envelope, values[1:7]), message


def _wrong_prefix(header: bytes) -> Exception:
    if header[:3] != MAGIC or len(header) < 4:
        return _MalformedError("it does not begin with the magic bytes")
    theirs = header[3]
    return VersionMismatch(
        f"a peer speaks version {theirs} of the protocol, this side speaks {PROTOCOL_VERSION}: "
        "install the same release of paramserver on both sides",
        ours=str(PROTOCOL_VERSION),
        theirs=str(theirs),
    )


# --- the fields ----------------------------------------------------------------------------------

_KINDS: Final = tuple(PayloadKind)
_new: Final = tuple.__new__
"""Makes a named tuple from a tuple without its Python-level constructor: 0.2 us each."""
_OUTCOMES: Final = tuple(Outcome)


def _text(value: Any, end: object) -> str:
    if type(value) is not str:
        raise _MalformedError(f"{value!r:.80} is not a string")
    return value


def _write_text(value: Any, out: _Outgoing) -> str:
    limit = out.limits.string_bytes
    if len(_text(value, out)) * 4 > limit:
        n = len(value.encode("utf-8", "surrogatepass"))
        if n > limit:
            raise _too_large("string of a message", n, limit, "bytes")
    return value  # type: ignore[no-any-return]


def _count(value: Any, end: object) -> int:
    if type(value) is not int or value >> 63:
        raise _MalformedError(f"{value!r:.80} is not an integer from 0 to 2**63 - 1")
    return value


def _integer(value: Any, end: object) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise _MalformedError(f"{value!r:.80} is not an integer of 64 bits")
    return value


def _flag(value: Any, end: object) -> bool:
    if type(value) is not bool:
        raise _MalformedError(f"{value!r:.80} is not true or false")
    return value


def _pairs(value: Any, end: object) -> tuple[tuple[int, int], ...]:
    if type(value) is not tuple:
        raise _MalformedError(f"{value!r:.80} is not a list of pairs")
    for pair in value:
        if type(pair) is not tuple or len(pair) != 2:
            raise _MalformedError(f"{pair!r:.80} is not a pair")
        _count(pair[0], end)
        _count(pair[1], end)
    return value


def _write_pairs(value: Any, out: _Outgoing) -> tuple[tuple[int, int], ...]:
    out.check_items(_pairs(value, out))
    return value  # type: ignore[no-any-return]


def _write_payload(value: Any, out: _Outgoing) -> tuple[Any, ...]:
    return out.payload(value)


def _read_payload(value: Any, source: _Source) -> Payload:
    if type(value) is not tuple or len(value) < 2:
        raise _MalformedError("a payload is not a list of kind, data and buffers")
    kind, data = value[:2]
    if type(kind) is not int or not 0 <= kind < len(_KINDS):
        raise _MalformedError(f"there is no kind of payload {kind!r:.80}")
    if type(data) is not bytes:
        data = _take(data, source)
    if len(value) > 2:
        pieces = tuple([b if type(b) is bytes else _take(b, source) for b in value[2:]])
        return _new(Payload, (_KINDS[kind], data, pieces))
    return _new(Payload, (_KINDS[kind], data, ()))


def _take(length: Any, source: _Source) -> Buffer:
    if type(length) is not int or length < 1:
        raise _MalformedError(f"{length!r:.80} is neither bytes nor the length of a piece")
    return source.take(length)


def _write_grants(grants: Any, out: _Outgoing) -> list[tuple[Any, ...]]:
    out.check_items(grants)
    written = []
    for job, attempt, payload, inputs in grants:
        if (job | attempt) >> 63:
            raise _MalformedError(f"job {job}, attempt {attempt} is not within 0 and 2**63 - 1")
        if inputs:
            out.check_items(inputs)
            written.append((job, attempt, out.payload(payload), *map(out.payload, inputs)))
        else:
            written.append((job, attempt, out.payload(payload)))
    return written


def _read_grants(value: Any, source: _Source) -> tuple[JobGrant, ...]:
    if type(value) is not tuple:
        raise _MalformedError("grants are not a list")
    grants = []
    for job, attempt, payload, *inputs in value:
        if type(job) is not int or type(attempt) is not int or (job | attempt) >> 63:
            raise _MalformedError("job and attempt must be integers from 0 to 2**63 - 1")
        first = _read_payload(payload, source)
        more = tuple([_read_payload(item, source) for item in inputs]) if inputs else ()
        grants.append(_new(JobGrant, (job, attempt, first, more)))
    return tuple(grants)


def _write_results(results: Any, out: _Outgoing) -> list[tuple[Any, ...]]:
    out.check_items(results)
    written = []
    for job, attempt, outcome, duration_us, payload, detail in results:
        if (job | attempt | duration_us | detail) >> 63:
            raise _MalformedError(
                f"a number of the result of job {job} is not within 0 and 2**63 - 1"
            )
        written.append((job, attempt, outcome, duration_us, detail, out.payload(payload)))
    return written


def _read_results(value: Any, source: _Source) -> tuple[JobResult, ...]:
    if type(value) is not tuple:
        raise _MalformedError("results are not a list")
    results = []
    for job, attempt, outcome, duration_us, detail, payload in value:
        if (
            type(job) is not int
            or type(attempt) is not int
            or type(duration_us) is not int
            or type(detail) is not int
            or (job | attempt | duration_us | detail) >> 63
        ):
            raise _MalformedError("the numbers of a result must be integers from 0 to 2**63 - 1")
        if type(outcome) is not int or not 0 <= outcome < len(_OUTCOMES):
            raise _MalformedError(f"there is no outcome {outcome!r:.80}")
        body = _read_payload(payload, source)
        fields = (job, attempt, _OUTCOMES[outcome], duration_us, body, detail)
        results.append(_new(JobResult, fields))
    return tuple(results)


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """How the value of one field is written and read; both check it."""

    write: Callable[[Any, _Outgoing], Any]
    read: Callable[[Any, _Source], Any]


@dataclass(frozen=True, slots=True)
class _Form:
    """How one type of message is written and read."""

    number: int
    type: type
    write: Callable[[Any, _Outgoing], Sequence[Any]]
    read: Callable[[tuple[Any, ...], _Source], Any]


TEXT = _Field(_write_text, _text)
COUNT = _Field(_count, _count)
INTEGER = _Field(_integer, _integer)
FLAG = _Field(_flag, _flag)
PAIRS = _Field(_write_pairs, _pairs)
PAYLOAD = _Field(_write_payload, _read_payload)
GRANTS = _Field(_write_grants, _read_grants)
RESULTS = _Field(_write_results, _read_results)

_FIELDS: Final[dict[type, dict[str, _Field]]] = {
    m.Hello: {
        "worker_id": TEXT, "agent_id": TEXT, "token": TEXT, "resume_epoch": COUNT,
        "resume_incarnation": COUNT, "pid": COUNT, "host": TEXT, "machine": TEXT, "release": TEXT,
    },
    m.JobsEnded: {"results": RESULTS},
    m.JobsReturned: {"jobs": PAIRS, "draining": FLAG},
    m.JobProgressed: {"job": COUNT, "attempt": COUNT, "done": COUNT, "total": COUNT},
    m.ServiceCall: {
        "call": COUNT, "job": COUNT, "attempt": COUNT, "service": TEXT, "method": TEXT,
        "body": PAYLOAD,
    },
    m.Goodbye: {"reason": TEXT},
    m.AgentHello: {
        "agent_id": TEXT, "token": TEXT, "resume_epoch": COUNT, "resume_incarnation": COUNT,
        "pid": COUNT, "host": TEXT, "n_workers": COUNT, "release": TEXT,
    },
    m.ProcessExited: {
        "worker_id": TEXT, "pid": COUNT, "exit_code": INTEGER, "job": COUNT, "attempt": COUNT,
        "stderr_tail": TEXT,
    },
    m.Welcome: {"token": TEXT, "resumed": FLAG},
    m.Refused: {"reason": TEXT},
    m.Fenced: {"reason": TEXT},
    m.GrantJobs: {"grants": GRANTS},
    m.TakeBack: {"jobs": PAIRS},
    m.ServiceReply: {"call": COUNT, "ok": FLAG, "body": PAYLOAD},
    m.Stop: {"drain": FLAG},
    m.KillProcess: {"worker_id": TEXT, "pid": COUNT, "reason": TEXT},
    m.Ack: {},
}  # fmt: skip
"""The fields of every message in the order of the wire."""


def _form(number: int, kind: type) -> _Form:
    fields = _FIELDS[kind]
    n_values = 7 + len(fields)
    if len(fields) == 1:  # the hot ones, GrantJobs and JobsEnded, are of this shape
        ((name, field),) = fields.items()
        get, write_one, read_one = attrgetter(name), field.write, field.read

        def write(message: Any, out: _Outgoing) -> Sequence[Any]:
            return (write_one(get(message), out),)

        def read(values: tuple[Any, ...], source: _Source) -> Any:
            if len(values) != n_values:
                raise _wrong_count(kind, n_values, values)
            return kind(read_one(values[7], source))

        return _Form(number, kind, write, read)

    writers = tuple((attrgetter(name), field.write) for name, field in fields.items())
    readers = tuple(field.read for field in fields.values())

    def write_all(message: Any, out: _Outgoing) -> Sequence[Any]:
        return [write_field(get(message), out) for get, write_field in writers]

    def read_all(values: tuple[Any, ...], source: _Source) -> Any:
        if len(values) != n_values:
            raise _wrong_count(kind, n_values, values)
        given = zip(readers, values[7:], strict=True)
        return kind(*[read_field(value, source) for read_field, value in given])

    return _Form(number, kind, write_all, read_all)


def _wrong_count(kind: type, n_values: int, values: tuple[Any, ...]) -> Exception:
    return _MalformedError(
        f"{kind.__name__} has {n_values - 7} fields, {len(values) - 7} were sent"
    )


_FORMS_BY_NUMBER: Final = {n: _form(n, kind) for n, kind in m.MESSAGE_TYPES.items()}
_FORMS_BY_TYPE: Final = {form.type: form for form in _FORMS_BY_NUMBER.values()}
