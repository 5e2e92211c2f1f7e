"""Each kind of field of a message: how it is checked, written into the header and read from it.

Rule 1: a reader returns a value of the very type that the message declares, or raises.
Rule 2: integers are within 64 bits with sign, and not negative where they count something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from paramserver.protocol.limits import MalformedError, too_large
from paramserver.protocol.messages import (
    Buffer,
    JobGrant,
    JobResult,
    Outcome,
    Payload,
    PayloadKind,
)
from paramserver.protocol.pieces import Outgoing, Source

_KINDS: Final = tuple(PayloadKind)
_N_KINDS: Final = len(_KINDS)
_new: Final = tuple.__new__
"""Makes a named tuple from a tuple without its Python-level constructor: 0.2 us each."""
_OUTCOMES: Final = tuple(Outcome)


def _text(value: Any, end: object) -> str:
    if type(value) is not str:
        raise MalformedError(f"{value!r:.80} is not a string")
    return value


def _write_text(value: Any, out: Outgoing) -> str:
    limit = out.limits.string_bytes
    if len(_text(value, out)) * 4 > limit:
        n = len(value.encode("utf-8", "surrogatepass"))
        if n > limit:
            raise too_large("string of a message", n, limit, "bytes")
    return value  # type: ignore[no-any-return]


def _count(value: Any, end: object) -> int:
    if type(value) is not int or value >> 63:
        raise MalformedError(f"{value!r:.80} is not an integer from 0 to 2**63 - 1")
    return value


def _integer(value: Any, end: object) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise MalformedError(f"{value!r:.80} is not an integer of 64 bits")
    return value


def _flag(value: Any, end: object) -> bool:
    if type(value) is not bool:
        raise MalformedError(f"{value!r:.80} is not true or false")
    return value


def _pairs(value: Any, end: object) -> tuple[tuple[int, int], ...]:
    if type(value) is not tuple:
        raise MalformedError(f"{value!r:.80} is not a list of pairs")
    for pair in value:
        if type(pair) is not tuple or len(pair) != 2:
            raise MalformedError(f"{pair!r:.80} is not a pair")
        _count(pair[0], end)
        _count(pair[1], end)
    return value


def _write_pairs(value: Any, out: Outgoing) -> tuple[tuple[int, int], ...]:
    out.check_items(_pairs(value, out))
    return value  # type: ignore[no-any-return]


def _write_payload(value: Any, out: Outgoing) -> tuple[Any, ...]:
    return out.payload(value)


def _read_payload(value: Any, source: Source) -> Payload:
    if type(value) is not tuple or len(value) < 2:
        raise MalformedError("a payload is not a list of kind, data and buffers")
    kind, data = value[:2]
    if type(kind) is not int or not 0 <= kind < _N_KINDS:
        raise MalformedError(f"there is no kind of payload {kind!r:.80}")
    if type(data) is not bytes:
        data = _take(data, source)
    if len(value) > 2:
        pieces = tuple([b if type(b) is bytes else _take(b, source) for b in value[2:]])
        return _new(Payload, (_KINDS[kind], data, pieces))
    return _new(Payload, (_KINDS[kind], data, ()))


def _take(length: Any, source: Source) -> Buffer:
    if type(length) is not int or length < 1:
        raise MalformedError(f"{length!r:.80} is neither bytes nor the length of a piece")
    return source.take(length)


def _write_payloads(payloads: Any, out: Outgoing) -> list[tuple[Any, ...]]:
    out.check_items(payloads)
    return [out.payload(payload) for payload in payloads]


def _read_payloads(value: Any, source: Source) -> tuple[Payload, ...]:
    if type(value) is not tuple:
        raise MalformedError("payloads are not a list")
    return tuple([_read_payload(item, source) for item in value])


def _write_grants(grants: Any, out: Outgoing) -> list[tuple[Any, ...]]:
    out.check_items(grants)
    written = []
    for job, attempt, payload, inputs in grants:
        if (job | attempt) >> 63:
            raise MalformedError(f"job {job}, attempt {attempt} is not within 0 and 2**63 - 1")
        if inputs:
            out.check_items(inputs)
            written.append((job, attempt, out.payload(payload), *map(out.payload, inputs)))
        else:
            written.append((job, attempt, out.payload(payload)))
    return written


def _read_grants(value: Any, source: Source) -> tuple[JobGrant, ...]:
    if type(value) is not tuple:
        raise MalformedError("grants are not a list")
    grants = []
    for job, attempt, payload, *inputs in value:
        if type(job) is not int or type(attempt) is not int or (job | attempt) >> 63:
            raise MalformedError("job and attempt must be integers from 0 to 2**63 - 1")
        first = _read_payload(payload, source)
        more = tuple([_read_payload(item, source) for item in inputs]) if inputs else ()
        grants.append(_new(JobGrant, (job, attempt, first, more)))
    return tuple(grants)


def _write_results(results: Any, out: Outgoing) -> list[tuple[Any, ...]]:
    out.check_items(results)
    written = []
    for job, attempt, outcome, duration_us, payload, detail in results:
        if (job | attempt | duration_us | detail) >> 63:
            raise MalformedError(
                f"a number of the result of job {job} is not within 0 and 2**63 - 1"
            )
        written.append((job, attempt, outcome, duration_us, detail, out.payload(payload)))
    return written


def _read_results(value: Any, source: Source) -> tuple[JobResult, ...]:
    if type(value) is not tuple:
        raise MalformedError("results are not a list")
    results = []
    for job, attempt, outcome, duration_us, detail, payload in value:
        if (
            type(job) is not int
            or type(attempt) is not int
            or type(duration_us) is not int
            or type(detail) is not int
            or (job | attempt | duration_us | detail) >> 63
        ):
            raise MalformedError("the numbers of a result must be integers from 0 to 2**63 - 1")
        if type(outcome) is not int or not 0 <= outcome < len(_OUTCOMES):
            raise MalformedError(f"there is no outcome {outcome!r:.80}")
        body = _read_payload(payload, source)
        fields = (job, attempt, _OUTCOMES[outcome], duration_us, body, detail)
        results.append(_new(JobResult, fields))
    return tuple(results)


@dataclass(frozen=True, slots=True)
class Field:
    """How the value of one field is written and read; both check it."""

    write: Callable[[Any, Outgoing], Any]
    read: Callable[[Any, Source], Any]


TEXT = Field(_write_text, _text)
COUNT = Field(_count, _count)
INTEGER = Field(_integer, _integer)
FLAG = Field(_flag, _flag)
PAIRS = Field(_write_pairs, _pairs)
PAYLOAD = Field(_write_payload, _read_payload)
PAYLOADS = Field(_write_payloads, _read_payloads)
GRANTS = Field(_write_grants, _read_grants)
RESULTS = Field(_write_results, _read_results)
