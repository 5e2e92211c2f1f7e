"""The peers' word count counts the same words as the plain definition."""

from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks import wordcount_jobs as jobs

TEXT = b"The cat\nthe\tDOG \n\nlast line without an end: the cat"


@pytest.mark.parametrize("n", [1, 2, 3, 30])
def test_ranges_cover_the_file_once_and_end_with_lines(tmp_path: Path, n: int) -> None:
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    ranges = jobs.line_ranges(str(path), n)
    pieces = [TEXT[start:end] for _, start, end in ranges]
    assert b"".join(pieces) == TEXT
    *others, _last = [piece for piece in pieces if piece]
    assert all(piece.endswith(b"\n") for piece in others)


def test_split_counted_and_merged_it_is_the_plain_count(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    maps = [jobs.count_range_split(piece) for piece in jobs.line_ranges(str(path), 3)]
    for i in range(jobs.N_REDUCE):
        jobs.merge_and_write([parts[i] for parts in maps], str(tmp_path / f"part-{i:05d}"))
    expected = Counter(TEXT.lower().split())
    assert jobs.read_totals(str(tmp_path)) == (expected.total(), len(expected))
    assert jobs.right_totals(str(path)) == (expected.total(), len(expected))
    assert jobs.right_totals(str(path)) == (expected.total(), len(expected)), "now from its file"
