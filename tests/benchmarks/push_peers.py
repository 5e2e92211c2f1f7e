"""Push and pull with the peers: p clients send gradients of ones, a server applies and answers.

The server is the same `PlainServer` for all of them; each client has one push in flight. Clients
meet before the first push, and the server's own clock says how fast it went.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np
import zmq

from tests.benchmarks.vectors import PlainServer, require_pushes

COPY_BELOW = 65_536
"""Bytes below which pyzmq is faster when it copies, as its documentation says."""


@contextmanager
def _zmq_clients(p: int, target: Callable[..., None], *args: Any) -> Iterator[Any]:
    """Start client processes; yield the server's socket when all have said that they are ready."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as own:
        address = f"ipc://{folder}/server"
        with own.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(address)
            clients = [context.Process(target=target, args=(address, *args)) for _ in range(p)]
            for client in clients:
                client.start()
            for peer, _ in [router.recv_multipart() for _ in clients]:
                router.send_multipart([peer, b"go"])
            yield router
            for client in clients:
                client.join()


@contextmanager
def _dialled(address: str) -> Iterator[Any]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(address)
        socket.send(b"ready")
        socket.recv()
        yield socket


def zmq_echo_rate(p: int, d: int, n: int) -> float:
    """Round trips in a second of frames of that size; nothing is applied: the limit of sockets."""
    copy = 4 * d < COPY_BELOW
    with _zmq_clients(p, _echo_client, d, n) as router:
        began = perf_counter()
        for _ in range(p * n):
            router.send_multipart(router.recv_multipart(copy=copy), copy=copy)
        return p * n / (perf_counter() - began)


def _echo_client(address: str, d: int, n: int) -> None:
    copy = 4 * d < COPY_BELOW
    g = np.ones(d, np.float32)
    with _dialled(address) as socket:
        for _ in range(n):
            socket.send(g, copy=copy)
            socket.recv(copy=copy)


def msgpack_rate(p: int, d: int, n: int) -> float:
    """Updates in a second with msgpack-numpy over ZeroMQ."""
    import msgpack
    import msgpack_numpy

    server = PlainServer(d)
    with _zmq_clients(p, _msgpack_client, d, n) as router:
        for _ in range(p * n):
            peer, packed = router.recv_multipart()
            g = msgpack.unpackb(packed, object_hook=msgpack_numpy.decode)
            w = server.push_pull(g)
            router.send_multipart([peer, msgpack.packb(w, default=msgpack_numpy.encode)])
    return server.rate(p * n)


def _msgpack_client(address: str, d: int, n: int) -> None:
    import msgpack
    import msgpack_numpy

    g = np.ones(d, np.float32)
    with _dialled(address) as socket:
        for _ in range(n):
            socket.send(msgpack.packb(g, default=msgpack_numpy.encode))
            msgpack.unpackb(socket.recv(), object_hook=msgpack_numpy.decode)


def ray_rate(p: int, d: int, n: int) -> float:
    """Updates in a second by a Ray actor, pushed by p others."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(num_cpus=p + 1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    server = ray.remote(num_cpus=1)(PlainServer).remote(d)
    push = ray.remote(num_cpus=1)(_push_to_ray).remote
    ray.get([push(server, d, 3) for _ in range(p)])  # warm
    n_warm = 3 * p
    began = perf_counter()
    ray.get([push(server, d, n) for _ in range(p)])
    spent = perf_counter() - began
    ray.get(server.rate.remote(n_warm + p * n))  # checks the weights
    ray.shutdown()
    return p * n / spent


def _push_to_ray(server: Any, d: int, n: int) -> None:
    import ray

    g = np.ones(d, np.float32)
    for _ in range(n):
        ray.get(server.push_pull.remote(g))


def torch_rate(p: int, d: int, n: int) -> float:
    """Updates in a second over torch RPC (TensorPipe), p trainers and a server."""
    import torch.multiprocessing

    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.get_context("spawn")
        rates = context.SimpleQueue()
        processes = [
            context.Process(target=_torch_member, args=(rank, p, d, n, folder, rates))
            for rank in range(p + 1)
        ]
        for process in processes:
            process.start()
        rate = float(rates.get())
        for process in processes:
            process.join()
    return rate


_torch_server: Any = None
"""RPC calls functions by name: what they work on has to be found by name, too."""


def _torch_push_pull(g: Any) -> Any:
    import torch

    w = _torch_server.push_pull(g.numpy())
    return torch.from_numpy(w.copy())  # sent later, while the next push is applied


def _torch_member(rank: int, p: int, d: int, n: int, folder: str, rates: Any) -> None:
    import torch
    from torch.distributed import rpc

    global _torch_server
    torch.set_num_threads(1)
    _torch_server = PlainServer(d)
    os.environ.setdefault("TP_SOCKET_IFNAME", "lo")
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"file://{folder}/meet", num_worker_threads=1
    )
    name = "server" if rank == 0 else f"trainer{rank}"
    rpc.init_rpc(name, rank=rank, world_size=p + 1, rpc_backend_options=options)
    if rank:
        g = torch.ones(d)
        for _ in range(n):
            rpc.rpc_sync("server", _torch_push_pull, args=(g,))
    rpc.shutdown()  # waits for all
    if rank == 0:
        rates.put(_torch_server.rate(p * n))


def apply_rate(d: int, budget_s: float) -> float:
    """In-place updates in a second by one core, without any process: the limit of applying."""
    server, g = PlainServer(d), np.ones(d, np.float32)
    n, began = 0, perf_counter()
    while (spent := perf_counter() - began) < budget_s:
        server.push_pull(g)
        n += 1
    require_pushes(server.w, n)
    return n / spent
