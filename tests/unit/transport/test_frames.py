"""Messages cut out of a stream of bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import LocalProtocolError, MessageTooLarge, RemoteProtocolError
from paramserver.transport.frames import (
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    VIEWED_BYTES,
    Assembler,
    prefix,
)


def _wire(message: list[bytes]) -> bytes:
    return prefix(message)[0] + b"".join(message)


def test_a_message_goes_by_its_number_of_frames_and_their_sizes() -> None:
    assert prefix([b"abc", b"", memoryview(b"12345678").cast("d")]) == (
        struct.pack("=4I", 3, 3, 0, 8),
        [3, 0, 8],
    )


@pytest.mark.parametrize("nothing", [[], [b""], [bytearray()]])
def test_nothing_is_no_message(nothing: list[bytes]) -> None:
    with pytest.raises(LocalProtocolError, match="empty message"):
        prefix(nothing)


def test_what_cannot_be_sent_is_refused_before_anything_leaves() -> None:
    with pytest.raises(MessageTooLarge) as caught:
        prefix([b"x", bytes(MAX_FRAME_BYTES + 1)])
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (
        MAX_FRAME_BYTES + 1,
        MAX_FRAME_BYTES,
    )
    with pytest.raises(LocalProtocolError, match="at most"):
        prefix([b"x"] * (MAX_FRAMES + 1))
    with pytest.raises(LocalProtocolError, match="contiguous"):
        prefix([memoryview(b"abcdef")[::2]])


_MESSAGES = st.lists(
    st.lists(
        st.sampled_from([0, 1, 2, 7, 40, 200, VIEWED_BYTES - 1, VIEWED_BYTES, 70_000]),
        min_size=1,
        max_size=4,
    ),
    max_size=5,
)


@given(_MESSAGES, st.data())
def test_however_a_stream_is_cut_the_messages_are_the_same(
    sizes: list[list[int]], data: st.DataObject
) -> None:
    sent = [
        [bytes([1 + i + 7 * j]) * n for i, n in enumerate(each)] for j, each in enumerate(sizes)
    ]
    sent = [each for each in sent if each != [b""]]
    wire = memoryview(b"".join(_wire(each) for each in sent))
    assembler, received = Assembler(), []
    for _ in range(25):
        n = data.draw(st.integers(0, min(12, len(wire))) | st.integers(0, len(wire)))
        space = assembler.space()
        if space is not None and data.draw(st.booleans()):
            n = min(n, len(space))
            space[:n] = wire[:n]
            received += assembler.filled(n)
        else:
            received += assembler.feed(wire[:n])
        wire = wire[n:]
    received += assembler.feed(wire)
    assert [[bytes(frame) for frame in each] for each in received] == sent
    assert not assembler.is_amid_message


def test_small_frames_are_copies_and_large_ones_lie_where_they_were_received() -> None:
    small, large = bytes(VIEWED_BYTES - 1), bytes(VIEWED_BYTES)
    [[first, second]] = Assembler().feed(memoryview(bytearray(_wire([small, large]))))
    assert (type(first), first) == (bytes, small)
    assert (type(second), bytes(second)) == (memoryview, large)
    assembler = Assembler()
    assert assembler.feed(memoryview(_wire([large])[:100])) == []
    space = assembler.space()
    assert space is not None
    [[frame]] = assembler.filled(len(space))
    assert type(frame) is memoryview
    space[:] = b"1" * len(space)
    assert bytes(frame[92:]) == b"1" * len(space)


@pytest.mark.parametrize(
    "announced",
    [
        struct.pack("=I", 0),
        struct.pack("=I", MAX_FRAMES + 1),
        struct.pack("=I", 2**32 - 1),
        struct.pack("=2I", 1, MAX_FRAME_BYTES + 1),
        struct.pack("=3I", 2, 1, 2**32 - 1),
    ],
)
def test_what_is_announced_beyond_the_limits_is_refused_unread(announced: bytes) -> None:
    for cut in range(len(announced)):
        with pytest.raises(RemoteProtocolError, match="announced"):
            _feed_in_two(Assembler(), announced, cut)


def _feed_in_two(assembler: Assembler, data: bytes, cut: int) -> None:
    assembler.feed(memoryview(data[:cut]))
    assembler.feed(memoryview(data[cut:]))


def test_the_largest_frame_and_the_most_frames_pass() -> None:
    many = [b"x"] * MAX_FRAMES
    assert Assembler().feed(memoryview(_wire(many))) == [many]
    assembler = Assembler()
    assert assembler.feed(memoryview(struct.pack("=2I", 1, MAX_FRAME_BYTES))) == []
    space = assembler.space()
    assert space is not None
    assert len(space) == MAX_FRAME_BYTES
