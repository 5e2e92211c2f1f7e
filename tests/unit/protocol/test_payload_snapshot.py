"""A payload that was handed over is nobody else's to change."""

from paramserver.protocol.messages import Payload, PayloadKind


def test_a_snapshot_does_not_follow_the_memory_it_was_taken_of() -> None:
    memory = bytearray(b"before")
    payload = Payload(PayloadKind.PICKLE, b"x", (memoryview(memory),))
    kept = payload.snapshot()
    memory[:] = b"after!"
    assert bytes(payload.buffers[0]) == b"after!"
    assert bytes(kept.buffers[0]) == b"before"


def test_a_payload_without_buffers_is_its_own_snapshot() -> None:
    payload = Payload(PayloadKind.PLAIN, b"x")
    assert payload.snapshot() is payload
