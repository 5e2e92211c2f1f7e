"""A map-reduce, seen by its user: check everything, run the two phases, commit the results.

Rule 1: a mistake that can be seen beforehand is an error before anything runs or is written.
Rule 2: the driver passes names between the phases, never data.
Rule 3: however a run ends, its files of the shuffle are removed, and the output folder holds all
        results or is as it was before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Protocol

from paramserver.data.blocks import FileRange
from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce.commit import OutputFolder, refuse_contents, remove_folder
from paramserver.mapreduce.files import disk_errors, unique_name
from paramserver.mapreduce.folding import Fold, as_fold
from paramserver.mapreduce.job import Settings, map_job, reduce_job
from paramserver.mapreduce.output import PartOutput, ToLine
from paramserver.mapreduce.result import MapReduceResult
from paramserver.mapreduce.splits import UNITS, Inputs, Unit, plan_inputs
from paramserver.runtime.plan import Call, OnProgress, PhaseCalls

BLOCK_BYTES: Final = 128 << 10
"""The words of a block, as Python objects, take some eight times its size: with this they stay in
an L2 cache of 1 MiB, and counting is two to three times faster than on megabytes at once."""
MEMORY_LIMIT_BYTES: Final = 256 << 20
_SMALLEST_LIMIT: Final = 1 << 16
_MAX_PARTS: Final = 1 << 16


class PlanRunner(Protocol):
    """What a map-reduce needs of a cluster.

    With an attribute ``trusted`` that is true (all workers are inside the local trust domain),
    anything that can be pickled can be a value; without, plain values and arrays. Where workers are
    on other machines, a method ``share_folder(path)`` returns a context manager during which they
    reach the files of that folder by `runtime.relay`.
    """

    @property
    def scratch_folder(self) -> str | os.PathLike[str]:
        """A private folder on this machine."""

    def run_plan(
        self, phases: Sequence[PhaseCalls], on_progress: OnProgress | None = None
    ) -> list[list[Any]]:
        """Run the phases one after the other."""

    def status(self) -> Any:
        """Return something with a dict ``counters``."""


class MapReduce:
    """A computation in two phases on any number of workers.

    Parameters
    ----------
    mapper : callable
        Called with one record (see `unit`). It yields (key, value) pairs, or returns them as a
        mapping (fastest) or as a list; None stands for no pairs.
    reducer : callable
        Called with (key, values), where the values are an iterable to be read once, in the order of
        the input. It returns the value that goes with the key (None: nothing), or yields
        (key, value) pairs. The builtins ``sum``, ``min``, ``max`` and ``len`` stand for what they
        make of the values; they run at C speed.
    combiner : callable, optional
        Like a reducer, called in the map jobs with the pairs of a stretch of input, to have less to
        hand on. It may be called for any part of the values of a key, and for its own results. With
        ``sum``, ``min`` or ``max`` as reducer the same is the combiner by itself.
    unit : {"lines", "line", "words", "item"}, default="lines"
        What the mapper is called with, where the inputs are files: a block of whole lines (bytes,
        some 100 KB), a single line without its newline, or a block of whole words, which is cut at
        any white space. With ``"item"`` the inputs are never taken for file names.

    Notes
    -----
    Keys are None, bool, int, float, complex, bytes, str, and tuples and frozensets of these. Keys
    that are equal in Python (1, 1.0, True) are one key, and the first of them is kept. Values may
    be anything that can be pickled; on a cluster with remote workers plain values and arrays.

    Examples
    --------
    Count words:

    >>> from collections import Counter
    >>> import paramserver as ps
    >>> def count_words(block):
    ...     return Counter(block.lower().split())
    >>> with ps.LocalCluster(n_workers=2) as cluster:  # doctest: +SKIP
    ...     counts = ps.MapReduce(count_words, sum, unit="words").run("*.txt", cluster)
    >>> counts.most_common(10)  # doctest: +SKIP
    """

    def __init__(
        self,
        mapper: Callable[[Any], Any],
        reducer: Callable[..., Any],
        combiner: Callable[..., Any] | None = None,
        *,
        unit: Unit = "lines",
    ) -> None:
        self.mapper = mapper
        self.reducer = reducer
        self.combiner = combiner
        self.unit = unit

    def check(
        self,
        files: str | os.PathLike[str] | list[str],
        n_map: int = 30,
        n_reduce: int = 60,
        out_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Raise what `run` would raise for these parameters, before any worker is started.

        Parameters
        ----------
        files : str, path or list of them
            Names and glob patterns.
        n_map, n_reduce : int
        out_dir : path, optional
            Nothing is made there.

        Raises
        ------
        ConfigError
            For a number that is not allowed, or an `out_dir` that has other content.
        DataError
            For files that cannot be read.
        """
        _check_counts({"n_map": n_map, "n_reduce": n_reduce})
        plan_inputs(files, self.unit, n_map)
        if out_dir is not None and os.path.lexists(out_dir):
            refuse_contents(Path(os.path.abspath(out_dir)))

    def run(
        self,
        inputs: Any,
        cluster: PlanRunner,
        n_map: int = 30,
        n_reduce: int = 60,
        out_dir: str | os.PathLike[str] | None = None,
        *,
        to_line: ToLine | None = None,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        block_bytes: int = BLOCK_BYTES,
        max_bad_records: int = 0,
        max_failures: int = 4,
        on_progress: OnProgress | None = None,
    ) -> MapReduceResult:
        """Run it and wait for the result.

        Parameters
        ----------
        inputs : str, path, list of them, or any iterable
            Files and glob patterns, cut into byte ranges of equal size; or the items to map.
        cluster : Cluster
        n_map, n_reduce : int
            Number of jobs in each phase. Some map jobs may get no input, where there is little.
        out_dir : path, optional
            Write ``part-00000`` and so on there, and ``_SUCCESS`` at the end; it must be empty or
            not exist. By default the result holds the pairs.
        to_line : callable, optional
            With `out_dir`: makes the line of (key, value), as bytes. By default key, tab, value.
        memory_limit_bytes : int
            What a job may hold of pairs; the rest goes to disk. The mapper's and the reducer's own
            needs, one block and one value come on top.
        block_bytes : int
            Size of the blocks for ``unit="lines"`` and ``"words"``.
        max_bad_records : int
            Records whose mapper raises are skipped and counted, up to so many in all.
        max_failures : int
            Tries of a job whose function raises.
        on_progress : callable, optional
            Called as ``on_progress(phase, n_done, n_total)``, phases "map" and "reduce".

        Returns
        -------
        MapReduceResult

        Raises
        ------
        ConfigError
            For a parameter that is not allowed, or an `out_dir` that has other content.
        DataError
            For inputs that cannot be read, keys and values of unsuitable types, a full disk, more
            bad records than allowed.
        Exception
            What the user's functions raised on every try: itself from workers on this machine, as
            `JobFailed` otherwise.
        """
        started = time.monotonic()
        counts = {
            "n_map": n_map, "n_reduce": n_reduce, "memory_limit_bytes": memory_limit_bytes,
            "block_bytes": block_bytes, "max_bad_records": max_bad_records,
            "max_failures": max_failures,
        }  # fmt: skip
        _check_counts(counts)
        if self.unit not in UNITS:
            raise ConfigError(
                f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}.",
                field="unit", value=self.unit,
            )  # fmt: skip
        if not callable(self.mapper):
            raise ConfigError("The mapper must be a function.", field="mapper", value=self.mapper)
        reducer = as_fold(self.reducer, "reducer")
        combiner = None if self.combiner is None else as_fold(self.combiner, "combiner")
        if combiner is None and reducer in ("sum", "min", "max"):
            combiner = reducer
        if combiner == "len":
            raise ConfigError(
                "len cannot be a combiner: lengths of lengths are not lengths. Use sum over ones.",
                field="combiner", value=len,
            )  # fmt: skip
        if to_line is not None and out_dir is None:
            raise ConfigError("to_line goes with out_dir.", field="to_line", value=to_line)
        planned = plan_inputs(inputs, self.unit, n_map)
        with _ShuffleFolder(cluster) as folder:
            settings = Settings(
                planned.unit, n_reduce, folder, block_bytes, memory_limit_bytes, max_bad_records,
                getattr(cluster, "trusted", False),
            )  # fmt: skip
            run = _Run(cluster, planned, settings, started, on_progress, max_failures)
            if out_dir is None:
                return run.into_memory(self.mapper, combiner, reducer)
            return run.into_files(self.mapper, combiner, reducer, to_line, out_dir)


