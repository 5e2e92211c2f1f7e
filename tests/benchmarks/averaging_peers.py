"""Averaging rounds with the peers, each as its documentation shows for large arrays.

A round hands the weights to p jobs, takes p vectors back, and makes their mean.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from tests.benchmarks.contender import Contender
from tests.benchmarks.peers import Dask, Joblib, Pool, Ray
from tests.benchmarks.vectors import mark, require_marks

Vectors = Sequence[np.ndarray[Any, Any]]
Round = Callable[[np.ndarray[Any, Any]], Vectors]


def with_pool(peer: Any, p: int) -> Round:
    return lambda w: peer._pool.map(mark, [w] * p, chunksize=1)


def with_joblib(peer: Any, p: int) -> Round:
    delayed = peer._joblib.delayed(mark)
    return lambda w: peer._one_by_one(delayed(w) for _ in range(p))


def with_dask(peer: Any, p: int) -> Round:
    client = peer._client

    def once(w: np.ndarray[Any, Any]) -> Vectors:
        shared = client.scatter(w, broadcast=True, hash=False)
        return client.gather([client.submit(mark, shared, pure=False) for _ in range(p)])

    return once


def with_ray(peer: Any, p: int) -> Round:
    ray, remote = peer._ray, peer._as_remote(mark)

    def once(w: np.ndarray[Any, Any]) -> Vectors:
        shared = ray.put(w)
        return ray.get([remote.remote(shared) for _ in range(p)])

    return once


PEERS: dict[str, tuple[type[Contender], Callable[[Any, int], Round]]] = {
    Ray.name: (Ray, with_ray),
    Joblib.name: (Joblib, with_joblib),
    Pool.name: (Pool, with_pool),
    Dask.name: (Dask, with_dask),
}


def peer_rate(name: str, p: int, d: int, budget_s: float) -> float:
    """Rounds in a second by one of `PEERS`."""
    kind, make_round = PEERS[name]
    peer = kind()
    peer.load()
    peer.start(p)
    peer.meet(p)
    once = make_round(peer, p)
    w, room = np.zeros(d, np.float32), np.empty(d, np.float32)
    n, n_warm = 0, 3
    began = perf_counter()
    while n < n_warm or perf_counter() < began + budget_s:
        vectors = once(w)
        new = vectors[0] * np.float32(1 / p)
        for vector in vectors[1:]:
            np.multiply(vector, np.float32(1 / p), out=room)
            new += room
        w = new
        n += 1
        if n == n_warm:
            began = perf_counter()
    spent = perf_counter() - began
    require_marks(w, n)
    peer.stop()
    return (n - n_warm) / spent


def bare_sum_rate(p: int, d: int, budget_s: float) -> float:
    """Means of p vectors in a second, by one core, no process: the limit of averaging."""
    vectors = [np.ones(d, np.float32) for _ in range(p)]
    out = np.empty(d, np.float32)
    n, began = 0, perf_counter()
    while (spent := perf_counter() - began) < budget_s:
        np.add(vectors[0], vectors[1], out=out)
        for vector in vectors[2:]:
            np.add(out, vector, out=out)
        n += 1
    return n / spent


def gloo_rate(p: int, d: int, n: int) -> float:
    """Rounds in a second by p processes of torch that reduce with gloo; there is no master."""
    import torch.multiprocessing

    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.get_context("spawn")
        rates = context.SimpleQueue()
        processes = [
            context.Process(target=_gloo_member, args=(rank, p, d, n, folder, rates))
            for rank in range(p)
        ]
        for process in processes:
            process.start()
        rate = float(rates.get())
        for process in processes:
            process.join()
    return rate


def _gloo_member(rank: int, p: int, d: int, n: int, folder: str, rates: Any) -> None:
    import torch
    import torch.distributed as dist

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=p)
    w = torch.zeros(d)
    n_warm, began = 3, 0.0
    for number in range(n_warm + n):
        if number == n_warm:
            dist.barrier()
            began = perf_counter()
        w[0] += 1
        w[-1] += 1
        dist.all_reduce(w)
        w /= p
    spent = perf_counter() - began
    require_marks(w.numpy(), n_warm + n)
    if rank == 0:
        rates.put(n / spent)
    dist.destroy_process_group()
