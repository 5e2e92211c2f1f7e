"""A map-reduce, seen by its user: what can be asked for, and what is refused.

Rule 1: a mistake that can be seen beforehand is an error before anything runs or is written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from paramserver.errors import ConfigError
from paramserver.mapreduce.commit import absolute, refuse_contents
from paramserver.mapreduce.execution import Execution, PlanRunner, ShuffleFolder
from paramserver.mapreduce.folding import Fold, as_fold
from paramserver.mapreduce.job import Settings
from paramserver.mapreduce.output import ToLine
from paramserver.mapreduce.result import MapReduceResult
from paramserver.mapreduce.splits import UNITS, Unit, plan_inputs
from paramserver.runtime.plan import OnProgress

BLOCK_BYTES: Final = 128 << 10
"""The words of a block, as Python objects, take some eight times its size: with this they stay in
an L2 cache of 1 MiB, and counting is two to three times faster than on megabytes at once."""
MEMORY_LIMIT_BYTES: Final = 256 << 20
_SMALLEST_LIMIT: Final = 1 << 16
_MAX_PARTS: Final = 1 << 16


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
        if out_dir is not None and os.path.lexists(path := absolute(out_dir)):
            refuse_contents(path)

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
        max_lost: int = 3,
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
        max_lost : int
            Workers lost under one job until it is taken to be the cause, and ends the run with
            `PoisonJob`. More where workers are killed whatever they run.
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
            "max_failures": max_failures, "max_lost": max_lost,
        }  # fmt: skip
        _check_counts(counts)
        if self.unit not in UNITS:
            raise ConfigError(
                f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}.",
                field="unit", value=self.unit,
            )  # fmt: skip
        if not callable(self.mapper):
            raise ConfigError("The mapper must be a function.", field="mapper", value=self.mapper)
        reducer, combiner = self._folds()
        if to_line is not None and out_dir is None:
            raise ConfigError("to_line goes with out_dir.", field="to_line", value=to_line)
        planned = plan_inputs(inputs, self.unit, n_map)
        with ShuffleFolder(cluster) as folder:
            settings = Settings(
                planned.unit, n_reduce, folder, block_bytes, memory_limit_bytes, max_bad_records,
                getattr(cluster, "trusted", False),
            )  # fmt: skip
            run = Execution(
                cluster, planned, settings, started, on_progress, max_failures, max_lost
            )
            if out_dir is None:
                return run.into_memory(self.mapper, combiner, reducer)
            return run.into_files(self.mapper, combiner, reducer, to_line, out_dir)

    def _folds(self) -> tuple[Fold, Fold | None]:
        """Return reducer and combiner, checked; ``sum``, ``min`` and ``max`` are their own."""
        reducer = as_fold(self.reducer, "reducer")
        combiner = None if self.combiner is None else as_fold(self.combiner, "combiner")
        if combiner is None and reducer in ("sum", "min", "max"):
            combiner = reducer
        if combiner == "len":
            raise ConfigError(
                "len cannot be a combiner: lengths of lengths are not lengths. Use sum over ones.",
                field="combiner", value=len,
            )  # fmt: skip
        return reducer, combiner


_SMALLEST: Final = {
    "n_map": 1, "n_reduce": 1, "memory_limit_bytes": _SMALLEST_LIMIT, "block_bytes": 1,
    "max_bad_records": 0, "max_failures": 1, "max_lost": 1,
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
