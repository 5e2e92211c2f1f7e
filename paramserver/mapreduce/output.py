"""What a reduce job writes: a file of text for the user, or of columns for the master to read.

A line of text is the key, a tab, the value. Bytes are written as they are, text as UTF-8, numbers
as Python prints them, None, lists, tuples and dicts as JSON. The user's own ``to_line(key, value)``
gives the bytes of a line instead.

Rule 1: a line that could not be read back (a tab or a line break in a key, a line break in a value)
        is an error, not a broken file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from paramserver.errors import DataError
from paramserver.mapreduce.columns import encode_batch
from paramserver.mapreduce.files import NewFile
from paramserver.mapreduce.pairs import Batch, n_keys

ToLine: TypeAlias = Callable[[Any, Any], bytes]
"""Makes the line of (key, value), without the line break at its end."""


class PartOutput(NamedTuple):
    """A finished file of one part. Crosses the wire as a list of plain values."""

    path: str
    n_bytes: int
    crc: int
    n_pairs: int


def write_part(path: str, batches: Iterable[Batch], encode: Callable[[Batch], bytes]) -> PartOutput:
    """Write all batches to a new file; an error leaves none behind."""
    n_pairs = 0
    with NewFile(path) as file:
        for batch in batches:
            n_pairs += n_keys(batch.keys)
            file.write(encode(batch))
        return PartOutput(path, file.n_bytes, file.crc, n_pairs)


def as_columns(batch: Batch, *, trusted: bool) -> bytes:
    """Encode pairs for `result` to read."""
    return encode_batch(batch, trusted=trusted)


def as_lines(batch: Batch, to_line: ToLine | None) -> bytes:
    """Encode pairs as lines of text.

    Raises
    ------
    DataError
        If a key or a value cannot be written on a line.
    """
    keys = batch.key_list()
    if to_line is None and not isinstance(batch.values, list):
        try:
            # Half the time of a format for each line: the numbers are printed all at once.
            numbers = str(batch.values.tolist())[1:-1].encode().split(b", ")
            lines = b"\n".join(map(b"\t".join, zip(keys, numbers, strict=True)))
        except TypeError:
            pass  # keys are not bytes
        else:
            if lines.count(b"\n") == len(keys) - 1 and lines.count(b"\t") == len(keys):
                return lines + b"\n"
    line = _line if to_line is None else _checked(to_line)
    return b"".join(
        line(key, value) + b"\n" for key, value in zip(keys, batch.value_list(), strict=True)
    )


def _checked(to_line: ToLine) -> ToLine:
    def line(key: Any, value: Any) -> bytes:
        made = to_line(key, value)
        if not isinstance(made, (bytes, bytearray)) or b"\n" in made:
            raise DataError(
                "to_line(key, value) must return the bytes of one line; for the key "
                f"{key!r:.80} it has returned {made!r:.80}.", path="",
            )  # fmt: skip
        return made

    return line


def _line(key: Any, value: Any) -> bytes:
    left, right = _as_text(key), _as_text(value)
    if b"\t" in left or b"\n" in left or b"\n" in right:
        raise DataError(
            f"The pair ({key!r:.80}, {value!r:.80}) cannot be written as a line: it contains a tab "
            "or a line break. Pass to_line=, a function that returns the line, or leave out "
            "out_dir.", path="",
        )  # fmt: skip
    return left + b"\t" + right


def _as_text(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, np.generic):
        return _as_text(value.item())
    if isinstance(value, (int, float, complex)):
        return repr(value).encode("ascii")
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"A value of type {type(value).__name__} cannot be written as text ({error}). Pass "
            "to_line=, a function (key, value) that returns the line, or leave out out_dir.",
            path="",
        ) from error
