"""What the benchmark calls bytes on the wire is what sockets carried, both ways."""

import socket

import zmq

from tests.benchmarks.wire import counted_bytes


def test_each_byte_of_a_plain_socket_counts_where_it_is_sent_and_where_it_arrives() -> None:
    here, there = socket.socketpair()
    with here, there:
        with counted_bytes() as total:
            here.sendall(b"12345")
            assert there.recv(5) == b"12345"
            there.send(b"123")
            assert here.recv_into(bytearray(3)) == 3
            here.sendmsg([b"1", b"2"])
        assert there.recv(2) == b"12"  # not counted any more
    assert total == [5 + 5 + 3 + 3 + 2]


def test_each_byte_of_a_zeromq_socket_counts() -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.PAIR) as here,
        context.socket(zmq.PAIR) as there,
    ):
        here.bind("inproc://wire")
        there.connect("inproc://wire")
        with counted_bytes() as total:
            here.send_multipart([b"123", b"45"])
            assert there.recv_multipart() == [b"123", b"45"]
    assert total == [5 + 5]
