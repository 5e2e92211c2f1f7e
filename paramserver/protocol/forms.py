"""The table of the wire: the number of each message and its fields, in order.

Rule 1: the table is the format. A change of it is a change of `codec.PROTOCOL_VERSION`.
Rule 2: writers and readers are made from it once, at import; nothing is reflected on afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from paramserver.protocol import messages as m
from paramserver.protocol.fields import (
    COUNT,
    FLAG,
    GRANTS,
    INTEGER,
    PAIRS,
    PAYLOAD,
    PAYLOADS,
    RESULTS,
    TEXT,
    Field,
)
from paramserver.protocol.limits import MalformedError
from paramserver.protocol.pieces import Outgoing, Source


@dataclass(frozen=True, slots=True)
class Form:
    """How one type of message is written and read."""

    number: int
    type: type
    write: Callable[[Any, Outgoing], Sequence[Any]]
    read: Callable[[tuple[Any, ...], Source], Any]


FIELDS: Final[dict[type, dict[str, Field]]] = {
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
    m.GrantInputs: {"job": COUNT, "attempt": COUNT, "inputs": PAYLOADS},
    m.TakeBack: {"jobs": PAIRS},
    m.ServiceReply: {"call": COUNT, "ok": FLAG, "body": PAYLOAD},
    m.Stop: {"drain": FLAG},
    m.KillProcess: {"worker_id": TEXT, "pid": COUNT, "reason": TEXT},
    m.WorkerJoined: {"worker_id": TEXT},
    m.Ack: {},
}  # fmt: skip
"""The fields of every message in the order of the wire."""


def _form(number: int, kind: type) -> Form:
    fields = FIELDS[kind]
    n_values = 7 + len(fields)
    if len(fields) == 1:  # the hot ones, GrantJobs and JobsEnded, are of this shape
        ((name, field),) = fields.items()
        get, write_one, read_one = attrgetter(name), field.write, field.read

        def write(message: Any, out: Outgoing) -> Sequence[Any]:
            return (write_one(get(message), out),)

        def read(values: tuple[Any, ...], source: Source) -> Any:
            if len(values) != n_values:
                raise _wrong_count(kind, n_values, values)
            return kind(read_one(values[7], source))

        return Form(number, kind, write, read)

    writers = tuple((attrgetter(name), field.write) for name, field in fields.items())
    readers = tuple(field.read for field in fields.values())

    def write_all(message: Any, out: Outgoing) -> Sequence[Any]:
        return [write_field(get(message), out) for get, write_field in writers]

    def read_all(values: tuple[Any, ...], source: Source) -> Any:
        if len(values) != n_values:
            raise _wrong_count(kind, n_values, values)
        given = zip(readers, values[7:], strict=True)
        return kind(*[read_field(value, source) for read_field, value in given])

    return Form(number, kind, write_all, read_all)


def _wrong_count(kind: type, n_values: int, values: tuple[Any, ...]) -> Exception:
    return MalformedError(f"{kind.__name__} has {n_values - 7} fields, {len(values) - 7} were sent")


FORMS_BY_NUMBER: Final = {n: _form(n, kind) for n, kind in m.MESSAGE_TYPES.items()}
FORMS_BY_TYPE: Final = {form.type: form for form in FORMS_BY_NUMBER.values()}
