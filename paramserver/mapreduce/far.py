"""Map outputs, read on a machine that has not their files: by the master's relay, many at a time.

Rule 1: what comes out is what `shuffle.read_piece` gives for one map job after the other.
Rule 2: a question costs a round trip, so one asks for as many pieces as fit into an answer; no
        more than one answer is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from paramserver.mapreduce.columns import decode_batches
from paramserver.mapreduce.pairs import Batch
from paramserver.mapreduce.shuffle import MapOutput, checked, placed, rows_of
from paramserver.runtime import relay
from paramserver.runtime.context import LostInput


class _Span(NamedTuple):
    """Bytes of the output of one map job."""

    job: int
    path: str
    offset: int
    n_bytes: int
    crc: int = 0


def read_far(outputs: Sequence[MapOutput], part: int, *, trusted: bool) -> Iterator[Batch]:
    """Yield the batches of one part from the outputs of all map jobs, in order.

    Raises
    ------
    LostInput
        If a file is gone, or is not what was written.
    """
    rows = [
        _Span(job, output.path, *rows_of(output, part))
        for job, output in enumerate(outputs)
        if output.n_segments
    ]
    for span, data in _read(_pieces(rows)):
        try:
            piece = checked(data, span.crc)
        except ValueError as error:
            raise _lost(span, error) from error
        for batch, _ in decode_batches(memoryview(piece), trusted=trusted):
            yield batch


def _pieces(rows: Iterable[_Span]) -> Iterator[_Span]:
    for span, data in _read(rows):
        try:
            places = list(placed(data))
        except ValueError as error:
            raise _lost(span, error) from error
        for offset, n_bytes, crc in places:
            yield _Span(span.job, span.path, offset, n_bytes, crc)


def _read(spans: Iterable[_Span]) -> Iterator[tuple[_Span, bytes]]:
    for some in _windows(spans):
        answers = relay.read_many([(span.path, span.offset, span.n_bytes) for span in some])
        for span, data in zip(some, answers, strict=True):
            if data is None:
                raise _lost(span, FileNotFoundError("the master's machine has no such file"))
            if len(data) < span.n_bytes:
                raise _lost(span, ValueError("it is cut off"))
            yield span, data


def _windows(spans: Iterable[_Span]) -> Iterator[list[_Span]]:
    """Gather spans that fit into one answer; one that does not goes alone."""
    some: list[_Span] = []
    n_bytes = 0
    for span in spans:
        is_full = n_bytes + span.n_bytes > relay.PIECE_BYTES or len(some) == relay.MANY
        if some and is_full:
            yield some
            some, n_bytes = [], 0
        some.append(span)
        n_bytes += span.n_bytes
    if some:
        yield some


def _lost(span: _Span, error: Exception) -> LostInput:
    return LostInput(
        f"The output of map job {span.job} cannot be read ({span.path}): {error}", index=span.job
    )
