"""How grants become messages: many tiny jobs in one, large ones each in their own. Pure.

Rule 1: a message of several grants is far below the limits of the wire, so that it can be written
        whatever the jobs are; what one call may measure was looked at when it was handed in.
Rule 2: a grant that is too large with all its inputs goes without them: they go ahead of it, as
        many messages of them as there have to be, so that a phase may have any number of jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paramserver.protocol.messages import GrantInputs, GrantJobs, JobGrant, Payload

BATCH_PIECES = 1024
"""Pieces of data in one message: each may need a frame, and 4,096 are allowed."""
BATCH_BYTES = 16 * 1024 * 1024


def batches(grants: Sequence[JobGrant]) -> Iterator[GrantInputs | GrantJobs]:
    """Write grants as messages, in order.

    Notes
    -----
    Every job passes here: sizes are plain numbers, since a class for them takes ten times as long.
    """
    if len(grants) == 1 and not grants[0].inputs:
        yield GrantJobs(tuple(grants))  # whatever its size, it goes alone
        return
    run: list[JobGrant] = []
    run_pieces = run_bytes = 0
    for grant in grants:
        pieces, n_bytes = _measure(grant.payload)
        if grant.inputs:
            sizes = [_measure(payload) for payload in grant.inputs]
            more_pieces, more_bytes = sum(n for n, _ in sizes), sum(n for _, n in sizes)
            if _is_much(pieces + more_pieces, n_bytes + more_bytes):
                if run:  # what was granted before goes before
                    yield GrantJobs(tuple(run))
                    run, run_pieces, run_bytes = [], 0, 0
                yield from _inputs_ahead(grant, sizes)
                grant = grant._replace(inputs=())
            else:
                pieces, n_bytes = pieces + more_pieces, n_bytes + more_bytes
        run_pieces += pieces
        run_bytes += n_bytes
        if run and _is_much(run_pieces, run_bytes):
            yield GrantJobs(tuple(run))
            run, run_pieces, run_bytes = [], pieces, n_bytes
        run.append(grant)
    yield GrantJobs(tuple(run))


def _inputs_ahead(grant: JobGrant, sizes: Sequence[tuple[int, int]]) -> Iterator[GrantInputs]:
    """Write the inputs of a grant as messages; `sizes` are their pieces and bytes."""
    first = pieces = n_bytes = 0
    for index, (more_pieces, more_bytes) in enumerate(sizes):
        pieces += more_pieces
        n_bytes += more_bytes
        if index > first and _is_much(pieces, n_bytes):
            yield GrantInputs(grant.job, grant.attempt, grant.inputs[first:index])
            first, pieces, n_bytes = index, more_pieces, more_bytes
    yield GrantInputs(grant.job, grant.attempt, grant.inputs[first:])


def _is_much(pieces: int, n_bytes: int) -> bool:
    return pieces > BATCH_PIECES or n_bytes > BATCH_BYTES


def _measure(payload: Payload) -> tuple[int, int]:
    """Return how many pieces a payload has, and how many bytes."""
    if not payload.buffers:
        return 1, len(payload.data)
    return 1 + len(payload.buffers), payload.n_bytes
