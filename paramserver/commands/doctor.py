"""``paramserver doctor``: what this machine has, how fast it is inside, and what is missing.

Rule 1: it changes nothing and asks nobody outside this machine; it takes about a second.
Rule 2: a probe that breaks is a finding as well; the others are made all the same.
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
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import paramserver
from paramserver.commands.findings import Finding
from paramserver.errors import ParamServerError
from paramserver.runtime.cores import n_cores
from paramserver.runtime.memory import memory_bytes

EXTRAS: Final = {
    "numba": ("fast", "long passes over sparse rows, compiled"),
    "skops": ("export", "scikit-learn models without pickle"),
    "matplotlib": ("notebook", "plots"),
}
"""Package -> (the extra it comes with, what for)."""
ENGINES: Final = {"Dask": "distributed", "Ray": "ray", "MPI": "mpi4py"}
"""An engine on which the line for workers that a master prints can be run -> its package."""

ROOMY_SHM_BYTES: Final = 256 << 20
"""Containers often have 64 MiB of /dev/shm, which a model of a few million weights fills."""
ROOMY_SCRATCH_BYTES: Final = 1 << 30
ENOUGH_FILES: Final = 1024
SLOW_LOOPBACK: Final = 0.5e9
"""Bytes a second; a plain laptop has ten times as much."""
SLOW_START_S: Final = 3.0
PROBE_BYTES: Final = 64 << 20

KEYS: Final = Path("keys")
"""Looked at when no other folder is named."""

Probe = Callable[[], Iterator[Finding]]


def examine(keys: Path | None = None) -> Iterator[Finding]:
    """Yield what is found, one after the other as it is found.

    Parameters
    ----------
    keys : Path, optional
        A folder of keys to look at; by default ``keys`` in the working folder, if it is there.
    """
    groups: dict[str, list[Probe]] = {
        "Installed": [_python, _numpy],
        "This machine": [_machine, _limits, _memory, _loopback],
        "Ready to work": [_cluster, lambda: _keys(keys)],
        "Could be added": [_extras, _engines, _data_sets],
    }
    for group, probes in groups.items():
        for probe in probes:
            try:
                for found in probe():
                    yield replace(found, group=group)
            except Exception as error:  # noqa: BLE001 - a broken machine is what it is here to tell
                name = probe.__name__.strip("_").replace("<lambda>", "keys")
                words = f"cannot be examined: {error!r}"
                yield Finding(name, words, is_broken=True, group=group)


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
    yield Finding("numpy", np.__version__)
    yield Finding(
        "BLAS",
        blas or "not recognised by threadpoolctl",
        ""
        if blas
        else "set its threads yourself (OMP_NUM_THREADS=1), or workers take each other's cores",
    )
    yield Finding("scikit-learn", version("scikit-learn"))


def _extras() -> Iterator[Finding]:
    for package, (extra, purpose) in EXTRAS.items():
        yield _package(package, package, extra, purpose)


def _engines() -> Iterator[Finding]:
    there = {name: package for name, package in ENGINES.items() if find_spec(package) is not None}
    for name, package in there.items():
        yield Finding(
            name, f"{_version(package)} (an engine: the line for workers can be run there)"
        )
    if not there:
        names = ", ".join(ENGINES)
        yield Finding("engines", f"none of {names}: none is needed", is_absent=True)


def _package(label: str, package: str, extra: str, purpose: str) -> Finding:
    if find_spec(package) is None:
        command = f"pip install 'paramserver[{extra}]'"
        return Finding(label, f"not installed ({purpose}): {command}", is_absent=True)
    return Finding(label, f"{_version(package)} ({purpose})")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "there, of unknown version"


def _data_sets() -> Iterator[Finding]:
    from paramserver.data.datasets import FASHION_MNIST

    if not FASHION_MNIST.is_dir():
        yield Finding(
            "fashion-mnist",
            "not here (a data set of 70,000 images; Debian: apt install dataset-fashion-mnist)",
            is_absent=True,
        )
    else:
        yield Finding("fashion-mnist", f"in {FASHION_MNIST}")


# --- the machine ----------------------------------------------------------------------------------


def _machine() -> Iterator[Finding]:
    import psutil

    cores, load = n_cores(), os.getloadavg()[0]
    yield Finding(
        "processors",
        f"{cores} of {os.cpu_count()} may be used, load {load:.1f}",
        "others use them: wait before you believe any timing" if load > cores else "",
    )
    memory, allowed = psutil.virtual_memory(), memory_bytes()
    found = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB are free"
    if allowed < memory.total:
        found += f", {allowed / 2**30:.1f} may be used here (a container, a control group)"
    yield Finding("memory", found)


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
            "weights and rows that workers share lie there. Make it larger: docker run "
            "--shm-size=1g, or as root: mount -o remount,size=1g /dev/shm"
            if room.free < ROOMY_SHM_BYTES
            else "",
        )
    else:
        yield Finding(
            "shared memory",
            f"none that can be written: files in {tempfile.gettempdir()} are used instead",
            "mount a tmpfs on /dev/shm, or set TMPDIR to a folder in memory",
        )
    scratch = Path(tempfile.gettempdir())
    room = shutil.disk_usage(scratch)
    yield Finding(
        "scratch",
        f"{room.free / 2**30:,.1f} GiB free in {scratch}",
        "set TMPDIR to a folder with more room: map outputs and large data sets lie there"
        if room.free < ROOMY_SCRATCH_BYTES
        else "",
    )


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
    try:
        speed = _loopback_speed()
    except OSError as error:
        yield Finding(
            "loopback",
            f"cannot be used: {error.strerror or error}",
            "switch it on (as root: ip link set lo up), or let the firewall pass it: the live page "
            "needs it. Local clusters do without it",
        )
        return
    yield Finding(
        "loopback",
        f"{speed / 1e9:.1f} GB/s over TCP",
        "a firewall or a virtual network slows it down; local clusters do without it"
        if speed < SLOW_LOOPBACK
        else "",
    )


def _loopback_speed() -> float:
    """Return bytes a second over TCP from one thread to another.

    Raises
    ------
    OSError
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address, timeout=5) as sender:  # taken in by the system
            reader = threading.Thread(target=_read_all, args=(server,))
            reader.start()
            try:
                block = bytes(1 << 20)
                began = time.perf_counter()
                for _ in range(PROBE_BYTES >> 20):
                    sender.sendall(block)
                sender.shutdown(socket.SHUT_WR)
                sender.recv(1)
                return PROBE_BYTES / (time.perf_counter() - began)
            finally:
                reader.join()


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
        "starting Python is slow here: put the environment on a local disk"
        if ready_s > SLOW_START_S
        else "",
    )


def _keys(folder: Path | None) -> Iterator[Finding]:
    from paramserver.transport.security import load_master_keys

    if folder is None and not KEYS.is_dir():
        how = "for workers of other machines: paramserver keys ./keys"
        yield Finding("keys", f"none in ./keys ({how})", is_absent=True)
        return
    place = folder or KEYS
    is_broken = folder is not None
    if not place.is_dir():
        yield Finding("keys", f"{place} is no folder", f"paramserver keys {place}", is_broken)
        return
    try:
        load_master_keys(place)
    except ParamServerError as error:
        yield Finding("keys", f"those in {place} cannot be used", str(error), is_broken)
    else:
        yield Finding("keys", f"those of a master are in {place}, and only you can read them")
