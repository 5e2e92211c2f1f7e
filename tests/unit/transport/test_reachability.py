"""Why nobody answers, in words."""

from __future__ import annotations

import errno
import socket

import pytest

from paramserver.transport.reachability import why_unreachable


def test_a_closed_port_and_an_open_one_are_told_apart() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        assert why_unreachable(address) == "nothing listens at that port"
        sock.listen()
        assert "no master answers" in why_unreachable(address)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no machine of the name nowhere"),
        (TimeoutError(), "silent: it is down, or a firewall"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no way to that machine"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no way to that network"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
)
def test_each_error_of_the_system_has_its_words(
    error: OSError, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", fail)
    assert words in why_unreachable("tcp://nowhere:5")
