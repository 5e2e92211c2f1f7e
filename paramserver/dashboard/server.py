"""The server of a dashboard: a thread of its own with a loop of its own.

Rule 1: nothing here can reach the training: a failure ends this thread and is logged.
Rule 2: `close` leaves nothing behind: no thread, no socket.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

import uvicorn

from paramserver.dashboard.app import Application
from paramserver.dashboard.board import Board
from paramserver.drawing.panel import Panel
from paramserver.errors import ConfigError

LOGGER = logging.getLogger("paramserver")

BEGIN_S: Final = 5.0
CLOSE_S: Final = 5.0


class DashboardServer:
    """Serves the panels of a cluster until it is closed.

    Parameters
    ----------
    panels : sequence of Panel
    title : str
    host : str
        Where to listen: loopback is seen from this machine only.
    port : int
        0 lets the system choose.

    Attributes
    ----------
    link : str
        With the token that lets one see it.

    Raises
    ------
    ConfigError
        If nothing can listen there.
    """

    def __init__(
        self, panels: Sequence[Panel], *, title: str, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._socket = _listen(host, port)
        bound, real_port = self._socket.getsockname()[:2]
        token = secrets.token_urlsafe(24)
        app = Application(
            Board(panels),
            title=title,
            token=token,
            is_loopback=ip_address(bound).is_loopback,
            has_ended=lambda: self._server.should_exit,
        )
        config = uvicorn.Config(
            app.asgi,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=2,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)
        name = socket.gethostname() if ip_address(bound).is_unspecified else bound
        self.link = f"http://{f'[{name}]' if ':' in name else name}:{real_port}/?token={token}"
        self._thread = threading.Thread(target=self._run, name="paramserver-dashboard", daemon=True)
        self._thread.start()
        self._server.has_begun.wait(BEGIN_S)

    def close(self) -> None:
        """End the server; open pages keep what they show. Twice does no harm."""
        self._server.should_exit = True
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:
            LOGGER.warning("The dashboard has ended; everything else goes on.", exc_info=True)
        finally:
            self._server.has_begun.set()


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_begun = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_begun.set()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
    except (OSError, OverflowError) as error:
        raise _cannot_listen(host, port, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise _cannot_listen(host, port, error) from error
    return listening


def _cannot_listen(host: str, port: int, error: Exception) -> ConfigError:
    return ConfigError(
        f"The dashboard cannot listen at {host}, port {port}: {getattr(error, 'strerror', error)}. "
        "Port 0 lets the system choose a free one.",
        field="port",
        value=port,
    )
