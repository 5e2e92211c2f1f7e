"""Whatever message goes out comes in the same, however tight the limits and large the payloads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import MessageTooLarge, ProtocolError, TransportError
from paramserver.protocol import messages as m
from paramserver.protocol.codec import DEFAULT_LIMITS, Limits, decode, encode
from paramserver.protocol.messages import Envelope, JobGrant, JobResult, Message, Outcome, Payload

EVERYTHING = frozenset(m.MESSAGE_TYPES.values())

counts = st.integers(0, 2**63 - 1) | st.integers(0, 300)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def pieces(draw: st.DrawFn) -> bytes:
    """Bytes of any length up to some kilobytes, cheap to draw."""
    return draw(st.binary(min_size=1, max_size=3)) * draw(st.sampled_from([0, 1, 9, 40, 300, 2000]))


def as_is(data: bytes) -> m.Buffer:
    return data


forms: st.SearchStrategy[Callable[[bytes], m.Buffer]] = st.sampled_from(
    [as_is, bytearray, memoryview]
)


@st.composite
def buffers(draw: st.DrawFn) -> m.Buffer:
    return draw(forms)(draw(pieces()))


payloads = st.builds(
    Payload,
    st.sampled_from(m.PayloadKind),
    buffers(),
    st.lists(buffers(), max_size=3).map(tuple),
)
grants = st.builds(JobGrant, counts, counts, payloads, st.lists(payloads, max_size=3).map(tuple))
results = st.builds(JobResult, counts, counts, st.sampled_from(Outcome), counts, payloads, counts)
envelopes = st.builds(Envelope, texts, counts, texts, counts, counts, counts)

BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: counts,
    str: texts,
    bool: st.booleans(),
    Payload: payloads,
    tuple[Payload, ...]: st.lists(payloads, max_size=3).map(tuple),
    tuple[tuple[int, int], ...]: st.lists(st.tuples(counts, counts), max_size=9).map(tuple),
    tuple[JobGrant, ...]: st.lists(grants, max_size=6).map(tuple),
    tuple[JobResult, ...]: st.lists(results, max_size=6).map(tuple),
}


def messages_of(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    fields = {field.name: BY_TYPE[hints[field.name]] for field in dataclasses.fields(kind)}
    if kind is m.ProcessExited:
        fields["exit_code"] = st.integers(-(2**63), 2**63 - 1)
    return st.builds(kind, **fields)


any_message = st.sampled_from(sorted(EVERYTHING, key=lambda kind: kind.__name__)).flatmap(
    messages_of
)


@st.composite
def any_limits(draw: st.DrawFn) -> Limits:
    frame_bytes = draw(st.sampled_from([1, 7, 100, 1000, 1 << 24]))
    return Limits(
        frame_bytes=frame_bytes,
        n_frames=draw(st.sampled_from([4096, 100_000])),
        inline_bytes=draw(st.sampled_from([0, 1, 50, 2048])),
        inline_budget_bytes=draw(st.sampled_from([0, 10, 1000, 48 << 10])),
        gather_bytes=min(frame_bytes, draw(st.sampled_from([1, 50, 64 << 10]))),
    )


@given(envelopes, any_message)
def test_every_message_comes_back_as_it_was(envelope: Envelope, message: Message) -> None:
    assert decode(encode(envelope, message), EVERYTHING) == (envelope, message)


@given(envelopes, any_message, any_limits())
def test_under_any_limits_a_message_comes_back_or_is_refused_before_it_is_sent(
    envelope: Envelope, message: Message, limits: Limits
) -> None:
    try:
        frames = encode(envelope, message, limits)
    except MessageTooLarge:
        return

    assert decode(frames, EVERYTHING, limits) == (envelope, message)
    assert len(frames[0]) <= limits.header_bytes
    assert all(0 < len(frame) <= limits.frame_bytes for frame in frames[1:])


@given(any_message, any_limits())
def test_a_receiver_with_the_usual_limits_reads_what_other_limits_wrote(
    message: Message, limits: Limits
) -> None:
    envelope = Envelope("r", 1, "w", 1, 1, 1)
    try:
        frames = encode(envelope, message, limits)
    except MessageTooLarge:
        return
    if len(frames) > DEFAULT_LIMITS.n_frames:
        return

    assert decode(frames, EVERYTHING) == (envelope, message)


# --- damage --------------------------------------------------------------------------------------


def decode_or_refuse(frames: list[bytes]) -> tuple[Envelope, Message] | None:
    try:
        return decode(frames, EVERYTHING)
    except (ProtocolError, TransportError):
        return None


@given(envelopes, any_message, st.data())
def test_damaged_frames_are_refused_or_are_another_valid_message(
    envelope: Envelope, message: Message, data: st.DataObject
) -> None:
    frames = [bytes(frame) for frame in encode(envelope, message)]
    which = data.draw(st.integers(0, len(frames) - 1), label="frame")
    frame = bytearray(frames[which])
    at = data.draw(st.integers(0, len(frame) - 1), label="at")
    match data.draw(st.sampled_from(["flip", "set", "cut", "drop", "insert", "append", "swap"])):
        case "flip":
            frame[at] ^= 1 << data.draw(st.integers(0, 7))
        case "set":
            frame[at] = data.draw(st.integers(0, 255))
        case "cut":
            del frame[at:]
        case "drop":
            del frame[at]
        case "insert":
            frame[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        case "append":
            frame += data.draw(st.binary(min_size=1, max_size=6))
        case "swap":
            frames.append(frames.pop(0))
    frames[which] = bytes(frame)

    found = decode_or_refuse(frames)

    if found is not None:
        assert decode(encode(*found), EVERYTHING) == found


@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_noise_is_refused(frames: list[bytes], has_magic: bool) -> None:
    if has_magic and frames:
        frames[0] = b"\xc1PS\x01" + frames[0]

    assert decode_or_refuse(frames) is None


nested: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts
    | st.binary(max_size=20) | st.sampled_from([0, 1, 2, 3, 40]),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=20,
)  # fmt: skip


@given(st.sampled_from(sorted(m.MESSAGE_TYPES)) | nested, st.lists(nested, max_size=8), pieces())
def test_wellformed_msgpack_of_the_wrong_shape_is_refused_or_is_a_valid_message(
    number: Any, fields: list[Any], raw: bytes
) -> None:
    import msgpack

    header = b"\xc1PS\x01" + msgpack.packb([number, "r", 1, "w", 2, 3, 4, *fields])

    found = decode_or_refuse([header, raw] if raw else [header])

    if found is not None:
        assert decode(encode(*found), EVERYTHING) == found
