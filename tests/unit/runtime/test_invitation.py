"""The line that others copy, and how many guests there is room for."""

from __future__ import annotations

import resource
import socket

import pytest

from paramserver.runtime import invitation
from paramserver.runtime.invitation import dialable, room_for_members, worker_command
from paramserver.transport.address import parse_address


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:7777", "tcp://[::1]:7", "tcp://host.lan:1"])
def test_an_address_of_one_machine_stays_what_it_is(address: str) -> None:
    assert dialable(address) == address


def test_a_local_address_stays_what_it_is() -> None:
    assert dialable("ipc:///run/x/master") == "ipc:///run/x/master"


@pytest.mark.parametrize(("address", "family"), [("tcp://0.0.0.0:77", 2), ("tcp://[::]:77", 10)])
def test_an_address_for_all_becomes_one_that_can_be_dialled(
    address: str, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {socket.AF_INET: "10.9.8.7", socket.AF_INET6: "2001:db8::7"}
    monkeypatch.setattr(invitation, "_own_address", found.__getitem__)
    host = found[socket.AddressFamily(family)]
    assert parse_address(dialable(address)).host == host
    assert dialable(address).endswith(":77")


def test_the_own_address_is_one_of_this_machine() -> None:
    address = invitation._own_address(socket.AF_INET)
    if address == socket.gethostname():
        return  # this machine has no way to other networks
    with socket.socket() as sock:
        sock.bind((address, 0))  # only what is one's own can be bound


def test_without_a_way_to_other_networks_the_name_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert dialable("tcp://0.0.0.0:5") == f"tcp://{socket.gethostname()}:5"


def test_the_line_can_be_pasted_into_a_shell() -> None:
    line = worker_command("tcp://10.0.0.1:5", "/my keys", 3)
    assert line == ("python -m paramserver.worker tcp://10.0.0.1:5 --keys '/my keys' --n-workers 3")
    assert "--keys KEYS " in worker_command("tcp://10.0.0.1:5", None)


@pytest.mark.parametrize(("limit", "least", "most"), [(256, 30, 112), (1024, 414, 496), (40, 1, 4)])
def test_half_of_the_open_files_are_for_guests(
    limit: int, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert least <= room_for_members() <= most
