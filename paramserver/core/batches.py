"""How grants share messages: many tiny jobs in one, large ones each in their own. Pure.

Rule 1: a message of several grants is far below the limits of the wire, so that it can be written
        whatever the jobs are; one grant alone was measured when its job was handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paramserver.protocol.messages import JobGrant, Payload

BATCH_PIECES = 1024
"""Pieces of data in one message: each may need a frame, and 4,096 are allowed."""
BATCH_BYTES = 16 * 1024 * 1024


def batches(grants: Sequence[JobGrant]) -> Iterator[tuple[JobGrant, ...]]:
    """Cut grants into runs that may share a message, in order."""
    first = pieces = n_bytes = 0
    for index, grant in enumerate(grants):
        more_pieces, more_bytes = _measure(grant.payload)
        for payload in grant.inputs:
            of_input = _measure(payload)
            more_pieces += of_input[0]
            more_bytes += of_input[1]
        pieces += more_pieces
        n_bytes += more_bytes
        if index > first and (pieces > BATCH_PIECES or n_bytes > BATCH_BYTES):
            yield tuple(grants[first:index])
            first, pieces, n_bytes = index, more_pieces, more_bytes
    yield tuple(grants[first:])


def _measure(payload: Payload) -> tuple[int, int]:
    if not payload.buffers:
        return 1, len(payload.data)
    return 1 + len(payload.buffers), payload.n_bytes
