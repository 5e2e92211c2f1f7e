"""``paramserver doctor``: what this machine has, how fast it is inside, and what is missing.

Rule 1: it changes nothing and asks nobody outside this machine; it takes some two seconds.
Rule 2: each finding is a fact first; a piece of advice only where there is something to do.
Rule 3: what is broken ends in exit code 1; what is merely absent does not.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TextIO

import paramserver
from paramserver.errors import ParamServerError

EXTRAS: Final = {
    "numba": ("fast", "compiled kernels"),
    "pyarrow": ("data", "Parquet"),
    "skops": ("export", "scikit-learn models without pickle"),
    "distributed": ("dask", "workers on Dask"),
    "ray": ("ray", "workers on Ray"),
    "mpi4py": ("mpi", "workers under MPI"),
    "matplotlib": ("notebook", "plots"),
}
"""Package -> (the extra it comes with, what for)."""

ROOMY_SHM_BYTES: Final = 256 << 20
"""Containers often have 64 MiB of /dev/shm, which a model of a few million weights fills."""
ENOUGH_FILES: Final = 1024
PROBE_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    label, text : str
    advice : str
        What to do; empty where nothing is.
    is_broken : bool
        Whether paramserver cannot work like this.
    """

    label: str
    text: str
    advice: str = ""
    is_broken: bool = False


Probe = Callable[[], Iterator[Finding]]


def examine(keys: Path | None = None) -> Iterator[Finding]:
    """Yield what is found, one after the other as it is found.

    Parameters
    ----------
    keys : Path, optional
        A folder of keys to look at.
    """
    probes: list[Probe] = [_python, _numpy, _machine, _limits, _memory, _loopback, _cluster]
    if keys is not None:
        probes.append(lambda: _keys(keys))
    for probe in [*probes, _extras, _data_sets]:
        try:
            yield from probe()
        except Exception as error:  # noqa: BLE001 - a broken machine is what it is here to tell
            name = getattr(probe, "__name__", "keys").strip("_")
            yield Finding(name, f"cannot be examined: {error!r}", is_broken=True)


def report(findings: Iterator[Finding], file: TextIO) -> int:
    """Print findings as they come; return the exit code."""
    n_broken = n_advised = 0
    is_terminal = file.isatty()
    for found in findings:
        n_broken += found.is_broken
        n_advised += bool(found.advice)
        mark = "x" if found.is_broken else "!" if found.advice else " "
        line = f"{mark} {found.label:<14} {found.text}"
        if is_terminal and mark != " ":
            line = f"\x1b[{31 if found.is_broken else 33}m{mark}\x1b[0m{line[1:]}"
        print(line, file=file, flush=True)
        if found.advice:
            print(f"{'':17}-> {found.advice}", file=file, flush=True)
    if n_broken:
        print(f"\n{n_broken} of these must be mended before paramserver can work.", file=file)
    else:
        print(f"\nAll that paramserver needs is there. Pieces of advice: {n_advised}.", file=file)
    return 1 if n_broken else 0


# --- what is installed ----------------------------------------------------------------------------


def _python() -> Iterator[Finding]:
    where = Path(paramserver.__file__).parent
    yield Finding("paramserver", f"{paramserver.__version__} in {where}")
    yield Finding(
        "python", f"{platform.python_version()} ({sys.executable}), {platform.platform(terse=True)}"
    )


def _numpy() -> Iterator[Finding]:
    import numpy as np
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = ", ".join(
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')}), "
        f"{pool['num_threads']} threads here, 1 in each worker"
        for pool in pools
    )
    yield Finding("numpy", f"{np.__version__}, BLAS: {blas or 'not recognised'}")
    yield Finding("scikit-learn", version("scikit-learn"))


def _extras() -> Iterator[Finding]:
    for package, (extra, purpose) in EXTRAS.items():
        if find_spec(package) is None:
            yield Finding(package, f"not installed ({purpose}): pip install 'paramserver[{extra}]'")
        else:
            yield Finding(package, f"{_version(package)} ({purpose})")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "there, of unknown version"


