"""Messages for peers who read slowly, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from paramserver.runtime import outboxes
from paramserver.runtime.outboxes import Outboxes
from paramserver.transport.inproc import InprocHub, InprocMasterTransport, InprocWorkerTransport


@pytest.fixture
def hub() -> InprocHub:
    return InprocHub(capacity=2)


@pytest.fixture
def master(hub: InprocHub) -> Iterator[InprocMasterTransport]:
    with hub.bind() as master:
        yield master


@pytest.fixture
def slow(hub: InprocHub, master: InprocMasterTransport) -> Iterator[InprocWorkerTransport]:
    with hub.connect() as worker:
        yield worker


def _read(worker: InprocWorkerTransport) -> list[bytes]:
    found = []
    while (frames := worker.receive()) is not None:
        found += [bytes(frame) for frame in frames]
    return found


def test_what_has_no_room_waits_in_its_order(
    hub: InprocHub, master: InprocMasterTransport, slow: InprocWorkerTransport
) -> None:
    boxes = Outboxes(master, Counter())
    assert slow.peer is not None
    with hub.connect() as quick:
        assert quick.peer is not None
        assert all(boxes.send(slow.peer, [b"%d" % i]) for i in range(5))
        assert boxes
        assert boxes.send(quick.peer, [b"at once"])
        assert _read(quick) == [b"at once"]
        assert (_read(slow), boxes.flush()) == ([b"0", b"1"], [])
        assert boxes.send(slow.peer, [b"5"])  # behind the others, though there may be room
        assert (_read(slow), boxes.flush()) == ([b"2", b"3"], [])
        assert (_read(slow), bool(boxes)) == ([b"4", b"5"], False)


def test_nobody_there_is_said_at_once_and_ends_the_waiting(
    master: InprocMasterTransport, slow: InprocWorkerTransport
) -> None:
    boxes = Outboxes(master, Counter())
    peer = slow.peer
    assert peer is not None
    assert not boxes.send(b"nobody", [b"x"])
    assert all(boxes.send(peer, [b"%d" % i]) for i in range(5))
    slow.close()
    assert boxes.flush() == [peer]
    assert not boxes
    assert boxes.flush() == []


def test_beyond_the_bound_messages_are_dropped_and_counted(
    master: InprocMasterTransport, slow: InprocWorkerTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "OUTBOX_MESSAGES", 1)
    counters: Counter[str] = Counter()
    boxes = Outboxes(master, counters)
    assert slow.peer is not None
    assert all(boxes.send(slow.peer, [b"%d" % i]) for i in range(5))
    assert counters == {"full": 2}
    assert (_read(slow), boxes.flush(), _read(slow)) == ([b"0", b"1"], [], [b"2"])
