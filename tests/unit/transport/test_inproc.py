from __future__ import annotations

import pytest

from paramserver.errors import ConnectFailed, TransportError
from paramserver.transport.base import Sent
from paramserver.transport.inproc import InprocHub


def test_a_cut_loses_the_name_and_connects_anew() -> None:
    hub = InprocHub()
    with hub.bind() as master, hub.connect() as worker:
        before = worker.peer
        assert before is not None
        assert worker.take_reconnected()
        hub.cut(worker)
        assert master.take_disconnected()
        assert not master.take_disconnected()
        assert worker.take_reconnected()
        assert not master.is_connected(before)
        assert worker.peer is not None
        assert worker.peer != before
        assert master.send(before, [b"x"]) is Sent.GONE
        assert master.send(worker.peer, [b"x"]) is Sent.TAKEN


def test_what_had_arrived_before_a_cut_can_still_be_read() -> None:
    hub = InprocHub()
    with hub.bind() as master, hub.connect() as worker:
        before = worker.peer
        worker.send([b"up"])
        assert before is not None
        master.send(before, [b"down"])
        hub.cut(worker)
        received = master.receive()
        assert received is not None
        assert (received.peer, received.frames) == (before, [b"up"])
        assert worker.receive() == [b"down"]


def test_a_worker_may_come_before_its_master() -> None:
    hub = InprocHub()
    with hub.connect() as worker:
        assert worker.send([b"x"]) is Sent.FULL
        assert not worker.take_reconnected()
        with hub.bind() as master:
            assert worker.take_reconnected()
            assert worker.send([b"x"]) is Sent.TAKEN
            assert master.receive() is not None


def test_there_is_one_master_at_a_hub() -> None:
    hub = InprocHub()
    with hub.bind(), pytest.raises(TransportError, match="a master at this hub"):
        hub.bind()


def test_only_a_connection_can_be_cut() -> None:
    hub = InprocHub()
    with hub.connect() as worker, pytest.raises(ConnectFailed):
        hub.cut(worker)


def test_the_bound_holds_for_each_connection_alone() -> None:
    hub = InprocHub(capacity=2)
    with hub.bind() as master, hub.connect() as one, hub.connect() as other:
        assert [one.send([b"x"]) for _ in range(3)] == [Sent.TAKEN, Sent.TAKEN, Sent.FULL]
        assert other.send([b"x"]) is Sent.TAKEN
        assert master.receive() is not None
        assert one.send([b"x"]) is Sent.TAKEN


def test_a_frame_is_not_shared_between_the_ends() -> None:
    hub = InprocHub(user="somebody")
    frame = bytearray(b"before")
    with hub.bind() as master, hub.connect() as worker:
        worker.send([frame])
        frame[:] = b"after!"
        received = master.receive()
        assert received is not None
        assert received.frames == [b"before"]
        assert received.user == "somebody"


def test_a_failure_to_connect_can_be_played() -> None:
    with InprocHub().connect() as worker:
        assert worker.take_failure() == ""
        worker.fail("the master refused this worker's key")
        worker.poll(None)
        assert worker.take_failure() == "the master refused this worker's key"
        assert worker.take_failure() == ""


def test_a_closed_end_is_not_used() -> None:
    hub = InprocHub()
    master, worker = hub.bind(), hub.connect()
    worker.close()
    master.close()
    for use in (worker.receive, master.receive, lambda: worker.send([b"x"])):
        with pytest.raises(TransportError, match="closed"):
            use()
