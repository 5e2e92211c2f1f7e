"""The two kinds of jobs of a map-reduce, as workers run them.

Rule 1: a job depends on its arguments (and the files they name) alone; run twice, also at the same
        time, it does no harm: each attempt writes files of its own.
Rule 2: it returns names and counts, never data.
Rule 3: folders are made by the driver. A late attempt finds its folder gone, and fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from paramserver.data.blocks import LINES, WORDS, FileRange, read_blocks
from paramserver.errors import DataError
from paramserver.mapreduce.far import read_far
from paramserver.mapreduce.files import unique_name
from paramserver.mapreduce.folding import Fold
from paramserver.mapreduce.mapping import PairSink
from paramserver.mapreduce.output import ToLine, as_columns, as_lines, write_part
from paramserver.mapreduce.pairs import Batch
from paramserver.mapreduce.reducing import PartReducer
from paramserver.mapreduce.shuffle import MapOutput, ShuffleWriter, read_piece
from paramserver.mapreduce.workplace import Workplace
from paramserver.runtime import relay

__remote_jobs__ = ("map_job", "reduce_job")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same for all jobs of a run. Crosses the wire as a dict.

    Attributes
    ----------
    unit : str
        See `splits.Unit`.
    n_parts : int
    folder : str
        For the files of the shuffle.
    block_bytes, memory_limit_bytes, max_bad_records : int
        See `run.MapReduce.run`.
    trusted : bool
        See `columns`.
    """

    unit: str
    n_parts: int
    folder: str
    block_bytes: int
    memory_limit_bytes: int
    max_bad_records: int
    trusted: bool

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


# --- map -----------------------------------------------------------------------------------------


def map_job(
    job: int,
    share: Sequence[Any],
    mapper: Callable[[Any], Any],
    combiner: Fold | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Map one share of the input and write the pairs for the reduce jobs.

    Parameters
    ----------
    job : int
        Its number.
    share : sequence
        Of `FileRange` (or lists of their fields), or of items.
    mapper, combiner
        The user's.
    settings : dict
        See `Settings`.

    Returns
    -------
    dict
        ``output`` (the fields of `shuffle.MapOutput`) and counts.
    """
    its = Settings(**settings)
    records = _Records(share, its)
    with (
        Workplace(its.folder) as place,
        ShuffleWriter(
            place.folder, job, its.n_parts, its.memory_limit_bytes // 2, trusted=its.trusted
        ) as writer,
    ):
        sink = PairSink(combiner, writer.add, its.memory_limit_bytes // 4)
        n_bad = _map_all(records, mapper, sink, its.max_bad_records)
        sink.flush()
        output = writer.finish()
        output = output._replace(path=place.hand_over(output.path, its.folder))
        return {
            "output": list(output),
            "records": records.n_records,
            "bad_records": n_bad,
            "map_pairs": sink.n_pairs,
            "shuffle_pairs": writer.n_pairs,
            "shuffle_bytes": output.n_bytes,
            "segments": output.n_segments,
        }


def _map_all(
    records: _Records, mapper: Callable[[Any], Any], sink: PairSink, max_bad_records: int
) -> int:
    """Call the mapper for each record; return how many records were skipped."""
    if not max_bad_records:
        try:
            for record in records:
                sink.add(mapper(record))
        except Exception as error:
            error.add_note(f"while mapping {records.where()}")
            raise
        return 0
    n_bad = 0
    for record in records:
        try:
            given = mapper(record)
            if given is not None and not hasattr(given, "items"):
                given = list(given)  # all of it or nothing
        except Exception as error:
            n_bad += 1
            if n_bad > max_bad_records:
                error.add_note(
                    f"while mapping {records.where()}; {n_bad - 1} bad records were skipped before"
                )
                raise
        else:
            sink.add(given)
    return n_bad


class _Records:
    """The records of a share, one at a time; knows where it is."""

    def __init__(self, share: Sequence[Any], settings: Settings) -> None:
        self._share = share
        self._settings = settings
        self._place = ""
        self.n_records = 0

    def where(self) -> str:
        """Say which record is being mapped."""
        return f"record {self.n_records} of this job{self._place}"

    def __iter__(self) -> Iterator[Any]:
        if self._settings.unit == "item":
            for item in self._share:
                self.n_records += 1
                yield item
            return
        boundary = WORDS if self._settings.unit == "words" else LINES
        for fields in self._share:
            piece = FileRange(*fields)
            self._place = f", in {piece.path}, bytes {piece.start:,} to {piece.stop:,}"
            for block in read_blocks(piece, boundary, self._settings.block_bytes):
                if self._settings.unit == "line":
                    lines = block.split(b"\n")
                    if not lines[-1]:
                        lines.pop()  # what comes after the last line break is no line
                    for line in lines:
                        self.n_records += 1
                        yield line
                else:
                    self.n_records += 1
                    yield block


# --- reduce --------------------------------------------------------------------------------------


def reduce_job(
    inputs: Sequence[dict[str, Any]],
    part: int,
    reducer: Fold,
    out_folder: str | None,
    to_line: ToLine | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Reduce one part.

    Parameters
    ----------
    inputs : sequence of dict
        What the map jobs have returned, in their order.
    part : int
        Its number.
    reducer : Fold
        The user's.
    out_folder : str or None
        Where to write text; by default columns, beside the files of the shuffle.
    to_line : ToLine or None
        The user's, for text.
    settings : dict
        See `Settings`.

    Returns
    -------
    dict
        ``output`` (the fields of `output.PartOutput`, under the name of this attempt) and counts.

    Raises
    ------
    LostInput
        If the output of a map job cannot be read.
    """
    its = Settings(**settings)
    name = f"part-{part:05d}"
    encode: Callable[[Batch], bytes] = (
        partial(as_columns, trusted=its.trusted)
        if out_folder is None
        else partial(as_lines, to_line=to_line)
    )
    final_folder = out_folder or its.folder
    with Workplace(its.folder) as place:
        engine = PartReducer(
            reducer, place.folder, f"runs-{name}", its.memory_limit_bytes, trusted=its.trusted
        )
        results = engine.reduce(_pieces(inputs, part, its))
        path = place.path_for(final_folder, unique_name(name))
        output = write_part(path, results, encode)
        output = output._replace(path=place.hand_over(output.path, final_folder))
    return {
        "output": list(output),
        "reduce_pairs": engine.n_pairs,
        "groups": engine.n_groups,
        "runs": engine.n_runs,
        "run_bytes": engine.run_bytes,
    }


def _pieces(inputs: Sequence[dict[str, Any]], part: int, settings: Settings) -> Iterable[Batch]:
    outputs = [MapOutput(*given["output"]) for given in inputs]
    if part >= settings.n_parts:
        raise DataError(f"There is no part {part}.", path=settings.folder)
    if not relay.is_here(settings.folder):
        yield from read_far(outputs, part, trusted=settings.trusted)
        return
    for job, output in enumerate(outputs):
        for batch, _ in read_piece(output, part, job=job, trusted=settings.trusted):
            yield batch
