"""The file of a checkpoint: the state of a training as bytes, and back. Knows nothing of folders.

::

    paramserver checkpoint 1\\n         so that `head -1` tells what it is, and of which version
    two lengths                         unsigned, 8 bytes each, little-endian
    the facts                           JSON
    the arrays                          a safetensors file [1]_
    SHA-256                             32 bytes, of all that stands before

Rule 1: there is no code in it, and reading it runs none.
Rule 2: a file is believed when its lengths and its checksum are right, and not before.
Rule 3: arrays are written from where they lie: nothing of their size is copied.

References
----------
.. [1] https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import DataError

MAGIC: Final = b"paramserver checkpoint 1\n"
LENGTHS: Final = struct.Struct("<QQ")
"""Bytes of the facts, bytes of the arrays."""
DIGEST_BYTES: Final = hashlib.sha256().digest_size
DTYPES: Final = {"float64": "F64", "int64": "I64", "float32": "F32", "uint8": "U8"}
"""What safetensors calls the dtypes that a state may have."""


@dataclass(frozen=True)
class TrainingState:
    """All that the rest of a training follows from, at one moment.

    Attributes
    ----------
    meta : dict of str to JSON values
    arrays : dict of str to ndarray
        Copies; nobody else writes to them.
    """

    meta: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def pieces(state: TrainingState, score: float | None) -> Iterator[bytes | memoryview]:
    """Return the file of a state, piece by piece.

    Parameters
    ----------
    state : TrainingState
    score : float or None
        How good its weights are, if that is known; more is better.
    """
    digest = hashlib.sha256()
    told = {"score": score, "meta": state.meta}
    facts = json.dumps(told, separators=(",", ":"), default=_plain).encode()
    # Wide dtypes first: then each array lies at a multiple of its item size.
    arrays = sorted(state.arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    table = _table(arrays)
    n_bytes = len(table) + sum(array.nbytes for _, array in arrays)
    head = MAGIC + LENGTHS.pack(len(facts), n_bytes) + facts + table
    for piece in (memoryview(head), *(_bytes_of(array) for _, array in arrays)):
        digest.update(piece)
        yield piece
    yield digest.digest()


def read_state(path: Path) -> TrainingState:
    """Read a file and check all of it.

    Raises
    ------
    DataError
        If it is not a whole checkpoint of this version; the message says in which way.
    OSError
        If it cannot be read.
    """
    whole = path.read_bytes()
    facts, start, end = _parse(path, whole, len(whole))
    if hashlib.sha256(memoryview(whole)[:end]).digest() != whole[end:]:
        raise DataError(f"{path} is damaged: its checksum does not fit.", path=str(path))
    from safetensors.numpy import load  # here alone: training without resuming needs none of it

    arrays = load(whole[start:end])
    return TrainingState(facts["meta"], {name: arrays[name] for name in sorted(arrays)})


def read_score(path: Path) -> float | None:
    """Read the score a file was written with, without looking at the arrays; see `read_state`."""
    with path.open("rb") as file:
        n_head = len(MAGIC) + LENGTHS.size
        head = file.read(n_head)
        n_facts = LENGTHS.unpack_from(head, len(MAGIC))[0] if len(head) == n_head else 0
        size = os.fstat(file.fileno()).st_size
        facts, _, _ = _parse(path, head + file.read(min(n_facts, size)), size)
    score = facts["score"]
    return None if score is None else float(score)


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python: settings and losses of users may be such."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written to a checkpoint")


def _table(arrays: list[tuple[str, npt.NDArray[Any]]]) -> bytes:
    """Return what stands before the numbers in a safetensors file."""
    places, start = {}, 0
    for name, array in arrays:
        end = start + array.nbytes
        places[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    table = json.dumps(places, separators=(",", ":")).encode()
    table += b" " * (-len(table) % 8)
    return struct.pack("<Q", len(table)) + table


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return little.reshape(-1).view(np.uint8).data


def _parse(path: Path, head: bytes, size: int) -> tuple[dict[str, Any], int, int]:
    """Return the facts, and where the arrays start and end."""

    def damaged(what: str) -> DataError:
        return DataError(f"{path} is {what}.", path=str(path))

    version_at = len(MAGIC) - 2
    if not head.startswith(MAGIC[:version_at]):
        raise damaged("not a checkpoint")
    if not head.startswith(MAGIC):
        raise damaged("of another version of paramserver, or damaged in its first line")
    start = len(MAGIC) + LENGTHS.size
    if size < start:
        raise damaged("cut off within its head")
    n_facts, n_arrays = LENGTHS.unpack_from(head, len(MAGIC))
    expected = start + n_facts + n_arrays + DIGEST_BYTES
    if size != expected:
        raise damaged(f"{size:,} bytes long where its head promises {expected:,}")
    try:
        facts = json.loads(head[start : start + n_facts])
        if not isinstance(facts["meta"], dict) or "score" not in facts:
            raise damaged("damaged in its facts")
    except (ValueError, KeyError, TypeError) as error:
        raise damaged("damaged in its facts") from error
    return facts, start + n_facts, start + n_facts + n_arrays