def _plain(share: Any) -> Any:
    """Return a share with its ranges as plain tuples; items stay what they are."""
    if isinstance(share, list):
        return [tuple(each) if type(each) is FileRange else each for each in share]
    return share


_SMALLEST: Final = {
    "n_map": 1, "n_reduce": 1, "memory_limit_bytes": _SMALLEST_LIMIT, "block_bytes": 1,
    "max_bad_records": 0, "max_failures": 1,
}  # fmt: skip


def _check_counts(counts: Mapping[str, Any]) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < _SMALLEST[name]:
            raise ConfigError(
                f"{name} must be an integer of at least {_SMALLEST[name]:,}, not {value!r}.",
                field=name, value=value,
            )  # fmt: skip
    if counts["n_reduce"] > _MAX_PARTS:
        raise ConfigError(
            f"n_reduce must be at most {_MAX_PARTS:,}.", field="n_reduce", value=counts["n_reduce"]
        )


class _ShuffleFolder:
    """A folder for the files of one run, shared with other machines, and removed at its end."""

    def __init__(self, cluster: PlanRunner) -> None:
        self._share = share_of(cluster)
        self._path = os.path.join(os.fspath(cluster.scratch_folder), unique_name("mapreduce"))

    def __enter__(self) -> str:
        with disk_errors(self._path):
            os.mkdir(self._path, 0o700)
        self._sharing = self._share(self._path)
        self._sharing.__enter__()
        return self._path

    def __exit__(self, *_: object) -> None:
        self._sharing.__exit__(None, None, None)
        remove_folder(self._path)


