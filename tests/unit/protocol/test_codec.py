"""Messages become few frames without copies, and come back under every limit."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import pytest

from paramserver.errors import (
    ConfigError,
    LocalProtocolError,
    MessageTooLarge,
    RemoteProtocolError,
    VersionMismatch,
)
from paramserver.protocol import codec, forms
from paramserver.protocol.codec import FROM_MASTER, FROM_WORKERS, Limits, decode, encode
from paramserver.protocol.messages import (
    MESSAGE_TYPES,
    Ack,
    Buffer,
    Envelope,
    Fenced,
    GrantInputs,
    GrantJobs,
    Hello,
    JobGrant,
    JobProgressed,
    JobResult,
    JobsEnded,
    JobsReturned,
    Message,
    Outcome,
    Payload,
    PayloadKind,
    ProcessExited,
    Refused,
    ServiceCall,
    Stop,
    TakeBack,
)

ENVELOPE = Envelope("0123456789abcdef", 1, "w1", 2, 3, 4)
SMALL = Limits(
    header_bytes=600,
    n_frames=5,
    frame_bytes=64,
    inline_bytes=16,
    inline_budget_bytes=64,
    gather_bytes=32,
    message_bytes=250,
    array_items=20,
    string_bytes=100,
)


def pickled(data: Buffer, *buffers: Buffer) -> Payload:
    return Payload(PayloadKind.PICKLE, data, buffers)


def grant(*payloads: Payload) -> GrantJobs:
    return GrantJobs(tuple(JobGrant(n, 1, payload) for n, payload in enumerate(payloads)))


def header_of(*values: Any) -> bytes:
    packed: bytes = msgpack.packb(values)
    return codec.MAGIC + bytes([codec.PROTOCOL_VERSION]) + packed


def raw(number: int, *fields: Any) -> bytes:
    return header_of(number, *ENVELOPE, *fields)


def round_trip(message: Message, limits: Limits = codec.DEFAULT_LIMITS) -> Message:
    frames = encode(ENVELOPE, message, limits)
    envelope, decoded = decode(frames, FROM_WORKERS | FROM_MASTER, limits)
    assert envelope == ENVELOPE
    assert type(envelope) is Envelope
    return decoded


# --- the way out ---------------------------------------------------------------------------------


def test_a_small_message_is_one_frame() -> None:
    frames = encode(ENVELOPE, grant(pickled(b"x" * 100, b"y" * 2048)))

    assert len(frames) == 1
    assert decode(frames, FROM_MASTER) == (ENVELOPE, grant(pickled(b"x" * 100, b"y" * 2048)))


def test_a_large_buffer_is_copied_neither_out_nor_in() -> None:
    array = np.arange(10_000.0)

    frames = encode(ENVELOPE, grant(pickled(b"head", array.data)))
    assert len(frames) == 2
    assert np.shares_memory(np.frombuffer(frames[1]), array)

    _, message = decode(frames, FROM_MASTER)
    assert isinstance(message, GrantJobs)
    (buffer,) = message.grants[0].payload.buffers
    assert np.shares_memory(np.frombuffer(buffer), array)


def test_large_data_of_a_payload_is_a_frame_as_well() -> None:
    data = bytes(100_000)

    frames = encode(ENVELOPE, grant(pickled(data)))

    assert isinstance(frames[1], memoryview)
    assert frames[1].obj is data
    assert round_trip(grant(pickled(data))) == grant(pickled(data))


def test_a_piece_above_the_frame_limit_is_split_and_joined() -> None:
    piece = bytes(range(150))
    frames = encode(ENVELOPE, grant(pickled(b"", piece)), SMALL)

    assert [len(frame) for frame in frames[1:]] == [64, 64, 22]
    assert round_trip(grant(pickled(b"", piece)), SMALL) == grant(pickled(b"", piece))


def test_the_receiver_joins_frames_however_they_are_cut() -> None:
    piece = bytes(range(100))
    header = raw(23, [[0, 1, [1, 60, 40]]])
    for cuts in ([60, 40], [100], [1, 98, 1], [59, 2, 39], [50, 50]):
        frames: list[Buffer] = [header]
        for n in cuts:
            start = sum(map(len, frames[1:]))
            frames.append(piece[start : start + n])

        assert decode(frames, FROM_MASTER)[1] == grant(pickled(piece[:60], piece[60:]))


def test_small_payloads_share_a_frame_when_the_header_is_full() -> None:
    message = grant(*[pickled(bytes([n]) * 1000) for n in range(200)])

    frames = encode(ENVELOPE, message)

    limits = codec.DEFAULT_LIMITS
    assert len(frames) == 2
    assert limits.inline_budget_bytes - 1000 < len(frames[0]) <= limits.header_bytes
    assert len(frames[1]) == 200_000 - limits.inline_budget_bytes // 1000 * 1000
    assert decode(frames, FROM_MASTER) == (ENVELOPE, message)


def test_the_order_of_pieces_holds_between_shared_and_own_frames() -> None:
    own = [bytes([n]) * (10 if n % 3 else 40) for n in range(36)]
    message = grant(*[pickled(piece) for piece in own])

    assert (
        round_trip(
            message, dataclasses.replace(SMALL, n_frames=99, message_bytes=999, array_items=99)
        )
        == message
    )


def test_shared_frames_are_cut_before_they_grow_large() -> None:
    message = grant(*[pickled(bytes(60_000)) for _ in range(40)])

    frames = encode(ENVELOPE, message)

    assert max(map(len, frames[1:])) <= 16 * codec.DEFAULT_LIMITS.gather_bytes
    assert len(frames) == 4
    assert decode(frames, FROM_MASTER) == (ENVELOPE, message)


def test_a_reduce_job_with_eight_thousand_inputs_fits() -> None:
    inputs = tuple(pickled(b"%5d" % n * 50) for n in range(8000))
    message = GrantJobs((JobGrant(1, 1, pickled(b"reduce"), inputs),))

    assert round_trip(message) == message


def test_pieces_leave_the_header_when_the_rest_of_it_needs_the_room() -> None:
    limits = dataclasses.replace(SMALL, header_bytes=120)
    message = grant(*[pickled(b"0123456789") for _ in range(6)])

    frames = encode(ENVELOPE, message, limits)

    assert len(frames) == 2
    assert decode(frames, FROM_MASTER, limits) == (ENVELOPE, message)


@pytest.mark.parametrize(
    "view",
    [
        memoryview(np.arange(3000, dtype="<i4")),
        memoryview(np.zeros((50, 50))),
        memoryview(np.array(1.5)),
        memoryview(np.zeros((0, 3))),
        memoryview(bytearray(b"abc")),
    ],
    ids=["integers", "two-dimensional", "a scalar", "nothing", "bytearray"],
)
def test_a_view_of_any_contiguous_memory_is_sent_as_its_bytes(view: memoryview) -> None:
    message = round_trip(grant(pickled(b"", view)))

    assert message == grant(pickled(b"", view.tobytes()))


def test_memory_that_is_not_contiguous_is_refused_with_words() -> None:
    with pytest.raises(LocalProtocolError, match="contiguous"):
        encode(ENVELOPE, grant(pickled(b"", memoryview(bytes(100))[::2])))


def test_encoding_from_many_threads_at_once_mixes_nothing_up() -> None:
    wrong: list[object] = []

    def work(me: int) -> None:
        for n in range(300):
            message = grant(pickled(b"%d" % me * 50, b"%d" % n))
            if round_trip(message) != message:
                wrong.append((me, n))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


@pytest.mark.parametrize(
    "message",
    [
        grant(pickled(b"", bytes(251))),
        grant(pickled(b"", *[bytes(40)] * 6)),
        grant(*[pickled(b"")] * 21),
        grant(pickled(b"", *[b""] * 21)),
        GrantJobs((JobGrant(1, 1, pickled(b""), (pickled(b""),) * 21),)),
        GrantInputs(1, 1, (pickled(b""),) * 21),
        JobsEnded((JobResult(1, 1, Outcome.OK, 5, pickled(b"")),) * 21),
        TakeBack(((1, 1),) * 21),
        Refused("é" * 51),
        ServiceCall(1, 1, 1, "s" * 99, "m" * 99, pickled(b"", *[b"0123456789"] * 9)),
    ],
    ids=[
        "bytes", "frames", "grants", "buffers", "inputs", "inputs ahead", "results", "pairs",
        "string", "fits",
    ],
)  # fmt: skip
def test_a_message_above_a_limit_is_refused_before_anything_is_sent(message: Message) -> None:
    if isinstance(message, ServiceCall):
        assert round_trip(message, SMALL) == message
        return
    with pytest.raises(MessageTooLarge, match="nothing was sent") as caught:
        encode(ENVELOPE, message, SMALL)

    assert caught.value.size_bytes > caught.value.limit_bytes > 0


def test_a_header_that_is_too_large_even_without_payloads_is_refused() -> None:
    hello = Hello(*["x" * 99] * 3, 0, 0, 1, *["x" * 99] * 3)

    with pytest.raises(MessageTooLarge, match="a header would take 6"):
        encode(ENVELOPE, hello, SMALL)


@pytest.mark.parametrize(
    "message",
    [
        JobProgressed(-1, 1, 2, 3),
        JobProgressed(1, 2**63, 2, 3),
        JobProgressed(1, 1, 2.0, 3),  # type: ignore[arg-type]
        JobProgressed(True, 1, 2, 3),
        ProcessExited("w", 1, 2**63, 0, 0, ""),
        ProcessExited("w", 1, True, 0, 0, ""),
        ProcessExited("w", 1, 0, 0, 0, None),  # type: ignore[arg-type]
        Refused("\udc80"),
        Stop(1),  # type: ignore[arg-type]
        TakeBack([(1, 1)]),  # type: ignore[arg-type]
        TakeBack(((1, 1, 1),)),  # type: ignore[arg-type]
        TakeBack((7,)),  # type: ignore[arg-type]
        TakeBack(((1, -1),)),
        JobsReturned(((1, 1),), None),  # type: ignore[arg-type]
        GrantJobs((JobGrant(-1, 1, pickled(b"")),)),
        GrantJobs((JobGrant(1, 2**63, pickled(b"")),)),
        GrantJobs((JobGrant("1", 1, pickled(b"")),)),  # type: ignore[arg-type]
        GrantJobs((JobGrant(1, 1, None),)),  # type: ignore[arg-type]
        GrantJobs((JobGrant(1, 1, pickled(None)),)),  # type: ignore[arg-type]
        GrantJobs(7),  # type: ignore[arg-type]
        GrantInputs(1, 1, 7),  # type: ignore[arg-type]
        GrantInputs(1, 1, (7,)),  # type: ignore[arg-type]
        GrantInputs(1, -1, ()),
        JobsEnded((JobResult(1, 1, Outcome.OK, -1, pickled(b"")),)),
        JobsEnded((JobResult(1, 1, Outcome.OK, 1, pickled(b""), -1),)),
        "not a message",
    ],
    ids=repr,
)
def test_a_field_that_its_type_does_not_allow_is_our_own_fault(message: Any) -> None:
    with pytest.raises(LocalProtocolError):
        encode(ENVELOPE, message)


@pytest.mark.parametrize(
    "change", [{"epoch": -1}, {"ack": 2**63}, {"seq": None}, {"run": b"\xff" * 3, "seq": 1.5}]
)
def test_an_envelope_with_a_wrong_number_is_our_own_fault(change: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match="Ack for 'w1' cannot be written"):
        encode(ENVELOPE._replace(**change), Ack())


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(frame_bytes=100, gather_bytes=101)

    assert caught.value.field == "gather_bytes"


# --- the table -----------------------------------------------------------------------------------


def test_the_table_of_the_wire_lists_the_fields_of_every_message_in_order() -> None:
    table = {kind: list(fields) for kind, fields in forms.FIELDS.items()}

    assert table == {
        kind: [field.name for field in dataclasses.fields(kind)] for kind in MESSAGE_TYPES.values()
    }


def test_each_message_is_accepted_by_exactly_the_ends_it_is_meant_for() -> None:
    assert frozenset(MESSAGE_TYPES.values()) == FROM_WORKERS | FROM_MASTER
    assert {Ack} == FROM_WORKERS & FROM_MASTER
    assert GrantJobs in FROM_MASTER
    assert JobsEnded in FROM_WORKERS


# --- the way in ----------------------------------------------------------------------------------

OK_GRANT = [[0, 1, [1, b"x"]]]
GOOD = raw(23, OK_GRANT)


def test_the_raw_header_that_the_next_tests_break_is_good() -> None:
    assert decode([GOOD], FROM_MASTER) == (ENVELOPE, grant(pickled(b"x")))
    assert decode([bytearray(GOOD)], FROM_MASTER) == decode([memoryview(GOOD)], FROM_MASTER)


BROKEN: dict[str, Sequence[Buffer]] = {
    "no frame": [],
    "an empty header": [b""],
    "a header that ends in the magic bytes": [GOOD[:2]],
    "a header without a version": [GOOD[:3]],
    "another magic": [b"HTTP" + GOOD[4:]],
    "nothing after the version": [GOOD[:4]],
    "a truncated header": [GOOD[:-1]],
    "trailing bytes": [GOOD + b"\x00"],
    "a frame that belongs to nothing": [GOOD, b"xyz"],
    "an empty raw frame": [raw(23, [[0, 1, [1, 3]]]), b"", b"abc"],
    "not a list": [header_of()[:4] + msgpack.packb("text")],
    "a map": [header_of()[:4] + msgpack.packb({})],
    "an empty list": [header_of()],
    "an envelope only in part": [header_of(23, *ENVELOPE[:5])],
    "an unknown type": [raw(99, OK_GRANT)],
    "a type that is a bool": [header_of(True, *ENVELOPE, "w")],
    "a type that is a list": [header_of([23], *ENVELOPE, OK_GRANT)],
    "a field missing": [raw(23)],
    "a field too many": [raw(23, OK_GRANT, 1)],
    "fields missing": [raw(25, 1)],
    "run is a number": [header_of(23, 1, *ENVELOPE[1:], OK_GRANT)],
    "worker_id is bytes": [header_of(23, "r", 1, b"w", 1, 1, 1, OK_GRANT)],
    "epoch is a bool": [header_of(23, "r", True, "w", 1, 1, 1, OK_GRANT)],
    "incarnation is a float": [header_of(23, "r", 1, "w", 1.0, 1, 1, OK_GRANT)],
    "seq is missing": [header_of(23, "r", 1, "w", 1, None, 1, OK_GRANT)],
    "ack is a string": [header_of(23, "r", 1, "w", 1, 1, "1", OK_GRANT)],
    "seq is negative": [header_of(23, "r", 1, "w", 1, -1, 1, OK_GRANT)],
    "seq is beyond 63 bits": [header_of(23, "r", 1, "w", 1, 2**63, 1, OK_GRANT)],
    "an extension type": [raw(21, msgpack.ExtType(5, b"x"))],
    "an extension type without data": [raw(21, msgpack.ExtType(5, b""))],
    "a time stamp": [raw(21, msgpack.Timestamp(1, 2))],
    "a map as a field": [raw(21, {"reason": "x"})],
    "text that is not UTF-8": [raw(21, "abc").replace(b"abc", b"\xff\xfe\xfd")],
    "a byte that msgpack does not have": [raw(21, "abc")[:-4] + b"\xc1"],
    "grants are a number": [raw(23, 7)],
    "inputs are text": [raw(29, 1, 1, "abc")],
    "inputs are numbers": [raw(29, 1, 1, [7])],
    "grants are text": [raw(23, "abc")],
    "a grant is text": [raw(23, ["abc"])],
    "a grant is a number": [raw(23, [7])],
    "a grant is short": [raw(23, [[0, 1]])],
    "a job is negative": [raw(23, [[-1, 1, [1, b""]]])],
    "a job is a bool": [raw(23, [[True, 1, [1, b""]]])],
    "an attempt is a string": [raw(23, [[1, "1", [1, b""]]])],
    "an attempt is beyond 63 bits": [raw(23, [[1, 2**64 - 1, [1, b""]]])],
    "a payload is bytes": [raw(23, [[0, 1, b"xy"]])],
    "a payload is empty": [raw(23, [[0, 1, []]])],
    "a payload has no data": [raw(23, [[0, 1, [1]]])],
    "an unknown kind": [raw(23, [[0, 1, [4, b""]]])],
    "a negative kind": [raw(23, [[0, 1, [-1, b""]]])],
    "a kind that is a bool": [raw(23, [[0, 1, [True, b""]]])],
    "data that are text": [raw(23, [[0, 1, [1, "text"]]])],
    "a length that is a bool": [raw(23, [[0, 1, [1, True]]]), b"x"],
    "a length of nothing": [raw(23, [[0, 1, [1, 0]]])],
    "a negative length": [raw(23, [[0, 1, [1, -1]]]), b"x"],
    "a length without a frame": [raw(23, [[0, 1, [1, 5]]])],
    "a length above what is there": [raw(23, [[0, 1, [1, b"", 2**62]]]), b"abc"],
    "lengths above what is there": [raw(23, [[0, 1, [1, 3, 1]]]), b"abc"],
    "an input that is nothing": [raw(23, [[0, 1, [1, b""], None]])],
}
BROKEN_BY_WORKERS: dict[str, Sequence[Buffer]] = {
    "a message of the other direction": [GOOD],
    "results are a number": [raw(2, 7)],
    "a result is short": [raw(2, [[1, 1, 0, 5, 0]])],
    "a result is long": [raw(2, [[1, 1, 0, 5, 0, [1, b""], 1]])],
    "a job is nothing": [raw(2, [[None, 1, 0, 5, 0, [1, b""]]])],
    "an attempt is a float": [raw(2, [[1, 1.5, 0, 5, 0, [1, b""]]])],
    "a duration is a string": [raw(2, [[1, 1, 0, "5", 0, [1, b""]]])],
    "a detail is a bool": [raw(2, [[1, 1, 0, 5, False, [1, b""]]])],
    "a duration is negative": [raw(2, [[1, 1, 0, -5, 0, [1, b""]]])],
    "an unknown outcome": [raw(2, [[1, 1, 4, 5, 0, [1, b""]]])],
    "a negative outcome": [raw(2, [[1, 1, -1, 5, 0, [1, b""]]])],
    "an outcome that is a bool": [raw(2, [[1, 1, True, 5, 0, [1, b""]]])],
    "pairs are a number": [raw(3, 7, False)],
    "a pair is text": [raw(3, ["ab"], False)],
    "a pair is a triple": [raw(3, [[1, 2, 3]], False)],
    "a pair with a negative number": [raw(3, [[1, -2]], False)],
    "a flag is a number": [raw(3, [[1, 2]], 1)],
    "a reason is bytes": [raw(6, b"bye")],
    "an exit code beyond 64 bits": [raw(11, "w", 1, 2**63, 0, 0, "")],
    "an exit code that is a bool": [raw(11, "w", 1, True, 0, 0, "")],
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_worker_refuses(what: str) -> None:
    with pytest.raises(RemoteProtocolError, match="master-1 sent what is not a valid message") as e:
        decode(BROKEN[what], FROM_MASTER, peer="master-1")

    assert e.value.peer == "master-1"


@pytest.mark.parametrize("what", BROKEN_BY_WORKERS)
def test_a_master_refuses(what: str) -> None:
    with pytest.raises(RemoteProtocolError, match="a peer sent what is not a valid message"):
        decode(BROKEN_BY_WORKERS[what], FROM_WORKERS)


def test_another_version_is_named_with_ours() -> None:
    frames = [codec.MAGIC + b"\x63" + GOOD[4:]]

    with pytest.raises(VersionMismatch, match="same release") as caught:
        decode(frames, FROM_MASTER)

    assert (caught.value.ours, caught.value.theirs) == (str(codec.PROTOCOL_VERSION), "99")


LIARS: dict[str, Sequence[Buffer]] = {
    "ten thousand small frames": [raw(23, [[0, 1, [1, 10_000]]]), *[b"x"] * 10_000],
    "a header of 1 MB": [raw(21, "x" * 1_000_000)],
    "lists nested 600 deep": [raw(21)[:-1] + b"\x91" * 600 + b"\xc0"],
    "lists nested 60,000 deep": [GOOD[:4] + b"\x91" * 60_000 + b"\xc0"],
    "long lists that are not there": [GOOD[:4] + b"\xdc\x20\x00" * 1000 + b"\xc0" * 9000],
    "a list of 4 thousand million": [GOOD[:4] + b"\xdd\xff\xff\xff\xff" + b"\xc0" * 2000],
    "text of 4 GB": [GOOD[:4] + b"\x91\xdb\xff\xff\xff\xff" + b"x" * 2000],
    "bytes of 4 GB": [GOOD[:4] + b"\x91\xc6\xff\xff\xff\xff"],
    "a piece of many exabytes": [raw(23, [[0, 1, [1, 2**62]]]), b"x"],
    "a frame above the limit": [raw(23, [[0, 1, [1, 1]]]), memoryview(bytes(17 << 20))],
    "too many bytes in all": [raw(23, [[0, 1, [1, 1]]]), *[memoryview(bytes(1 << 24))] * 129],
}


@pytest.mark.parametrize("what", LIARS)
def test_a_lie_about_size_costs_no_memory(what: str) -> None:
    frames = LIARS[what]
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decode(frames, FROM_MASTER)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def test_a_long_list_of_the_allowed_length_is_read_and_one_more_is_not() -> None:
    pairs = ((1, 1),) * 20
    packed = encode(ENVELOPE, TakeBack(pairs), SMALL)
    assert decode(packed, FROM_MASTER, SMALL)[1] == TakeBack(pairs)

    with pytest.raises(RemoteProtocolError):
        decode([raw(24, [[1, 1]] * 21)], FROM_MASTER, SMALL)


def test_frames_and_their_sum_are_bounded_on_arrival() -> None:
    for allowed, refused in (([64], [65]), ([50] * 5, [50] * 4 + [51]), ([1] * 5, [1] * 6)):
        for sizes in (allowed, refused):
            frames = [raw(23, [[0, 1, [1, sum(sizes)]]]), *[bytes(n) for n in sizes]]
            if sizes is allowed:
                assert decode(frames, FROM_MASTER, SMALL)[1] == grant(pickled(bytes(sum(sizes))))
                continue
            with pytest.raises(RemoteProtocolError, match=r"allowed are"):
                decode(frames, FROM_MASTER, SMALL)


def test_text_longer_than_allowed_is_refused_on_arrival() -> None:
    assert decode([raw(22, "x" * 100)], FROM_MASTER, SMALL)[1] == Fenced("x" * 100)

    with pytest.raises(RemoteProtocolError):
        decode([raw(22, "x" * 101)], FROM_MASTER, SMALL)


# --- what it costs to import ---------------------------------------------------------------------


def test_importing_the_protocol_imports_neither_numpy_nor_cloudpickle() -> None:
    program = (
        "import sys, operator; import paramserver.protocol.codec; "
        "from paramserver.protocol import calls; "
        "p = calls.encode_call(operator.add, (1, (2, 'x')), {}, trusted=True); "
        "calls.decode_call(p, trusted=True); "
        "q = calls.encode_value({'a': (1, [2])}, trusted=False); "
        "calls.decode_value(q, trusted=False); "
        "print(sorted({'numpy', 'cloudpickle', 'msgpack_numpy', 'zmq'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
