"""What was measured on what: the facts beside the figures."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

PACKAGES = (
    "paramserver", "numpy", "pyzmq", "msgpack", "cloudpickle", "scikit-learn", "joblib",
    "distributed", "dask", "ray", "pyspark", "torch", "msgpack-numpy", "numba", "snapml",
)  # fmt: skip


def describe(repository: Path) -> dict[str, object]:
    """Return processor, memory, kernel, versions and commit."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _git(repository, "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git(repository, "status", "--porcelain", "-uno")),
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(repository: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
