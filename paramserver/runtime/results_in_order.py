"""The results of chunks of items, in their order, while others are still on their way.

Rule 1: a chunk is handed in as early as it may be; its results are given out as late as asked for.
Rule 2: an error comes in the place of its item, after all results before it; what comes behind it
        is cancelled.
Rule 3: no result is held once it was given out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any, TypeVar

Chunk = TypeVar("Chunk")


def results_in_order(
    chunks: Iterator[Chunk],
    submit: Callable[[Chunk], Future[Any]],
    read: Callable[[Any], tuple[list[Any], BaseException | None]],
    ahead: int | None,
    end_at: float | None,
) -> Iterator[Any]:
    """Hand chunks in, at once or up to `ahead` of them, and return their results in order.

    Parameters
    ----------
    chunks : iterator
        Where it raises, the results of the chunks before come first.
    submit : callable
        Hands a chunk in.
    read : callable
        Returns the results of a chunk, and the error that ended it early.
    ahead : int or None
        How many chunks may be on their way.
    end_at : float or None
        When waiting for a result raises TimeoutError, on the monotonic clock.
    """
    pending: deque[Future[Any]] = deque()
    try:
        for chunk in islice(chunks, ahead):
            pending.append(submit(chunk))
    except BaseException:
        _cancel_all(pending)  # nobody will ask for their results
        raise

    def results() -> Iterator[Any]:
        error: BaseException | None = None
        trouble: BaseException | None = None
        try:
            while pending:
                left = None if end_at is None else end_at - time.monotonic()
                values, error = read(pending[0].result(left))
                pending.popleft()
                if trouble is None and error is None:
                    try:
                        for chunk in islice(chunks, 1):
                            pending.append(submit(chunk))
                    except Exception as raised:  # noqa: BLE001 - its turn comes after the results
                        trouble = raised
                values.reverse()
                while values:
                    yield values.pop()
                if error is not None:
                    raise error
            if trouble is not None:
                raise trouble
        finally:
            error = trouble = None  # their tracebacks lead here
            _cancel_all(pending)

    return results()


def _cancel_all(futures: deque[Future[Any]]) -> None:
    while futures:
        futures.pop().cancel()
