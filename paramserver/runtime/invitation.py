"""What a listening master tells others so that they can come: the line to copy, and who has room.

Rule 1: an address that stands for all of this machine's is replaced by one that others can dial.
Rule 2: no more are let in than there is room for, so that whoever comes too much can be told so.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket

from paramserver.transport.address import parse_address
from paramserver.transport.descriptors import most_descriptors

_FOR_GREETINGS = 16
"""Connections beyond the last that is let in: whoever is refused has to be told so."""

_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses of no machine (RFC 5737, RFC 3849): nothing is sent there."""


def dialable(address: str) -> str:
    """Return an address that others can dial, for one that a master listens at.

    Parameters
    ----------
    address : str
        ``tcp://host:port``; 0.0.0.0 and [::] stand for every address of this machine, and are
        replaced by the one from which this machine would speak to another network, or else by its
        name.
    """
    parsed = parse_address(address)
    if parsed.scheme != "tcp":
        return address
    try:
        found = ipaddress.ip_address(parsed.host)
    except ValueError:
        return address
    if not found.is_unspecified:
        return address
    host = _own_address(socket.AF_INET6 if found.version == 6 else socket.AF_INET)
    return parsed._replace(host=host).endpoint


def worker_command(address: str, keys: str | os.PathLike[str] | None, n_workers: int = 4) -> str:
    """Return the command line that starts workers for the master at an address."""
    folder = "KEYS" if keys is None else shlex.quote(os.fspath(keys))
    return (
        f"python -m paramserver.worker {dialable(address)} --keys {folder} --n-workers {n_workers}"
    )


def room_for_members() -> int:
    """Say how many may be let in, each over a connection: half of the limit of open files.

    After a pause of the master's all of them connect anew, and for a moment each one twice.
    """
    newest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(newest)
    return max(1, most_descriptors() // 2 - newest - _FOR_GREETINGS)


def _own_address(family: socket.AddressFamily) -> str:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_ELSEWHERE[family], 9))  # of a datagram socket: this sends nothing
            return str(probe.getsockname()[0])
    except OSError:  # no way to other networks
        return socket.gethostname()