def _data_sets() -> Iterator[Finding]:
    from paramserver.data.datasets import FASHION_MNIST

    if not FASHION_MNIST.is_dir():
        yield Finding("fashion-mnist", "not here (on Debian: apt install dataset-fashion-mnist)")
    else:
        yield Finding("fashion-mnist", f"in {FASHION_MNIST}")


# --- the machine ----------------------------------------------------------------------------------


def _machine() -> Iterator[Finding]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    busy = cores is not None and load > cores
    yield Finding(
        "processors",
        f"{cores} of {os.cpu_count()} may be used, load {load:.1f}",
        "others are using them: timings will say little" if busy else "",
    )
    memory = psutil.virtual_memory()
    yield Finding(
        "memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB are free"
    )


def _limits() -> Iterator[Finding]:
    from paramserver.runtime.invitation import room_for_members

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < ENOUGH_FILES
    yield Finding(
        "open files",
        f"{soft} (up to {hard}): a master that listens has room for {room_for_members()} workers",
        "ulimit -n 4096, before many workers come from other machines" if few else "",
    )


def _memory() -> Iterator[Finding]:
    shm = Path("/dev/shm")
    if shm.is_dir() and os.access(shm, os.W_OK):
        room = shutil.disk_usage(shm)
        yield Finding(
            "shared memory",
            f"{room.free / 2**20:,.0f} of {room.total / 2**20:,.0f} MiB free in {shm}, copied at "
            f"{_copy_speed() / 1e9:.1f} GB/s",
            "docker run --shm-size=1g, or so: weights and data of workers lie there"
            if room.free < ROOMY_SHM_BYTES
            else "",
        )
    else:
        yield Finding("shared memory", "none: files are used instead", "expect less speed")
    scratch = Path(tempfile.gettempdir())
    room = shutil.disk_usage(scratch)
    yield Finding("scratch", f"{room.free / 2**30:,.1f} GiB free in {scratch} (TMPDIR)")


def _copy_speed() -> float:
    """Return bytes a second of a copy in memory, by one core."""
    import numpy as np

    source = np.ones(PROBE_BYTES // 8)
    target = np.empty_like(source)
    target[:] = source  # the pages are there now
    began = time.perf_counter()
    target[:] = source
    return PROBE_BYTES / (time.perf_counter() - began)


def _loopback() -> Iterator[Finding]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reader = threading.Thread(target=_read_all, args=(server,))
        reader.start()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sender:
                block = bytes(1 << 20)
                began = time.perf_counter()
                for _ in range(PROBE_BYTES >> 20):
                    sender.sendall(block)
                sender.shutdown(socket.SHUT_WR)
                sender.recv(1)
                seconds = time.perf_counter() - began
        finally:
            reader.join()
    yield Finding("loopback", f"{PROBE_BYTES / seconds / 1e9:.1f} GB/s over TCP")


def _read_all(server: socket.socket) -> None:
    server.settimeout(5)
    connection, _ = server.accept()
    with connection:
        connection.settimeout(5)
        room = bytearray(1 << 20)
        while connection.recv_into(room):
            pass


# --- paramserver itself ---------------------------------------------------------------------------


def _cluster() -> Iterator[Finding]:
    from paramserver.local_cluster import LocalCluster

    began = time.perf_counter()
    try:
        with LocalCluster(2) as cluster:
            ready_s = time.perf_counter() - began
            trips = []
            for _ in range(50):
                began = time.perf_counter()
                cluster.submit(abs, -1).result(10)
                trips.append(time.perf_counter() - began)
    except ParamServerError as error:
        yield Finding("cluster", f"two workers cannot be used: {error}", is_broken=True)
        return
    yield Finding(
        "cluster",
        f"two workers ready in {ready_s:.2f} s, a job's round trip takes "
        f"{1e3 * sorted(trips)[len(trips) // 2]:.2f} ms",
    )


def _keys(folder: Path) -> Iterator[Finding]:
    from paramserver.transport.security import load_master_keys

    try:
        load_master_keys(folder)
    except ParamServerError as error:
        yield Finding("keys", str(error), f"paramserver keys {folder}", is_broken=True)
    else:
        yield Finding("keys", f"those of a master are in {folder}, and only you can read them")
