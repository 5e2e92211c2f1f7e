"""Grants share messages as long as the messages stay small."""

from __future__ import annotations

from paramserver.core.batches import BATCH_BYTES, BATCH_PIECES, batches
from paramserver.protocol.messages import GrantInputs, GrantJobs, JobGrant, Payload, PayloadKind


def grant(job: int, *, n_bytes: int = 10, n_buffers: int = 0, n_inputs: int = 0) -> JobGrant:
    payload = Payload(PayloadKind.PICKLE, bytes(n_bytes), (bytes(8),) * n_buffers)
    return JobGrant(job, 1, payload, (Payload(PayloadKind.PICKLE, b"x"),) * n_inputs)


def sizes(grants: list[JobGrant]) -> list[int]:
    found = [message.grants for message in batches(grants) if isinstance(message, GrantJobs)]
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


def numbered(n_inputs: int) -> tuple[Payload, ...]:
    return tuple(Payload(PayloadKind.PLAIN, b"%d" % k) for k in range(n_inputs))


def test_inputs_that_are_too_many_for_one_message_go_ahead_of_their_grant() -> None:
    inputs = numbered(2 * BATCH_PIECES + 5)
    small, large = grant(1), JobGrant(2, 3, Payload(PayloadKind.PICKLE, b"call"), inputs)
    assert list(batches([small, large, grant(3)])) == [
        GrantJobs((small,)),
        GrantInputs(2, 3, inputs[:BATCH_PIECES]),
        GrantInputs(2, 3, inputs[BATCH_PIECES : 2 * BATCH_PIECES]),
        GrantInputs(2, 3, inputs[2 * BATCH_PIECES :]),
        GrantJobs((large._replace(inputs=()), grant(3))),
    ]
    assert list(batches([large])) == [
        *list(batches([small, large]))[1:4],
        GrantJobs((large._replace(inputs=()),)),
    ]


def test_an_input_that_is_large_goes_in_a_message_of_its_own() -> None:
    inputs = tuple(Payload(PayloadKind.PICKLE, b"", (bytes(BATCH_BYTES),)) for _ in range(2))
    large = JobGrant(2, 1, Payload(PayloadKind.PICKLE, b"call"), inputs)
    assert list(batches([large])) == [
        GrantInputs(2, 1, inputs[:1]),
        GrantInputs(2, 1, inputs[1:]),
        GrantJobs((large._replace(inputs=()),)),
    ]
