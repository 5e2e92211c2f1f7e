"""A cluster without processes: runs plans in the calling thread, with failures on order.

For tests of what is built on plans. Arguments and results go through the same encoding as on the
way to a worker, so what could not travel fails here too; jobs run in any order, twice, or lose what
they have written, as the seed says.

Rule 1: the same seed gives the same run.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from paramserver.protocol import calls
from paramserver.runtime.context import LostInput
from paramserver.runtime.plan import Call, OnProgress, PhaseCalls


@dataclass
class InlineStatus:
    """What `InlineCluster.status` returns."""

    counters: dict[str, int] = field(default_factory=dict)


class InlineCluster:
    """Runs plans like a cluster, in this process. A context manager.

    Parameters
    ----------
    seed : int or None
        With a seed the calls of a phase run in a random order.
    duplicates : float
        Share of calls that run twice, the second result being the one that counts: a backup copy
        that wins.
    losses : float
        Chance of each call of a later phase to find that one of its inputs was lost; the call that
        made it is run again.
    trusted : bool
        Encode as inside the local trust domain; functions then need no names.

    Attributes
    ----------
    scratch_folder : str
    trusted : bool
    """

    def __init__(
        self,
        seed: int | None = None,
        *,
        duplicates: float = 0.0,
        losses: float = 0.0,
        trusted: bool = True,
    ) -> None:
        self.trusted = trusted
        self.scratch_folder = tempfile.mkdtemp(prefix="paramserver-inline-")
        self._random = None if seed is None else random.Random(seed)
        self._chance = random.Random(seed)
        self._duplicates = duplicates
        self._losses = losses
        self._counters = {"attempts": 0, "workers_lost": 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.scratch_folder)

    def status(self) -> InlineStatus:
        """Return the counters."""
        return InlineStatus(dict(self._counters))

    def run_plan(
        self, phases: Sequence[PhaseCalls], on_progress: OnProgress | None = None
    ) -> list[list[Any]]:
        """Run the phases one after the other; see `Cluster.run_plan`."""
        results: list[list[Any]] = []
        for number, phase in enumerate(phases):
            order = list(range(len(phase.calls)))
            if self._random is not None:
                self._random.shuffle(order)
            done: dict[int, Any] = {}
            for n_done, index in enumerate(order):
                if on_progress is not None:
                    on_progress(phase.name, n_done, len(order))
                done[index] = self._run_call(phases, number, index, results)
            if on_progress is not None:
                on_progress(phase.name, len(order), len(order))
            results.append([done[index] for index in range(len(order))])
        return results

    def _run_call(
        self, phases: Sequence[PhaseCalls], number: int, index: int, results: list[list[Any]]
    ) -> Any:
        phase = phases[number]
        n_failures = 0
        while True:
            if phase.wants_inputs and self._chance.random() < self._losses:
                self._lose_output(phases, number - 1, results)
            try:
                result = self._attempt(phase, phase.calls[index], results)
                if self._chance.random() < self._duplicates:
                    result = self._attempt(phase, phase.calls[index], results)
                return result
            except LostInput as lost:
                results[number - 1][lost.index] = self._run_call(
                    phases, number - 1, lost.index, results[: number - 1]
                )
            except Exception:
                n_failures += 1
                if n_failures >= phase.max_failures:
                    raise

    def _lose_output(
        self, phases: Sequence[PhaseCalls], number: int, results: list[list[Any]]
    ) -> None:
        """Lose the files that a call has written, as a machine does that goes away."""
        index = self._chance.randrange(len(phases[number].calls))
        for path in _paths_in(results[number][index]):
            if path.startswith(self.scratch_folder):
                os.unlink(path)

    def _attempt(self, phase: PhaseCalls, call: Call, results: list[list[Any]]) -> Any:
        self._counters["attempts"] += 1
        sent = calls.encode_call(call.fn, call.args, dict(call.kwargs), trusted=self.trusted)
        fn, args, kwargs = calls.decode_call(sent, trusted=self.trusted)
        if phase.wants_inputs:
            args = (results[-1], *args)
        result = calls.encode_value(fn(*args, **kwargs), trusted=self.trusted)
        return calls.decode_value(result, trusted=self.trusted)


def _paths_in(value: Any) -> list[str]:
    """Return the names of existing files anywhere in a plain value."""
    if isinstance(value, str):
        return [value] if os.path.isfile(value) else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [path for each in value for path in _paths_in(each)]
    return []
