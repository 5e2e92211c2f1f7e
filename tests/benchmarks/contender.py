"""What a row of the benchmark asks of a contender: five calls, the same for us and the peers."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.jobs import meet


class Contender(ABC):
    """One way to run functions in worker processes.

    The order of calls is `load`, `start`, anything in between, `stop`.
    """

    name: str

    @abstractmethod
    def load(self) -> None:
        """Import what is needed; raises ModuleNotFoundError where it is not installed."""

    @abstractmethod
    def start(self, n_workers: int) -> None:
        """Start local workers, each a process that runs one job at a time."""

    @abstractmethod
    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Run over all items, batched as the library does it when its user says nothing."""

    @abstractmethod
    def submit_all(
        self, fn: Callable[[Any], Any], items: Sequence[Any], timeout_s: float | None = None
    ) -> list[Any]:
        """Run one job for each item, submitted one by one; return the results.

        `timeout_s` is the deadline of a try, for who knows such a thing; others ignore it.
        """

    @abstractmethod
    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        """Run one job and wait for its result."""

    @abstractmethod
    def stop(self) -> None:
        """End all workers."""

    def meet(self, n_workers: int) -> list[int]:
        """Wait until all workers are up with numpy imported; return their process ids."""
        with tempfile.TemporaryDirectory() as folder:
            return self.submit_all(meet, [(folder, n_workers)] * n_workers)
