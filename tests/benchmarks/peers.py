"""The peers as contenders, each used as its documentation shows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.contender import Contender
from tests.benchmarks.ours import Ours


class Pool(Contender):
    name = "multiprocessing.Pool"

    def load(self) -> None:
        import multiprocessing

        self._multiprocessing = multiprocessing

    def start(self, n_workers: int) -> None:
        self._pool = self._multiprocessing.Pool(n_workers)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self._pool.map(fn, items)

    def submit_all(
        self, fn: Callable[[Any], Any], items: Sequence[Any], timeout_s: float | None = None
    ) -> list[Any]:
        return self._pool.map(fn, items, chunksize=1)

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self._pool.apply(fn, (item,))

    def stop(self) -> None:
        self._pool.terminate()
        self._pool.join()


class ProcessPool(Contender):
    name = "ProcessPoolExecutor"

    def load(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self._make = ProcessPoolExecutor

    def start(self, n_workers: int) -> None:
        self._executor = self._make(n_workers)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self._executor.map(fn, items))

    def submit_all(
        self, fn: Callable[[Any], Any], items: Sequence[Any], timeout_s: float | None = None
    ) -> list[Any]:
        futures = [self._executor.submit(fn, item) for item in items]
        return [future.result() for future in futures]

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self._executor.submit(fn, item).result()

    def stop(self) -> None:
        self._executor.shutdown()


class Joblib(Contender):
    """joblib has no submit: what is not batched is a `Parallel` with batches of one."""

    name = "joblib (loky)"

    def load(self) -> None:
        import joblib
        from joblib.externals import loky

        self._joblib = joblib
        self._loky = loky

    def start(self, n_workers: int) -> None:
        self._batched = self._joblib.Parallel(n_jobs=n_workers)
        self._one_by_one = self._joblib.Parallel(n_jobs=n_workers, batch_size=1)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self._batched(self._joblib.delayed(fn)(item) for item in items))

    def submit_all(
        self, fn: Callable[[Any], Any], items: Sequence[Any], timeout_s: float | None = None
    ) -> list[Any]:
        return list(self._one_by_one(self._joblib.delayed(fn)(item) for item in items))

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.submit_all(fn, [item])[0]

    def stop(self) -> None:
        self._loky.get_reusable_executor().shutdown(kill_workers=True)


class Dask(Contender):
    name = "dask.distributed"

    def load(self) -> None:
        import distributed

        self._distributed = distributed

    def start(self, n_workers: int) -> None:
        self._cluster = self._distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs="CRITICAL",
        )
        self._client = self._distributed.Client(self._cluster)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self._client.gather(self._client.map(fn, items, pure=False))

    def submit_all(
        self, fn: Callable[[Any], Any], items: Sequence[Any], timeout_s: float | None = None
    ) -> list[Any]:
        futures = [self._client.submit(fn, item, pure=False) for item in items]
        return self._client.gather(futures)

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self._client.submit(fn, item, pure=False).result()

    def stop(self) -> None:
        self._client.close()
        self._cluster.close()


class Ray(Contender):
    name = "ray"

    def load(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray = ray
        self._remote: dict[Callable[[Any], Any], Any] = {}

    def start(self, n_workers: int) -> None:
        self._ray.init(
            num_cpus=n_workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="CRITICAL",
        )

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        remote = self._as_remote(fn)
        return self._ray.get([remote.remote(item) for item in items])

    def submit_all(
        self, fn: Callable[[Any], Any], items: Sequence[Any], timeout_s: float | None = None
    ) -> list[Any]:
        return self.map(fn, items)

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self._ray.get(self._as_remote(fn).remote(item))

    def stop(self) -> None:
        self._ray.shutdown()

    def _as_remote(self, fn: Callable[[Any], Any]) -> Any:
        if fn not in self._remote:
            self._remote[fn] = self._ray.remote(fn)
        return self._remote[fn]


CONTENDERS: dict[str, type[Contender]] = {
    kind.name: kind for kind in (Ours, Pool, ProcessPool, Joblib, Dask, Ray)
}
