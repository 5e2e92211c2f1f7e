"""The relay as the master's I/O thread sees it: it never waits, and answers what it is asked."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import JobFailed
from paramserver.protocol import calls
from paramserver.runtime.relay import MANY, PIECE_BYTES, FileRelay


class Station:
    """A relay, and the answers it has posted."""

    def __init__(self) -> None:
        self._posted: queue.Queue[ServiceReplied] = queue.Queue()
        self.relay = FileRelay(self._posted.put, lambda: 7.0, trusted=False)
        self._n = 0

    def ask(self, method: str, *body: object) -> Any:
        self._n += 1
        payload = calls.encode_value(body, trusted=False)
        command = CallService(3, self._n, 1, 1, "relay", method, payload)
        assert list(self.relay.call(command, 7.0)) == []
        reply = self._posted.get(timeout=10.0)
        assert (reply.now, reply.incarnation, reply.call) == (7.0, 3, self._n)
        if reply.ok:
            return calls.decode_value(reply.body, trusted=False)
        raise calls.decode_error(reply.body, trusted=False, worker_id="master", attempts=1)


@pytest.fixture
def station() -> Iterator[Station]:
    station = Station()
    yield station
    station.relay.close()
    station.relay.close()  # twice does no harm


def test_a_file_is_written_piece_by_piece_and_read_back(station: Station, tmp_path: Path) -> None:
    path = str(tmp_path / "map-00001-4711-9f")
    with station.relay.share(tmp_path):
        assert station.ask("write", path, 0, b"abc") is None
        assert station.ask("write", path, 3, b"defg") is None
        assert station.ask("read", path, 2, 3) == b"cde"
        assert station.ask("read", path, 6, 100) == b"g"
        assert station.ask("read", path, 7, 100) == b""
        assert station.ask("read", f"{path}x", 0, 1) is None
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_what_is_there_is_never_overwritten(station: Station, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"old")
    with station.relay.share(tmp_path):
        for offset in (0, 1, 4):
            with pytest.raises(JobFailed):
                station.ask("write", str(tmp_path / "there"), offset, b"new")
        with pytest.raises(JobFailed):  # the first piece has not come
            station.ask("write", str(tmp_path / "fresh"), 3, b"new")
    assert (tmp_path / "there").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["there"]


def test_a_folder_is_reached_only_while_it_is_shared(station: Station, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    ask = ("read", str(tmp_path / "file"), 0, 1)
    with pytest.raises(JobFailed, match="not in a folder that is shared now"):
        station.ask(*ask)
    with station.relay.share(tmp_path), station.relay.share(f"{tmp_path}/"):
        assert station.ask(*ask) == b"x"
    with pytest.raises(JobFailed, match="not in a folder that is shared now"):
        station.ask(*ask)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/../../b", "a b", "a\0b", "x" * 300])
def test_only_plain_names_are_reached(station: Station, tmp_path: Path, name: str) -> None:
    with station.relay.share(tmp_path), pytest.raises(JobFailed, match="not in a folder"):
        station.ask("write", f"{tmp_path}/{name}", 0, b"x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("remove", ("/x", 0, 1)),
        ("read", ("/x", 0)),
        ("read", (b"/x", 0, 1)),
        ("read", ("/x", 0, PIECE_BYTES + 1)),
        ("read", ("/x", 0, -1)),
        ("write", ("/x", 0, "text")),
    ],
)
def test_what_is_no_call_is_answered_with_an_error(
    station: Station, method: str, body: tuple[Any, ...]
) -> None:
    with pytest.raises(JobFailed, match="does not know the call"):
        station.ask(method, *body)


def test_without_a_call_there_is_no_thread_and_after_the_end_no_answer(tmp_path: Path) -> None:
    before = threading.active_count()
    station = Station()
    assert threading.active_count() == before
    station.relay.close()
    payload = calls.encode_value((), trusted=False)
    assert list(station.relay.call(CallService(1, 1, 1, 1, "relay", "read", payload), 0.0)) == []
    assert list(station.relay.worker_gone(1, 0.0)) == []
    assert threading.active_count() == before


def test_many_parts_come_in_one_answer(station: Station, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"0123456789")
    wanted = ((path, 2, 3), (f"{path}x", 0, 1), (path, 8, 5), (path, 0, 0))
    with station.relay.share(tmp_path):
        assert station.ask("read_many", wanted) == [b"234", None, b"89", b""]
        assert station.ask("read_many", ()) == []


@pytest.mark.parametrize(
    "wanted",
    [
        (("file", 0, PIECE_BYTES), ("file", 0, 1)),
        (("file", 0, -1),),
        (("file", 0),),
        ((b"file", 0, 1),),
        (("file", 0, 0),) * (MANY + 1),
        (("../file", 0, 1),),
    ],
)
def test_too_much_or_too_little_in_one_question_is_an_error(
    station: Station, tmp_path: Path, wanted: Any
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    spans = tuple(
        (f"{tmp_path}/{each[0]}", *each[1:]) if isinstance(each[0], str) else each
        for each in wanted
    )
    with station.relay.share(tmp_path), pytest.raises(JobFailed):
        station.ask("read_many", spans)
