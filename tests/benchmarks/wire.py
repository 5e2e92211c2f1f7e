"""How many bytes the sockets of this process carry: payload, without what the kernel adds.

What lies in shared memory is not on a wire, and that is what shall be seen here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """Count the bytes that all threads of this process send and receive; the sum is in the list.

    Counting slows the calls down: nothing should be timed meanwhile.
    """
    total = [0]

    def by_result(result: Any, _: tuple[Any, ...]) -> int:
        return int(result)

    def by_answer(result: Any, _: tuple[Any, ...]) -> int:
        return len(result)  # bytes, or a frame

    def by_question(_: Any, arguments: tuple[Any, ...]) -> int:
        return memoryview(arguments[0]).nbytes

    ways: list[tuple[type, str, Callable[[Any, tuple[Any, ...]], int]]] = [
        (socket.socket, "send", by_result),
        (socket.socket, "sendmsg", by_result),
        (socket.socket, "sendall", by_question),
        (socket.socket, "recv", by_answer),
        (socket.socket, "recv_into", by_result),
        (zmq.Socket, "send", by_question),
        (zmq.Socket, "recv", by_answer),
    ]
    originals = [(kind, name, kind.__dict__.get(name)) for kind, name, _ in ways]
    for kind, name, size in ways:
        setattr(kind, name, _counting(getattr(kind, name), size, total))
    try:
        yield total
    finally:
        for kind, name, original in originals:
            if original is None:
                delattr(kind, name)  # it was inherited
            else:
                setattr(kind, name, original)


def _counting(
    original: Callable[..., Any], size: Callable[[Any, tuple[Any, ...]], int], total: list[int]
) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        result = original(self, *arguments, **options)
        total[0] += size(result, arguments)
        return result

    return call
