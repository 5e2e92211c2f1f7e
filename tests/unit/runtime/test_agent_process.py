"""The agent's story goes to its reader, and never waits for one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from paramserver.runtime.agent_process import tell


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue  # the test has closed it


def test_each_line_has_its_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    tell("2 workers up", writer)
    tell("caf\udce9", writer)
    first, second = os.read(reader, 100).decode().splitlines()
    assert first[0] + first[3] + first[6] + first[9:] == "[::] 2 workers up"
    assert second.endswith("caf?")


def test_a_reader_that_stops_reading_holds_up_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    for _ in range(2_000):
        tell("a worker ended, and another one takes its place", writer)
    taken = os.read(reader, 1 << 20)
    assert 1_000 * 60 < len(taken) < 2_000 * 60
    tell("on", writer)
    assert os.read(reader, 100).endswith(b" on\n")


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    tell("to nobody", writer)


def test_a_long_line_is_written_whole_to_whom_takes_it(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "log")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    tell("x" * 20_000, fd)
    os.close(fd)
    assert os.path.getsize(path) == 20_000 + len("[00:00:00] \n")
