"""paramserver as a contender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.contender import Contender


class Ours(Contender):
    name = "paramserver"

    def load(self) -> None:
        import paramserver
        import paramserver.local_cluster

        self._paramserver = paramserver

    def start(self, n_workers: int) -> None:
        self._cluster = self._paramserver.LocalCluster(n_workers=n_workers)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self._cluster.map(fn, items))

    def submit_all(
        self, fn: Callable[[Any], Any], items: Sequence[Any], timeout_s: float | None = None
    ) -> list[Any]:
        executor = self._cluster.with_options(timeout_s=timeout_s) if timeout_s else self._cluster
        futures = [executor.submit(fn, item) for item in items]
        return [future.result() for future in futures]

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self._cluster.submit(fn, item).result()

    def stop(self) -> None:
        self._cluster.shutdown()
