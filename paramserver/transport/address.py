"""Where a master can be reached: `unix:///folder/name`, `ipc:///folder/name`, `tcp://host:port`.

The first two lie in the file system: a plain socket of the kernel, and one of ZeroMQ's.

Rule 1: an address is checked here, in words, before a transport sees it.
Rule 2: a socket with a file lies in a folder that only its user can enter; that folder is the lock.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import sys
from typing import NamedTuple

from paramserver.errors import ConfigError

MAX_IPC_PATH_BYTES = 107 if sys.platform.startswith("linux") else 103
"""`sun_path` of a unix socket less its final zero byte (unix(7): 108 bytes, 104 on BSD)."""


class Address(NamedTuple):
    """One address, taken apart."""

    scheme: str
    """'unix', 'ipc' or 'tcp'."""
    path: str
    """Of the socket; '' for tcp."""
    host: str
    """Without brackets; '' for one in the file system."""
    port: int
    """0 lets the system choose, where a master binds."""

    @property
    def endpoint(self) -> str:
        """The address as ZeroMQ spells it."""
        if self.path:
            return f"{self.scheme}://{self.path}"
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"tcp://{host}:{self.port or '*'}"

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(address: str) -> Address:
    """Take an address apart.

    Parameters
    ----------
    address : str
        ``unix:///folder/name``, ``ipc:///folder/name``, ``tcp://host:port`` or
        ``tcp://[ipv6]:port``; the port ``0`` or ``*`` lets the system choose one.

    Raises
    ------
    ConfigError
        If it is not an address, or the path is too long for a unix socket.
    """
    scheme, separator, rest = address.partition("://")
    if separator and scheme in ("unix", "ipc"):
        return _parse_path(address, scheme, rest)
    if separator and scheme == "tcp":
        return _parse_tcp(address, rest)
    raise _bad(address, "it starts with none of tcp://, ipc:// and unix://")


def check_private_folder(address: Address) -> None:
    """Check that the folder of a socket with a file belongs to this user alone.

    Raises
    ------
    ConfigError
        If it does not exist, is owned by someone else, or lets others in.
    """
    folder = os.path.dirname(address.path)
    try:
        found = os.stat(folder)
    except OSError as error:
        raise _bad(address.endpoint, f"its folder cannot be used ({error.strerror})") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _bad(address.endpoint, f"{folder} is not a folder")
    if found.st_uid != os.geteuid():
        raise _bad(address.endpoint, f"the folder {folder} belongs to user id {found.st_uid}")
    if found.st_mode & 0o077:
        raise _bad(
            address.endpoint,
            f"other users can enter the folder {folder}, so they could send it code to run; "
            f"type: chmod 700 {folder}",
        )


def _parse_path(address: str, scheme: str, path: str) -> Address:
    if not path.startswith("/"):
        raise _bad(address, f"the path must start with '/' ({scheme}:///folder/name)")
    n_bytes = len(os.fsencode(path))
    if n_bytes > MAX_IPC_PATH_BYTES:
        raise _bad(
            address,
            f"its path has {n_bytes} bytes and a unix socket allows {MAX_IPC_PATH_BYTES}; use a "
            "shorter folder (set TMPDIR to one, /tmp say)",
        )
    return Address(scheme, path, "", 0)


def _parse_tcp(address: str, rest: str) -> Address:
    host, separator, port = rest.rpartition(":")
    if not separator or not host:
        raise _bad(address, "it must be tcp://host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise _bad(address, "only IPv6 addresses stand in brackets")
    elif ":" in host:
        raise _bad(address, f"an IPv6 address needs brackets: tcp://[{host}]:{port}")
    if port == "*":
        port = "0"
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise _bad(address, f"{port!r} is not a port (0 to 65535)")
    return Address("tcp", "", host, int(port))


def _bad(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"The address {address!r} cannot be used: {why}.", field="address", value=address
    )
