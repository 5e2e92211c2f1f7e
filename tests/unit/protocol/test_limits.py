"""What one message can carry."""

from __future__ import annotations

import pytest

from paramserver.errors import ConfigError, MessageTooLarge
from paramserver.protocol import codec
from paramserver.protocol.limits import (
    DEFAULT_LIMITS,
    PAYLOAD_BUFFERS,
    SEALED_LIMITS,
    Limits,
    check_size,
)
from paramserver.protocol.messages import Envelope, Payload, PayloadKind, ServiceReply

SMALL = Limits(frame_bytes=100, gather_bytes=50, message_bytes=250)


def payload(n_bytes: int, n_buffers: int = 0, each: int = 10) -> Payload:
    return Payload(PayloadKind.PICKLE, bytes(n_bytes), (bytes(each),) * n_buffers)


@pytest.mark.parametrize(
    "fits",
    [payload(100), payload(250), payload(50, 20), payload(240, 1), payload(0, 2, 125)],
    ids=["one frame", "split over frames", "buffers", "to the byte", "nothing but buffers"],
)
def test_what_fits_into_a_message_is_let_through(fits: Payload) -> None:
    check_size(fits, "call", SMALL)


@pytest.mark.parametrize("too_long", [payload(251), payload(241, 1)], ids=["data", "buffers"])
def test_too_many_bytes_are_refused_in_words(too_long: Payload) -> None:
    with pytest.raises(MessageTooLarge, match="a call would take 251 bytes, the wire allows 250"):
        check_size(too_long, "call", SMALL)


def test_too_many_arrays_are_refused_whatever_they_weigh() -> None:
    check_size(payload(0, PAYLOAD_BUFFERS, 0), "call", SMALL)
    with pytest.raises(MessageTooLarge, match="a result would take 1025 arrays") as caught:
        check_size(payload(0, PAYLOAD_BUFFERS + 1, 0), "result", SMALL)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (1025, 1024)


def test_pieces_that_share_a_frame_have_to_fit_into_one() -> None:
    with pytest.raises(ConfigError, match="gather_bytes=200 is above frame_bytes=100"):
        Limits(frame_bytes=100, gather_bytes=200)


def test_what_is_encrypted_is_cut_finer_and_read_by_anybody() -> None:
    vector = bytes(range(256)) * 16_000  # 4 MB
    message = ServiceReply(1, True, Payload(PayloadKind.PLAIN, b"x", (vector,)))
    frames = codec.encode(Envelope("run", 1, "w", 1, 1, 0), message, SEALED_LIMITS)
    assert [len(frame) for frame in frames[1:]] == [1 << 20] * 3 + [4_096_000 - 3 * (1 << 20)]
    _, read = codec.decode(frames, codec.FROM_MASTER)
    assert isinstance(read, ServiceReply)
    assert read.body.buffers[0] == vector


def test_the_largest_messages_fit_into_the_frames_they_are_cut_into() -> None:
    limits = SEALED_LIMITS
    assert limits.message_bytes == DEFAULT_LIMITS.message_bytes
    # Each piece may begin a frame of its own, and end in one that is not full.
    assert limits.message_bytes // limits.frame_bytes + PAYLOAD_BUFFERS + 1 <= limits.n_frames
