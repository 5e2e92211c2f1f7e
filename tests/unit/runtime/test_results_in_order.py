"""The results of chunks, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from paramserver.runtime.results_in_order import results_in_order


class Pool:
    """Answers a chunk with its items, or with the items before an error."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, chunk: list[Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        if "held" not in chunk:
            future.set_result(chunk)
        return future

    def read(self, chunk: list[Any]) -> tuple[list[Any], BaseException | None]:
        if "error" in chunk:
            return chunk[: chunk.index("error")], ValueError("as ordered")
        return list(chunk), None


def test_all_chunks_are_handed_in_at_once_or_as_many_as_told() -> None:
    for ahead, n in ((None, 9), (3, 3)):
        pool = Pool()
        results = results_in_order(([k] for k in range(9)), pool.submit, pool.read, ahead, None)
        assert len(pool.futures) == n
        assert next(results) == 0
        assert len(pool.futures) == min(9, n + 1)
        assert list(results) == list(range(1, 9))


def test_an_error_ends_the_results_and_cancels_the_rest() -> None:
    pool = Pool()
    chunks = iter([[1, "error", 2], ["held"], ["held"]])
    results = results_in_order(chunks, pool.submit, pool.read, None, None)
    assert next(results) == 1
    with pytest.raises(ValueError, match="as ordered"):
        next(results)
    assert [future.cancelled() for future in pool.futures] == [False, True, True]


def test_an_error_of_the_input_comes_after_the_results_before_it() -> None:
    def chunks() -> Iterator[list[int]]:
        yield [1, 2]
        yield [3]
        raise OSError("the input broke")

    pool = Pool()
    with pytest.raises(OSError, match="broke"):
        results_in_order(chunks(), pool.submit, pool.read, None, None)
    results = results_in_order(chunks(), pool.submit, pool.read, 1, None)
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(OSError, match="broke"):
        next(results)
