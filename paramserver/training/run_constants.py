"""What must not change while a training is interrupted, in values that can be compared and written.

Rule 1: whatever the weights follow from is compared by name when a training is resumed; one
        difference and it is refused.
Rule 2: what only the last bits depend on (numpy, BLAS, the kind of processor) is compared too; a
        difference is a warning.
Rule 3: a description says what a thing is set to, never where it lies in memory: the same settings
        have the same description in every process.
"""

from __future__ import annotations

import hashlib
import json
import platform
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from functools import cached_property
from importlib import metadata
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.training.learner import Batch, Learner
from paramserver.training.modes import Averaging, Mode
from paramserver.training.plan import kernel_of

SAMPLE_ROWS: Final = 1_024
"""Rows of X that are hashed, evenly spread; of y all are."""
PROTOCOL: Final = 4
"""Of pickling: by it objects say what they are made of."""
MAX_DEPTH: Final = 8
"""How deep settings within settings are looked at."""


class MachineWarning(UserWarning):
    """A training goes on with other arithmetic than it began with: its last bits may differ."""


def describe(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return JSON values that are equal for equal settings, in any process.

    Dataclasses are described by the fields they are made of, other objects by what they would
    pickle (attributes that are computed when needed, `cached_property`, apart), arrays by their
    bytes.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)} {_hash(value)[:16]}"
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if depth == 0:
        return name
    if isinstance(value, Mapping):
        return {str(key): describe(value[key], depth - 1) for key in sorted(value, key=str)}
    if isinstance(value, Sequence):
        return [describe(item, depth - 1) for item in value]
    if isinstance(value, Set):
        return sorted((describe(item, depth - 1) for item in value), key=json.dumps)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    settings = {key: describe(item, depth - 1) for key, item in _settings(value)}
    return {"type": name} | settings


def describe_run(
    learner: Learner,
    mode: Mode,
    rows: Batch,
    parts: Sequence[npt.NDArray[np.intp]],
    *,
    batch_size: int,
    lr: float,
    seed: int,
) -> dict[str, Any]:
    """Return all that the weights of a training follow from.

    How many rounds or epochs there are is not part of it: a training may be resumed to go on for
    longer, except where the mean over the last part of the rounds depends on it.
    """
    settings = describe(mode)
    del settings["n_partitions"]  # the number itself is compared, however it was chosen
    if not isinstance(mode, Averaging):
        del settings["epochs"]
    elif not mode.tail:
        del settings["rounds"]
    return {
        "mode": settings,
        "learner": describe(learner),
        "kernel": kernel_of(learner, rows, mode, batch_size),
        "n_weights": int(learner.size),
        "dtype": str(np.dtype(learner.dtype)),
        "batch_size": describe(batch_size),
        "lr": lr,
        "seed": describe(seed),
        "n_partitions": len(parts),
        "data": _describe_rows(rows, parts),
    }


def describe_machine() -> dict[str, Any]:
    """Return what the last bits of sums and products depend on."""
    config: Any = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    return {
        "numpy": np.__version__,
        "numba": _version("numba"),
        "blas": f"{blas['name']} {blas['version']}",
        "processor": platform.machine(),
        "simd": sorted(config["SIMD Extensions"].get("found", [])),
    }


def require_same(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to resume a training with other settings than it has.

    Raises
    ------
    ConfigError
        Names every setting that differs, with both values; its fields are those of the first one.
    """
    differences = _differences(recorded, given)
    if differences:
        field, before, now = differences[0]
        listed = "; ".join(f"{name} was {a!r} and is {b!r} now" for name, a, b in differences)
        raise ConfigError(
            f"The checkpoint is of another training: {listed}. Resume it with the settings it was "
            "begun with, or begin a new one in another folder.",
            field=field,
            value=now,
            recorded=before,
        )


def warn_of_machine(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Warn if the last bits may come out differently than they would have where it was begun."""
    differences = _differences(recorded, given)
    if differences:
        listed = "; ".join(f"{name} was {a!r} and is {b!r} now" for name, a, b in differences)
        warnings.warn(
            f"The training goes on with other arithmetic than it was begun with: {listed}. Its "
            "result is as good, but its last bits may differ from those of one that was not "
            "interrupted.",
            MachineWarning,
            stacklevel=3,
        )


def _version(package: str) -> str:
    """Return the version of a package without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _describe_rows(rows: Batch, parts: Sequence[npt.NDArray[np.intp]]) -> dict[str, Any]:
    n = rows.n
    sample = rows.take(np.linspace(0, n - 1, min(n, SAMPLE_ROWS)).astype(np.intp))
    if isinstance(sample.X, np.ndarray):
        values = _hash(sample.X)
    else:
        values = _hash(sample.X.indptr, sample.X.indices, sample.X.data)
    order = 0
    for part in parts:
        order = zlib.crc32(np.ascontiguousarray(part, "<i8").data, order)
    return {
        "shape": list(rows.X.shape),
        "X": values[:16],
        "y": describe(rows.y),
        "weight": describe(rows.weight),
        "partitions": order,
    }


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value):
        yield from ((f.name, getattr(value, f.name)) for f in fields(value) if f.init)
        return
    kind = type(value)
    try:
        reduced: Any = value.__reduce_ex__(PROTOCOL)
    except TypeError:  # a module, say: its kind and name are all there is
        reduced = getattr(value, "__name__", "")
    if isinstance(reduced, str):  # the name of a global thing
        yield "name", reduced
        return
    yield "arguments", [each for each in reduced[1] if each is not kind]
    state = reduced[2] if len(reduced) > 2 else None
    if not isinstance(state, Mapping):  # slots, or what the object itself takes for its state
        yield "state", state
        return
    for name, item in sorted(state.items()):
        if not isinstance(getattr(kind, name, None), cached_property):
            yield name, item


def _hash(*arrays: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array.dtype.hasobject:
            digest.update(repr(array.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _differences(
    recorded: Mapping[str, Any], given: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    before, now = dict(_leaves(recorded)), dict(_leaves(given))
    missing = object()
    names = [*before, *(name for name in now if name not in before)]
    pairs = ((name, before.get(name, missing), now.get(name, missing)) for name in names)
    return [
        (name, "absent" if a is missing else a, "absent" if b is missing else b)
        for name, a, b in pairs
        if a is missing or b is missing or json.dumps(a) != json.dumps(b)  # NaN equals NaN
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
