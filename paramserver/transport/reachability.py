"""Why nobody answers at an address, in words, for whoever waits there.

Rule 1: it asks the operating system only, by a plain connection that is closed at once; whoever
        listens there counts one handshake that failed.
Rule 2: it blocks, for a name server too: call it on a thread of its own.
"""

from __future__ import annotations

import errno
import socket

from paramserver.transport.address import parse_address

_REASONS = {
    errno.ECONNREFUSED: "nothing listens at that port",
    errno.EHOSTUNREACH: "there is no way to that machine",
    errno.ENETUNREACH: "there is no way to that network",
}


def why_unreachable(address: str, timeout_s: float = 2.0) -> str:
    """Say why there is no answer at a TCP address.

    Parameters
    ----------
    address : str
        ``tcp://host:port``.
    timeout_s : float
        How long to wait for the other machine's word.
    """
    parsed = parse_address(address)
    try:
        socket.create_connection((parsed.host, parsed.port), timeout_s).close()
    except socket.gaierror:
        return f"there is no machine of the name {parsed.host}"
    except TimeoutError:
        return "that machine is silent: it is down, or a firewall drops the packets"
    except OSError as error:
        return _REASONS.get(error.errno or 0, error.strerror or str(error))
    return "something listens there, but no master answers: it is busy, or another program"
