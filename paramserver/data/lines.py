"""Text files in pieces of whole lines.

Rule 1: pieces are cut by the size of the file alone, not by who reads them: what is computed piece
        by piece and put together in order is the same anywhere.
Rule 2: a row is a line that is neither blank nor a comment.
"""

from __future__ import annotations

import codecs
import gzip
import os
import re
import shutil
import zlib
from typing import Final

import numpy as np

from paramserver.data.blocks import LINES, FileRange, read_blocks
from paramserver.errors import DataError

_NO_TEXT: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
READ_BYTES: Final = 1 << 24
"""Read in one go."""


def cut(path: str, piece_bytes: int) -> list[FileRange]:
    """Cut a text file into pieces; a line is in the piece in which it begins.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", path=path) from error
    starts = range(0, size, piece_bytes)
    return [FileRange(path, at, min(at + piece_bytes, size), size) for at in starts]


def read_rows(piece: FileRange, comment: bytes = b"") -> bytes:
    """Return the rows of a piece: lines that end with a newline, none of them blank.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    text = _read(piece)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if comment and comment in text:
        text = re.sub(re.escape(comment) + rb"[^\n]*", b"", text)
    if _may_have_blank_lines(text):
        text = b"".join(line + b"\n" for line in text.split(b"\n") if line.strip())
    return text


def line_number(piece: FileRange, row: int, comment: bytes = b"") -> int:
    """Return the number of the line, counted from 1, in which a row of a piece is."""
    number = 0
    if piece.start:
        before = FileRange(piece.path, 0, piece.start, piece.size)
        number = sum(block.count(b"\n") for block in read_blocks(before, LINES, READ_BYTES))
    for line in _read(piece).split(b"\n"):
        number += 1
        row -= _is_row(line, comment)
        if row < 0:
            break
    return number


def first_lines(piece: FileRange, name: str) -> tuple[str, str]:
    """Return the first two rows of a file as text, each '' if there is none.

    Raises
    ------
    DataError
        If the file is no text, or has lines that end as no others do.
    """
    rows = read_rows(piece)
    first, _, rest = rows.partition(b"\n")
    second, _, _ = rest.partition(b"\n")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"{name} is text in UTF-16, not in UTF-8. Convert it:  iconv -f UTF-16 -t UTF-8 {name} "
            "> new.csv",
            path=name,
        )
    strange = _NO_TEXT.search(first)
    if strange is not None:
        raise DataError(
            f"{name}: line 1 holds the character {strange[0][0]:#04x}, which no text has: this is "
            "a file of another kind, whatever its name says.",
            path=name,
        )
    if b"\r" in first:
        raise DataError(
            f"{name}: its lines end with carriage returns alone, as on computers of the 1990s. "
            f"Convert it:  tr '\\r' '\\n' < {name} > new.csv",
            path=name,
        )
    try:
        return first.decode("utf-8-sig"), second.decode("utf-8", "replace")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: line 1 is no text in UTF-8 ({error}). Convert it:  "
            f"iconv -f LATIN1 -t UTF-8 {name} > new.csv",
            path=name,
        ) from error


def unpack(path: str, to: str) -> None:
    """Write what a file packed by gzip holds to another file.

    Raises
    ------
    DataError
        If it is damaged, or there is no room.
    """
    try:
        with gzip.open(path) as packed, open(to, "xb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked to {to}: {error}.", path=path) from error


def _read(piece: FileRange) -> bytes:
    text = b"".join(read_blocks(piece, LINES, READ_BYTES))
    return text if text.endswith(b"\n") or not text else text + b"\n"


def _may_have_blank_lines(text: bytes) -> bool:
    symbols = np.frombuffer(text, np.uint8)
    begins = np.flatnonzero(symbols[:-1] == ord("\n")) + 1
    return text[:1].isspace() or bool((symbols[begins] <= ord(" ")).any())


def _is_row(line: bytes, comment: bytes) -> bool:
    return bool((line.partition(comment)[0] if comment else line).strip())
