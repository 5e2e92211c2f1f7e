"""The jobs of the word count as a user of the peers would write them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from zlib import crc32

N_MAP, N_REDUCE = 30, 60


def line_ranges(path: str, n: int) -> list[tuple[str, int, int]]:
    """Cut a file into `n` byte ranges that end where a line ends."""
    size = os.path.getsize(path)
    cuts = [0]
    with open(path, "rb") as file:
        for i in range(1, n):
            file.seek(max(cuts[-1], size * i // n))
            file.readline()
            cuts.append(file.tell())
    cuts.append(size)
    return [(path, start, end) for start, end in pairwise(cuts)]


def count_range(piece: tuple[str, int, int]) -> Counter[bytes]:
    """Count the words of one range (the map job)."""
    path, start, end = piece
    with open(path, "rb") as file:
        file.seek(start)
        return Counter(file.read(end - start).lower().split())


def count_block(block: bytes) -> Counter[bytes]:
    """Count the words of a block: the mapper a user of ours writes by hand."""
    return Counter(block.lower().split())


def count_range_split(piece: tuple[str, int, int]) -> list[dict[bytes, int]]:
    """Count the words of one range, a dictionary for each reduce job."""
    parts: list[dict[bytes, int]] = [{} for _ in range(N_REDUCE)]
    for word, n in count_range(piece).items():
        parts[crc32(word) % N_REDUCE][word] = n
    return parts


def merge(parts: Iterable[dict[bytes, int]]) -> Counter[bytes]:
    """Add the counts up."""
    total: Counter[bytes] = Counter()
    for part in parts:
        total.update(part)
    return total


def merge_and_write(parts: Sequence[dict[bytes, int]], path: str) -> tuple[int, int]:
    """Add the counts up and write them (the reduce job); return total and distinct words."""
    return write(merge(parts), path)


def write(counts: Counter[bytes], path: str) -> tuple[int, int]:
    """Write ``word<TAB>count`` lines; return total and distinct words."""
    with open(path, "wb") as file:
        file.writelines(b"%b\t%d\n" % item for item in counts.items())
    return counts.total(), len(counts)


def read_totals(folder: str) -> tuple[int, int]:
    """Return total and distinct words of the ``word<TAB>count`` files in a folder."""
    total = distinct = 0
    for path in Path(folder).rglob("part-*"):
        for line in path.read_bytes().splitlines():
            total += int(line.rpartition(b"\t")[2])
            distinct += 1
    return total, distinct


def right_totals(text: str) -> tuple[int, int]:
    """Return total and distinct words by the plain definition; counted once for each text."""
    known = Path(f"{text}.totals")
    if not known.exists():
        counts = count_range((text, 0, os.path.getsize(text)))
        known.write_text(f"{counts.total()} {len(counts)}", encoding="ascii")
    total, distinct = known.read_text(encoding="ascii").split()
    return int(total), int(distinct)