def share_of(cluster: PlanRunner) -> Callable[[str], AbstractContextManager[Any]]:
    """Return what shares a folder of this machine with the jobs of a cluster."""
    share: Callable[[str], AbstractContextManager[Any]]
    share = getattr(cluster, "share_folder", nullcontext)
    return share


class _Run:
    """One run on its way."""

    def __init__(
        self,
        cluster: PlanRunner,
        planned: Inputs,
        settings: Settings,
        started: float,
        on_progress: OnProgress | None,
        max_failures: int,
    ) -> None:
        self._cluster = cluster
        self._planned = planned
        self._settings = settings
        self._started = started
        self._map_ended = started
        self._on_progress = on_progress
        self._max_failures = max_failures

    def into_memory(
        self, mapper: Callable[[Any], Any], combiner: Fold | None, reducer: Fold
    ) -> MapReduceResult:
        maps, reduces = self._phases(mapper, combiner, reducer, None, None)
        parts = []
        for reduced in reduces:
            output = PartOutput(*reduced["output"])
            with open(output.path, "rb") as file:
                parts.append(file.read())
            os.unlink(output.path)
        return self._result(maps, reduces, parts, [])

    def into_files(
        self,
        mapper: Callable[[Any], Any],
        combiner: Fold | None,
        reducer: Fold,
        to_line: ToLine | None,
        out_dir: str | os.PathLike[str],
    ) -> MapReduceResult:
        folder = OutputFolder(out_dir)
        try:
            with share_of(self._cluster)(folder.temporary):
                maps, reduces = self._phases(mapper, combiner, reducer, folder.temporary, to_line)
            paths = folder.commit([PartOutput(*reduced["output"]) for reduced in reduces])
            return self._result(maps, reduces, None, paths)
        except BaseException:
            folder.abandon()
            raise

    def _phases(
        self,
        mapper: Callable[[Any], Any],
        combiner: Fold | None,
        reducer: Fold,
        out_folder: str | None,
        to_line: ToLine | None,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        settings = self._settings.plain()
        self._counters_before = dict(self._cluster.status().counters)
        map_calls = [
            Call(map_job, (job, _plain(share), mapper, combiner, settings))
            for job, share in enumerate(self._planned.shares)
        ]
        reduce_calls = [
            Call(reduce_job, (part, reducer, out_folder, to_line, settings))
            for part in range(self._settings.n_parts)
        ]
        phases = [
            PhaseCalls("map", map_calls, max_failures=self._max_failures),
            PhaseCalls("reduce", reduce_calls, max_failures=self._max_failures, wants_inputs=True),
        ]
        maps, reduces = self._cluster.run_plan(phases, self._note_progress)
        self._check_bad_records(sum(mapped["bad_records"] for mapped in maps))
        return maps, reduces

    def _note_progress(self, phase: str, n_done: int, n_total: int) -> None:
        if phase == "map":
            self._map_ended = time.monotonic()
        if self._on_progress is not None:
            self._on_progress(phase, n_done, n_total)

    def _check_bad_records(self, n_bad: int) -> None:
        allowed = self._settings.max_bad_records
        if n_bad > allowed:
            raise DataError(
                f"The mapper has failed on {n_bad} records; max_bad_records allows {allowed}.",
                path="",
            )

    def _result(
        self,
        maps: list[dict[str, Any]],
        reduces: list[dict[str, Any]],
        parts: list[bytes] | None,
        paths: list[Path],
    ) -> MapReduceResult:
        after = self._cluster.status().counters
        ended = time.monotonic()
        counters = {"input_bytes": self._planned.n_bytes}
        for name in ("records", "bad_records", "map_pairs", "shuffle_pairs", "shuffle_bytes"):
            counters[name] = sum(mapped[name] for mapped in maps)
        counters |= {
            "groups": sum(reduced["groups"] for reduced in reduces),
            "results": sum(PartOutput(*reduced["output"]).n_pairs for reduced in reduces),
            "spilled_segments": sum(max(0, mapped["segments"] - 1) for mapped in maps),
            "spilled_runs": sum(reduced["runs"] for reduced in reduces),
            "spilled_bytes": sum(reduced["run_bytes"] for reduced in reduces),
            "map_jobs": len(maps),
            "reduce_jobs": len(reduces),
        }
        for name in ("attempts", "workers_lost"):
            counters[name] = after.get(name, 0) - self._counters_before.get(name, 0)
        timings = {
            "map_s": self._map_ended - self._started,
            "reduce_s": ended - self._map_ended,
            "total_s": ended - self._started,
        }
        return MapReduceResult(parts, paths, counters, timings, trusted=self._settings.trusted)
