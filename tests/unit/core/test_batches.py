"""Grants share messages as long as the messages stay small."""

from __future__ import annotations

from paramserver.core.batches import BATCH_BYTES, BATCH_PIECES, batches
from paramserver.protocol.messages import JobGrant, Payload, PayloadKind


def grant(job: int, *, n_bytes: int = 10, n_buffers: int = 0, n_inputs: int = 0) -> JobGrant:
    payload = Payload(PayloadKind.PICKLE, bytes(n_bytes), (bytes(8),) * n_buffers)
    return JobGrant(job, 1, payload, (Payload(PayloadKind.PICKLE, b"x"),) * n_inputs)


def sizes(grants: list[JobGrant]) -> list[int]:
    found = list(batches(grants))
    assert [one for batch in found for one in batch] == grants
    return [len(batch) for batch in found]


def test_tiny_grants_share_one_message() -> None:
    assert sizes([grant(k) for k in range(128)]) == [128]
    assert sizes([grant(1)]) == [1]


def test_grants_of_many_bytes_are_cut_where_the_bytes_pass_the_limit() -> None:
    half = BATCH_BYTES // 2
    assert sizes([grant(k, n_bytes=half) for k in range(5)]) == [2, 2, 1]


def test_a_grant_that_is_too_large_for_company_goes_alone() -> None:
    large = grant(2, n_bytes=2 * BATCH_BYTES)
    assert sizes([grant(1), large, grant(3), grant(4)]) == [1, 1, 2]


def test_pieces_count_whatever_they_weigh() -> None:
    third = BATCH_PIECES // 3
    assert sizes([grant(k, n_buffers=third) for k in range(6)]) == [2, 2, 2]
    assert sizes([grant(k, n_inputs=third) for k in range(6)]) == [2, 2, 2]
