"""The relay never blocks and keeps its bounds; the tail keeps the last lines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from paramserver.runtime.stderr_relay import StderrRelay, Tail


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            assert fd in (reader, writer)  # closed by the test


def fill(fd: int) -> int:
    """Fill a pipe to the brim; return how much went in."""
    os.set_blocking(fd, False)
    n = 0
    try:
        while True:
            n += os.write(fd, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(fd, True)
        return n


def test_what_comes_in_goes_out_at_once(pipe: tuple[int, int]) -> None:
    relay = StderrRelay(pipe[1])
    relay.put(b"hello")
    assert os.read(pipe[0], 100) == b"hello"
    assert relay.is_idle


def test_a_full_terminal_does_not_hold_it_up(pipe: tuple[int, int]) -> None:
    relay = StderrRelay(pipe[1])
    n_before = fill(pipe[1])
    relay.put(b"later")
    assert not relay.is_idle
    assert os.read(pipe[0], n_before) == b"x" * n_before
    relay.flush()
    assert os.read(pipe[0], 100) == b"later"
    assert relay.is_idle


def test_a_descriptor_that_does_not_block_is_no_trouble(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = StderrRelay(pipe[1])
    fill(pipe[1])
    os.set_blocking(pipe[1], False)
    monkeypatch.setattr(relay, "_is_writable", lambda: True)
    relay.put(b"later")
    assert not relay.is_idle


def test_it_says_when_no_more_should_be_read(pipe: tuple[int, int]) -> None:
    relay = StderrRelay(pipe[1])
    n_before = fill(pipe[1])
    sent = os.urandom(256 << 10)
    relay.put(sent)
    assert relay.is_full
    os.read(pipe[0], n_before)
    received = b""
    while not relay.is_idle:
        relay.flush()
        received += os.read(pipe[0], 1 << 20)
    assert received == sent
    assert not relay.is_full


def test_one_flush_writes_no_more_than_a_little(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:
        relay = StderrRelay(log.fileno())
        relay.put(b"y" * (200 << 10))
        assert os.fstat(log.fileno()).st_size == 64 << 10
        relay.finish(timeout_s=0.0)
        assert os.fstat(log.fileno()).st_size == 200 << 10
        assert relay.n_dropped_bytes == 0


@pytest.mark.parametrize("end", [0, 1])
def test_where_nobody_reads_it_drops_and_counts(pipe: tuple[int, int], end: int) -> None:
    relay = StderrRelay(pipe[1])
    os.close(pipe[end])
    relay.put(b"12345")
    assert relay.is_idle
    assert relay.n_dropped_bytes == 5


def test_at_the_end_it_does_not_wait_for_ever(pipe: tuple[int, int]) -> None:
    relay = StderrRelay(pipe[1])
    fill(pipe[1])
    relay.put(b"12345")
    relay.finish(timeout_s=0.01)
    assert relay.is_idle
    assert relay.n_dropped_bytes == 5


def test_a_pipe_smaller_than_the_data_is_filled_without_blocking(pipe: tuple[int, int]) -> None:
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    relay = StderrRelay(pipe[1])
    relay.put(b"z" * 10_000)
    assert os.read(pipe[0], 1 << 20) == b"z" * 4096
    assert not relay.is_idle


def test_the_tail_keeps_the_last_twenty_lines() -> None:
    tail = Tail()
    for i in range(100):
        tail.add(b"line %d\n" % i)
    assert tail.text() == "".join(f"line {i}\n" for i in range(80, 100))


def test_the_tail_keeps_a_last_line_without_its_end() -> None:
    tail = Tail()
    tail.add(b"one\ntw")
    tail.add(b"o")
    assert tail.text() == "one\ntwo"


def test_the_tail_is_bounded_and_drops_the_line_that_is_cut() -> None:
    tail = Tail()
    tail.add(b"a" * 4000 + b"\n" + b"b" * 3000 + b"\nend\n")
    assert tail.text() == "b" * 3000 + "\nend\n"


def test_one_endless_line_is_cut_at_its_head() -> None:
    tail = Tail()
    tail.add(b"a" * 10_000 + b"end")
    assert tail.text() == "a" * 4093 + "end"


def test_bytes_that_are_no_text_stay_within_the_bound() -> None:
    tail = Tail()
    tail.add(b"\xff" * 5_000)
    assert 4000 < len(tail.text().encode()) <= 4096


def test_an_empty_tail_is_an_empty_text() -> None:
    assert Tail().text() == ""


def test_the_tail_keeps_what_the_interpreter_died_of_whatever_follows() -> None:
    for pieces in (
        [b"Fatal Python error: Segmentation fault\n\n"],
        [b"Fatal Pyth", b"on error: Segmentation fa", b"ult\n\n"],
    ):
        tail = Tail(n_lines=3)
        tail.add(b"before\n")
        for piece in pieces:
            tail.add(piece)
        assert tail.text() == "before\nFatal Python error: Segmentation fault\n\n"
        for i in range(10_000):
            tail.add(b"  File %d\n" % i)
        assert tail.text() == ("Fatal Python error: Segmentation fault\n  File 9998\n  File 9999\n")


def test_the_tail_stays_within_its_bound_with_the_cause_of_death() -> None:
    tail = Tail()
    tail.add(b"Fatal Python error: " + b"x" * 1000 + b"\n")
    tail.add(b"\xff" * 5_000)
    text = tail.text()
    assert text.startswith("Fatal Python error: xxx")
    assert len(text.encode()) <= 4096
