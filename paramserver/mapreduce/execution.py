"""One map-reduce on its way: its folders, its two phases, and what is counted of them.

Rule 1: the driver passes names between the phases, never data.
Rule 2: however a run ends, its files of the shuffle are removed, and the output folder holds all
        results or is as it was before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from paramserver.data.blocks import FileRange
from paramserver.errors import DataError
from paramserver.mapreduce.commit import OutputFolder, remove_folder
from paramserver.mapreduce.files import disk_errors, unique_name
from paramserver.mapreduce.folding import Fold
from paramserver.mapreduce.job import Settings, map_job, reduce_job
from paramserver.mapreduce.output import PartOutput, ToLine
from paramserver.mapreduce.result import MapReduceResult
from paramserver.mapreduce.splits import Inputs
from paramserver.runtime.plan import Call, OnProgress, PhaseCalls


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


class ShuffleFolder:
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


class Execution:
    """One map-reduce on its way.

    Parameters
    ----------
    cluster : PlanRunner
    planned : Inputs
        What each map job reads.
    settings : Settings
    started : float
        When the user called, on the clock of `time.monotonic`.
    on_progress : callable or None
    max_failures : int
        Tries of a job whose function raises.
    max_lost : int
        Workers lost under a job until it is taken to be the cause.
    """

    def __init__(
        self,
        cluster: PlanRunner,
        planned: Inputs,
        settings: Settings,
        started: float,
        on_progress: OnProgress | None,
        max_failures: int,
        max_lost: int,
    ) -> None:
        self._cluster = cluster
        self._planned = planned
        self._settings = settings
        self._started = started
        self._map_ended = started
        self._on_progress = on_progress
        self._max_failures = max_failures
        self._max_lost = max_lost

    def into_memory(
        self, mapper: Callable[[Any], Any], combiner: Fold | None, reducer: Fold
    ) -> MapReduceResult:
        """Run both phases; hold what they have made."""
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
        """Run both phases; commit what they have made to a folder, all of it or nothing."""
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
            replace(phase, max_failures=self._max_failures, max_lost=self._max_lost)
            for phase in (
                PhaseCalls("map", map_calls),
                PhaseCalls("reduce", reduce_calls, wants_inputs=True),
            )
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


def share_of(cluster: PlanRunner) -> Callable[[str], AbstractContextManager[Any]]:
    """Return what shares a folder of this machine with the jobs of a cluster."""
    share: Callable[[str], AbstractContextManager[Any]]
    share = getattr(cluster, "share_folder", nullcontext)
    return share


def _plain(share: Any) -> Any:
    """Return a share with its ranges as plain tuples; items stay what they are."""
    if isinstance(share, list):
        return [tuple(each) if type(each) is FileRange else each for each in share]
    return share
