"""The flight recorder: one whole state at every instant, also after a death in mid-write."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from paramserver.runtime.flight_recorder import Flight, FlightRecorder


@pytest.fixture
def recorder() -> Iterator[FlightRecorder]:
    recorder = FlightRecorder.create()
    yield recorder
    recorder.close()


@pytest.fixture
def writer(recorder: FlightRecorder) -> Iterator[FlightRecorder]:
    writer = FlightRecorder.open(os.dup(recorder.fd))
    yield writer
    writer.close()


def test_a_new_recorder_says_that_nothing_ran(recorder: FlightRecorder) -> None:
    assert recorder.read() == Flight(running=None, n_ended=0)


def test_the_agent_reads_what_the_worker_wrote(
    recorder: FlightRecorder, writer: FlightRecorder
) -> None:
    writer.started(12, 3)
    assert recorder.running() == (12, 3)
    assert recorder.n_ended == 0
    writer.ended()
    assert recorder.running() is None
    assert recorder.n_ended == 1
    writer.started(0, 0)
    assert recorder.read() == Flight(running=(0, 0), n_ended=1)


def test_it_counts_on_when_opened_again(recorder: FlightRecorder, writer: FlightRecorder) -> None:
    writer.started(1, 1)
    writer.ended()
    again = FlightRecorder.open(os.dup(recorder.fd))
    again.started(2, 1)
    again.ended()
    again.close()
    assert recorder.read() == Flight(running=None, n_ended=2)


def test_it_can_be_read_after_the_writer_has_closed(recorder: FlightRecorder) -> None:
    writer = FlightRecorder.open(os.dup(recorder.fd))
    writer.started(5, 1)
    writer.close()
    writer.close()
    assert recorder.running() == (5, 1)


def test_the_descriptor_is_not_for_grandchildren(writer: FlightRecorder) -> None:
    assert not os.get_inheritable(writer.fd)


def test_large_numbers_of_jobs_fit(recorder: FlightRecorder, writer: FlightRecorder) -> None:
    writer.started(2**62, 2**40)
    assert recorder.running() == (2**62, 2**40)


@pytest.mark.parametrize("content", [b"", b"something else entirely" * 20])
def test_another_file_is_not_taken_for_a_recorder(content: bytes) -> None:
    fd = os.memfd_create("other")
    os.write(fd, content)
    with pytest.raises(ValueError, match="not a flight recorder"):
        FlightRecorder.open(fd)
    os.close(fd)  # was left open


def test_without_memfd_a_nameless_file_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    recorder = FlightRecorder.create()
    assert os.fstat(recorder.fd).st_nlink == 0
    recorder.started(3, 1)
    assert recorder.running() == (3, 1)
    recorder.close()


def test_nothing_is_left_open_when_the_page_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, length: int) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="no memory"):
        FlightRecorder.create()  # the leak check of every test looks for the descriptor


def page_of(recorder: FlightRecorder) -> bytes:
    return os.pread(recorder.fd, mmap.PAGESIZE, 0)


@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_a_writer_killed_after_any_byte_leaves_the_old_state_or_the_new(n_before: int) -> None:
    recorder = FlightRecorder.create()
    for job in range(n_before):
        recorder.started(job + 100, 1)
        recorder.ended()
    old, old_page = recorder.read(), page_of(recorder)
    recorder.started(0x0102030405060708, 0x1112131415161718)
    new, new_page = recorder.read(), page_of(recorder)
    assert old != new
    sequence = slice(8, 16)  # stored last, by one instruction
    changed = [i for i in range(len(old_page)) if old_page[i] != new_page[i]]
    torn = bytearray(old_page)
    for i in changed:
        if i in range(8, 16):
            continue
        torn[i] = new_page[i]
        os.pwrite(recorder.fd, torn, 0)
        assert recorder.read() == old
    torn[sequence] = new_page[sequence]
    os.pwrite(recorder.fd, torn, 0)
    assert recorder.read() == new
    recorder.close()


def test_a_torn_read_is_read_again(
    recorder: FlightRecorder, writer: FlightRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.started(1, 1)
    pread, n_reads = os.pread, 0

    def read_while_the_writer_goes_on(fd: int, n: int, offset: int) -> bytes:
        nonlocal n_reads
        n_reads += 1
        data = pread(fd, n, offset)
        if n_reads == 1:
            writer.ended()
            writer.started(2, 1)
        return data

    monkeypatch.setattr(os, "pread", read_while_the_writer_goes_on)
    assert recorder.read() == Flight(running=(2, 1), n_ended=1)
    assert n_reads == 4


def test_it_still_knows_what_was_begun_last_when_that_has_ended() -> None:
    recorder = FlightRecorder.create()
    try:
        assert recorder.last_begun() == (0, 0)
        recorder.started(12, 3)
        assert recorder.last_begun() == (12, 3)
        recorder.ended()
        assert recorder.running() is None
        assert recorder.last_begun() == (12, 3)
    finally:
        recorder.close()
