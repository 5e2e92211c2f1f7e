"""What `import` alone costs, over the start of the interpreter."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time

from tests.benchmarks.row import Measured, Metric, Row

MODULES = {
    "paramserver": "paramserver",
    "joblib (loky)": "joblib",
    "dask.distributed": "distributed",
    "ray": "ray",
}


def measure(contender: str, quick: bool) -> Measured:
    """Start the interpreter with and without the import, in turn; compare the medians."""
    module = MODULES[contender]
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    bare, loaded = [], []
    for _ in range(3 if quick else 15):
        bare.append(_run("pass"))
        loaded.append(_run(f"import {module}"))
    return {"import": statistics.median(loaded) - statistics.median(bare)}


def _run(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


ROW = Row(
    key="import",
    title="import of the package",
    contenders=tuple(MODULES),
    metrics=(Metric("import", "s", goal=0.1),),
    measure=measure,
    n_repeats=1,
)
